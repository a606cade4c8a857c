"""The judge: the standard JavaScript client against the embedded endpoint, every transport and both protocols."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from devhost.signalr.service.connection import Limits
from devhost.signalr.service.tokens import sign
from devhost.signalr.service.wires import EventStreamWire, PollWire, SocketWire
from tests.devhost.signalr.signalr_harness import Endpoint, NodeClients, running_endpoint

WIRES = {"WebSockets": SocketWire, "ServerSentEvents": EventStreamWire, "LongPolling": PollWire}
WAYS = [
    ("WebSockets", "json"),
    ("WebSockets", "messagepack"),
    ("ServerSentEvents", "json"),
    ("LongPolling", "json"),
    ("LongPolling", "messagepack"),
]
every_way = pytest.mark.parametrize(
    "clients",
    [pytest.param({"transport": transport, "protocol": name}, id=f"{transport}-{name}") for transport, name in WAYS],
    indirect=True,
)


@pytest.mark.parametrize(("transport", "protocol"), WAYS)
async def test_client_connects_through_the_redirect_and_hears_a_broadcast(
    endpoint: Endpoint, clients: NodeClients, transport: str, protocol: str
) -> None:
    connection_id = await clients.connect(
        "anna", endpoint.hub_url, headers={"x-user": "anna"}, transport=transport, protocol=protocol
    )
    connection = endpoint.extension.service.hub("chat").connections[connection_id]
    assert isinstance(connection.wire, WIRES[transport])
    assert connection.protocol is not None
    assert connection.protocol.name == protocol

    await endpoint.send({"target": "news", "arguments": [1, "zwölf \U0001f600", {"a": None}]})
    assert await clients.message("anna") == [1, "zwölf \U0001f600", {"a": None}]


@every_way
async def test_messages_reach_only_the_user_group_or_connection_they_name(
    endpoint: Endpoint, clients: NodeClients
) -> None:
    anna = await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"})
    await clients.connect("anna-2", endpoint.hub_url, headers={"x-user": "anna"})
    ben = await clients.connect("ben", endpoint.hub_url, headers={"x-user": "ben"})
    await endpoint.send({"action": "add", "groupName": "room/1", "connectionId": ben})

    await endpoint.send(
        [
            {"target": "news", "arguments": ["user"], "userId": "anna"},
            {"target": "news", "arguments": ["group"], "groupName": "room/1"},
            {"target": "news", "arguments": ["connection"], "connectionId": anna},
            {"target": "news", "arguments": ["all"]},
        ]
    )
    assert [await clients.message("anna") for _ in range(3)] == [["user"], ["connection"], ["all"]]
    assert [await clients.message("anna-2") for _ in range(2)] == [["user"], ["all"]]
    assert [await clients.message("ben") for _ in range(2)] == [["group"], ["all"]]
    assert not clients.unread("anna")
    assert not clients.unread("anna-2")
    assert not clients.unread("ben")


@every_way
async def test_many_messages_arrive_once_and_in_order(endpoint: Endpoint, clients: NodeClients) -> None:
    await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"})
    for first in range(0, 2000, 50):
        await endpoint.send([{"target": "news", "arguments": [n, "x" * 300]} for n in range(first, first + 50)])
        await asyncio.sleep(0)
    assert [(await clients.message("anna"))[0] for _ in range(2000)] == list(range(2000))


@every_way
async def test_a_left_group_and_another_hub_are_silent(endpoint: Endpoint, clients: NodeClients) -> None:
    await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"})
    group = {"groupName": "room", "userId": "anna"}
    await endpoint.send([{"action": "add", **group}, {"target": "news", "arguments": ["in"], "groupName": "room"}])
    await endpoint.send([{"action": "remove", **group}, {"target": "news", "arguments": ["out"], "groupName": "room"}])
    await endpoint.send({"target": "news", "arguments": ["other hub"]}, hub="other")
    await endpoint.send({"target": "news", "arguments": ["end"]})
    assert await clients.message("anna") == ["in"]
    assert await clients.message("anna") == ["end"]


@every_way
async def test_a_user_group_is_remembered_for_later_connections_even_after_a_restart(
    tmp_path: Path, clients: NodeClients
) -> None:
    async with running_endpoint(tmp_path) as first:
        await first.send({"action": "add", "groupName": "room", "userId": "anna"})
    async with running_endpoint(tmp_path) as second:
        await clients.connect("anna", second.hub_url, headers={"x-user": "anna"})
        await second.send({"target": "news", "arguments": ["hello"], "groupName": "room"})
        assert await clients.message("anna") == ["hello"]
        await second.send({"action": "removeAll", "userId": "anna"})
        await second.send({"target": "news", "arguments": ["gone"], "groupName": "room"})
        await second.send({"target": "news", "arguments": ["end"]})
        assert await clients.message("anna") == ["end"]


@every_way
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_client_reconnects_when_the_endpoint_restarts(tmp_path: Path, clients: NodeClients, how: str) -> None:
    endpoint = Endpoint(tmp_path, Limits(close_grace_s=0.5))
    await endpoint.start()
    before = await clients.connect(
        "anna", endpoint.hub_url, headers={"x-user": "anna"}, reconnect=[0, 200, 500, 1000, 2000, 4000]
    )
    await (endpoint.stop() if how == "stop" else endpoint.kill())
    await clients.expect("anna", "reconnecting")
    await endpoint.start()
    try:
        after = (await clients.expect("anna", "reconnected"))["connectionId"]
        assert after != before
        await endpoint.send({"target": "news", "arguments": ["again"], "userId": "anna"})
        assert await clients.message("anna") == ["again"]
    finally:
        await endpoint.stop()


@every_way
async def test_a_client_that_asks_for_stateful_reconnect_gets_a_plain_connection(
    endpoint: Endpoint, clients: NodeClients
) -> None:
    await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"}, stateful=True, reconnect=[0])
    await endpoint.send({"target": "news", "arguments": ["hello"]})
    assert await clients.message("anna") == ["hello"]


@every_way
@pytest.mark.parametrize("action", ["invoke", "send"])
async def test_a_client_that_calls_the_hub_is_told_and_closed_for_good(
    endpoint: Endpoint, clients: NodeClients, action: str
) -> None:
    await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"}, reconnect=[0, 0])
    await clients.command("anna", action, target="shout", args=["hi"])
    if action == "invoke":
        assert "serverless" in (await clients.expect("anna", "failed"))["error"]
    assert "serverless" in (await clients.expect("anna", "closed"))["error"]
    assert not [event for event in clients.unread("anna") if event["event"] == "reconnecting"]


async def test_a_bad_token_is_refused(endpoint: Endpoint, clients: NodeClients) -> None:
    url = f"{endpoint.base_url}/client/?hub=chat"
    forged = sign("not the key of this endpoint, but long enough", audience=url, user_id="anna")
    await clients.connect("anna", url, accessToken=forged, wait=False)
    assert "failed to connect" in (await clients.expect("anna", "failed"))["error"]


async def test_a_client_may_skip_the_negotiation(endpoint: Endpoint, clients: NodeClients) -> None:
    info = await endpoint.connection_info({"x-user": "anna"})
    await clients.connect("anna", info["url"], accessToken=info["accessToken"])
    await endpoint.send({"target": "news", "arguments": ["hello"], "userId": "anna"})
    assert await clients.message("anna") == ["hello"]


@every_way
async def test_pings_keep_a_quiet_connection_alive_in_both_directions(tmp_path: Path, clients: NodeClients) -> None:
    limits = Limits(ping_interval_s=0.2, client_timeout_s=2.0, close_grace_s=0.5)
    async with running_endpoint(tmp_path, limits) as endpoint:
        await clients.connect(
            "anna", endpoint.hub_url, headers={"x-user": "anna"}, keepAliveMs=200, serverTimeoutMs=2000
        )
        connection = next(iter(endpoint.extension.service.hub("chat").connections.values()))
        connected_at = connection.heard_at
        async with asyncio.timeout(20):
            while connection.heard_at < connected_at + 3.0:  # longer than either side waits in silence
                assert not connection.is_closing
                await asyncio.sleep(0.05)
        await endpoint.send({"target": "news", "arguments": ["still here"]})
        assert await clients.message("anna") == ["still here"]


@every_way
async def test_stopping_a_client_removes_it_from_hub_user_and_groups(endpoint: Endpoint, clients: NodeClients) -> None:
    connection_id = await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna"})
    await endpoint.send({"action": "add", "groupName": "room", "connectionId": connection_id})
    hub = endpoint.extension.service.hub("chat")
    assert "room" in hub.groups
    await clients.command("anna", "stop")
    assert (await clients.expect("anna", "closed"))["error"] is None
    await asyncio.wait_for(endpoint.extension.service.nobody.wait(), 20)
    assert not hub.connections
    assert not hub.users
    assert not hub.groups
