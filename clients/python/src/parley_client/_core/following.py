"""Following a stream across its connections: from where to go on, what to skip, when to come back, when it is over.

Invariant: each numbered event is told once and in order, however often the connection breaks. A connection that breaks
costs nothing but time; only a refusal ends the stream with an error.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

from ..errors import Unavailable
from ..events import Event, Gap, MessageStart, SessionEvent, TurnEnd, TurnEvent, frame_of
from .http import Reply, Request, problem_of, seconds_of
from .retrying import Retries, backed_off
from .sse import ServerEvent, SseReader, TooLarge

E = TypeVar("E")

SILENCE_S = 45.0
"""A connection without a byte for so long is dead: the service sends a keep-alive every 15 s."""
LOSSES = 12
"""How often in a row nothing comes before the stream is given up: with the usual pauses, after two to three minutes."""


class Following(ABC, Generic[E]):
    """One stream. The caller opens `request`, hands over what comes, and asks how to go on."""

    def __init__(
        self,
        request: Request,
        after: int | None,
        retries: Retries,
        random: Callable[[], float] = random.random,
    ) -> None:
        """after: the number of the last event that is known; None: from the beginning."""
        self._request = request
        self.seq = after
        self._retries = retries
        self._random = random
        self._reader = SseReader()
        self._failures = 0
        self._has_read = False
        self.is_over = False

    @property
    def request(self) -> Request:
        """What opens the next connection."""
        headers = {**self._request.headers, "accept": "text/event-stream", "cache-control": "no-cache"}
        if self.seq is not None:
            headers["last-event-id"] = str(self.seq)
        return replace(self._request, headers=headers)

    def opened(self, status: int, media_type: str) -> bool:
        """Whether the answer is a stream to read. Otherwise hand it to `refused`, once read."""
        self._reader, self._has_read = SseReader(), False
        if status == 204:  # the service's word for a stream that is over
            self.is_over = True
        return status == 200 and media_type.startswith("text/event-stream")

    def refused(self, reply: Reply) -> float:
        """Seconds until the next try after an answer that is no stream. Raises ApiError when there is none."""
        error = problem_of(reply)
        if reply.status != 429 and reply.status < 500:
            raise error
        self._failures += 1
        told_s = seconds_of(reply.headers.get("retry-after"))
        if self._failures >= LOSSES or (told_s or 0) > self._retries.longest_pause_s:
            raise error
        return told_s if told_s is not None else backed_off(self._retries, self._failures, self._random())

    def received(self, piece: bytes) -> Iterator[E]:
        """The events in a piece of the stream."""
        self._has_read, self._failures = True, 0
        try:
            for told in self._reader.read(piece):
                yield from self._numbered(told)
                if self.is_over:
                    return
        except TooLarge as error:
            raise Unavailable(200, "HTTP", str(error)) from None

    def lost(self) -> float | None:
        """Seconds until the next try after the connection has ended, or could not be made; None: give up."""
        told_s = self._reader.retry_s
        if self._has_read:
            self._has_read = False
            pause_s = self._retries.first_pause_s if told_s is None else min(told_s, self._retries.longest_pause_s)
            return pause_s * (1 - self._random() / 2)
        self._failures += 1
        return None if self._failures >= LOSSES else backed_off(self._retries, self._failures, self._random())

    def _numbered(self, told: ServerEvent) -> Iterator[E]:
        number = {}
        if told.id is not None and told.id.isascii() and told.id.isdigit():
            seq = int(told.id)
            if self.seq is not None and seq <= self.seq:
                return
            self.seq = number["seq"] = seq
        try:
            event = self._event(told.name, {**number, **json.loads(told.data)})
        except (ValueError, TypeError) as error:
            raise Unavailable(200, "HTTP", f"The stream holds an event {told.name} that cannot be read.") from error
        yield event

    @abstractmethod
    def _event(self, name: str, fields: dict[str, Any]) -> E:
        """An event that has not been told before."""


class FollowingSession(Following[SessionEvent]):
    """A session's events. It is over only when the caller stops, or may read the session no more."""

    def _event(self, name: str, fields: dict[str, Any]) -> SessionEvent:
        if name == "gap":
            gap = Gap.model_validate(fields)
            # A gap has no number of its own; without this a reconnection would tell it again.
            self.seq = max(self.seq or 0, gap.next - 1)
            return gap
        return Event.model_validate(fields)


class FollowingTurn(Following[TurnEvent]):
    """A turn's frames, until its end."""

    _message_id: str | None = None

    def _event(self, name: str, fields: dict[str, Any]) -> TurnEvent:
        event = frame_of(name, fields)
        if isinstance(event, MessageStart):
            self._message_id = event.message_id
        elif isinstance(event, TurnEnd):
            self.is_over = True
        elif event.message_id is None and name in {"content_delta", "reasoning_delta", "tool_call"}:
            # Frames from the service's store come without: they belong to the message that began last.
            event = event.model_copy(update={"message_id": self._message_id})
        return event
