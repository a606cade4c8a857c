"""A program on a client of somebody else under Node, which does what lines of JSON say and tells what it has."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.support.node import install, node_binary, node_environment

SCRIPTS = Path(__file__).parents[1] / "doors" / "node"
PATIENCE_S = 60.0
_LINE_BYTES = 16 * 1024 * 1024

type Json = dict[str, Any]


class NodeClient:
    """One process, one line at a time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def do(self, **command: Any) -> Json:
        """What the program says when it has done that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(command) + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            line = await self._process.stdout.readline()
        assert line, "the program has ended"
        return dict(orjson.loads(line))


@asynccontextmanager
async def node_client(script: str, *arguments: str) -> AsyncIterator[NodeClient]:
    """script: a file of `doors/node`."""
    modules = await asyncio.to_thread(install, SCRIPTS)
    process = await asyncio.create_subprocess_exec(
        *(node_binary(), SCRIPTS / script, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        env=node_environment(modules),
        limit=_LINE_BYTES,
    )
    try:
        yield NodeClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
