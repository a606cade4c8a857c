"""The port to language models: requests, answer events and errors. Adapters implement `LLMServiceProtocol`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.errors import ErrorCode, ModelFailed
from shared.sessions.llm.conversation import ModelImage, ModelToolCall, Said
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason, JsonObject, Usage


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. conversation: oldest first; tools: each an encoded `{"name", "description", "parameters"}`."""

    model: str
    api: ModelApi
    instructions: str
    conversation: Sequence[Said]
    tools: Sequence[bytes] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    reasons: bool | None = None
    """Whether the model is known to reason; None: not known."""
    output_schema: JsonObject | None = None
    """JSON Schema of the answer's text."""
    traceparent: str | None = None
    """Sent with the request, in W3C form."""


@dataclass(frozen=True, slots=True)
class ModelText:
    """A piece of text; never empty. A refusal is text too, with the finish reason in `ModelEnd`."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelReasoning:
    """A piece of the reasoning that the model shows; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """The end of an answer."""

    finish_reason: FinishReason
    usage: Usage | None
    """None: the server reported none."""
    tool_calls: list[ModelToolCall] = field(default_factory=list)
    kept: list[JsonObject] = field(default_factory=list)
    """Items that its API wants back with later calls of the same turn; only the adapter reads their order and shape."""
    response_id: str | None = None
    response_model: str | None = None


type ModelEvent = ModelText | ModelReasoning | ModelEnd


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A complete answer, for callers that do not stream."""

    content: str
    end: ModelEnd


class ContextOverflow(ModelFailed):
    """The request was longer than the model's window; there is no answer.

    limit_tokens: the window; read_tokens: the request's length; both None if the server did not report it. is_lasting:
    the limit is the model's own, not a current quota or a limit on the size of the body.
    """

    def __init__(
        self, *, limit_tokens: int | None = None, read_tokens: int | None = None, is_lasting: bool = True
    ) -> None:
        words = "The conversation is longer than the model's context window"
        super().__init__(ErrorCode.TOKEN_LIMIT, f"{words} of {limit_tokens} tokens." if limit_tokens else f"{words}.")
        self.limit_tokens = limit_tokens
        self.read_tokens = read_tokens
        self.is_lasting = is_lasting

    def __reduce__(self) -> tuple[Any, ...]:
        return _overflow, (self.limit_tokens, self.read_tokens, self.is_lasting)


def _overflow(limit_tokens: int | None, read_tokens: int | None, is_lasting: bool) -> ContextOverflow:
    return ContextOverflow(limit_tokens=limit_tokens, read_tokens=read_tokens, is_lasting=is_lasting)


class PromptFiltered(ModelFailed):
    """The provider's content filter refused the request; there is no answer."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.LLM_ERROR,
            "The model's content filter refused the message. It is left out from now on; say it in other words.",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PromptFiltered, ()


class ImageReader(Protocol):
    """Reads the images attached to a session's messages."""

    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        """None when it is deleted, unsupported by models or too large for them. Raises Transient."""
        ...


class LLMServiceProtocol(Protocol):
    """A model endpoint."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Stream the answer: any number of ModelText and ModelReasoning, then exactly one ModelEnd.

        Raises Transient (LLM_ERROR, LLM_TIMEOUT, RATE_LIMITED with `retry_after_s`) when another try may work, and when
        the stream breaks off. Raises ModelFailed when no other try will work; its subclasses ContextOverflow and
        PromptFiltered are raised before any event. Closing the generator closes the request.
        """
        ...
