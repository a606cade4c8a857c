"""Pages of this machine, from any port, where `./dev up` lets them read answers; and no other page."""

from __future__ import annotations

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from devhost.asgi.cors import with_cors

LOCAL = ("http://localhost:5173", "https://app.localhost", "http://127.0.0.1:8080", "http://[::1]:3000")
ELSEWHERE = (
    "https://evil.example",
    "http://localhost.evil.example",
    "http://evil.example:5173",
    "http://127.0.0.1.evil.example",
    "http://localhost:5173.evil.example",
    "null",
)
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "x-requested-with,x-dev-user"}

_app: ASGIApp = PlainTextResponse("answer", headers={"Access-Control-Expose-Headers": "ETag"})


async def _ask(app: ASGIApp, method: str, origin: str, **headers: str) -> httpx.Headers:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7071") as client:
        return (
            await client.request(method, "/api/v1/realtime/negotiate", headers={"origin": origin, **headers})
        ).headers


@pytest.mark.parametrize("origin", LOCAL)
async def test_a_page_of_this_machine_may_send_what_signalrs_client_sends_and_read_the_answer(origin: str) -> None:
    app = with_cors(_app, (), credentials=False, local=True)
    asked = await _ask(app, "OPTIONS", origin, **PREFLIGHT)
    assert (asked["access-control-allow-origin"], asked["access-control-allow-credentials"]) == (origin, "true")
    assert {"x-requested-with", "x-dev-user"} <= set(asked["access-control-allow-headers"].replace(" ", "").split(","))
    told = await _ask(app, "POST", origin)
    assert (told["access-control-allow-origin"], told["access-control-allow-credentials"]) == (origin, "true")
    assert told["access-control-expose-headers"] == "ETag"


@pytest.mark.parametrize("origin", ELSEWHERE)
async def test_a_page_of_elsewhere_may_not(origin: str) -> None:
    app = with_cors(_app, (), credentials=False, local=True)
    assert "access-control-allow-origin" not in await _ask(app, "OPTIONS", origin, **PREFLIGHT)
    assert "access-control-allow-origin" not in await _ask(app, "POST", origin)


@pytest.mark.parametrize("origin", LOCAL)
async def test_without_the_setting_no_page_may(origin: str) -> None:
    assert "access-control-allow-origin" not in await _ask(with_cors(_app, (), credentials=False), "POST", origin)


async def test_configured_origins_stay_beside_those_of_this_machine() -> None:
    app = with_cors(_app, ("https://chat.example",), credentials=False, local=True)
    told = await _ask(app, "POST", "https://chat.example")
    assert told["access-control-allow-origin"] == "https://chat.example"
    assert "access-control-allow-credentials" not in told
