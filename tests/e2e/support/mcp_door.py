"""The MCP protocol's own client at the app's MCP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


@asynccontextmanager
async def mcp_client(base_url: str, user: str = "olga;approver", mode: str = "auto") -> AsyncIterator[Client]:
    """mode: a version, `auto`, or `legacy`, which begins with `initialize`."""
    async with (
        httpx2.AsyncClient(headers={"x-dev-user": user}, timeout=60) as http,
        Client(streamable_http_client(f"{base_url}/api/mcp", http_client=http), mode=mode) as client,
    ):
        yield client
