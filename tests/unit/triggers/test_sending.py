"""Answers are handed to the server piece by piece, and given up where their client takes nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator

import pytest
from starlette.responses import Response
from starlette.types import Message

from shared.sessions.live.reading import ReaderMemory
from triggers.http.sending import PIECE_BYTES, PacedAnswer, PacedStream

pytestmark = pytest.mark.timeout(30)

SCOPE = {"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}


class Client:
    """Takes so many pieces."""

    def __init__(self, pieces: int | None = None) -> None:
        self.sent: list[Message] = []
        self._left = pieces

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        if self._left is not None and message["type"] == "http.response.body":
            self._left -= 1
            if self._left < 0:
                await asyncio.Event().wait()
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", True)


async def _chunks(*sizes: int) -> AsyncGenerator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_a_large_answer_leaves_in_pieces_with_its_length() -> None:
    memory, client = ReaderMemory(), Client()
    body = bytes(range(256)) * 1024 + b"end"
    reader = memory.open()
    reader.keep(len(body))
    answer = PacedAnswer(Response(body, media_type="application/json", headers={"x-a": "b"}), reader)

    await answer(SCOPE, client.receive, client.send)

    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"x-a"] == b"b"
    assert b"".join(client.bodies) == body
    assert max(map(len, client.bodies)) == PIECE_BYTES
    assert client.is_complete
    assert memory.held_bytes == 0


async def test_an_answer_that_its_client_does_not_take_is_given_up() -> None:
    memory, client = ReaderMemory(send_s=0.01), Client(pieces=2)
    body = b"x" * 5 * PIECE_BYTES
    reader = memory.open()
    reader.keep(len(body))

    await PacedAnswer(Response(body), reader)(SCOPE, client.receive, client.send)

    assert (len(client.bodies), client.is_complete, memory.held_bytes) == (2, False, 0)


async def test_an_answer_that_nobody_sends_holds_nothing() -> None:
    memory = ReaderMemory()
    reader = memory.open()
    reader.keep(10)
    answer = PacedAnswer(Response(b"x" * 10), reader)
    del answer
    gc.collect()
    assert memory.held_bytes == 0


async def test_large_chunks_of_a_stream_leave_in_pieces() -> None:
    client = Client()
    stream = PacedStream(_chunks(3, 2 * PIECE_BYTES), ReaderMemory().open(), media_type="text/plain", headers={})

    await stream(SCOPE, client.receive, client.send)

    assert [len(body) for body in client.bodies] == [3, PIECE_BYTES, PIECE_BYTES, 0]
    assert client.is_complete


async def test_the_first_event_and_no_comment_has_the_field_of_the_stream() -> None:
    async def events() -> AsyncGenerator[bytes]:
        for chunk in (b": comment\n\n", b"id: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n"):
            yield chunk

    client = Client()
    stream = PacedStream(
        events(), ReaderMemory().open(), media_type="text/plain", headers={}, first_field=b"retry: 1000\n"
    )

    await stream(SCOPE, client.receive, client.send)

    assert client.bodies == [b": comment\n\n", b"retry: 1000\nid: 1\ndata: a\n\n", b"id: 2\ndata: b\n\n", b""]


async def test_a_stream_that_its_client_does_not_take_is_given_up() -> None:
    memory, client = ReaderMemory(send_s=0.01), Client(pieces=1)
    reader = memory.open()
    await reader.take(10)

    await PacedStream(_chunks(1, 1, 1), reader, media_type="text/plain", headers={})(SCOPE, client.receive, client.send)

    assert (client.bodies, client.is_complete, memory.held_bytes) == ([b"x"], False, 0)
