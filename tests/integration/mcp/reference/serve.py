"""Serves the Python reference servers over streamable HTTP: `serve.py time git`; prints the port of each."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
from mcp_server_git.server import create_server as git_server
from mcp_server_time.server import create_server as time_server

SERVERS = {"time": lambda: time_server("UTC"), "git": lambda: git_server(None)}


async def serve(names: list[str]) -> None:
    servers = []
    for name in names:
        listening = socket.create_server(("127.0.0.1", 0))
        app = SERVERS[name]().streamable_http_app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        servers.append(server.serve([listening]))
        print(name, listening.getsockname()[1], flush=True)
    await asyncio.gather(*servers)


asyncio.run(serve(sys.argv[1:]))
