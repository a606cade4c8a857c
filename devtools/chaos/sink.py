"""Where tools send to: it counts effects, answers `after_ms`, and can be asked for a page."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from types import TracebackType
from typing import Self

from aiohttp import web


class Sink:
    """`async with Sink() as sink`. effects: how often each path was reached, by the call's idempotency key."""

    def __init__(self) -> None:
        self.effects: dict[str, Counter[str]] = defaultdict(Counter)
        self.port = 0
        app = web.Application()
        app.add_routes([web.post("/effect/{tail:.*}", self._effect), web.get("/page/{mark}", self._page)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=0.2)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _effect(self, request: web.Request) -> web.Response:
        await request.read()  # an effect is a request that has arrived as a whole
        self.effects[request.headers.get("idempotency-key", "")][request.path] += 1
        await asyncio.sleep(int(request.query["after_ms"]) / 1000)
        return web.Response(text="done")

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=f"a page for {request.match_info['mark']}")
