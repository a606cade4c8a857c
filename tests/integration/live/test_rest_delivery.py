"""Events that go straight to the SignalR data plane: to groups and to single people, as they were encoded."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from shared.adapters.azure.signalr import MOST_RELAYED_BYTES, RelaySender, RestSender
from shared.sessions.live.realtime import DeliveryFailed
from shared.signing import RelayTokens
from tests.integration.platform.entra import serving

pytestmark = pytest.mark.integration

_EVENT = {"seq": 1, "data": {"frame": {"text": 'say "arguments":[1] and \\"arguments\\":'}}}


async def _token(url: str) -> str:
    return "token"


def _message(**receiver: str) -> bytes:
    return orjson.dumps({"target": "event", **receiver, "arguments": [_EVENT]})


async def test_groups_and_people_get_what_was_encoded_for_them() -> None:
    seen: list[tuple[str, Any]] = []

    async def data_plane(request: web.Request) -> web.Response:
        seen.append((request.raw_path, await request.json()))
        return web.Response(status=202)

    async with serving(data_plane) as url:
        sender = RestSender(url, _token)
        await sender.send(
            [
                _message(groupName="session-a.1"),
                _message(userId='rita@example.org/"arguments":'),
                _message(connectionId="a/b"),
            ]
        )
        await sender.aclose()

    body = {"target": "event", "arguments": [_EVENT]}
    hub = "/api/v1/hubs/parley"
    assert seen == [
        (f"{hub}/groups/session-a.1", body),
        (f"{hub}/users/rita%40example.org%2F%22arguments%22%3A", body),
        (f"{hub}/connections/a%2Fb", body),
    ]


async def test_what_gathers_for_the_relay_goes_in_requests_that_it_takes() -> None:
    posted: list[bytes] = []

    async def relay(request: web.Request) -> web.Response:
        posted.append(await request.content.read())
        return web.Response(status=204)

    messages = [orjson.dumps({"target": "event", "arguments": [n, "x" * 900_000]}) for n in range(12)]
    async with serving(relay) as url:
        sender = RelaySender(url, RelayTokens("s" * 32))
        await asyncio.gather(*(sender.send(messages[start : start + 3]) for start in range(0, 12, 3)))
        await sender.aclose()

    assert [message for body in posted for message in orjson.loads(body)] == [*map(orjson.loads, messages)]
    assert max(map(len, posted)) < MOST_RELAYED_BYTES + 1_000
    assert len(posted) > 1


@pytest.mark.parametrize(("status", "is_member"), [(200, True), (404, False), (500, None), (403, None)])
async def test_only_a_clear_answer_says_whether_somebody_is_in_a_group(status: int, is_member: bool | None) -> None:
    asked: list[tuple[str, str]] = []

    async def data_plane(request: web.Request) -> web.Response:
        asked.append((request.method, request.raw_path))
        return web.Response(status=status)

    async with serving(data_plane) as url:
        sender = RestSender(url, _token)
        if is_member is None:
            with pytest.raises(DeliveryFailed):
                await sender.is_member("approvers-2026-11-25", "rita@example.org")
        else:
            assert await sender.is_member("approvers-2026-11-25", "rita@example.org") is is_member
        await sender.aclose()

    assert asked == [("GET", "/api/v1/hubs/parley/groups/approvers-2026-11-25/users/rita%40example.org")]


@pytest.mark.parametrize(("status", "is_empty"), [(200, False), (404, True), (500, None), (403, None)])
async def test_only_a_clear_no_says_that_a_group_is_empty(status: int, is_empty: bool | None) -> None:
    asked: list[tuple[str, str]] = []

    async def data_plane(request: web.Request) -> web.Response:
        asked.append((request.method, request.raw_path))
        return web.Response(status=status)

    async with serving(data_plane) as url:
        sender = RestSender(url, _token)
        if is_empty is None:
            with pytest.raises(DeliveryFailed):
                await sender.is_empty("session-a:1")
        else:
            assert await sender.is_empty("session-a:1") is is_empty
        await sender.aclose()

    assert asked == [("GET", "/api/v1/hubs/parley/groups/session-a%3A1")]
