"""The base of both APIs' parsers: bytes in, events out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from shared.adapters.models.calls import ToolCalls
from shared.adapters.models.pending_text import PendingText
from shared.adapters.models.refusals.refusal import Refusal
from shared.adapters.models.sse import Endless, EventStream, unreadable
from shared.errors import AppError
from shared.sessions.llm.protocol import ModelEnd, ModelEvent


class AnswerParser(ABC):
    """Parses one answer stream."""

    def __init__(self, events: EventStream) -> None:
        self._events = events
        self._pending = PendingText()
        self._calls = ToolCalls()
        self._failure: Refusal | AppError | None = None
        """An error that arrived together with text: the text is returned first."""
        self.is_cut_short = False
        """A call is longer than any may be: the rest of the answer is not read."""

    @property
    def has_begun(self) -> bool:
        """Whether text, reasoning or a tool call has arrived."""
        return self._pending.has_begun or bool(self._calls)

    @property
    def is_done(self) -> bool:
        """Whether the server has ended the stream, or an error has."""
        return self._events.is_done or self._failure is not None or self._is_complete or self.is_cut_short

    @property
    def has_ended(self) -> bool:
        """Whether the answer's last word has arrived. The usage, and the end of the stream, may still come."""
        return False

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """The events in `chunk`. Raises Transient, ModelFailed, Refusal; if text came first, `finish` raises it."""
        try:
            self._take_all(self._events.feed(chunk))
        except (Refusal, AppError) as exc:
            if isinstance(exc, Endless) and self._give_up_call():
                self.is_cut_short = True
                return self._pending.take()
            told = self._pending.take()
            if not told:
                raise
            self._failure = exc
            return told
        return self._pending.take()

    def finish(self) -> list[ModelEvent]:
        """The last events and the end. Raises Transient when the answer broke off, and errors as in `feed`."""
        if self._failure is not None:
            raise self._failure
        if not self.is_cut_short:
            self._take_all(self._events.end())
        told = self._pending.end()
        return [*told, self._ending()]

    @property
    def _is_complete(self) -> bool:
        """Whether the last event has arrived."""
        return False

    def _give_up_call(self) -> bool:
        """Leave out the arguments of the call that is being written; False: none is."""
        return self._calls.give_up_last()

    @abstractmethod
    def _take(self, event: Any) -> None:
        """Read one event. Raises Transient, ModelFailed, Refusal; other errors mean JSON of an unknown shape."""

    @abstractmethod
    def _ending(self) -> ModelEnd:
        """The end of the answer, after all events. Raises Transient when the stream had no end."""

    def _take_all(self, events: Iterable[Any]) -> None:
        try:
            for event in events:
                self._take(event)
                if self.is_cut_short:
                    return
        except (AttributeError, TypeError, ValueError, KeyError) as exc:  # valid JSON of an unknown shape
            raise unreadable() from exc
