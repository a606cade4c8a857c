"""Who watches a turn: the frames that the load generator looks for, as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import orjson


class Watching:
    """The texts of turns from memory, from a turn's beginning on; gone with the process, and when they were read."""

    def __init__(self) -> None:
        self._queues: defaultdict[str, asyncio.Queue[str | None]] = defaultdict(asyncio.Queue)

    def tell(self, turn_id: str, text: str | None) -> None:
        """text: None at the end."""
        self._queues[turn_id].put_nowait(text)

    async def texts(self, turn_id: str) -> AsyncIterator[str]:
        queue = self._queues[turn_id]
        try:
            while (text := await queue.get()) is not None:
                yield text
        finally:
            self._queues.pop(turn_id, None)


def begun(turn_id: str) -> bytes:
    return _frame(turn_id, "message_start", {})


def said(turn_id: str, text: str) -> bytes:
    return _frame(turn_id, "content_delta", {"text": text})


END = b'event: end\ndata: {"status":"completed"}\n\n'


def _frame(turn_id: str, kind: str, fields: dict[str, str]) -> bytes:
    event = {"type": "stream.chunk", "message_id": turn_id, "data": {"frame": {"type": kind, **fields}}}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(event))
