"""What the parsers of both APIs share: bytes in, events out, whatever an event holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from shared.adapters.models.calls import ToolCalls
from shared.adapters.models.sse import EventStream, unreadable
from shared.adapters.models.telling import Telling
from shared.sessions.llm.protocol import ModelEnd, ModelEvent


class AnswerParser(ABC):
    """One answer as it comes."""

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._telling = Telling()
        self._calls = ToolCalls()

    @property
    def has_begun(self) -> bool:
        """Anything has come that a reader sees, or a call."""
        return self._telling.has_begun or bool(self._calls)

    @property
    @abstractmethod
    def is_done(self) -> bool:
        """The server has said that nothing comes any more."""

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """What `chunk` tells. Raises Transient, ModelFailed, Refusal."""
        self._take_all(self._events.feed(chunk))
        return self._telling.take()

    def finish(self) -> list[ModelEvent]:
        """The last words and the end. Raises Transient when the answer broke off before its end."""
        self._take_all(self._events.end())
        told = self._telling.end()
        return [*told, self._ending()]

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
