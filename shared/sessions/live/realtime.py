"""Getting events out while a function still runs, and the writer that coalesces a model's deltas.

Invariant: events leave in the order they were numbered. Live delivery may fail (a client then sees a hole in the
numbers and reads what it missed); it never fails the turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from shared.sessions.events import Event, EventTarget, FrameType, SessionEventPublisher, frame

log = logging.getLogger(__name__)

COALESCE_SECONDS = 0.075
"""The period in which later deltas gather: below what a reader notices, far above what a hop costs."""


class RealtimeSender(Protocol):
    """Sends encoded SignalR messages now, in order."""

    async def send(self, messages: Sequence[bytes]) -> None:
        """Raises DeliveryFailed."""
        ...


class DeliveryFailed(Exception):
    """Live delivery did not work; the events are in the log all the same."""


class StreamWriter:
    """One model step's outgoing events: the first delta at once, later ones coalesced.

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
        coalesce_s: float = COALESCE_SECONDS,
    ) -> None:
        self._publisher = publisher
        self._sender = sender
        self._target = target
        self._turn_id = turn_id
        self._message_id = message_id
        self._coalesce_s = coalesce_s
        self._events: list[Event] = []
        self._texts: list[str] = []
        self._kind = FrameType.CONTENT_DELTA
        self._deltas = {FrameType.CONTENT_DELTA: 0, FrameType.REASONING_DELTA: 0}
        self._wake = asyncio.Event()
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
        """Number what is left and return it encoded, for the caller's own output binding to send."""
        self._finishing.set()
        self._wake.set()
        if self._task is not None:
            await self._task
        self._seal_text()
        if not self._events:
            return []
        events, self._events = self._events, []
        return await self._publisher.publish(self._target, events)

    def _seal_text(self) -> None:
        if self._texts:
            text = "".join(self._texts)
            self._texts.clear()
            index = self._deltas[self._kind]
            self._events.append(frame(self._kind, self._turn_id, self._message_id, index=index, text=text))
            self._deltas[self._kind] += 1

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._finishing.is_set():
                return
            self._seal_text()
            events, self._events = self._events, []
            messages = await self._publisher.publish(self._target, events)
            try:
                await self._sender.send(messages)
            except DeliveryFailed as exc:
                log.warning("live delivery failed for turn %s: %s", self._turn_id, exc)
            try:
                await asyncio.wait_for(self._finishing.wait(), self._until_tick())
            except TimeoutError:
                continue
            return

    def _until_tick(self) -> float:
        """Seconds to the next flush, between half and one and a half periods from now.

        All streams of the process flush on the same ticks, so that what they send shares one pipeline to Redis and one
        call of the relay: its cost then does not grow with the number of streams.
        """
        if not self._coalesce_s:
            return 0.0
        past = time.monotonic() % self._coalesce_s
        left = self._coalesce_s - past
        return left if past < self._coalesce_s / 2 else left + self._coalesce_s
