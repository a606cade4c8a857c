"""The parent's side of the load generator: starts it, sends it orders, samples the machine while it measures."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from devhost.servers import ServerError
from devtools.bench.figures.usage import Usage
from devtools.setup.places import ROOT

_ANSWER_LIMIT_S = 600.0
_LINE_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one order."""

    samples: dict[str, Any]
    begin: dict[str, Usage]
    """Usage of each group of processes when the window opened; empty for orders without a window."""
    end: dict[str, Usage]


class Loader:
    """`async with Loader() as loader`. sink: `host:port` of the target of approved tool calls."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """environment: what its process has beside or instead of this one's."""
        self._environment = {"PYTHONPATH": ROOT, **(environment or {})}
        self.sink = ""
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "devtools.bench.load.generator"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | self._environment,
            limit=_LINE_LIMIT,
            start_new_session=True,  # this process handles Ctrl-C
        )
        self.sink = str((await self._line())["sink"])
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()  # ends it, unless an order is running
        try:
            async with asyncio.timeout(1):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def order(self, order: dict[str, Any], sample: Callable[[], dict[str, Usage]]) -> Measured:
        """Send an order and wait for its samples. sample: called when the window opens and closes.

        Raises ServerError when a turn did not behave as its workload says.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        marks: dict[str, dict[str, Usage]] = {}
        while True:
            answer = await self._line()
            if "error" in answer:
                raise ServerError(f"{order['workload']}, {order['do']}: {answer['error']}")
            if "mark" not in answer:
                return Measured(answer, marks.get("open", {}), marks.get("close", {}))
            marks[answer["mark"]] = sample()

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            line = await self._process.stdout.readline()
        if not line:
            raise ServerError(f"the load generator ended with code {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
