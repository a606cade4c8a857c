"""What the domain asks of a language model, and what it answers. Adapters implement `LLMServiceProtocol`."""

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
    """Text that arrived together; never empty. A refusal is text, too: `ModelEnd` says that it was one."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelReasoning:
    """What the model tells of its reasoning, as far as it does; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """The model is done."""

    finish_reason: FinishReason
    usage: Usage | None
    """None: the server did not say."""
    tool_calls: list[ModelToolCall] = field(default_factory=list)
    kept: list[JsonObject] = field(default_factory=list)
    """What its API wants back with later calls of the same turn, in an order and shape only the adapter reads."""
    response_id: str | None = None
    response_model: str | None = None


type ModelEvent = ModelText | ModelReasoning | ModelEnd


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer, for those who do not read it as it comes."""

    content: str
    end: ModelEnd


class ContextOverflow(ModelFailed):
    """The request was longer than the model reads; nothing was answered.

    limit_tokens: the model's window, read_tokens: what the request came to; as far as the server said. is_lasting: it
    is about the model, and not about a quota of today or the size of a body.
    """

    def __init__(
        self, *, limit_tokens: int | None = None, read_tokens: int | None = None, is_lasting: bool = True
    ) -> None:
        words = "The conversation is longer than the model can read"
        super().__init__(
            ErrorCode.TOKEN_LIMIT, f"{words}: its window is {limit_tokens} tokens." if limit_tokens else f"{words}."
        )
        self.limit_tokens = limit_tokens
        self.read_tokens = read_tokens
        self.is_lasting = is_lasting

    def __reduce__(self) -> tuple[Any, ...]:
        return _overflow, (self.limit_tokens, self.read_tokens, self.is_lasting)


def _overflow(limit_tokens: int | None, read_tokens: int | None, is_lasting: bool) -> ContextOverflow:
    return ContextOverflow(limit_tokens=limit_tokens, read_tokens=read_tokens, is_lasting=is_lasting)


class PromptFiltered(ModelFailed):
    """The provider's content filter refused what the model was to read; nothing was answered."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.LLM_ERROR,
            "The model's content filter refused the message. It is left out from now on; say it in other words.",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return PromptFiltered, ()


class ImageReader(Protocol):
    """Where the images of a session's messages are read."""

    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        """None when it is gone, is none that models see, or is larger than they take. Raises Transient."""
        ...


class LLMServiceProtocol(Protocol):
    """A model endpoint."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """The answer as it comes: any number of ModelText and ModelReasoning, then exactly one ModelEnd.

        Raises Transient (LLM_ERROR, LLM_TIMEOUT, RATE_LIMITED with `retry_after_s`) when another try may work,
        ModelFailed when it will not: ContextOverflow and PromptFiltered among them, and before any event. A stream
        that breaks off raises Transient. Closing the generator closes the request.
        """
        ...
