"""Readers that never read cost the host a bounded amount of memory, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import psutil
import pytest

from tests.e2e.support.client import Api, eventually, open_api, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

READERS = 200
MESSAGES = 60
MESSAGE_CHARS = 280_000
MOST_GROWTH_BYTES = 256 * 1024 * 1024
"""Four times what all readers of a process may hold together: Python and the sockets take their part. Unbounded, the
host grew by 3,400 MB."""
WATCHED_S = 12

LARGE_CHARS = 280_000
"""Of three bytes each: a read of its own for each."""
MORE_THAN_FIT = 100
"""Readers of such messages together hold more than all readers may."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink)
        environment |= {"STREAMS_PER_USER": "0", "MODEL_CONTEXT_TOKENS": "400000"}
        with running_host(tmp_path_factory.mktemp("readers"), environment) as running:
            yield running


@pytest.fixture
async def api(host: AppHost) -> AsyncIterator[Api]:
    client = await open_api(host)
    yield client
    await client.aclose()


@pytest.fixture
async def session_id(api: Api) -> str:
    """A session with large messages."""
    session_id = await api.session()
    for number in range(MESSAGES):
        said = script(content=f"answer {number}") + "\n"
        await api.until(session_id, await api.say(session_id, said + "x" * (MESSAGE_CHARS - len(said))))
    return session_id


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/events", "text/event-stream"),
        ("/events?limit=200", "application/json"),
        ("/messages?limit=200", "application/json"),
        ("/export?format=json", "application/json"),
    ],
)
async def test_the_memory_of_the_host_stays_bounded(
    host: AppHost, api: Api, session_id: str, path: str, accept: str
) -> None:
    before = _rss_bytes(host)
    with contextlib.ExitStack() as open_ones:
        for _ in range(READERS):
            open_ones.enter_context(_reader_that_never_reads(host, f"/api/v1/sessions/{session_id}{path}", accept))
        most = 0
        for _ in range(WATCHED_S * 4):
            most = max(most, _rss_bytes(host))
            await asyncio.sleep(0.25)
        assert most - before < MOST_GROWTH_BYTES
        # Whoever reads gets everything, with all of them open.
        found = await api.events(session_id)
        assert sum(event["type"] == "message.created" for event in found) >= MESSAGES
        assert len(await api.messages(session_id)) >= MESSAGES


async def test_readers_that_are_closed_for_room_read_on_from_where_they_were(host: AppHost, api: Api) -> None:
    session_id = await api.session(max_context_tokens=290_000)
    said = [script(content=f"answer {number}") + "\n" + "€" * LARGE_CHARS for number in range(3)]
    for content in said:
        await api.until(session_id, await api.say(session_id, content))
    path = f"/api/v1/sessions/{session_id}/events"

    with contextlib.ExitStack() as open_ones:
        log = len(host.log())
        readers = [
            open_ones.enter_context(_reader_that_never_reads(host, path, "text/event-stream"))
            for _ in range(MORE_THAN_FIT)
        ]

        async def closed_ones() -> int:
            return host.log()[log:].count("a client that takes nothing is closed")

        await eventually(closed_ones, "a reader to be closed")
        reading = [asyncio.create_task(_read_to_end(reader)) for reader in readers]
        answers = []
        for ended in asyncio.as_completed(reading):
            answers.append(await ended)
            if len(answers) == await closed_ones():
                break
        for task in reading:
            task.cancel()

    for answer in answers:
        _, _, body = answer.partition(b"\r\n\r\n")
        blocks = _unchunked(body).split(b"\n\n")
        assert blocks[0].startswith(b"retry: 1000\n")
        # The last block has not ended: clients drop it, and come back for it.
        seen = [orjson.loads(block.split(b"data: ")[1]) for block in blocks[:-1]]
        rest = await api.events(session_id, seen[-1]["seq"] if seen else 0)
        assert [event["data"]["content"] for event in seen + rest if _is_asked(event)] == said


def _is_asked(event: dict[str, Any]) -> bool:
    return event["type"] == "message.created" and event["data"]["role"] == "user"


async def _read_to_end(reader: socket.socket) -> bytes:
    reader.setblocking(False)
    found = bytearray()
    while data := await asyncio.get_running_loop().sock_recv(reader, 1 << 20):
        found += data
    return bytes(found)


def _unchunked(body: bytes) -> bytes:
    found = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        found += body[: int(size or b"0", 16)]
        body = body[int(size or b"0", 16) + 2 :]
    return bytes(found)


def _reader_that_never_reads(host: AppHost, path: str, accept: str) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", host.port))
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\nx-dev-user: olga;approver\r\n\r\n"
    reader.sendall(request.encode())
    return reader


def _rss_bytes(host: AppHost) -> int:
    """Of the host and its worker."""
    root = psutil.Process(host.pid)
    return sum(process.memory_info().rss for process in [root, *root.children()])
