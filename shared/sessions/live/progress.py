"""The progress that a tool tells while it runs, as events of its session.

Invariants: however often a tool tells, there are four events a second at most, and the newest one wins. None is
numbered after `close`, so none has a number after that of the event that ends the call. Progress that cannot be told,
or slowly, neither fails nor delays a call.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from shared.errors import AppError
from shared.sessions.events import Event, EventTarget, EventType, SessionEventPublisher
from shared.sessions.live.realtime import DeliveryFailed, RealtimeSender
from shared.sessions.models import JsonObject
from shared.storable import storable_text

log = logging.getLogger(__name__)

INTERVAL_S = 0.25
MAX_TEXT_CHARS = 200


class Reported(NamedTuple):
    text: str
    fraction: float | None


class ProgressWriter:
    """Of one call. `tell` may be called from any thread; the rest belongs to the event loop that made it."""

    def __init__(
        self,
        publisher: SessionEventPublisher,
        sender: RealtimeSender,
        target: EventTarget,
        *,
        turn_id: str,
        message_id: str,
        tool_call: JsonObject,
        shown: Callable[[str], str] = str,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """tool_call: `id`, `message_id` and `name`. shown: what may be shown of a text."""
        self._publisher = publisher
        self._sender = sender
        self._target = target
        self._turn_id = turn_id
        self._message_id = message_id
        self._tool_call = tool_call
        self._shown = shown
        self._interval_s = interval_s
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._newest: Reported | None = None
        self._is_woken = False
        self._pump: asyncio.Task[None] | None = None
        self._is_closed = asyncio.Event()

    def tell(self, text: str, fraction: float | None) -> None:
        """fraction: from 0 to 1; what is outside is cut, and NaN is none."""
        told = Reported(str(text), fraction)
        with self._lock:
            self._newest = told
            if self._is_woken or self._is_closed.is_set():
                return  # a tool that tells in a narrow loop wakes the event loop once
            self._is_woken = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the process ends
            return

    async def close(self) -> None:
        """Say nothing more; what is on its way is numbered before this returns."""
        self._is_closed.set()
        if self._pump is not None:
            await self._pump

    def _wake(self) -> None:
        if self._pump is None and not self._is_closed.is_set():
            self._pump = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while (told := self._take()) is not None:
            sending = asyncio.create_task(self._send(await self._publish(told)))
            _SENDING.add(sending)
            sending.add_done_callback(_SENDING.discard)
            closed = asyncio.create_task(self._is_closed.wait())
            # One that is slow to send gathers what is told meanwhile, and holds up no call that has ended.
            await asyncio.wait({closed}, timeout=self._interval_s)
            await asyncio.wait({closed, sending}, return_when=asyncio.FIRST_COMPLETED)
            closed.cancel()
            if self._is_closed.is_set():
                return

    def _take(self) -> Reported | None:
        """The newest, unless there is none since the last one; then the next `tell` wakes again."""
        with self._lock:
            told, self._newest = self._newest, None
            if told is None:
                self._is_woken, self._pump = False, None
            return None if self._is_closed.is_set() else told

    async def _publish(self, told: Reported) -> list[bytes]:
        text = storable_text(self._shown(told.text))[:MAX_TEXT_CHARS]
        data = {"tool_call": self._tool_call, "text": text, "fraction": _part(told.fraction)}
        event = Event(EventType.TOOL_CALL_PROGRESS, data, self._turn_id, self._message_id)
        try:
            return await self._publisher.publish(self._target, [event])
        except AppError as exc:
            log.warning("progress of tool call %s was not told: %s", self._tool_call["id"], exc)
            return []

    async def _send(self, messages: list[bytes]) -> None:
        if not messages:
            return
        try:
            await self._sender.send(messages)
        except DeliveryFailed as exc:
            log.warning("progress of tool call %s was not delivered live: %s", self._tool_call["id"], exc)


_SENDING: set[asyncio.Task[None]] = set()


def _part(fraction: float | None) -> float | None:
    if fraction is None or math.isnan(fraction):
        return None
    return round(min(max(float(fraction), 0.0), 1.0), 4)
