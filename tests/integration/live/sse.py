"""A client of Server-Sent Events: parses what a handler yields, strictly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class SentEvent:
    name: str
    id: int | None
    data: Any
    raw: bytes


class Reader:
    """Reads a stream of encoded events, one at a time; keep-alives are counted and skipped."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self.events: list[SentEvent] = []
        self.keep_alives = 0
        self.reconnects = 0
        """How often the stream asked to be opened again."""

    async def next(self) -> SentEvent:
        """The next event. Raises StopAsyncIteration at the end."""
        while True:
            block = await anext(self._source)
            if block.startswith(b":"):
                self.keep_alives += 1
                continue
            if block == b"retry: 200\n\n":
                self.reconnects += 1
                continue
            event = parse(block)
            self.events.append(event)
            return event

    async def until(self, name: str, *, times: int = 1) -> SentEvent:
        """Read on until the event of that name has come so many times more."""
        while True:
            event = await self.next()
            times -= event.name == name
            if times == 0:
                return event

    async def rest(self) -> list[SentEvent]:
        """Everything to the end of the stream."""
        try:
            while True:
                await self.next()
        except StopAsyncIteration:
            return self.events

    async def aclose(self) -> None:
        await self._source.aclose()  # type: ignore[attr-defined]  # a generator behind the protocol


def parse(block: bytes) -> SentEvent:
    """One event: optional `id`, `event`, `data`, an empty line; nothing else."""
    assert block.endswith(b"\n\n"), block
    fields = dict(line.split(b": ", 1) for line in block[:-2].split(b"\n"))
    assert set(fields) <= {b"id", b"event", b"data"}, block
    number = int(fields[b"id"]) if b"id" in fields else None
    return SentEvent(fields[b"event"].decode(), number, orjson.loads(fields[b"data"]), fields[b"data"])


def concatenated(events: Sequence[SentEvent]) -> str:
    """What a reader of a turn's stream shows: the deltas since the last message_start of its only message."""
    text = ""
    for event in events:
        if event.name == "message_start":
            text = ""
        elif event.name == "content_delta":
            text += event.data["text"]
    return text
