"""`signalRTrigger`: what clients call reaches functions, by the service's signed posts and by nothing else."""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import ormsgpack
import pytest

from devhost.testing import PROJECT_DIR, HostProcess, host_process
from tests.devhost.signalr.signalr_harness import NodeClients

APPS = PROJECT_DIR / "tests" / "devhost" / "apps"
APP = APPS / "signalr_calls"
KEY = "a-key-of-the-tests-0123456789abcdef0123456789abcdef"
WEBHOOK = "/runtime/webhooks/signalr"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    port = free_port()
    setting = {"AzureSignalRConnectionString": f"Endpoint=http://127.0.0.1:{port};AccessKey={KEY};Version=1.0;"}
    with host_process(APP, tmp_path_factory.mktemp("calls") / "data", environment=setting, port=port) as running:
        yield running


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """The app on a service that is another host's."""
    folder = tmp_path_factory.mktemp("alone")
    service_port, port = free_port(), free_port()
    setting = {"AzureSignalRConnectionString": f"Endpoint=http://127.0.0.1:{service_port};AccessKey={KEY};Version=1.0;"}
    upstream = setting | {"DEVHOST_SIGNALR_UPSTREAM": f"http://127.0.0.1:{port}{WEBHOOK}"}
    with (
        host_process(APPS / "http_streaming", folder / "service", environment=upstream, port=service_port),
        host_process(APP, folder / "data", environment=setting, port=port) as running,
    ):
        yield running


@pytest.fixture
async def clients() -> AsyncIterator[NodeClients]:
    running = NodeClients()
    await running.start()
    yield running
    await running.stop()


async def connect(clients: NodeClients, host: HostProcess, user: str, **options: Any) -> str:
    url = f"{host.base_url}/api"
    return await clients.connect(user, url, headers={"x-user": user}, targets=["said"], **options)


async def invoke(clients: NodeClients, user: str, target: str, *args: Any) -> Any:
    await clients.command(user, "invoke", target=target, args=args)
    return (await clients.expect(user, "result"))["result"]


async def refusal(clients: NodeClients, user: str, target: str, *args: Any) -> str:
    await clients.command(user, "invoke", target=target, args=args)
    return str((await clients.expect(user, "failed"))["error"])


async def heard(host: HostProcess, connection_id: str, *, count: int) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        while True:
            told = (await client.get("/api/heard")).json()
            found = [event for event in told if event["ConnectionId"] == connection_id]
            if len(found) == count:
                return found


@pytest.mark.parametrize(
    ("service", "options"),
    [
        ("host", {}),
        ("host", {"protocol": "messagepack"}),
        ("host", {"transport": "ServerSentEvents"}),
        ("alone", {}),
    ],
)
async def test_clients_call_functions(
    request: pytest.FixtureRequest, clients: NodeClients, service: str, options: dict[str, str]
) -> None:
    host: HostProcess = request.getfixturevalue(service)
    connection_id = await connect(clients, host, "anna", **options)
    assert await invoke(clients, "anna", "echo", "東京", 2, None, {"a": [True]}) == {
        "echo": ["東京", 2, None, {"a": [True]}]
    }
    assert await invoke(clients, "anna", "ECHO") == {"echo": []}
    assert await invoke(clients, "anna", "text") == '{"is": "text"}'
    assert await invoke(clients, "anna", "broadcast", "hello") is None
    assert await clients.message("anna") == ["anna", "hello"]
    await clients.command("anna", "send", target="broadcast", args=["sent"])
    assert await clients.message("anna") == ["anna", "sent"]
    assert "ValueError: no such room" in await refusal(clients, "anna", "fails")
    assert "Exception binding parameter 'invocation'" in await refusal(clients, "anna", "broadcast", "one", "two")
    assert "Invocation failed, status code 404" in await refusal(clients, "anna", "nothing")

    await clients.command("anna", "stop")
    await clients.expect("anna", "stopped")
    came, went = await heard(host, connection_id, count=2)
    kept = ("Arguments", "Error", "Category", "Event", "Hub", "UserId")
    assert [came[name] for name in kept] == [None, None, "connections", "connected", "calls", "anna"]
    assert [went[name] for name in kept] == [None, None, "connections", "disconnected", "calls", "anna"]
    assert came["Query"]["hub"] == "calls"
    assert "access_token" not in came["Query"]
    assert came["Headers"]["X-ASRS-Connection-Id"] == connection_id
    assert set(came["Claims"]) >= {"aud", "exp"}


async def test_a_client_whose_coming_is_refused_stays_and_the_host_says_so(
    host: HostProcess, clients: NodeClients
) -> None:
    """As the emulator of Azure's does."""
    await connect(clients, host, "mallory")
    assert await invoke(clients, "mallory", "echo", 1) == {"echo": [1]}
    assert host.logs("the app answered 403 to a new connection")


def event(**changes: str | None) -> dict[str, str]:
    """The headers of a signed post."""
    digest = hmac.new(KEY.encode(), b"c1", hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-ASRS-Connection-Id": "c1",
        "X-ASRS-Hub": "calls",
        "X-ASRS-Category": "messages",
        "X-ASRS-Event": "echo",
        "X-ASRS-Signature": f"sha256=00,sha256={digest.upper()}",
        "X-ASRS-User-Claims": "role: admin, role: user, x",
    }
    return {name: value for name, value in (headers | changes).items() if value is not None}


CALL = b'{"type":1,"invocationId":"7","target":"Echo","arguments":[1]}'


@pytest.mark.parametrize(
    ("changes", "body", "status"),
    [
        ({}, CALL, 200),
        ({"Content-Type": "text/plain"}, CALL, 415),
        ({"Content-Type": None}, CALL, 415),
        ({"X-ASRS-Event": None}, CALL, 400),
        ({"X-ASRS-Event": "nothing"}, CALL, 404),
        ({"X-ASRS-Hub": "other"}, CALL, 404),
        ({"X-ASRS-Signature": None}, CALL, 401),
        ({"X-ASRS-Signature": "sha256=00"}, CALL, 401),
        ({"X-ASRS-Connection-Id": "c2"}, CALL, 401),
        ({}, CALL.replace(b"Echo", b"fails"), 500),
        ({}, b"[]", 500),
        ({}, b"{", 500),
        ({"X-ASRS-Category": "connections", "X-ASRS-Event": "connected"}, b'{"type":10}', 200),
        (
            {"X-ASRS-Category": "connections", "X-ASRS-Event": "connected", "X-ASRS-User-Id": "mallory"},
            b"",
            403,
        ),
    ],
)
def test_only_what_the_service_has_signed_is_heard(
    host: HostProcess, changes: dict[str, str | None], body: bytes, status: int
) -> None:
    answer = httpx.post(host.base_url + WEBHOOK, content=body, headers=event(**changes), timeout=30)
    assert answer.status_code == status


def test_an_answer_is_a_completion_in_the_callers_protocol(host: HostProcess) -> None:
    plain = httpx.post(host.base_url + WEBHOOK, content=CALL, headers=event(), timeout=30)
    assert plain.content == b'{"type":3,"invocationId":"7","result":{"echo":[1]}}\x1e'
    unanswered = CALL.replace(b'"invocationId":"7",', b"")
    assert httpx.post(host.base_url + WEBHOOK, content=unanswered, headers=event(), timeout=30).content == b""

    packed = ormsgpack.packb([1, {}, "7", "echo", [b"\x00\x01"]])
    headers = event(**{"Content-Type": "application/x-msgpack"})
    answer = httpx.post(host.base_url + WEBHOOK, content=packed, headers=headers, timeout=30).content
    assert ormsgpack.unpackb(answer[1:]) == [3, {}, "7", 3, {"echo": ["AAE="]}]


def test_the_function_is_told_of_the_error_that_ended_a_connection(host: HostProcess) -> None:
    changes = {"X-ASRS-Category": "connections", "X-ASRS-Event": "disconnected", "X-ASRS-Client-Query": "?a=1&a=2"}
    body = b'{"Type":11,"Error":"timed out"}'
    answer = httpx.post(host.base_url + WEBHOOK, content=body, headers=event(**changes), timeout=30)
    assert answer.status_code == 200
    told = httpx.get(f"{host.base_url}/api/heard", timeout=30).json()
    [found] = [one for one in told if one["Error"] is not None]
    assert (found["Error"], found["Query"], found["Claims"]) == ("timed out", {"a": "1,2"}, {"role": "admin"})


@pytest.mark.parametrize("url", ["calls", "ftp://127.0.0.1/"])
def test_an_upstream_that_is_no_address_is_refused(tmp_path: Path, url: str) -> None:
    with (
        pytest.raises(RuntimeError, match="DEVHOST_SIGNALR_UPSTREAM must be an http or https address"),
        host_process(APP, tmp_path / "data", environment={"DEVHOST_SIGNALR_UPSTREAM": url}),
    ):
        pass
