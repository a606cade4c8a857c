"""Reads one turn from arriving bytes: the time of the first token, the time of the end, pending approvals.

It only searches for a few markers, so that watching 64 sessions costs almost nothing. `text()` parses everything, for
turns whose content is checked.

Invariant: a time is the arrival time of the bytes with the marker, never later.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

_FIRST = b"content_delta"
_PENDING = b"tool_call.pending"
_APPROVAL = b'"approval":{"id":"'


class UnexpectedTurn(Exception):
    """A turn that did not behave as its workload says, which invalidates the measurement."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How messages of a stream end, and how the last message of a turn is recognised."""

    separator: bytes
    end: bytes
    prefix: bytes
    """The text before the JSON in a message."""


TURN_SSE = Framing(b"\n\n", b"event: end\n", b"data: ")
SESSION_SSE = Framing(b"\n\n", b"event: stream.ended\n", b"data: ")
SIGNALR = Framing(b"\x1e", b'"type":"stream.ended"', b"")


class TurnView:
    """Feed it chunks. Times are seconds of the caller's clock."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._data = bytearray()
        self._searched = 0
        self._end_from = -1
        self._pending_from = -1
        self._pending_searched = 0
        self.first_at: float | None = None
        self.ended_at: float | None = None

    def feed(self, chunk: bytes, now: float) -> None:
        self._data += chunk
        start = max(0, self._searched - 32)
        if self.first_at is None and self._data.find(_FIRST, start) >= 0:
            self.first_at = now
        if self._end_from < 0:
            self._end_from = self._data.find(self._framing.end, start)
        if self._end_from >= 0 and self._data.find(self._framing.separator, self._end_from) >= 0:
            self.ended_at = now
        self._searched = len(self._data)

    def new_approval(self) -> str | None:
        """The id of a new pending approval, once per approval."""
        if self._pending_from < 0:
            self._pending_from = self._data.find(_PENDING, max(0, self._pending_searched - 32))
            self._pending_searched = len(self._data)
        if self._pending_from < 0:
            return None
        stop = self._data.find(self._framing.separator, self._pending_from)
        start = self._data.find(_APPROVAL, self._pending_from, stop) + len(_APPROVAL)
        if stop < 0:
            return None
        if start < len(_APPROVAL):
            raise UnexpectedTurn(f"a pending approval without an id: {bytes(self._data[self._pending_from : stop])!r}")
        self._pending_from, self._pending_searched = -1, stop
        return self._data[start : self._data.index(b'"', start)].decode()

    def check_completed(self) -> None:
        """Raises UnexpectedTurn when the turn did not complete or had no token."""
        if self._end_from < 0 or self._data.find(b'"status":"completed"', self._end_from) < 0:
            raise UnexpectedTurn(f"the turn did not complete: {bytes(self._data[self._end_from :][:500])!r}")
        if self.first_at is None:
            raise UnexpectedTurn("the turn completed without a token")

    def text(self) -> str:
        """The streamed text of all messages of the turn, without attempts that were restarted."""
        texts: dict[str, str] = {}
        for message in bytes(self._data).split(self._framing.separator):
            position = message.find(b"{", max(0, message.find(self._framing.prefix)))
            if position < 0:
                continue
            event = orjson.loads(message[position:])
            if "arguments" in event and "target" in event:  # a SignalR invocation
                event = event["arguments"][0]
            frame = event.get("data", {}).get("frame") if event.get("type") == "stream.chunk" else None
            if frame is None:
                continue
            if frame["type"] == "message_start":
                texts[event["message_id"]] = ""
            elif frame["type"] == "content_delta":
                texts[event["message_id"]] += frame["text"]
        return "".join(texts.values())
