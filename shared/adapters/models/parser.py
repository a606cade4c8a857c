"""What the parsers of both APIs share: bytes in, events out, whatever an event holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from shared.adapters.models.calls import ToolCalls
from shared.adapters.models.refusals.refusal import Refusal
from shared.adapters.models.sse import EventStream, unreadable
from shared.adapters.models.telling import Telling
from shared.errors import AppError
from shared.sessions.llm.protocol import ModelEnd, ModelEvent


class AnswerParser(ABC):
    """One answer as it comes."""

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._telling = Telling()
        self._calls = ToolCalls()
        self._failure: Refusal | AppError | None = None
        """Of an event that words had come before: they are told first."""

    @property
    def has_begun(self) -> bool:
        """Anything has come that a reader sees, or a call."""
        return self._telling.has_begun or bool(self._calls)

    @property
    def is_done(self) -> bool:
        """The server has said that nothing comes any more, or nothing more is read."""
        return self._events.is_done or self._failure is not None or self._is_complete

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """What `chunk` tells. Raises Transient, ModelFailed, Refusal; behind words that are returned, `finish` does."""
        try:
            self._take_all(self._events.feed(chunk))
        except (Refusal, AppError) as exc:
            told = self._telling.take()
            if not told:
                raise
            self._failure = exc
            return told
        return self._telling.take()

    def finish(self) -> list[ModelEvent]:
        """The last words and the end. Raises Transient when the answer broke off before its end, and as `feed`."""
        if self._failure is not None:
            raise self._failure
        self._take_all(self._events.end())
        told = self._telling.end()
        return [*told, self._ending()]

    @property
    def _is_complete(self) -> bool:
        """An event has said that it is the last."""
        return False

    @abstractmethod
    def _take(self, event: Any) -> None:
        """One event. Raises Transient, ModelFailed, Refusal; what it raises for JSON of another shape is wrapped."""

    @abstractmethod
    def _ending(self) -> ModelEnd:
        """Once all has come. Raises Transient when its end is missing."""

    def _take_all(self, events: list[Any]) -> None:
        try:
            for event in events:
                self._take(event)
        except (AttributeError, TypeError, ValueError, KeyError) as exc:  # valid JSON of another shape
            raise unreadable() from exc
