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
import pytest_asyncio

from tests.e2e.support.client import Api, eventually, open_api, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

pytestmark = pytest.mark.timeout(600)

READERS = 200
MESSAGES = 20
MESSAGE_CHARS = 280_000
MOST_GROWTH_BYTES = 256 * 1024 * 1024
"""Four times what all readers of a process may hold together: Python and the sockets take their part. Unbounded, the
host grew by 3,400 MB when there were three times as many messages."""
WATCHED_S = 12
STEADY_S = 3
"""It has grown as far as it will when for so long it grew no more and answered nobody else: an unbounded host grew
without a pause."""

LARGE_CHARS = 280_000
"""Of three bytes each: a read of its own for each."""
MORE_THAN_FIT = 100
"""Readers of such messages together hold more than all readers may."""
LIMIT_S = 240
"""Only bounds waiting: before one is closed, the host has read and encoded 70 MB, in seconds of processor time."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink)
        environment |= {"STREAMS_PER_USER": "0", "MODEL_CONTEXT_TOKENS": "400000"}
        with running_host(tmp_path_factory.mktemp("readers"), environment, is_forked=False) as running:
            yield running


@pytest.fixture
async def api(host: AppHost) -> AsyncIterator[Api]:
    client = await open_api(host)
    yield client
    await client.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session_id(host: AppHost) -> str:
    """A session with large messages, for all that read it."""
    api = await open_api(host)
    session_id = await api.session()
    for number in range(MESSAGES):
        said = script(content=f"answer {number}") + "\n"
        await api.until(session_id, await api.say(session_id, said + "x" * (MESSAGE_CHARS - len(said))))
    await api.aclose()
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
        path = f"/api/v1/sessions/{session_id}{path}"
        readers = [open_ones.enter_context(_reader_that_never_reads(host, path, accept)) for _ in range(READERS)]
        assert await _most_memory(host, readers) - before < MOST_GROWTH_BYTES
        # Whoever reads gets everything, with all of them open.
        found = await api.events(session_id)
        assert sum(event["type"] == "message.created" for event in found) >= MESSAGES
        assert len(await api.messages(session_id)) >= MESSAGES
        assert _rss_bytes(host) - before < MOST_GROWTH_BYTES


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

        await eventually(closed_ones, "a reader to be closed", LIMIT_S)
        reading = [asyncio.create_task(_read_to_end(reader)) for reader in readers]

        async def answers_of_closed_ones() -> list[bytes]:
            # The line is written before the connection ends, and may be read after it.
            closed = await closed_ones()
            ended = [task.result() for task in reading if task.done()]
            return ended if len(ended) >= closed else []

        answers = await eventually(answers_of_closed_ones, "every closed reader to end", LIMIT_S)
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


async def _most_memory(host: AppHost, readers: list[socket.socket]) -> int:
    """The most that it had until it grew no more, and no more readers were answered."""
    most = answered = steady = 0
    for _ in range(WATCHED_S * 4):
        now, reached = _rss_bytes(host), sum(map(_is_answered, readers))
        steady = steady + 1 if now <= most and reached == answered else 0
        most, answered = max(most, now), reached
        if steady == STEADY_S * 4:
            break
        await asyncio.sleep(0.25)
    assert answered, "somebody had to be answered"
    return most


def _is_answered(reader: socket.socket) -> bool:
    """Whether something has come for it, which stays unread."""
    try:
        reader.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def _rss_bytes(host: AppHost) -> int:
    """Of the host and its worker."""
    root = psutil.Process(host.pid)
    return sum(process.memory_info().rss for process in [root, *root.children()])
