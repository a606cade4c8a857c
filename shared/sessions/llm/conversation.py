"""The conversation sent with a model call, independent of the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.sessions.models import JsonObject

MAX_ARGUMENT_CHARS = 256 * 1024
"""Of one call. The longest that a tool takes is 100,000 characters, which are about twice as many as JSON."""


@dataclass(frozen=True, slots=True)
class ModelToolCall:
    """A tool call as the model wrote it; `arguments` may not be valid JSON."""

    id: str
    name: str
    arguments: str
    is_cut: bool = False
    """The answer ended before the call was complete, so the call must not run."""
    left_out_chars: int = 0
    """Its arguments were longer than MAX_ARGUMENT_CHARS: none are kept, and it must not run."""


@dataclass(frozen=True, slots=True)
class ModelImage:
    """An image or document attached to a message."""

    media_type: str
    data: bytes = field(repr=False)
    name: str = ""


class UserSaid(NamedTuple):
    """A user's message. before: texts sent before it that the user did not write, such as the note on its files."""

    text: str
    before: tuple[str, ...] = ()
    images: tuple[ModelImage, ...] = ()


class AssistantSaid(NamedTuple):
    """An answer of the model. kept: items that its API wants back (`ModelEnd.kept`), only within the same turn."""

    text: str
    calls: Sequence[ModelToolCall] = ()
    kept: Sequence[JsonObject] = ()


class ToolAnswered(NamedTuple):
    """The result of a call. Every call of an `AssistantSaid` has one, before the next message."""

    call_id: str
    text: str


type Said = UserSaid | AssistantSaid | ToolAnswered
