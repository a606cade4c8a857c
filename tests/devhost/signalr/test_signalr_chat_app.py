"""A whole function app on the dev host, with the real client: the chat in `apps/signalr_chat`."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from devhost.signalr.service.tokens import USER_CLAIM
from devhost.testing import HostProcess, host_process
from tests.devhost.signalr.signalr_harness import NodeClients

APP = Path(__file__).parents[1] / "apps" / "signalr_chat"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection string in the developer's own environment would win over the embedded endpoint."""
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)


@pytest.fixture
def host(environment: None, tmp_path: Path) -> Iterator[HostProcess]:
    with host_process(APP, tmp_path / "data") as running:
        yield running


async def connect(clients: NodeClients, host: HostProcess, user: str, **options: Any) -> str:
    return await clients.connect(
        user, f"{host.base_url}/api", headers={"x-chat-user": user}, targets=["said"], **options
    )


async def test_a_chat_with_users_groups_and_connections(host: HostProcess, clients: NodeClients) -> None:
    anna = await connect(clients, host, "anna", transport="ServerSentEvents")
    ben = await connect(clients, host, "ben", transport="LongPolling", protocol="messagepack")
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as http:

        async def say(text: str, **address: str) -> None:
            assert (await http.post("/api/messages", json={"text": text, **address})).status_code == 202

        await say("all")
        await say("anna", user="anna")
        await say("ben", connection=ben)
        assert (await http.put("/api/groups/red/users/anna")).status_code == 204
        assert (await http.put(f"/api/groups/red/connections/{ben}")).status_code == 204
        await say("red", group="red")
        assert (await http.delete("/api/groups/red/users/anna")).status_code == 204
        await say("end")

    async def heard(user: str) -> list[str]:
        texts = [""]
        while texts[-1] != "end":
            texts.append((await clients.message(user))[0])
        return texts[1:]

    assert await heard("anna") == ["all", "anna", "anna joined", f"{ben} joined", "red", "end"]
    assert await heard("ben") == ["all", "ben", f"{ben} joined", "red", "anna left", "end"]
    assert anna != ben
    await clients.command("ben", "stop")  # the host waits for a poller that has left without a word
    await clients.expect("ben", "stopped")


async def test_route_and_query_values_make_the_user_id(host: HostProcess, clients: NodeClients) -> None:
    await clients.connect("ben", f"{host.base_url}/api/rooms/red?user=ben", targets=["said"])
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as http:
        await http.post("/api/messages", json={"text": "hello", "user": "ben@red"})
    assert await clients.message("ben") == ["hello"]


async def test_a_json_body_reaches_expressions_and_the_app(host: HostProcess) -> None:
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as http:
        taken = await http.post(
            "/api/negotiate", headers={"x-chat-user": "eve"}, json={"headers": {"x-chat-user": "ann"}}
        )
        chunked = await http.post(
            "/api/negotiate", headers={"x-chat-user": "eve"}, content=_pieces(b'{"headers": {"x-chat-user": "ann"}}')
        )
    users = [
        jwt.decode(answer.json()["accessToken"], options={"verify_signature": False}) for answer in (taken, chunked)
    ]
    # Without Content-Length the real host does not read the body.
    assert [claims[USER_CLAIM] for claims in users] == ["ann", "eve"]


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_an_output_that_cannot_be_sent_fails_the_call_after_user_code_ran(host: HostProcess) -> None:
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as http:
        answer = await http.post("/api/raw", json={"target": "said"})
        assert (answer.status_code, answer.content) == (500, b"")
        # No value for the expression; measured on Azure Functions host 4.1037.
        unknown = await http.post("/api/negotiate")
        assert (unknown.status_code, unknown.content) == (500, b"")
    assert host.logs("neither a message")
    assert host.logs("headers.x-chat-user")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_clients_come_back_after_the_host_was_ended_and_keep_their_user_groups(
    environment: None, tmp_path: Path, clients: NodeClients, how: signal.Signals
) -> None:
    with host_process(APP, tmp_path / "data") as first:
        await connect(clients, first, "anna", reconnect=[0, *[500] * 60])
        async with httpx.AsyncClient(base_url=first.base_url, timeout=30) as http:
            await http.put("/api/groups/red/users/anna")
        assert await clients.message("anna") == ["anna joined"]
        first.process.send_signal(how)
        first.process.wait(30)
    await clients.expect("anna", "reconnecting")
    with host_process(APP, tmp_path / "data", port=first.port) as second:
        await clients.expect("anna", "reconnected")
        async with httpx.AsyncClient(base_url=second.base_url, timeout=30) as http:
            await http.post("/api/messages", json={"text": "red", "group": "red"})
        assert await clients.message("anna") == ["red"]
