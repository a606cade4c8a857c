"""An MCP server of our own that says what a test wants, however wrong: over a real socket, in the test's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from shared.adapters.mcp.allowed import AllowedServers
from shared.adapters.mcp.client import McpClient
from shared.sessions.mcp.definitions import read_definition
from shared.sessions.mcp.pins import PinnedTool, pin_of, planned
from shared.sessions.mcp.servers import McpServer

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}
ECHO: dict[str, Any] = {"name": "echo", "description": "Say it again", "inputSchema": SCHEMA}

type Act = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class Served:
    """modern: which era it speaks. tools: of its list. acts: by method, what it does instead of the right thing."""

    def __init__(self) -> None:
        self.modern = True
        self.tools: list[Any] = [ECHO]
        self.acts: dict[str, Act] = {}
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        """(method, params, headers in lower case) of each message."""
        self.deleted = 0
        self.port = 0
        self.result: dict[str, Any] = {"content": [{"type": "text", "text": "done"}]}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def methods(self) -> list[str]:
        return [method for method, _, _ in self.seen]

    def server(self, *tools: str, **changes: Any) -> McpServer:
        told = {"name": "own", "url": self.url, "tools": list(tools) or ["echo"], **changes}
        return McpServer.model_validate(told)

    def pinned(self, tool: dict[str, Any] = ECHO, **changes: Any) -> PinnedTool:
        """That tool as it is defined in this moment."""
        server = self.server(tool["name"], **changes)
        return next(iter(planned([server], [pin_of(server, read_definition(tool))]).values()))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            self.deleted += 1
            return web.Response()
        body = await request.json()
        method = body.get("method", "(reply)")
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((method, body.get("params", body), headers))
        if method in self.acts:
            return await self.acts[method](request, body)
        return await self.answer(request, body)

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """As a right server would."""
        method, era = body.get("method"), "modern" if "mcp-method" in {h.lower() for h in request.headers} else "legacy"
        if (era == "modern") is not self.modern:
            return error(body, -32000, "Server not initialized", 400)
        if method == "server/discover":
            return result(body, {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}})
        if method == "initialize":
            told = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            return result(body, told, {"Mcp-Session-Id": "session-1"})
        if method == "tools/list":
            return result(body, {"tools": self.tools})
        if method == "tools/call":
            return result(body, self.result)
        return web.Response(status=202)


def result(body: dict[str, Any], told: Any, headers: dict[str, str] | None = None) -> web.Response:
    message = {"jsonrpc": "2.0", "id": body["id"], "result": told}
    return web.Response(body=orjson.dumps(message), content_type="application/json", headers=headers)


def error(body: dict[str, Any], code: int, text: str, status: int, data: Any = None) -> web.Response:
    message = {"jsonrpc": "2.0", "id": body.get("id"), "error": {"code": code, "message": text, "data": data}}
    return web.Response(body=orjson.dumps(message), content_type="application/json", status=status)


async def events(request: web.Request, *data: bytes, headers: dict[str, str] | None = None) -> web.StreamResponse:
    """An event stream of these pieces, as they are."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
    await answer.prepare(request)
    for piece in data:
        await answer.write(piece)
    return answer


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    served = Served()
    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", served.serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.port = runner.addresses[0][1]
    try:
        yield served
    finally:
        await runner.cleanup()


def client_of(*entries: str, secrets: dict[str, str] | None = None, **options: Any) -> McpClient:
    """entries: of MCP_ALLOW."""
    kept = secrets or {}

    async def token(scope: str) -> str:
        return f"token-for-{scope}"

    return McpClient(AllowedServers(entries), secret=kept.__getitem__, token=token, **options)


async def never() -> None:
    await asyncio.Event().wait()
