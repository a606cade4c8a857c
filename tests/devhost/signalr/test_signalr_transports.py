"""The wire of Server-Sent Events and long polling, and what negotiation offers and remembers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devhost.signalr.service.connection import Limits
from devhost.signalr.service.negotiation import Negotiations
from tests.devhost.signalr.signalr_harness import PATIENCE_S, Endpoint, eventually, running_endpoint

JSON_HANDSHAKE = b'{"protocol":"json","version":1}\x1e'
MESSAGEPACK_HANDSHAKE = b'{"protocol":"messagepack","version":1}\x1e'
PING = b'{"type":6}\x1e'
QUICK = Limits(close_grace_s=0.3)


class RawRequests:
    """The requests of one user for one connection, each answered with its status and body."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: Endpoint, user: str = "anna") -> None:
        self.http = http
        self.endpoint = endpoint
        self.user = user
        self.id = ""
        self.connection_id = ""

    async def headers(self, **more: str) -> dict[str, str]:
        info = await self.endpoint.connection_info({"x-user": self.user})
        return {"Authorization": f"Bearer {info['accessToken']}", **more}

    async def negotiate(self, version: str | None = "1") -> dict[str, Any]:
        query = "" if version is None else f"&negotiateVersion={version}"
        url = f"{self.endpoint.base_url}/client/negotiate?hub=chat{query}"
        async with self.http.post(url, headers=await self.headers()) as answer:
            assert answer.status == 200
            body: dict[str, Any] = await answer.json()
        self.connection_id = body.get("connectionId", "")
        self.id = body.get("connectionToken", self.connection_id)
        return body

    async def call(self, method: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        url = f"{self.endpoint.base_url}/client/?hub=chat&id={self.id}"
        async with self.http.request(method, url, data=body, headers=await self.headers(**headers)) as answer:
            return answer.status, await answer.read()

    async def connect(self, handshake: bytes = JSON_HANDSHAKE) -> None:
        """By long polling."""
        await self.negotiate()
        assert await self.call("GET") == (200, b"")
        assert await self.call("POST", handshake) == (200, b"")
        assert await self.call("GET") == (200, b"{}\x1e")

    async def stream(self) -> aiohttp.ClientResponse:
        """By Server-Sent Events, before the handshake."""
        await self.negotiate()
        url = f"{self.endpoint.base_url}/client/?hub=chat&id={self.id}"
        answer = await self.http.get(url, headers=await self.headers(Accept="text/event-stream"))
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readline() == b":\r\n"
        return answer


async def event(stream: aiohttp.ClientResponse) -> bytes | None:
    """The data of the next event; None at the end of the stream."""
    line = await asyncio.wait_for(stream.content.readline(), PATIENCE_S)
    if not line:
        return None
    assert line.startswith(b"data: ")
    assert await stream.content.readline() == b"\r\n"
    return line.removeprefix(b"data: ").removesuffix(b"\r\n")


async def event_besides_pings(stream: aiohttp.ClientResponse) -> bytes | None:
    while (data := await event(stream)) == PING:
        pass
    return data


def connections(endpoint: Endpoint) -> int:
    return len(endpoint.extension.service.hub("chat").connections)


@pytest.fixture
def anna(http: aiohttp.ClientSession, endpoint: Endpoint) -> RawRequests:
    return RawRequests(http, endpoint)


@pytest.mark.parametrize(("asked", "given"), [(None, 0), ("0", 0), ("1", 1), ("7", 1)])
async def test_negotiation_answers_in_the_version_asked_for_or_its_latest(
    anna: RawRequests, asked: str | None, given: int
) -> None:
    answer = await anna.negotiate(asked)
    assert answer["negotiateVersion"] == given
    assert ("connectionToken" in answer) == (given == 1)
    assert {(offer["transport"], *offer["transferFormats"]) for offer in answer["availableTransports"]} == {
        ("WebSockets", "Text", "Binary"),
        ("ServerSentEvents", "Text"),
        ("LongPolling", "Text", "Binary"),
    }
    assert await anna.call("GET") == (200, b"")


@pytest.mark.parametrize("version", ["x", "-1", "1.0", "٣"])
async def test_a_version_that_is_no_number_is_an_error(anna: RawRequests, version: str) -> None:
    assert set(await anna.negotiate(version)) == {"error"}


async def test_the_connection_id_that_others_may_know_opens_nothing(anna: RawRequests) -> None:
    await anna.negotiate()
    anna.id = anna.connection_id
    assert (await anna.call("GET"))[0] == 404
    assert (await anna.call("GET", Accept="text/event-stream"))[0] == 404


async def test_a_negotiated_connection_opens_once_and_soon(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_endpoint(tmp_path, Limits(negotiated_s=0.0)) as endpoint:
        late = RawRequests(http, endpoint)
        await late.negotiate()
        assert (await late.call("GET"))[0] == 404
    async with running_endpoint(tmp_path, QUICK) as endpoint:
        anna = RawRequests(http, endpoint)
        await anna.connect()
        assert await anna.call("DELETE") == (202, b"")
        assert [(await anna.call(method))[0] for method in ("GET", "POST", "DELETE")] == [404, 404, 404]
        assert connections(endpoint) == 0


def test_the_oldest_negotiated_connections_are_forgotten() -> None:
    kept = Negotiations(lifetime_s=30, most=100)
    issued = [kept.issue("chat", "anna", version=1, now=0.0) for _ in range(101)]
    assert kept.take(issued[0].token, "chat", "anna", now=1.0) is None
    assert kept.take(issued[1].token, "chat", "ben", now=1.0) is None
    assert kept.take(issued[1].token, "other", "anna", now=1.0) is None
    assert kept.take(issued[1].token, "chat", "anna", now=1.0) == issued[1]
    assert kept.take(issued[1].token, "chat", "anna", now=1.0) is None
    assert kept.take(issued[2].token, "chat", "anna", now=30.0) is None


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_every_request_needs_a_token_for_the_hub_and_the_connections_own_user(
    anna: RawRequests, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await anna.connect()
    url = f"{anna.endpoint.base_url}/client/?hub={{}}&id={anna.id}"
    good = await anna.headers()
    for hub, headers in (("chat", {}), ("chat", {"Authorization": good["Authorization"][:-2]}), ("other", good)):
        async with anna.http.request(method, url.format(hub), headers=headers) as answer:
            assert answer.status == 401
    ben = RawRequests(anna.http, anna.endpoint, "ben")
    ben.id = anna.id
    assert (await ben.call(method))[0] == 404
    ben.id = ""
    assert (await ben.call(method))[0] == 400
    monkeypatch.setattr("devhost.signalr.service.tokens.LIFETIME_S", -60)
    assert (await anna.call(method))[0] == 401
    assert connections(anna.endpoint) == 1


async def test_polls_carry_messages_in_order_and_end_with_the_connection(anna: RawRequests) -> None:
    await anna.connect()
    polling = asyncio.create_task(anna.call("GET"))
    await eventually(lambda: _is_awaited(anna.endpoint))
    await anna.endpoint.send([{"target": "news", "arguments": [n]} for n in range(3)])
    status, body = await polling
    assert (status, [json.loads(part)["arguments"] for part in body[:-1].split(b"\x1e")]) == (200, [[0], [1], [2]])
    hub = anna.endpoint.extension.service.hub("chat")
    hub.close(hub.receivers(user_id="anna"), reason="bye")
    assert await anna.call("GET") == (200, b'{"type":7,"error":"bye"}\x1e')
    assert (await anna.call("GET"))[0] == 204
    assert (await anna.call("GET"))[0] == 404


async def test_a_poll_ends_empty_in_time_and_when_another_one_comes(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_endpoint(tmp_path, Limits(poll_s=0.5, close_grace_s=0.3)) as endpoint:
        anna = RawRequests(http, endpoint)
        await anna.connect()
        first = asyncio.create_task(anna.call("GET"))
        await eventually(lambda: _is_awaited(endpoint))
        assert await anna.call("GET") == (200, b"")
        assert (await first)[0] == 204


async def test_a_client_that_polls_no_more_is_dropped_and_one_that_waits_is_not(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = Limits(client_timeout_s=0.8, poll_s=2.0, close_grace_s=0.1, handshake_timeout_s=2.0)
    async with running_endpoint(tmp_path, limits) as endpoint:
        anna, silent = RawRequests(http, endpoint), RawRequests(http, endpoint)
        await anna.connect()
        await silent.negotiate()
        await silent.call("GET")  # and never a handshake
        assert await anna.call("GET") == (200, b"")
        assert connections(endpoint) == 1
        await asyncio.wait_for(endpoint.extension.service.nobody.wait(), PATIENCE_S)
        assert connections(endpoint) == 0
        assert (await anna.call("GET"))[0] == 404
        assert (await silent.call("GET"))[0] == 404


async def test_what_waits_for_a_client_that_does_not_poll_is_bounded(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = Limits(queue_bytes=1_000_000, close_grace_s=0.1)
    async with running_endpoint(tmp_path, limits) as endpoint:
        anna = RawRequests(http, endpoint)
        await anna.connect()
        (connection,) = endpoint.extension.service.hub("chat").connections.values()
        sent = 0
        while not connection.is_closing:
            await endpoint.send({"target": "news", "arguments": ["x" * 100_000]})
            sent += 1
            assert sent < 20
        await asyncio.wait_for(endpoint.extension.service.nobody.wait(), PATIENCE_S)


async def test_a_reader_of_events_that_does_not_read_is_dropped(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_endpoint(tmp_path, Limits(queue_bytes=1_000_000, close_grace_s=0.1)) as endpoint:
        anna = RawRequests(http, endpoint)
        stream = await anna.stream()
        await anna.call("POST", JSON_HANDSHAKE)
        (connection,) = endpoint.extension.service.hub("chat").connections.values()
        sent = 0
        while not connection.is_closing:
            await endpoint.send({"target": "news", "arguments": ["x" * 100_000]})
            await asyncio.sleep(0)
            sent += 1
            assert sent < 1000, "what waits for the reader has no bound"
        await asyncio.wait_for(endpoint.extension.service.nobody.wait(), PATIENCE_S)
        stream.close()


async def test_posts_have_a_limit_and_so_has_the_number_of_clients(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_endpoint(tmp_path, Limits(message_bytes=1000, clients=1, close_grace_s=0.1)) as endpoint:
        anna, ben = RawRequests(http, endpoint), RawRequests(http, endpoint, "ben")
        await anna.connect()
        assert (await anna.call("POST", b"x" * 1001))[0] == 413
        await ben.negotiate()
        assert (await ben.call("GET"))[0] == 503
        await anna.call("DELETE")
        await ben.connect()


async def test_events_carry_the_handshake_messages_and_pings_and_end_with_the_connection(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_endpoint(tmp_path, Limits(ping_interval_s=0.2)) as endpoint:
        anna = RawRequests(http, endpoint)
        stream = await anna.stream()
        assert await anna.call("POST", JSON_HANDSHAKE) == (200, b"")
        assert await event(stream) == b"{}\x1e"
        await endpoint.send({"target": "news", "arguments": ["a\r\n\n:b"]})
        assert await event_besides_pings(stream) == b'{"type":1,"target":"news","arguments":["a\\r\\n\\n:b"]}\x1e'
        assert await event(stream) == PING
        assert (await anna.call("DELETE"))[0] == 400
        assert (await anna.call("GET"))[0] == 409
        assert (await anna.call("GET", Accept="text/event-stream"))[0] == 409
        hub = endpoint.extension.service.hub("chat")
        hub.close(hub.receivers(user_id="anna"), reason="bye")
        assert await event_besides_pings(stream) == b'{"type":7,"error":"bye"}\x1e'
        assert await event(stream) is None
        await eventually(lambda: connections(endpoint) == 0)


async def test_events_carry_no_bytes_so_messagepack_is_refused(anna: RawRequests) -> None:
    stream = await anna.stream()
    assert await anna.call("POST", MESSAGEPACK_HANDSHAKE) == (200, b"")
    error = json.loads((await event(stream) or b"")[:-1])["error"]
    assert "messagepack" in error
    assert await event(stream) is None


async def test_a_reader_of_events_that_leaves_is_forgotten_at_once(anna: RawRequests) -> None:
    stream = await anna.stream()
    await anna.call("POST", JSON_HANDSHAKE)
    assert connections(anna.endpoint) == 1
    stream.close()
    await asyncio.wait_for(anna.endpoint.extension.service.nobody.wait(), PATIENCE_S)
    assert connections(anna.endpoint) == 0


async def test_a_reader_without_a_handshake_is_told_and_dropped(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_endpoint(tmp_path, Limits(handshake_timeout_s=0.1)) as endpoint:
        stream = await RawRequests(http, endpoint).stream()
        assert await event(stream) == b'{"error":"the client sent no handshake in time"}\x1e'
        assert await event(stream) is None


async def test_stopping_tells_readers_and_pollers_to_come_back(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    endpoint = Endpoint(tmp_path, Limits())
    await endpoint.start()
    reader, poller = RawRequests(http, endpoint), RawRequests(http, endpoint)
    stream = await reader.stream()
    await reader.call("POST", JSON_HANDSHAKE)
    assert await event(stream) == b"{}\x1e"
    await poller.connect()
    polling = asyncio.create_task(poller.call("GET"))
    await eventually(lambda: _is_awaited(endpoint))
    stopping = asyncio.create_task(endpoint.stop())
    for data in (await event(stream), (await polling)[1]):
        assert json.loads((data or b"")[:-1])["allowReconnect"] is True
    assert await event(stream) is None
    assert (await poller.call("DELETE"))[0] == 202
    await asyncio.wait_for(stopping, PATIENCE_S)


async def test_a_socket_takes_no_posts_and_its_id_opens_nothing_else(anna: RawRequests) -> None:
    await anna.negotiate()
    url = f"{anna.endpoint.base_url}/client/?hub=chat&id={anna.id}"
    async with anna.http.ws_connect(url, headers=await anna.headers()):
        assert (await anna.call("POST", b""))[0] == 405
        assert (await anna.call("DELETE"))[0] == 400
        assert (await anna.call("GET"))[0] == 409
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await anna.http.ws_connect(url, headers=await anna.headers())
        assert refused.value.status == 409


async def test_a_page_of_any_origin_may_poll_post_and_delete(anna: RawRequests) -> None:
    await anna.negotiate()
    url = f"{anna.endpoint.base_url}/client/?hub=chat&id={anna.id}"
    asked = {"Origin": "http://app.example", "Access-Control-Request-Method": "DELETE"}
    async with anna.http.options(url, headers=asked) as preflight:
        assert preflight.status == 200
        assert {"GET", "POST", "DELETE"} <= set(preflight.headers["Access-Control-Allow-Methods"].split(", "))
    async with anna.http.get(url, headers=await anna.headers(Origin="http://app.example")) as poll:
        assert poll.headers["Access-Control-Allow-Origin"] == "http://app.example"
    async with anna.http.get(url, headers={"Origin": "http://app.example"}) as refused:
        assert refused.status == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "http://app.example"


def _is_awaited(endpoint: Endpoint) -> bool:
    return any(one.wire.is_awaited for one in endpoint.extension.service.hub("chat").connections.values())
