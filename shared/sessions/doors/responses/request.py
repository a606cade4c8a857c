"""What a client of this wire may post, and what comes of it.

Invariant: a client speaks for its user and for nobody else. Of what it posts only the user's new text and files, the
user's answers to approvals and the outputs of the client's own functions count; items that would be the model's, a
tool's of the server or the operator's are refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.approvals.models import NewDecision
from shared.sessions.doors.files import SentFile, check_number, file_of_base64, file_of_url
from shared.sessions.doors.responses.ids import approval_of
from shared.sessions.models import (
    CLIENT_TOOL_NAME,
    MAX_CLIENT_TOOLS,
    MAX_CONTENT_CHARS,
    ClientTool,
    Decision,
    JsonObject,
    OutputSchema,
    ReasoningEffort,
    SessionConfig,
    Value,
)
from shared.sessions.structured_output.key_order import in_written_order


class InputText(Value):
    type: Literal["input_text"]
    text: str


class InputImage(Value):
    """An image of the user. Nothing is fetched: its address is a data URL."""

    type: Literal["input_image"]
    image_url: str
    detail: str | None = Field(None, max_length=16, description="The model's own choice in any case")


class InputFile(Value):
    """A file of the user."""

    type: Literal["input_file"]
    file_data: str = Field(description="Its bytes in base64, or a data URL")
    filename: str | None = Field(None, max_length=255)
    detail: str | None = Field(None, max_length=16, description="The model's own choice in any case")


Said = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]


def _as_parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


class InputMessage(Value):
    """What the user says, and the files that come with it."""

    type: Literal["message"] = "message"
    role: Literal["user"] = Field(description="The history and the instructions are the server's own")
    content: Annotated[list[Said], BeforeValidator(_as_parts, json_schema_input_type=str | list[Said])] = Field(
        min_length=1, max_length=64
    )

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content if isinstance(part, InputText))


class ApprovalAnswer(Value):
    """The user's answer to an `mcp_approval_request`."""

    type: Literal["mcp_approval_response"]
    approval_request_id: str = Field(max_length=128)
    approve: bool
    reason: str | None = Field(None, max_length=2_000)
    id: str | None = Field(None, max_length=128, description="The client's own; it means nothing here")


class ItemStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"


class FunctionOutput(Value):
    """What a function of the client has returned."""

    type: Literal["function_call_output"]
    call_id: str = Field(max_length=128)
    output: Annotated[list[InputText], BeforeValidator(_as_parts, json_schema_input_type=str | list[InputText])] = (
        Field(max_length=64)
    )
    id: str | None = Field(None, max_length=128, description="The client's own; it means nothing here")
    status: ItemStatus | None = Field(None, description="It means nothing here")

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.output)


class FunctionTool(Value):
    """A function of the client."""

    type: Literal["function"]
    name: str = Field(pattern=CLIENT_TOOL_NAME)
    description: str | None = Field(None, max_length=4_096)
    parameters: Annotated[JsonObject, BeforeValidator(in_written_order)] | None = None
    strict: bool | None = Field(None, description="Arguments fit the schema in any case")


def _kind_of(item: Any) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[ApprovalAnswer, Tag("mcp_approval_response")]
    | Annotated[FunctionOutput, Tag("function_call_output")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_item",
        custom_error_message="must be a `message` of the user, an `mcp_approval_response` or a `function_call_output`:"
        " calls, reasoning and earlier answers are the server's own",
    ),
]


def _as_items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


class ConversationRef(Value):
    id: str = Field(min_length=1, max_length=255)


class JsonSchemaFormat(Value):
    # Not `Value`'s own: a field named `schema` would hide a method of pydantic's.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    type: Literal["json_schema"]
    name: str = Field(max_length=64)
    output_schema: OutputSchema = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(Value):
    type: Literal["text"]


class TextOptions(Value):
    format: JsonSchemaFormat | TextFormat | None = Field(None, discriminator="type")


class ReasoningOptions(Value):
    effort: ReasoningEffort | None = None


class NewResponse(Value):
    """Body of `POST /api/openai/v1/responses`: a message of the user, or answers to approvals and outputs of the
    client's
    functions."""

    input: Annotated[list[InputItem], BeforeValidator(_as_items, json_schema_input_type=str | list[InputItem])] = Field(
        min_length=1, max_length=64
    )
    model: str | None = Field(None, max_length=64, description="An agent; the conversation's own, or `assistant`")
    stream: bool | None = None
    background: bool | None = Field(None, description="Answer at once. Turns go on without their client in any case")
    previous_response_id: str | None = Field(
        None, max_length=256, description="The newest response of a conversation, which goes on"
    )
    conversation: str | ConversationRef | None = Field(
        None, description="The client's own name for a conversation, which is made if there is none, or a session's id"
    )
    metadata: dict[str, str] | None = Field(None, max_length=16, description="Of a new conversation")
    temperature: float | None = Field(None, ge=0, le=2, description="Of a new conversation")
    max_output_tokens: int | None = Field(None, ge=1, le=128_000, description="Of a new conversation")
    reasoning: ReasoningOptions | None = Field(None, description="Of a new conversation")
    text: TextOptions | None = Field(None, description="The form of this answer")
    store: Literal[True] | None = Field(None, description="Every turn is stored")
    tools: list[FunctionTool] | None = Field(
        None,
        max_length=MAX_CLIENT_TOOLS,
        description="Functions of the client, beside the agent's tools. With outputs, those of the message still hold",
    )
    tool_choice: Literal["auto"] | None = None
    parallel_tool_calls: Literal[True] | None = None

    @property
    def thread(self) -> str | None:
        """The conversation that it names."""
        named = self.conversation
        return named.id if isinstance(named, ConversationRef) else named

    @property
    def output_schema(self) -> JsonObject | None:
        form = None if self.text is None else self.text.format
        return form.output_schema if isinstance(form, JsonSchemaFormat) else None

    @property
    def client_tools(self) -> list[ClientTool]:
        return [
            ClientTool(name=tool.name, description=tool.description or "", parameters=tool.parameters or {})
            for tool in self.tools or ()
        ]

    def outputs(self) -> Sequence[tuple[str, FunctionOutput]]:
        """Of each function's output its place in the body, and itself."""
        return [(f"input.{n}.call_id", item) for n, item in enumerate(self.input) if isinstance(item, FunctionOutput)]

    def message(self) -> str | None:
        """The user's text; None: it answers approvals and calls. Raises InvalidInput for both at once."""
        messages = [item for item in self.input if isinstance(item, InputMessage)]
        if not messages:
            return None
        if len(messages) < len(self.input):
            index = next(n for n, item in enumerate(self.input) if not isinstance(item, InputMessage))
            raise refused(f"input.{index}", "cannot come together with a message: the turn waits for answers")
        text = "\n\n".join(message.text for message in messages)
        if len(text) > MAX_CONTENT_CHARS:
            raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A message may have {MAX_CONTENT_CHARS} characters.")
        return text

    def files(self) -> list[SentFile]:
        """Raises InvalidInput."""
        found: list[SentFile] = []
        for index, item in enumerate(self.input):
            for number, part in enumerate(item.content if isinstance(item, InputMessage) else ()):
                field = f"input.{index}.content.{number}"
                if isinstance(part, InputImage):
                    found.append(file_of_url(part.image_url, f"{field}.image_url"))
                elif isinstance(part, InputFile):
                    is_url = part.file_data[:5].lower() == "data:"
                    read = file_of_url if is_url else file_of_base64
                    found.append(read(part.file_data, f"{field}.file_data", part.filename))
        check_number(found)
        return found

    def answers(self) -> Sequence[tuple[str, str, NewDecision]]:
        """Of each answer its place in the body, the approval, and the decision. Raises InvalidInput."""
        found = []
        for index, item in enumerate(self.input):
            if not isinstance(item, ApprovalAnswer):
                continue
            field = f"input.{index}.approval_request_id"
            approval_id = approval_of(item.approval_request_id)
            if approval_id is None:
                raise refused(field, "is no id of an approval request")
            decision = Decision.APPROVE if item.approve else Decision.REJECT
            found.append((field, approval_id, NewDecision(decision=decision, comment=item.reason)))
        return found

    def config(self) -> SessionConfig:
        """Of a new conversation."""
        effort = None if self.reasoning is None else self.reasoning.effort
        given = {
            "temperature": self.temperature,
            "max_output_tokens": self.max_output_tokens,
            "reasoning_effort": effort,
        }
        return SessionConfig(**{name: value for name, value in given.items() if value is not None})

    def refuse_other(self, config: SessionConfig, metadata: JsonObject) -> None:
        """Raises InvalidInput for what a conversation that goes on has otherwise."""
        asked = self.config()
        fields = {
            "temperature": "temperature",
            "max_output_tokens": "max_output_tokens",
            "reasoning_effort": "reasoning",
        }
        for name in asked.model_fields_set:
            if getattr(asked, name) != getattr(config, name):
                raise refused(fields[name], "belongs to the conversation, which has another one; begin a new one")
        if self.metadata and self.metadata != metadata:
            raise refused("metadata", "belongs to the conversation, which has other; begin a new one")


def refused(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR, f"{field}: {message}", errors=[{"field": field, "message": message}]
    )


# Answers, for the OpenAPI document. -------------------------------------------------------------


class ResponseStatus(StrEnum):
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"


class ResponseObject(BaseModel):
    """A response of this wire: a turn, or the part of one that comes after a decision."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="Seconds since 1970")
    status: ResponseStatus
    model: str = Field(description="The agent's id")
    output: list[JsonObject] = Field(
        description="Items: message, reasoning, mcp_approval_request, mcp_call, function_call"
    )
    conversation: ConversationRef = Field(description="The session")
    error: JsonObject | None
    incomplete_details: JsonObject | None
    usage: JsonObject | None
    metadata: JsonObject


class ModelObject(BaseModel):
    """An agent as a model of this wire."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970; 0: it comes with the app")
    owned_by: str


class ModelList(BaseModel):
    """All agents."""

    object: Literal["list"]
    data: list[ModelObject]
