"""One client with one session: posts a message, watches the answer, approves if needed, posts the next.

Three ways to watch. `sse`: one request per turn for that turn's stream. `events`: one open stream of the session's
events. `signalr`: one WebSocket, like the standard client's.

Invariant: a turn is timed from the sending of its message to the arrival of the bytes that end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from enum import StrEnum
from time import perf_counter
from typing import Any, Self

import aiohttp
import orjson

from devtools.bench.load.bare import Timing
from devtools.bench.load.signalr import signalr_socket
from devtools.bench.load.view import SESSION_SSE, SIGNALR, TURN_SSE, TurnView, UnexpectedTurn

TURN_TIMEOUT_S = 60.0
_APPROVER = {"x-dev-user": "approver;approver", "Content-Type": "application/json"}
_APPROVE = b'{"decision":"approve"}'
_numbers = itertools.count()


class Watch(StrEnum):
    SSE = "sse"  # GET .../turns/{id}/stream, per turn
    EVENTS = "events"  # GET .../events as SSE, per session
    SIGNALR = "signalr"  # a WebSocket per session


class Client:
    """`async with Client(...)`: a new session that is being watched. base_url: the app's, with `/api/v1`."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, message: str, watch: Watch) -> None:
        self._http = http
        self._base_url = base_url
        self._message = orjson.dumps({"content": message})
        self._watch = watch
        # Each client is its own user without roles, since an approver would see all sessions' approvals.
        self._headers = {"x-dev-user": f"bench-{next(_numbers)}", "Content-Type": "application/json"}
        self._session_id = ""
        self._stack = contextlib.AsyncExitStack()
        self._reader: asyncio.Task[None] | None = None
        self._view: TurnView | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        session = await self._post("/sessions", b"{}", expect=201)
        self._session_id = session["id"]
        if self._watch is not Watch.SSE:
            chunks = await (self._connect() if self._watch is Watch.SIGNALR else self._follow())
            self._reader = asyncio.create_task(self._read(chunks))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._stack.aclose()

    async def turn(self, *, expected_text: str | None = None) -> Timing:
        """One turn. expected_text: the text that it must stream; None: not checked. Raises UnexpectedTurn."""
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                began = perf_counter()
                view = await (self._turn_on_its_own_stream() if self._watch is Watch.SSE else self._turn_on_open_one())
        except TimeoutError:
            raise UnexpectedTurn(f"a turn did not end within {TURN_TIMEOUT_S:g} s") from None
        view.check_completed()
        if expected_text is not None and view.text() != expected_text:
            raise UnexpectedTurn(f"the turn streamed {view.text()!r}, the model {expected_text!r}")
        assert view.first_at is not None
        assert view.ended_at is not None
        return Timing(view.first_at - began, view.ended_at - began)

    async def _turn_on_its_own_stream(self) -> TurnView:
        view = TurnView(TURN_SSE)
        posted = await self._post(f"/sessions/{self._session_id}/messages", self._message, expect=202)
        url = f"{self._base_url}/sessions/{self._session_id}/turns/{posted['turn']['id']}/stream"
        async with self._http.get(url, headers=self._headers) as response:
            async for chunk in response.content.iter_any():  # to its end, so that the connection is reused
                view.feed(chunk, perf_counter())
        if view.ended_at is None:
            raise UnexpectedTurn(f"the stream of a turn answered {response.status} and ended before the turn")
        return view

    async def _turn_on_open_one(self) -> TurnView:
        """Watch on the stream that stays open; approve pending calls."""
        view = self._view = TurnView(SIGNALR if self._watch is Watch.SIGNALR else SESSION_SSE)
        await self._post(f"/sessions/{self._session_id}/messages", self._message, expect=202)
        while view.ended_at is None:
            self._changed.clear()
            if self._reader is None or self._reader.done():
                raise UnexpectedTurn("the stream of events was closed in mid-turn")
            approval_id = view.new_approval()
            if approval_id is not None:
                await self._post(f"/approvals/{approval_id}/decision", _APPROVE, expect=200, headers=_APPROVER)
            else:
                await self._changed.wait()
        self._view = None
        return view

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                if self._view is not None:
                    self._view.feed(chunk, perf_counter())
                    self._changed.set()
        finally:
            self._changed.set()

    async def _follow(self) -> AsyncIterator[bytes]:
        url = f"{self._base_url}/sessions/{self._session_id}/events"
        headers = self._headers | {"Accept": "text/event-stream"}
        response = await self._stack.enter_async_context(self._http.get(url, headers=headers))
        if response.status != 200:
            raise UnexpectedTurn(f"{url} answered {response.status}")
        return response.content.iter_any()

    async def _connect(self) -> AsyncIterator[bytes]:
        """Negotiate, open the socket, join the session's group."""
        info = await self._post("/realtime/negotiate?negotiateVersion=1", b"", expect=200)
        connection_id, socket = await self._stack.enter_async_context(signalr_socket(self._http, info))
        joined = orjson.dumps({"connection_id": connection_id})
        await self._post(f"/sessions/{self._session_id}/subscribe", joined, expect=200)
        return _texts(socket)

    async def _post(self, path: str, body: bytes, *, expect: int, headers: dict[str, str] | None = None) -> Any:
        async with self._http.post(self._base_url + path, data=body, headers=headers or self._headers) as response:
            data = await response.read()
        if response.status != expect:
            raise UnexpectedTurn(f"POST {path} answered {response.status}: {data[:500]!r}")
        return orjson.loads(data)


async def _texts(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[bytes]:
    async for message in socket:
        yield message.data.encode() if isinstance(message.data, str) else bytes(message.data or b"")
