"""The content of an answer, split into tokens: the same for both APIs.

Invariant: the concatenated deltas of a stream equal the text and the argument texts in the
non-streaming body of the same reply.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import orjson

from devhost.model.conversation import ToolCall
from devhost.model.errors import RequestRefused

MODEL_NAME = "offline-demo"
_PIECE = re.compile(r"\s?\w{1,8}|\s+|[^\w\s]+?", re.DOTALL)
_CACHED_CHARS = 8192
_CACHED_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Failure:
    """The model fails after its text."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    tokens: tuple[str, ...]
    """The text, split into tokens; their concatenation is the content."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    """As in chat completions: stop, length, tool_calls, content_filter."""
    thoughts: tuple[str, ...] = ()
    """The reasoning before the answer, split like the text."""
    is_refusal: bool = False
    """The text is a refusal."""
    failure: Failure | None = None
    cached_tokens: int = 0
    """The reported number of cached prompt tokens."""
    tells_usage: bool = True

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    @property
    def completion_tokens(self) -> int:
        """Tokens of reasoning, text and calls; a call costs a few more than its arguments."""
        calls = sum(len(split_tokens(call.arguments)) + 4 for call in self.tool_calls)
        return len(self.thoughts) + len(self.tokens) + calls


class Answer(Protocol):
    """One reply in the format of an API: as a whole, or as a stream of bytes."""

    @property
    def completion_tokens(self) -> int: ...

    def body(self) -> bytes:
        """The whole answer as one JSON object."""

    def head(self) -> bytes:
        """Events before the first token."""

    def units(self) -> list[bytes]:
        """One entry per token; the last event of an entry carries the token."""

    def tail(self) -> bytes:
        """Events after the last token."""

    def error_event(self, sent: int, error: RequestRefused) -> bytes:
        """The last event of a stream whose model fails after that many units."""


def split_tokens(text: str) -> tuple[str, ...]:
    """Split a text into pieces about as long as tokens; nothing is lost."""
    return _cut(text) if len(text) <= _CACHED_CHARS else tuple(_PIECE.findall(text))


@lru_cache(maxsize=512)
def _cut(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))


def limited(reply: Reply, max_tokens: int | None) -> Reply:
    """Cut a reply at max_tokens as a model does: the finish reason is `length`, an unfinished call is still sent."""
    if max_tokens is None:
        return reply
    if len(reply.thoughts) > max_tokens:
        return replace(reply, thoughts=reply.thoughts[:max_tokens], tokens=(), tool_calls=(), finish_reason="length")
    left = max_tokens - len(reply.thoughts)
    if len(reply.tokens) > left:
        return replace(reply, tokens=reply.tokens[:left], tool_calls=(), finish_reason="length")
    left -= len(reply.tokens)
    calls: list[ToolCall] = []
    for call in reply.tool_calls:
        pieces = split_tokens(call.arguments)
        if len(pieces) > left:
            calls.append(ToolCall(call.id, call.name, "".join(pieces[:left])))
            return replace(reply, tool_calls=tuple(calls), finish_reason="length")
        left -= len(pieces)
        calls.append(call)
    return reply


def new_call_id() -> str:
    """A call id like OpenAI's: unique, never derived from the conversation."""
    return f"call_{uuid.uuid4().hex[:24]}"


def encoded(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    """Each token as JSON text."""
    # Cached: answers repeat, and encoding each token again would be most of a stream's cost.
    return _encode(tokens) if len(tokens) <= _CACHED_TOKENS else tuple(map(orjson.dumps, tokens))


@lru_cache(maxsize=512)
def _encode(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(orjson.dumps, tokens))
