"""What `useChat` posts: the whole conversation as the page has it, of which one thing counts: the newest message of the
user, or the answers to approvals and the results of the page's own tools in the assistant's message.

Invariant: nothing else of it is believed. A posted history changes neither what is stored nor what a model reads;
results of the server's tools in it that are not those of the session are refused by name, as are parts that this
version does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.ai_sdk.wire import WAITS_BELOW
from shared.sessions.doors.files import SentFile, check_number, file_of_url
from shared.sessions.models import (
    CLIENT_TOOL_NAME,
    MAX_CLIENT_TOOLS,
    ApprovalMode,
    ClientTool,
    Concurrency,
    Decision,
    JsonObject,
    OutputSchema,
    ToolCall,
    ToolCallStatus,
    Value,
)
from shared.sessions.structured_output.key_order import in_written_order

MAX_MESSAGES = 10_000
MAX_PARTS = 10_000
_COMMENT_CHARS = 2_000

_LARGEST = 2**1000
"""Beyond it are numbers that no float is near."""

_KNOWN_PARTS = frozenset(
    {
        *("text", "reasoning", "file", "reasoning-file", "source-url", "source-document"),
        *("step-start", "dynamic-tool", "custom", "steering-message"),
    }
)
_KNOWN_PREFIXES = ("tool-", "data-")
_OUTPUTS = frozenset({"output-available", "output-error"})


class ChatTrigger(StrEnum):
    SUBMIT = "submit-message"
    REGENERATE = "regenerate-message"


class UiPart(BaseModel):
    """A part of a message; which fields it has depends on its type."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(max_length=128)

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.model_extra or {}

    @property
    def is_tool(self) -> bool:
        return self.type == "dynamic-tool" or self.type.startswith("tool-")


class UiRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


class UiMessage(Value):
    """A `UIMessage` of the AI SDK, version 5 or newer."""

    id: str = Field(min_length=1, max_length=255, description="Of a user's message: its Idempotency-Key")
    role: UiRole
    parts: list[UiPart] = Field(max_length=MAX_PARTS)
    metadata: Any = None

    @property
    def text(self) -> str:
        return "".join(str(part.fields.get("text", "")) for part in self.parts if part.type == "text")


class ChatHistory(Value):
    """What is stored of a chat."""

    messages: list[UiMessage] = Field(description="Oldest first; what `useChat` takes as `messages`")


class PageTool(Value):
    """A tool that the page runs."""

    description: str = Field("", max_length=4_096)
    parameters: Annotated[JsonObject, BeforeValidator(in_written_order)] = Field(
        {}, description="JSON Schema of its input"
    )


class ChatRequest(Value):
    """Body of `POST /ai-sdk/chat`, as `DefaultChatTransport` sends it. The fields after `messageId` are Parley's: give
    them as the transport's `body`."""

    id: str = Field(min_length=1, max_length=255, description="The chat: a session's id, or any id of the caller's own")
    messages: list[UiMessage] = Field(min_length=1, max_length=MAX_MESSAGES, description="Oldest first")
    trigger: ChatTrigger
    messageId: str | None = Field(None, max_length=255, description="Of the message to answer again, or that goes on")
    agent_id: str | None = Field(None, max_length=64, description="Of a new session")
    approval_mode: ApprovalMode | None = Field(None, description="As in posting a message")
    concurrency: Concurrency | None = Field(
        None, description="As in posting a message; null: `interrupt` for who has stopped the turn that runs"
    )
    output_schema: OutputSchema | None = Field(None, description="As in posting a message")
    tools: dict[Annotated[str, Field(pattern=CLIENT_TOOL_NAME)], PageTool] = Field(
        {}, max_length=MAX_CLIENT_TOOLS, description="The page's own tools by name, as assistant-ui sends them"
    )
    metadata: JsonObject | None = Field(None, max_length=0, description="assistant-ui sends it, empty")

    @property
    def client_tools(self) -> list[ClientTool]:
        return [
            ClientTool(name=name, description=tool.description, parameters=tool.parameters)
            for name, tool in self.tools.items()
        ]


@dataclass(frozen=True, slots=True)
class GivenDecision:
    """An answer to an approval. field: where it stands."""

    approval_id: str
    decision: NewDecision
    field: str


@dataclass(frozen=True, slots=True)
class GivenOutput:
    """What a tool of the page has returned, or why it failed. field: where it stands."""

    call_id: str
    value: Any
    error: str | None
    field: str


@dataclass(frozen=True, slots=True)
class Question:
    """A message to post. key: its Idempotency-Key."""

    text: str
    key: str
    files: Sequence[SentFile] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to approvals, and outputs that may be those of the page's tools. message_id: the assistant's message that
    goes on. seen: the number of the last event that its page has had."""

    message_id: str
    given: list[GivenDecision]
    outputs: list[GivenOutput]
    seen: int | None


@dataclass(frozen=True, slots=True)
class Again:
    """A user's message that is to be answered again. turn_id: of the answer that it is to replace, if it is named.
    text: of the user's message."""

    turn_id: str | None
    text: str


def read(request: ChatRequest) -> Question | Answers | Again:
    """What is asked for. Raises InvalidInput(VALIDATION_ERROR)."""
    for field, part in _parts(request):
        if part.type not in _KNOWN_PARTS and not part.type.startswith(_KNOWN_PREFIXES):
            raise refused(f"{field}.type", f"{part.type[:64]!r} is not a part that this version knows")
    newest = request.messages[-1]
    if request.trigger is ChatTrigger.REGENERATE:
        return _again(request, newest)
    if newest.role != "user" or request.messageId not in {None, newest.id}:
        return _answers(request)
    if request.messageId is not None:
        raise refused("messageId", "a message that was sent cannot be changed; send a new one")
    return _question(newest, len(request.messages) - 1)


def _question(message: UiMessage, index: int) -> Question:
    files: list[SentFile] = []
    for number, part in enumerate(message.parts):
        field = f"messages.{index}.parts.{number}"
        if part.type == "file":
            files.append(file_of_url(part.fields.get("url"), f"{field}.url", part.fields.get("filename")))
        elif part.type == "text":
            _text_of(part, field)
        else:
            raise refused(f"{field}.type", "a message that is sent may have text and files only")
    check_number(files)
    return Question(message.text, message.id, tuple(files))


def _again(request: ChatRequest, newest: UiMessage) -> Again:
    if newest.role != "user":
        raise refused(f"messages.{len(request.messages) - 1}.role", "the message to be answered again is a user's")
    return Again(None if request.messageId == newest.id else request.messageId, newest.text)


def _answers(request: ChatRequest) -> Answers:
    wanted = request.messageId or request.messages[-1].id
    found = [(number, message) for number, message in enumerate(request.messages) if message.id == wanted]
    if not found or found[-1][1].role != "assistant":
        raise refused("messageId", "names no message of the assistant that could go on")
    index, message = found[-1]
    given = [
        _decision(part, f"messages.{index}.parts.{number}.approval")
        for number, part in enumerate(message.parts)
        if part.is_tool and part.fields.get("state") == "approval-responded"
    ]
    outputs = [
        _output(part, f"messages.{index}.parts.{number}")
        for number, part in enumerate(message.parts)
        if part.is_tool and part.fields.get("state") in _OUTPUTS and part.fields.get("providerExecuted") is not True
    ]
    if not (given or outputs):
        raise refused(f"messages.{index}.parts", "no approval and no call of a tool of the page is answered")
    return Answers(message.id, given, outputs, _seen(message))


def _output(part: UiPart, field: str) -> GivenOutput:
    call_id, error = part.fields.get("toolCallId"), None
    if not isinstance(call_id, str):
        raise refused(f"{field}.toolCallId", "must be text")
    if part.fields["state"] == "output-error":
        told = part.fields.get("errorText")
        error = (told if isinstance(told, str) else "")[:_COMMENT_CHARS] or "The tool failed."
    return GivenOutput(call_id, part.fields.get("output"), error, f"{field}.output")


def _decision(part: UiPart, field: str) -> GivenDecision:
    approval = part.fields.get("approval")
    approval_id = approval.get("id") if isinstance(approval, dict) else None
    approved = approval.get("approved") if isinstance(approval, dict) else None
    reason = approval.get("reason") if isinstance(approval, dict) else None
    if not isinstance(approval_id, str):
        raise refused(f"{field}.id", "must be text")
    if not isinstance(approved, bool):
        raise refused(f"{field}.approved", "must be true or false")
    if reason is not None and not (isinstance(reason, str) and len(reason) <= _COMMENT_CHARS):
        raise refused(f"{field}.reason", f"must be text of at most {_COMMENT_CHARS} characters")
    decision = Decision.APPROVE if approved else Decision.REJECT
    return GivenDecision(approval_id, NewDecision(decision=decision, comment=reason), f"{field}.id")


def _seen(message: UiMessage) -> int | None:
    """The newest number that `data-turn` told the page."""
    told = [part.fields.get("data") for part in message.parts if part.type == "data-turn"]
    numbers = [data.get("seq") for data in told if isinstance(data, dict)]
    whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    return max(whole, default=None)


def has_stopped(request: ChatRequest, turn_id: str, question: str) -> bool:
    """Whether the page had the turn that runs, of this question, when it asked for something else: then its reader has
    stopped it, which this wire does not tell. Somebody else's page has neither the turn nor its question."""
    earlier = request.messages if request.trigger is ChatTrigger.REGENERATE else request.messages[:-1]
    return any(
        message.id == turn_id or (message.role == "user" and message.text == question) for message in reversed(earlier)
    )


def posted_calls(request: ChatRequest) -> dict[str, tuple[str, UiPart]]:
    """Tool calls whose outcome the posted history claims to know, by id: the field, and the part.

    Raises InvalidInput(VALIDATION_ERROR).
    """
    found: dict[str, tuple[str, UiPart]] = {}
    for field, part in _parts(request):
        if not part.is_tool or part.fields.get("state") in {"input-streaming", "input-available"}:
            continue
        call_id = part.fields.get("toolCallId")
        if not isinstance(call_id, str):
            raise refused(f"{field}.toolCallId", "must be text")
        found[call_id] = (field, part)
    return found


def _rounded(number: float) -> float:
    return number if abs(number) > _LARGEST else float(number)


def check_calls(posted: Mapping[str, tuple[str, UiPart]], known: Mapping[str, ToolCall]) -> None:
    """Refuse outcomes that are not those of the session. known: its calls and those of its subagents, by id. Raises
    InvalidInput."""
    for call_id, (field, part) in posted.items():
        call = known.get(call_id)
        if call is None:
            raise refused(f"{field}.toolCallId", f"{call_id[:64]!r} is no tool call of this session")
        if call.is_client:
            continue  # the page's own to show; what is told of it is checked where it answers
        if part.fields.get("state") != "output-available" or part.fields.get("output") == WAITS_BELOW:
            continue  # the latter is what a page has been told in place of a result
        if call.status is not ToolCallStatus.COMPLETED or not _same(part.fields.get("output"), call.result):
            raise refused(f"{field}.output", "is not the result of this call; results of tools cannot be posted")


def refused(field: str, why: str) -> InvalidInput:
    """field: dotted path in the body."""
    return InvalidInput(ErrorCode.VALIDATION_ERROR, f"{field}: {why}.", errors=[{"field": field, "message": why}])


def _text_of(part: UiPart, field: str) -> str:
    text = part.fields.get("text")
    if not isinstance(text, str):
        raise refused(f"{field}.text", "must be text")
    return text


def _parts(request: ChatRequest) -> Iterator[tuple[str, UiPart]]:
    for number, message in enumerate(request.messages):
        for index, part in enumerate(message.parts):
            yield f"messages.{number}.parts.{index}", part


def _same(posted: Any, stored: Any) -> bool:
    """As JSON of a browser, which has one kind of number."""
    if isinstance(posted, bool) or isinstance(stored, bool):
        return posted is stored
    if isinstance(posted, int | float) and isinstance(stored, int | float):
        return posted == stored or _rounded(posted) == _rounded(stored)
    if isinstance(posted, dict) and isinstance(stored, dict):
        return posted.keys() == stored.keys() and all(_same(posted[key], stored[key]) for key in posted)
    if isinstance(posted, list) and isinstance(stored, list):
        return len(posted) == len(stored) and all(_same(one, other) for one, other in zip(posted, stored, strict=True))
    found: bool = posted == stored
    return found
