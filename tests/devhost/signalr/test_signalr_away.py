"""A SignalR service that goes away for a while: it runs in a host of its own, which is killed and started again."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from devhost.testing import HostProcess, host_process
from tests.devhost.signalr.signalr_harness import NodeClients

CHAT = Path(__file__).parents[1] / "apps" / "signalr_chat"
KEY = "a-key-that-both-hosts-have-0123456789"


@dataclass
class Service:
    """A SignalR service as a process, on one port however often it is started."""

    folder: Path
    port: int
    _running: ExitStack = field(default_factory=ExitStack)
    _process: HostProcess | None = None

    @property
    def settings(self) -> dict[str, str]:
        """For the service itself and for every app that uses it."""
        return {"AzureSignalRConnectionString": f"Endpoint=http://127.0.0.1:{self.port};AccessKey={KEY};Version=1.0;"}

    def start(self) -> None:
        process = host_process(CHAT, self.folder / "service", environment=self.settings, port=self.port)
        self._process = self._running.enter_context(process)

    def kill(self) -> None:
        assert self._process is not None
        self._process.process.kill()
        self.close()

    def close(self) -> None:
        self._running.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = Service(tmp_path, port)
    service.start()
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def host(service: Service, tmp_path: Path) -> Iterator[HostProcess]:
    """The app, whose SignalR is elsewhere."""
    with host_process(CHAT, tmp_path / "app", environment=service.settings) as host:
        yield host


@pytest.fixture
async def app(host: HostProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{host.base_url}/api", timeout=30) as client:
        yield client


async def test_outputs_fail_while_it_is_away_and_go_through_when_it_is_back(
    service: Service, host: HostProcess, app: httpx.AsyncClient, clients: NodeClients
) -> None:
    reconnects = {"headers": {"x-chat-user": "anna"}, "targets": ["said"], "reconnect": [50] * 200}
    await clients.connect("anna", f"{host.base_url}/api", **reconnects)
    assert (await app.put("groups/room/users/anna")).status_code == 204
    assert await clients.message("anna") == ["anna joined"]

    service.kill()
    refused = await app.post("messages", json={"text": "lost", "group": "room"})
    assert (refused.status_code, refused.content) == (500, b"")
    assert host.logs("output binding 'out' (signalR): SendFailed: POST http://127.0.0.1:")
    signed = await app.post("negotiate", headers={"x-chat-user": "eva"})
    assert signed.status_code == 200, "a token needs the service's key, not the service"

    service.start()
    await clients.expect("anna", "reconnected")
    # The user is still in the group: the service remembers users, not connections.
    assert (await app.post("messages", json={"text": "back", "group": "room"})).status_code == 202
    assert await clients.message("anna") == ["back"]
