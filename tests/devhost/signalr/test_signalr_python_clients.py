"""Clients in Python that others use, as they set themselves up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from pysignalr.client import SignalRClient
from pysignalr.protocol.messagepack import MessagepackProtocol
from signalrcore.hub_connection_builder import HubConnectionBuilder

from devhost.signalr.service.connection import Limits
from tests.devhost.signalr.signalr_harness import PATIENCE_S, Endpoint, eventually, running_endpoint

ARGUMENTS: list[Any] = [1, "zwölf \U0001f600", {"a": None, "b": [1.5, True]}]


@pytest.mark.parametrize(("protocol", "chosen"), [("json", None), ("messagepack", MessagepackProtocol())])
async def test_pysignalr_hears_everyone_its_group_and_its_user(
    endpoint: Endpoint, protocol: str, chosen: MessagepackProtocol | None
) -> None:
    client = SignalRClient(endpoint.hub_url, headers={"x-user": "anna"}, protocol=chosen)
    heard: asyncio.Queue[list[Any]] = asyncio.Queue()
    client.on("news", heard.put)
    running = asyncio.create_task(client.run())
    try:
        await _check(endpoint, heard, protocol=protocol)
    finally:
        running.cancel()


async def test_signalrcore_speaks_messagepack_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Its `stop` waits for the service's next message.
    async with running_endpoint(tmp_path, Limits(ping_interval_s=0.2)) as endpoint:
        await _signalrcore(endpoint, caplog)


async def _signalrcore(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[list[Any]] = asyncio.Queue()
    connection = HubConnectionBuilder().with_url(endpoint.hub_url, options={"headers": {"x-user": "anna"}}).build()
    connection.on("news", lambda arguments: loop.call_soon_threadsafe(heard.put_nowait, arguments))
    with caplog.at_level(logging.ERROR):
        await asyncio.to_thread(connection.start)
        try:
            await _check(endpoint, heard, protocol="messagepack")
        finally:
            await asyncio.to_thread(connection.stop)
    await asyncio.wait_for(endpoint.extension.service.nobody.wait(), PATIENCE_S)
    assert not caplog.records


async def _check(endpoint: Endpoint, heard: asyncio.Queue[list[Any]], *, protocol: str) -> None:
    hub = endpoint.extension.service.hub("chat")
    await eventually(lambda: "anna" in hub.users)
    (connection,) = hub.users["anna"]
    assert connection.protocol is not None
    assert connection.protocol.name == protocol
    await endpoint.send({"action": "add", "groupName": "room", "userId": "anna"})
    addresses: list[dict[str, str]] = [{}, {"groupName": "room"}, {"userId": "anna"}]
    for address in addresses:
        await endpoint.send({"target": "news", "arguments": ARGUMENTS, **address})
        assert await asyncio.wait_for(heard.get(), PATIENCE_S) == ARGUMENTS
    # More than one frame's worth at once.
    await endpoint.send([{"target": "news", "arguments": [number, "x" * 300]} for number in range(1000)])
    assert [(await asyncio.wait_for(heard.get(), PATIENCE_S))[0] for _ in range(1000)] == list(range(1000))
