"""A conversation as a model is asked to go on with it, whatever API it is sent over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.sessions.models import JsonObject


@dataclass(frozen=True, slots=True)
class ModelToolCall:
    """A tool call as the model wrote it; `arguments` is text that may not be JSON at all."""

    id: str
    name: str
    arguments: str
    is_cut: bool = False
    """The answer ended before the call was whole: it must not run."""


@dataclass(frozen=True, slots=True)
class ModelImage:
    """An image, or a document, that came with a message."""

    media_type: str
    data: bytes = field(repr=False)
    name: str = ""


class UserSaid(NamedTuple):
    """A user's message. before: texts that stand before it and are nobody's words, such as the note of its files."""

    text: str
    before: tuple[str, ...] = ()
    images: tuple[ModelImage, ...] = ()


class AssistantSaid(NamedTuple):
    """An answer of the model. kept: what its API wants back with it (`ModelEnd.kept`); only within its turn."""

    text: str
    calls: Sequence[ModelToolCall] = ()
    kept: Sequence[JsonObject] = ()


class ToolAnswered(NamedTuple):
    """The result of a call. Every call of an `AssistantSaid` has one, before anything else is said."""

    call_id: str
    text: str


type Said = UserSaid | AssistantSaid | ToolAnswered
