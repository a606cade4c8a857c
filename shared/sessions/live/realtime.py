"""Getting events out while a function still runs, and the writer that gathers a model's deltas.

Invariant: events leave in the order they were numbered. Live delivery may fail (a client then sees a hole in the
numbers and reads what it missed); it never fails the turn. One that is slow delays nobody who reads the log: events
are numbered and kept at their own pace, and what gathers meanwhile is sent together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from shared.sessions.events import Event, EventTarget, FrameType, SessionEventPublisher, frame
from shared.sessions.live.pace import Pace

log = logging.getLogger(__name__)


class RealtimeSender(Protocol):
    """Sends encoded SignalR messages now, in order."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Raises DeliveryFailed."""
        ...


class DeliveryFailed(Exception):
    """Live delivery did not work; the events are in the log all the same."""


MOST_DELTA_CHARS = 100_000
"""Of one delta: in JSON a character takes at most six bytes, so no delta is too large for SignalR (MOST_LIVE_BYTES)."""


class StreamWriter:
    """One model step's outgoing events: the first delta at once, later ones at a pace.

    Use: `add` and `text` as things happen, then `finish` once. Not safe for several writers.
    """

    def __init__(
        self,
        publisher: SessionEventPublisher,
        sender: RealtimeSender,
        target: EventTarget,
        *,
        turn_id: str,
        message_id: str,
        pace: Pace | None = None,
    ) -> None:
        self._publisher = publisher
        self._sender = sender
        self._target = target
        self._turn_id = turn_id
        self._message_id = message_id
        self._pace = pace or Pace()
        self._events: list[Event] = []
        self._texts: list[str] = []
        self._kind = FrameType.CONTENT_DELTA
        self._deltas = {FrameType.CONTENT_DELTA: 0, FrameType.REASONING_DELTA: 0}
        self._wake = asyncio.Event()
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        self._sending: asyncio.Task[None] | None = None

    def add(self, *events: Event) -> None:
        """Queue events; they leave with the next text or with `finish`."""
        self._seal_text()
        self._events.extend(events)

    def text(self, text: str, kind: FrameType = FrameType.CONTENT_DELTA) -> None:
        """Queue text and see that it leaves soon. kind: CONTENT_DELTA or REASONING_DELTA, each numbered from 0."""
        if kind is not self._kind:
            self._seal_text()
            self._kind = kind
        self._texts.append(text)
        if self._task is None:
            self._task = asyncio.create_task(self._pump())
        self._wake.set()

    def restart(self, *events: Event) -> None:
        """Queue events of another attempt: its texts are numbered from 0 again."""
        self.add(*events)
        self._deltas = dict.fromkeys(self._deltas, 0)

    async def finish(self) -> list[bytes]:
        """Number what is left and return what was not sent, encoded, for the caller's own output binding."""
        self._finishing.set()
        self._wake.set()
        if self._task is not None:
            await self._task
        self._seal_text()
        if self._events:
            await self._tell()
        if self._sending is not None:
            await self._sending  # the binding's messages come after those
        unsent, self._unsent = self._unsent, []
        return unsent

    def _seal_text(self) -> None:
        if self._texts:
            text = "".join(self._texts)
            self._texts.clear()
            for start in range(0, len(text), MOST_DELTA_CHARS):
                index, piece = self._deltas[self._kind], text[start : start + MOST_DELTA_CHARS]
                self._events.append(frame(self._kind, self._turn_id, self._message_id, index=index, text=piece))
                self._deltas[self._kind] += 1

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._finishing.is_set():
                return
            self._seal_text()
            is_read = await self._tell()
            if self._unsent and self._sending is None:
                self._sending = asyncio.create_task(self._send())
            try:
                await asyncio.wait_for(self._finishing.wait(), self._pace.next_s(is_read=is_read))
            except TimeoutError:
                continue
            return

    async def _tell(self) -> bool:
        """Whether somebody may be watching."""
        events, self._events = self._events, []
        told = await self._publisher.tell(self._target, events)
        # Who is on record was read when the step began, and is old by the next batch.
        self._target = replace(self._target, subscribed_ms=None)
        self._unsent += told.messages
        return told.is_read

    async def _send(self) -> None:
        """All that was not sent yet, and what gathers meanwhile."""
        try:
            while self._unsent and not self._finishing.is_set():
                messages, self._unsent = self._unsent, []
                try:
                    await self._sender.send(messages)
                except DeliveryFailed as exc:
                    log.warning("live delivery failed for turn %s: %s", self._turn_id, exc)
        finally:
            self._sending = None
