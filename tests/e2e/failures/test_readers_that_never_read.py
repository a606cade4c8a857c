"""Readers that never read cost the host a bounded amount of memory, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.support.client import Api, open_api, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

READERS = 200
MESSAGES = 60
MESSAGE_CHARS = 280_000
MOST_GROWTH_BYTES = 256 * 1024 * 1024
"""Four times what all readers of a process may hold together: Python and the sockets take their part. Unbounded, the
host grew by 3,400 MB."""
WATCHED_S = 12


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink)
        environment |= {"STREAMS_PER_USER": "0", "MODEL_CONTEXT_TOKENS": "200000"}
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
        print(path, accept, before / 1e6, most / 1e6)
        assert most - before < MOST_GROWTH_BYTES
        # Whoever reads gets everything, with all of them open.
        found = await api.events(session_id)
        assert sum(event["type"] == "message.created" for event in found) >= MESSAGES
        assert len(await api.messages(session_id)) >= MESSAGES


def _reader_that_never_reads(host: AppHost, path: str, accept: str) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", host.port))
    request = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {accept}\r\nx-dev-user: olga;approver\r\n\r\n"
    reader.sendall(request.encode())
    return reader


def _rss_bytes(host: AppHost) -> int:
    status = Path(f"/proc/{host.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
