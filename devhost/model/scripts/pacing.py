"""The pace of an answer, and where it breaks off.

Invariant: one SSE event per token, always. A stream without pacing is sent in as few writes as possible,
since the model shares its machine with the system that it helps to measure.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web

from devhost.model.errors import RequestRefused
from devhost.model.reply import Answer
from devhost.model.scripts.script import Fault, Script

_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, counts in tokens."""

    first_s: float
    token_s: float
    until: Path | None = None
    """There is no pace once it exists."""
    cut_after: int | None = None
    hang_after: int | None = None
    error_after: int | None = None
    split_bytes: int | None = None
    error: RequestRefused | None = None
    """What `error_after` tells."""

    @property
    def stop_after(self) -> int | None:
        """The token after which the fault happens."""
        stops = [n for n in (self.cut_after, self.hang_after, self.error_after) if n is not None]
        return min(stops, default=None)


def scripted_pace(script: Script, fault: Fault) -> Pace:
    """The pace of a script, changed by the fault of this call."""
    first_ms = script.first_ms if fault.first_ms is None else fault.first_ms
    token_ms = script.token_ms if fault.token_ms is None else fault.token_ms
    pace = Pace(
        first_ms / 1000,
        token_ms / 1000,
        until=None if script.paced_until is None else Path(script.paced_until),
        cut_after=fault.cut_after,
        hang_after=fault.hang_after,
        error_after=fault.error_after,
        split_bytes=script.split_bytes,
        error=RequestRefused(
            fault.message or "The scripted stream failed.",
            param=fault.param,
            kind=fault.type or "server_error",
            code=fault.code or "server_error",
        ),
    )
    if pace.stop_after is None:
        return replace(pace, cut_after=script.cut_after, hang_after=script.hang_after)
    return pace


async def send_whole(answer: Answer, pace: Pace) -> web.StreamResponse:
    """Send one JSON body once all tokens are due. Raises RequestRefused (502) when the script breaks it off."""
    body = answer.body()
    wait_s = pace.first_s + pace.token_s * answer.completion_tokens
    if wait_s:
        await asyncio.sleep(wait_s)
    if pace.hang_after is not None:
        await asyncio.Event().wait()
    if pace.stop_after is not None:
        raise RequestRefused("The scripted answer breaks off.", status=502, kind="server_error")
    return web.Response(body=body, content_type=_JSON)


class EventStream:
    """One Server-Sent-Events answer."""

    def __init__(self, request: web.Request, answer: Answer, pace: Pace) -> None:
        self._request = request
        self._answer = answer
        self._pace = pace
        self._response = web.StreamResponse(headers=_SSE)

    async def run(self) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        pace = self._pace
        units = self._answer.units()
        broken = pace.stop_after is not None and pace.stop_after <= len(units)
        units = units[: pace.stop_after] if broken else units
        if pace.first_s:
            await asyncio.sleep(pace.first_s)
        await self._response.prepare(self._request)
        started = loop.time()
        pending = self._answer.head()
        sent = 0
        while pace.token_s and sent < len(units) and not (pace.until is not None and pace.until.exists()):
            # Paced by the clock, not by sleeps: a late loop sends all due tokens and keeps the rate.
            due = min(len(units), int((loop.time() - started) / pace.token_s) + 1)
            if due > sent:
                await self._write(pending + b"".join(units[sent:due]))
                pending, sent = b"", due
            if sent < len(units):
                await asyncio.sleep(max(0.0, started + sent * pace.token_s - loop.time()))
        pending += b"".join(units[sent:])
        if broken:
            return await self._break_off(pending, len(units))
        return await self._finish(pending + self._answer.tail())

    async def _finish(self, data: bytes) -> web.StreamResponse:
        if self._pace.split_bytes is None:
            await self._response.write_eof(data)
        else:
            await self._write(data)
            await self._response.write_eof()
        return self._response

    async def _break_off(self, data: bytes, sent: int) -> web.StreamResponse:
        if data:
            await self._write(data)
        stop = self._pace.stop_after
        if stop == self._pace.error_after and self._pace.error is not None:
            return await self._finish(self._answer.error_event(sent, self._pace.error))
        if stop == self._pace.hang_after:
            await asyncio.Event().wait()
        transport = self._request.transport
        if transport is not None:
            transport.close()  # written data is still sent; the closing chunk never is
        return self._response

    async def _write(self, data: bytes) -> None:
        size = self._pace.split_bytes
        if size is None:
            await self._response.write(data)
            return
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            await asyncio.sleep(0)
