"""The output binding against a service that is not the dev host: another endpoint, reached by REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devhost.signalr.extension import SignalRExtension
from devhost.signalr.senders import SendFailed
from tests.devhost.signalr.signalr_harness import (
    Endpoint,
    FakeHost,
    NodeClients,
    host_context,
    output,
)


@pytest.fixture
async def app_elsewhere(tmp_path: Path, endpoint: Endpoint) -> AsyncIterator[SignalRExtension]:
    """A second host whose app sends to `endpoint` as if it were Azure."""
    data_dir = tmp_path / "second"
    data_dir.mkdir()
    extension = SignalRExtension()
    settings = {"AzureSignalRConnectionString": endpoint.connection_string}
    extension.bind(FakeHost(host_context(data_dir, base_url="http://127.0.0.1:1", settings=settings)))
    yield extension
    await extension.stop()


async def test_messages_and_group_actions_arrive_by_rest_in_order(
    app_elsewhere: SignalRExtension, endpoint: Endpoint, clients: NodeClients
) -> None:
    connection_id = await clients.connect("anna", endpoint.hub_url, headers={"x-user": "anna/ä"})

    def news(text: str, **address: str) -> dict[str, Any]:
        return {"target": "news", "arguments": [text], **address}

    await app_elsewhere.send_output(
        output(),
        [
            news("all"),
            news("user", userId="anna/ä"),
            news("connection", connectionId=connection_id),
            {"action": "add", "groupName": "a room/1", "connectionId": connection_id},
            news("group", groupName="a room/1"),
            {"action": "remove", "groupName": "a room/1", "connectionId": connection_id},
            news("nobody", groupName="a room/1"),
            {"action": "add", "groupName": "b", "userId": "anna/ä"},
            news("user group", groupName="b"),
            {"action": "removeAll", "userId": "anna/ä"},
            news("nobody", groupName="b"),
            news("end"),
        ],
    )
    heard = [(await clients.message("anna"))[0] for _ in range(6)]
    assert heard == ["all", "user", "connection", "group", "user group", "end"]


async def test_a_service_that_refuses_or_is_away_fails_the_output(tmp_path: Path, endpoint: Endpoint) -> None:
    wrong_key = f"Endpoint={endpoint.base_url};AccessKey=some-other-key-that-is-long-enough;"
    away = "Endpoint=http://127.0.0.1:1;AccessKey=some-other-key-that-is-long-enough;"
    for text, complaint in ((wrong_key, "answered 401"), (away, "failed: ")):
        extension = SignalRExtension()
        context = host_context(tmp_path, base_url="http://127.0.0.1:2", settings={"AzureSignalRConnectionString": text})
        extension.bind(FakeHost(context))
        with pytest.raises(SendFailed, match=complaint):
            await extension.send_output(output(), {"target": "news", "arguments": []})
        await extension.stop()
