"""What the domain asks of a language model, and what it answers. Adapters implement `LLMServiceProtocol`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.sessions.models import Usage


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. messages: chat-completion messages, oldest first; tools: encoded function schemas."""

    model: str
    messages: Sequence[dict[str, Any]]
    tools: Sequence[bytes] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelToolCall:
    """A tool call as the model wrote it; `arguments` is text that may not be JSON at all."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ModelText:
    """Text that arrived together; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelEnd:
    """The model is done. finish_reason: `stop`, `tool_calls`, `length` or `content_filter`."""

    finish_reason: str
    usage: Usage
    tool_calls: list[ModelToolCall] = field(default_factory=list)


type ModelEvent = ModelText | ModelEnd


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer, for those who do not read it as it comes."""

    content: str
    finish_reason: str
    usage: Usage
    tool_calls: list[ModelToolCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ModelImage:
    """An image that came with a message."""

    media_type: str
    data: bytes = field(repr=False)


class ImageReader(Protocol):
    """Where the images of a session's messages are read."""

    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        """None when it is gone, is none that models see, or is larger than they take. Raises Transient."""
        ...


class LLMServiceProtocol(Protocol):
    """A model endpoint."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """The answer as it comes: any number of ModelText, then exactly one ModelEnd.

        Raises Transient (LLM_ERROR, LLM_TIMEOUT, RATE_LIMITED with `retry_after_s`) when another try may work,
        ModelFailed (LLM_ERROR, TOKEN_LIMIT) when it will not. A stream that breaks off raises Transient.
        """
        ...
