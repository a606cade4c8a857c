"""Server-Sent Events as a client reads them, and the text that a turn's frames add up to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. id: None when the server sent none."""

    id: int | None
    event: str
    data: dict[str, Any]


async def server_events(response: httpx.Response) -> AsyncIterator[ServerEvent]:
    """Events of a streaming response until it ends; comments (keep-alives) are skipped."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if fields:
            number = fields.get("id")
            yield ServerEvent(None if number is None else int(number), fields["event"], orjson.loads(fields["data"]))
            fields = {}


class Transcript:
    """Stream frames put together as api.md tells clients to: the last attempt of each message wins."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        """By message id."""
        self.attempts: dict[str, list[int]] = {}
        self._deltas: dict[str, int] = {}

    def take(self, frame: dict[str, Any], message_id: str) -> None:
        """frame: a `stream.chunk`'s `data.frame`."""
        if frame["type"] == "message_start":
            assert frame["message_id"] == message_id
            attempts = self.attempts.setdefault(message_id, [])
            assert not attempts or frame["attempt"] > attempts[-1], "a new attempt has a higher number"
            attempts.append(frame["attempt"])
            self.texts[message_id] = ""
            self._deltas[message_id] = 0
        elif frame["type"] == "content_delta":
            assert frame["index"] == self._deltas[message_id], "deltas are numbered without a hole"
            self._deltas[message_id] += 1
            self.texts[message_id] += frame["text"]

    @classmethod
    def of_envelopes(cls, envelopes: Iterable[dict[str, Any]], turn_id: str) -> Transcript:
        """From a session's events."""
        transcript = cls()
        for envelope in envelopes:
            if envelope["type"] == "stream.chunk" and envelope.get("turn_id") == turn_id:
                frame = envelope["data"]["frame"]
                if frame["type"] not in {"error", "subagent"}:
                    transcript.take(frame, envelope["message_id"])
        return transcript

    @classmethod
    def of_turn_stream(cls, events: Iterable[ServerEvent]) -> Transcript:
        """From a turn's own stream, whose data is the envelope (or, from the store, the frame alone)."""
        transcript = cls()
        current = ""
        for event in events:
            if event.event in {"end", "tool_call"} or "." in event.event:
                continue
            data = event.data
            frame = data["data"]["frame"] if "data" in data else {"type": event.event, **data}
            current = data.get("message_id", current)
            transcript.take(frame, current)
        return transcript
