"""Whoever follows events: over SSE with `Last-Event-ID`, over SignalR, quickly or slowly; and what all of them heard.

Invariant: an event counts as heard when it has arrived as a whole, never before.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import orjson

from devtools.bench.load.signalr import signalr_socket
from devtools.chaos.client import Client

_PAUSE_S = 0.3
_SLOW_S = 0.4
_SLOW_BYTES = 2_048
_LITTLE_BYTES = 4_096
_ASLEEP_S = 120.0
_FOREVER = aiohttp.ClientTimeout(total=None, sock_read=60)
"""A keep-alive comes at least each 15 s."""


class Sent(NamedTuple):
    """One Server-Sent Event. number: its id."""

    number: int | None
    event: str
    data: dict[str, Any]


@dataclass
class Heard:
    """What was heard of one session, by everybody. problems: what an order of events must never be."""

    session_id: str
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    gaps: int = 0
    passed: int = 0
    """The newest number that a reader was told is missing."""

    @property
    def newest(self) -> int:
        """The newest number that anybody heard, or was told to be missing."""
        return max(self.passed, max(self.events, default=0))

    def take(self, envelope: dict[str, Any], who: str) -> None:
        number = int(envelope["seq"])
        known = self.events.setdefault(number, envelope)
        if known != envelope:
            self.problems.append(
                f"number {number} was given twice ({who}): {known['type']} at {known['at']},"
                f" {envelope['type']} at {envelope['at']}"
            )


@dataclass
class Position:
    """Where one reader is. Its events must come densely, or after a `gap` that says where they go on."""

    heard: Heard
    who: str
    last: int = 0

    def take(self, sent: Sent) -> None:
        if sent.event == "gap":
            self.heard.gaps += 1
            self.last = int(sent.data["next"]) - 1
            self.heard.passed = max(self.heard.passed, self.last)
            return
        if sent.number is None:
            return
        if sent.number != self.last + 1:
            self.heard.problems.append(f"{self.who} heard number {sent.number} after {self.last}, without a gap")
        self.last = sent.number
        self.heard.take(sent.data, self.who)


class Frames:
    """A turn's stream put together as clients do: the last attempt of each message wins."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_whole: dict[str, bool] = {}
        """Whether a message's end has come, and no part of it is missing."""
        self.has_holes: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._deltas: dict[str, int] = {}

    def skip(self) -> None:
        """Events are missing here, as a reader is told by a `gap`: of what is not whole a part may be missing."""
        self.has_holes |= {message_id for message_id, is_whole in self.is_whole.items() if not is_whole}

    def take(self, frame: dict[str, Any], message_id: str) -> None:
        """frame: with its type."""
        match frame["type"]:
            case "message_start":
                if frame["attempt"] < self._attempts.get(message_id, 0):
                    return
                self._attempts[message_id] = frame["attempt"]
                self.texts[message_id], self._deltas[message_id] = "", 0
                self.is_whole[message_id] = False
                self.has_holes.discard(message_id)
            case "content_delta":
                if frame["index"] != self._deltas.get(message_id):
                    self.has_holes.add(message_id)
                    self.is_whole[message_id] = False
                    return
                self._deltas[message_id] += 1
                self.texts[message_id] += frame["text"]
            case "message_end" if message_id in self.texts and message_id not in self.has_holes:
                self.is_whole[message_id] = True


async def follow_session(client: Client, heard: Heard, *, slow: bool, ended: asyncio.Event) -> None:
    """Follow a session's events until `ended`; comes back after every break."""
    position = Position(heard, "a slow reader" if slow else "a reader")
    path = f"/sessions/{heard.session_id}/events"
    while not ended.is_set():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async for sent in _events(client, path, position.last, slow=slow):
                position.take(sent)
        await asyncio.sleep(_PAUSE_S)


async def follow_turn(client: Client, session_id: str, turn_id: str, frames: Frames) -> bool:
    """Read a turn's stream to its end, over every break. False when the run gives up before that."""
    last: int | None = None
    path = f"/sessions/{session_id}/turns/{turn_id}/stream"
    current = ""
    while not client.world.gives_up.is_set():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async for sent in _events(client, path, last):
                last = sent.number if sent.number is not None else last
                if sent.event == "end":
                    return True
                if "." in sent.event:
                    continue  # what becomes of a call, or of the turn
                current = sent.data.get("message_id", current)
                frame = sent.data["data"]["frame"] if "data" in sent.data else {"type": sent.event, **sent.data}
                frames.take(frame, current)
        await asyncio.sleep(_PAUSE_S)
    return False


async def follow_by_signalr(client: Client, heard: Heard, *, ended: asyncio.Event) -> None:
    """Hear a session's events over a socket until `ended`; what is missed between two sockets is missed."""
    http = client.world.http
    while not ended.is_set():
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            info = await client.ask("negotiate", "POST", "/realtime/negotiate?negotiateVersion=1", key=heard.session_id)
            if info.status == 200:
                async with signalr_socket(http, info.body) as (connection_id, socket):
                    path = f"/sessions/{heard.session_id}/subscribe"
                    body = {"connection_id": connection_id}
                    joined = await client.ask("subscribe", "POST", path, key=connection_id, json=body)
                    while joined.status == 200 and not ended.is_set():
                        message = await socket.receive(timeout=60)
                        if message.type is not aiohttp.WSMsgType.TEXT:
                            break
                        for text in message.data.split("\x1e"):
                            invocation = orjson.loads(text) if text else {}
                            for envelope in invocation.get("arguments", []):
                                if envelope["session_id"] == heard.session_id:
                                    heard.take(envelope, "SignalR")
        await asyncio.sleep(_PAUSE_S)


async def never_read(client: Client, session_id: str, ended: asyncio.Event) -> None:
    """Ask for a session's events and read none of them, as a laptop that was closed; ask again now and then."""
    address = urlsplit(client.world.base_url)
    request = (
        f"GET {address.path}/sessions/{session_id}/events HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"x-dev-user: {client.user}\r\nAccept: text/event-stream\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    while not ended.is_set():
        with socket.socket() as end, contextlib.suppress(OSError, TimeoutError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE_BYTES)
            end.setblocking(False)
            await loop.sock_connect(end, (address.hostname, address.port))
            await loop.sock_sendall(end, request.encode())
            async with asyncio.timeout(_ASLEEP_S):
                await ended.wait()
        await asyncio.sleep(_PAUSE_S)


async def _events(client: Client, path: str, last: int | None, *, slow: bool = False) -> AsyncIterator[Sent]:
    headers = {**client.headers, "accept": "text/event-stream"}
    if last is not None:
        headers["last-event-id"] = str(last)
    url = client.world.base_url + path
    size = _SLOW_BYTES if slow else 65_536
    async with client.world.http.get(url, headers=headers, timeout=_FOREVER, read_bufsize=size) as response:
        if response.status != 200:
            return
        data = b""
        async for piece in response.content.iter_any():
            *whole, data = (data + piece).split(b"\n\n")
            for text in whole:
                fields = dict(_field(line) for line in text.split(b"\n") if line and not line.startswith(b":"))
                if b"data" in fields and b"event" in fields:
                    number = fields.get(b"id")
                    yield Sent(
                        None if number is None else int(number),
                        fields[b"event"].decode(),
                        orjson.loads(fields[b"data"]),
                    )
            if slow:
                await asyncio.sleep(_SLOW_S)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
