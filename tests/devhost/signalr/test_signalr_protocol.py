"""The wire, seen by a bare WebSocket: handshake, errors, slow and silent clients, data plane."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from devhost.extensions.contract import TriggerData
from devhost.signalr.service.connection import Limits
from devhost.signalr.service.tokens import sign
from tests.devhost.signalr.signalr_harness import PATIENCE_S, Endpoint, eventually, running_endpoint

JSON_HANDSHAKE = '{"protocol":"json","version":1}\x1e'


class RawClient:
    """A WebSocket after the upgrade; splits frames into messages."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._messages: list[dict[str, Any]] = []
        self.close_code: int | None = None

    async def send(self, text: str) -> None:
        await self.socket.send_str(text)

    async def next(self) -> dict[str, Any] | None:
        """The next message, or None when the socket is closed."""
        while not self._messages:
            frame = await self.socket.receive(PATIENCE_S)
            if frame.type is not aiohttp.WSMsgType.TEXT:
                self.close_code = self.socket.close_code
                return None
            assert frame.data.endswith("\x1e")
            self._messages += [json.loads(part) for part in frame.data[:-1].split("\x1e")]
        return self._messages.pop(0)


@asynccontextmanager
async def raw_client(
    http: aiohttp.ClientSession, endpoint: Endpoint, *, user: str = "anna", handshake: str | None = JSON_HANDSHAKE
) -> AsyncIterator[RawClient]:
    info = await endpoint.connection_info({"x-user": user})
    async with http.ws_connect(f"{info['url']}&{urlencode({'access_token': info['accessToken']})}") as socket:
        client = RawClient(socket)
        if handshake is not None:
            await client.send(handshake)
            if handshake == JSON_HANDSHAKE:
                assert await client.next() == {}
        yield client


@pytest.mark.parametrize(
    ("handshake", "complaint"),
    [
        ('{"protocol":"messagepack","version":2}\x1e', "version 2"),
        ('{"protocol":"json","version":2}\x1e', "version 2"),
        ('{"protocol":"xml","version":1}\x1e', "xml"),
        ("hello\x1e", "not JSON"),
        ("[]\x1e", "JSON object"),
        ('{"protocol":"json","version":1}', "record separator"),
    ],
)
async def test_a_handshake_that_cannot_be_met_is_answered_with_its_error(
    endpoint: Endpoint, http: aiohttp.ClientSession, handshake: str, complaint: str
) -> None:
    async with raw_client(http, endpoint, handshake=handshake) as client:
        answer = await client.next()
        assert answer is not None
        assert complaint in answer["error"]
        assert await client.next() is None


async def test_the_handshake_may_come_in_a_binary_frame_and_share_it_with_a_message(
    endpoint: Endpoint, http: aiohttp.ClientSession
) -> None:
    async with raw_client(http, endpoint, handshake=None) as client:
        await client.socket.send_bytes((JSON_HANDSHAKE + '{"type":7}\x1e').encode())
        assert await client.next() == {}
        assert await client.next() is None


async def test_a_client_without_a_handshake_is_dropped(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with (
        running_endpoint(tmp_path, Limits(handshake_timeout_s=0.1)) as endpoint,
        raw_client(http, endpoint, handshake=None) as client,
    ):
        assert await client.next() == {"error": "the client sent no handshake in time"}
        assert await client.next() is None


async def test_a_quiet_client_is_pinged_and_a_silent_one_is_dropped(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = Limits(ping_interval_s=0.1, client_timeout_s=0.6)
    async with running_endpoint(tmp_path, limits) as endpoint, raw_client(http, endpoint) as client:
        assert await client.next() == {"type": 6}
        while (message := await client.next()) == {"type": 6}:
            pass
        assert message is not None
        assert (message["type"], message["allowReconnect"]) == (7, True)
        assert await client.next() is None


@pytest.mark.parametrize("text", ["no json\x1e", '{"type":"6"}\x1e', '{"type":6}'])
async def test_a_broken_message_closes_the_connection_for_good(
    endpoint: Endpoint, http: aiohttp.ClientSession, text: str
) -> None:
    async with raw_client(http, endpoint) as client:
        await client.send(text)
        message = await client.next()
        assert message is not None
        assert message["type"] == 7
        assert "Protocol error" in message["error"]
        assert "allowReconnect" not in message
        assert await client.next() is None


async def test_stopping_tells_every_client_to_come_back(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    endpoint = Endpoint(tmp_path, Limits())
    await endpoint.start()
    async with raw_client(http, endpoint) as client, raw_client(http, endpoint) as other:
        stopping = asyncio.create_task(endpoint.stop())
        for one in (client, other):
            message = await one.next()
            assert message is not None
            assert (message["type"], message["allowReconnect"]) == (7, True)
            assert await one.next() is None
            assert one.close_code == 1000
        await asyncio.wait_for(stopping, PATIENCE_S)


async def test_a_client_that_does_not_read_is_closed_and_the_others_never_wait(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    limits = Limits(queue_bytes=1_000_000, close_grace_s=0.2)
    async with running_endpoint(tmp_path, limits) as endpoint:
        hub = endpoint.extension.service.hub("chat")
        info = await endpoint.connection_info({"x-user": "slow"})
        # A socket that is not read after the handshake's answer.
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port, limit=1024)
        target = f"/client/?hub=chat&access_token={info['accessToken']}"
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_masked(JSON_HANDSHAKE))
        await reader.readuntil(b"{}\x1e")
        async with raw_client(http, endpoint, user="fast") as fast:
            slow = next(iter(hub.users["slow"]))
            received = 0
            while not slow.is_closing:
                await endpoint.send({"target": "news", "arguments": [received, "x" * 100_000]})
                message = await fast.next()
                assert message is not None
                assert message["arguments"][0] == received
                received += 1
                assert received < 1000, "the queue of the slow client has no bound"
            await asyncio.wait_for(slow.cut, PATIENCE_S)
            await eventually(lambda: "slow" not in hub.users)
            await endpoint.send({"target": "news", "arguments": ["end"]})
            assert await fast.next() == {"type": 1, "target": "news", "arguments": ["end"]}
        writer.transport.abort()


async def test_messages_of_one_moment_share_a_frame_up_to_its_limit(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        running_endpoint(tmp_path, Limits(frame_bytes=1000)) as endpoint,
        raw_client(http, endpoint) as client,
    ):
        await endpoint.send([{"target": "news", "arguments": ["x" * 400]} for _ in range(5)])
        frames: list[int] = []
        while sum(frames) < 5:
            frame = await client.socket.receive_str(timeout=PATIENCE_S)
            frames.append(frame.count("\x1e"))
        assert frames == [2, 2, 1]


async def test_negotiation_answers_a_browsers_preflight_for_any_origin(
    endpoint: Endpoint, http: aiohttp.ClientSession
) -> None:
    url = f"{endpoint.base_url}/client/negotiate?hub=chat&negotiateVersion=1"
    asked = {
        "Origin": "http://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with,x-signalr-user-agent",
    }
    async with http.options(url, headers=asked) as preflight:
        assert preflight.status == 200
        allowed = preflight.headers["Access-Control-Allow-Headers"].split(",")
        assert set(asked["Access-Control-Request-Headers"].split(",")) <= set(allowed)
    info = await endpoint.connection_info({"x-user": "anna"})
    headers = {"Origin": "http://app.example", "Authorization": f"Bearer {info['accessToken']}"}
    async with http.post(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "http://app.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "useStatefulReconnect" not in await answer.json()


async def _negotiate(http: aiohttp.ClientSession, endpoint: Endpoint, token: str, query: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(f"{endpoint.base_url}/client/negotiate?{query}", headers=headers) as answer:
        return answer.status


async def test_a_token_is_good_for_its_hub_its_purpose_and_its_time_only(
    endpoint: Endpoint, http: aiohttp.ClientSession
) -> None:
    good = (await endpoint.connection_info({"x-user": "anna"}))["accessToken"]
    key = endpoint.extension.service.keys[0]
    rest = sign(key, audience=f"{endpoint.base_url}/api/v1/hubs/chat")
    other = sign("some other key that is long enough", audience=f"{endpoint.base_url}/client/?hub=chat")
    query = "hub=chat&negotiateVersion=1"
    assert await _negotiate(http, endpoint, good, query) == 200
    assert await _negotiate(http, endpoint, good, "hub=CHAT&negotiateVersion=1") == 200
    assert await _negotiate(http, endpoint, good, "hub=other&negotiateVersion=1") == 401
    assert await _negotiate(http, endpoint, good, "negotiateVersion=1") == 400
    for bad in (rest, other, good[:-2], "", "x.y.z"):
        assert await _negotiate(http, endpoint, bad, query) == 401


async def test_an_expired_token_is_refused(
    endpoint: Endpoint, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devhost.signalr.service.tokens.LIFETIME_S", -60)
    token = (await endpoint.connection_info({"x-user": "anna"}))["accessToken"]
    assert await _negotiate(http, endpoint, token, "hub=chat&negotiateVersion=1") == 401


async def test_a_connection_id_nobody_negotiated_is_refused(endpoint: Endpoint, http: aiohttp.ClientSession) -> None:
    info = await endpoint.connection_info({"x-user": "anna"})
    query = urlencode({"access_token": info["accessToken"], "id": "mine.forged"})
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{info['url']}&{query}")
    assert refused.value.status == 404


async def test_a_user_without_the_header_gets_no_connection(endpoint: Endpoint) -> None:
    with pytest.raises(ValueError, match=r"headers\.x-user"):
        await endpoint.extension.resolve_input(endpoint.binding, TriggerData())


# -- data plane


class DataPlane:
    """REST calls with a token for exactly the called address."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        self._http = http
        self._endpoint = endpoint

    async def call(self, method: str, path: str, body: Any = None, *, audience: str | None = None) -> int:
        url = f"{self._endpoint.base_url}{path}"
        key = self._endpoint.connection_string.partition("AccessKey=")[2].partition(";")[0]
        token = sign(key, audience=audience or url.partition("?")[0])
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            return answer.status


V = "?api-version=2022-06-01"


@pytest.mark.parametrize(
    ("base", "verb", "query"), [("/api/v1/hubs/chat", "", "?"), ("/api/hubs/chat", "/:send", f"{V}&")]
)
async def test_rest_calls_reach_everyone_a_user_a_group_or_a_connection(
    endpoint: Endpoint, http: aiohttp.ClientSession, base: str, verb: str, query: str
) -> None:
    rest = DataPlane(http, endpoint)
    async with raw_client(http, endpoint, user="anna") as anna, raw_client(http, endpoint, user="ben") as ben:
        hub = endpoint.extension.service.hub("chat")
        ben_id = next(iter(hub.users["ben"])).connection_id
        room = quote("room/1", safe="")
        assert await rest.call("PUT", f"/api/v1/hubs/chat/groups/{room}/connections/{ben_id}") == 200

        async def send(address: str, text: str, more: str = "") -> None:
            path = f"{base}{address}{verb}{query}{more}"
            assert await rest.call("POST", path, {"target": "news", "arguments": [text]}) == 202

        await send("", "not ben", f"excluded={ben_id}")
        await send("/users/anna", "anna")
        await send(f"/groups/{room}", "room")
        await send(f"/connections/{ben_id}", "ben")
        await send("", "all")

        async def heard(client: RawClient) -> list[str]:
            texts: list[str] = []
            while not texts or texts[-1] != "all":
                message = await client.next()
                assert message is not None
                texts.append(message["arguments"][0])
            return texts

        assert await heard(anna) == ["not ben", "anna", "all"]
        assert await heard(ben) == ["room", "ben", "all"]


async def test_rest_manages_and_reports_users_groups_and_connections(
    endpoint: Endpoint, http: aiohttp.ClientSession
) -> None:
    rest = DataPlane(http, endpoint)
    hub = "/api/hubs/chat"
    async with raw_client(http, endpoint, user="anna") as anna:
        connection_id = next(iter(endpoint.extension.service.hub("chat").connections))
        assert await rest.call("HEAD", f"{hub}/connections/{connection_id}{V}") == 200
        assert await rest.call("HEAD", f"{hub}/connections/nobody{V}") == 404
        assert await rest.call("HEAD", f"{hub}/users/anna{V}") == 200
        assert await rest.call("HEAD", f"{hub}/users/ben{V}") == 404
        assert await rest.call("HEAD", f"{hub}/groups/room{V}") == 404
        assert await rest.call("PUT", f"{hub}/users/anna/groups/room{V}") == 200
        assert await rest.call("HEAD", f"{hub}/users/anna/groups/room{V}") == 200
        assert await rest.call("HEAD", f"{hub}/groups/room{V}") == 200
        assert await rest.call("PUT", f"{hub}/users/anna/groups/now{V}&ttl=0") == 200
        assert await rest.call("HEAD", f"{hub}/users/anna/groups/now{V}") == 404
        assert await rest.call("HEAD", f"{hub}/groups/now{V}") == 200
        assert await rest.call("DELETE", f"{hub}/connections/{connection_id}/groups{V}") == 200
        assert await rest.call("HEAD", f"{hub}/groups/room{V}") == 404
        assert await rest.call("DELETE", f"{hub}/users/anna/groups{V}") == 204
        assert await rest.call("HEAD", f"{hub}/users/anna/groups/room{V}") == 404
        assert await rest.call("PUT", f"{hub}/groups/room/connections/nobody{V}") == 404
        assert await rest.call("POST", f"{hub}/users/anna/:closeConnections{V}&reason=bye") == 204
        assert await anna.next() == {"type": 7, "error": "bye"}
        assert await anna.next() is None


async def test_rest_refuses_what_it_cannot_trust_or_understand(endpoint: Endpoint, http: aiohttp.ClientSession) -> None:
    rest = DataPlane(http, endpoint)
    good = {"target": "news", "arguments": []}
    client_audience = f"{endpoint.base_url}/client/?hub=chat"
    assert await rest.call("POST", "/api/v1/hubs/chat", good, audience=client_audience) == 401
    assert await rest.call("POST", "/api/v1/hubs/chat", good, audience=f"{endpoint.base_url}/api/v1/hubs/x") == 401
    async with http.post(f"{endpoint.base_url}/api/v1/hubs/chat", json=good) as answer:
        assert answer.status == 401
    assert await rest.call("POST", "/api/hubs/chat/:send", good) == 400
    assert await rest.call("POST", "/api/v1/hubs/chat/:send", good) == 404
    assert await rest.call("POST", f"/api/hubs/chat{V}", good) == 404
    assert await rest.call("GET", "/api/v1/hubs/chat") == 405
    assert await rest.call("POST", "/api/v1/hubs/9chat", good) == 400
    malformed: list[Any] = [{}, [], {"target": "x", "arguments": {}}, {"target": "x", "rawBytes": "AA=="}]
    for bad in malformed:
        assert await rest.call("POST", "/api/v1/hubs/chat", bad) == 400
    long = {"target": "x", "arguments": ["y" * 1_100_000]}
    assert await rest.call("POST", "/api/v1/hubs/chat", long) == 413
    with pytest.raises(ValueError, match="over the service's limit"):
        await endpoint.send(long)


def _masked(text: str) -> bytes:
    """A short client text frame, masked with zeros."""
    data = text.encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data
