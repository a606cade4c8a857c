"""What a client of AG-UI may post, and what comes of it.

Invariant: the posted history decides nothing. What counts is the newest message of the user, whose id is its
Idempotency-Key, the answers to interrupts, which are decided with the caller's own rights, and the results of the
client's own tools that stand after all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.ag_ui.door import PROTOCOL_VERSION, Run
from shared.sessions.doors.files import SentFile, check_number, file_of_base64, file_of_url
from shared.sessions.models import (
    CLIENT_TOOL_NAME,
    MAX_CLIENT_TOOLS,
    MAX_CONTENT_CHARS,
    ClientTool,
    Concurrency,
    Decision,
    InputAction,
    InputAnswer,
    JsonObject,
    NewInput,
    SentJson,
    Value,
)
from shared.sessions.structured_output.key_order import in_written_order

_NAME = Annotated[str, Field(min_length=1, max_length=255)]


class _Camel(Value):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class TextPart(BaseModel):
    """Of the user's message, or of a tool's result."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text"]
    text: str


class PartSource(BaseModel):
    """Where the bytes of a file are."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["data", "url"]
    value: str


class FilePart(BaseModel):
    """A file of the user."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["image", "audio", "video", "document"]
    source: PartSource
    metadata: Any = None

    @property
    def name(self) -> object:
        return self.metadata.get("filename") if isinstance(self.metadata, dict) else None


class BinaryPart(BaseModel):
    """The same, as before 1.0."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["binary"]
    data: str | None = None
    url: str | None = None
    filename: str | None = None


class AgUiRole(StrEnum):
    DEVELOPER = "developer"
    SYSTEM = "system"
    ASSISTANT = "assistant"
    USER = "user"
    TOOL = "tool"
    ACTIVITY = "activity"
    REASONING = "reasoning"


class PostedMessage(BaseModel):
    """A message that the client has. Only the newest of the user is read; the others go back to the client when text
    is taken back."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: _NAME
    role: AgUiRole


class ResumptionStatus(StrEnum):
    RESOLVED = "resolved"
    CANCELLED = "cancelled"


class Resumption(_Camel):
    """An answer to an interrupt."""

    interrupt_id: str = Field(max_length=160, description="The approval's id, or the question's as it was told")
    status: ResumptionStatus = Field(
        description="cancelled: no to what still waits, from who may decide; else the run goes on"
    )
    payload: JsonObject | None = Field(None, description="As the interrupt's `responseSchema` says")
    metadata: JsonObject | None = None


class Payload(_Camel):
    """The answer itself."""

    approved: bool
    comment: str | None = Field(None, max_length=2_000)
    arguments: SentJson | None = None


class ForwardedProps(Value):
    agent_id: str | None = Field(None, max_length=64, description="Of a thread that begins; `assistant` by default")
    concurrency: Concurrency | None = Field(None, description="As in posting a message")


class AgUiTool(BaseModel):
    """A tool of the client."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(pattern=CLIENT_TOOL_NAME)
    description: str = Field("", max_length=4_096)
    parameters: Annotated[JsonObject, BeforeValidator(in_written_order)] | None = Field(
        None, description="JSON Schema of the arguments"
    )


def _empty(given: Any) -> Any:
    if given not in (None, {}, [], ""):
        raise ValueError("is not taken: an agent has its own")
    return None


Untaken = Annotated[Any, BeforeValidator(_empty)]
"""What the protocol has and this door does not take: refused, unless it is empty."""


class RunAgentInput(_Camel):
    """Body of `POST /api/v1/ag-ui`: RunAgentInput of AG-UI."""

    thread_id: _NAME = Field(description="The client's own name for a conversation, or a session's id")
    run_id: _NAME
    messages: list[PostedMessage] = Field(max_length=10_000)
    resume: list[Resumption] | None = Field(None, max_length=64)
    protocol_version: Literal["1.0"] | None = Field(None, description=f"{PROTOCOL_VERSION}, if it is given")
    parent_run_id: _NAME | None = None
    forwarded_props: ForwardedProps | None = None
    state: Untaken = None
    tools: list[AgUiTool] | None = Field(
        None, max_length=MAX_CLIENT_TOOLS, description="Tools of the client, beside the agent's"
    )
    context: Untaken = None

    @property
    def client_tools(self) -> list[ClientTool]:
        return [
            ClientTool(name=tool.name, description=tool.description, parameters=tool.parameters or {})
            for tool in self.tools or ()
        ]

    @property
    def agent_id(self) -> str | None:
        return None if self.forwarded_props is None else self.forwarded_props.agent_id

    @property
    def concurrency(self) -> Concurrency | None:
        return None if self.forwarded_props is None else self.forwarded_props.concurrency


@dataclass(frozen=True, slots=True)
class Question:
    """What the user says. key: of the message, which is posted once."""

    text: str
    key: str
    run: Run
    files: Sequence[SentFile] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """An interrupt of an approval and its answer. decision: None: it was abandoned. field: where it stands in the
    body."""

    approval_id: str
    decision: NewDecision | None
    field: str


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """An interrupt of a question and its answer. field: where it stands in the body."""

    tool_call_id: str
    wait_id: str
    payload: JsonObject | None
    """By question; None: all of them were abandoned."""
    field: str

    def answer(self, asked: Sequence[str]) -> NewInput:
        """asked: the ids of the questions. Raises InvalidInput."""
        if self.payload is None:
            given = {question: InputAnswer(action=InputAction.CANCEL) for question in asked}
        else:
            given = {question: _said(content, self.field) for question, content in self.payload.items()}
        return _checked(TypeAdapter(NewInput), {"wait_id": self.wait_id, "answers": given}, self.field)


@dataclass(frozen=True, slots=True)
class GivenOutput:
    """A result of a tool of the client. field: where it stands in the body."""

    call_id: str
    content: str
    error: str | None
    field: str


@dataclass(frozen=True, slots=True)
class Answers:
    given: Sequence[Answered]
    questions: Sequence[AnsweredQuestion]
    outputs: Sequence[GivenOutput]
    """Tool messages at the end: results of the client's tools, and perhaps some of the server's own."""
    run: Run


def read(body: RunAgentInput) -> Question | Answers:
    """Raises InvalidInput."""
    messages = [message.model_dump() for message in body.messages]
    if body.resume and messages and messages[-1]["role"] == "user":
        where = f"messages.{len(messages) - 1}"
        raise refused(where, "cannot be sent beside answers to interrupts: the turn waits for these")
    outputs = _outputs(messages)
    if body.resume or outputs:
        run = Run(body.thread_id, body.run_id, messages)
        entries = [_answered(index, entry) for index, entry in enumerate(body.resume or ())]
        given = [entry for entry in entries if isinstance(entry, Answered)]
        questions = [entry for entry in entries if isinstance(entry, AnsweredQuestion)]
        return Answers(given, questions, outputs, run)
    return question(body)


def question(body: RunAgentInput) -> Question:
    """The newest message of the user. Raises InvalidInput."""
    messages = [message.model_dump() for message in body.messages]
    places = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if not places:
        raise refused("messages", "holds no message of the user")
    place = places[-1]
    asked = messages[: place + 1]
    run = Run(body.thread_id, body.run_id, asked, is_told_again=len(asked) < len(messages))
    said, files = _read(messages[place].get("content"), f"messages.{place}.content")
    return Question(said, messages[place]["id"], run, files)


_Sent = Annotated[TextPart | FilePart | BinaryPart, Field(discriminator="type")]
_SENT: TypeAdapter[list[_Sent]] = TypeAdapter(Annotated[list[_Sent], Field(min_length=1, max_length=64)])
_PARTS: TypeAdapter[list[TextPart]] = TypeAdapter(Annotated[list[TextPart], Field(min_length=1, max_length=64)])


def _read(content: object, field: str) -> tuple[str, list[SentFile]]:
    """The text of a user's message, and its files. Raises InvalidInput."""
    files: list[SentFile] = []
    if not isinstance(content, str):
        parts = _checked(_SENT, content, field)
        content = "\n".join(part.text for part in parts if isinstance(part, TextPart))
        for number, part in enumerate(parts):
            if isinstance(part, FilePart):
                read = file_of_base64 if part.source.type == "data" else file_of_url
                files.append(read(part.source.value, f"{field}.{number}.source.value", part.name))
            elif isinstance(part, BinaryPart) and part.data is not None:
                files.append(file_of_base64(part.data, f"{field}.{number}.data", part.filename))
            elif isinstance(part, BinaryPart):
                files.append(file_of_url(part.url, f"{field}.{number}.url", part.filename))
    if len(content) > MAX_CONTENT_CHARS:
        raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A message may have {MAX_CONTENT_CHARS} characters.")
    check_number(files)
    return content, files


def _outputs(messages: Sequence[JsonObject]) -> list[GivenOutput]:
    found: list[GivenOutput] = []
    for index in range(len(messages) - 1, -1, -1):
        message, field = messages[index], f"messages.{index}"
        if message["role"] != "tool":
            break
        call_id, error = message.get("toolCallId"), message.get("error")
        if not isinstance(call_id, str):
            raise refused(f"{field}.toolCallId", "must be text")
        if error is not None and not isinstance(error, str):
            raise refused(f"{field}.error", "must be text")
        content = message.get("content")
        if not isinstance(content, str):
            content = "\n".join(part.text for part in _checked(_PARTS, content, f"{field}.content"))
        found.append(GivenOutput(call_id, content, (error or "")[:2_000] or None, f"{field}.toolCallId"))
    return found[::-1]


def _said(content: object, field: str) -> InputAnswer:
    if content is None:
        return InputAnswer(action=InputAction.DECLINE)
    accepted = {"action": InputAction.ACCEPT, "content": content}
    return _checked(TypeAdapter(InputAnswer), accepted, f"{field}.payload")


def _answered(index: int, entry: Resumption) -> Answered | AnsweredQuestion:
    field = f"resume.{index}"
    call_id, dot, wait_id = entry.interrupt_id.partition(".")
    if dot:
        said = (entry.payload or {}) if entry.status == "resolved" else None
        return AnsweredQuestion(call_id, wait_id, said, f"{field}.interruptId")
    if entry.status == "cancelled":
        return Answered(entry.interrupt_id, None, f"{field}.interruptId")
    payload = _checked(TypeAdapter(Payload), entry.payload, f"{field}.payload")
    decision = NewDecision(
        decision=Decision.APPROVE if payload.approved else Decision.REJECT,
        comment=payload.comment,
        arguments=payload.arguments,
    )
    return Answered(entry.interrupt_id, decision, f"{field}.interruptId")


def _checked[T](kind: TypeAdapter[T], value: object, field: str) -> T:
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join([field, *(str(part) for part in found["loc"])])
        raise refused(place, found["msg"]) from None


def refused(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR, f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
