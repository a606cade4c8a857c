"""The load generator, a separate process: `python -m devtools.bench.load.generator`, controlled by `loader.py`.

It reads one JSON order per line from stdin. On stdout it writes `{"mark": ...}` lines when the measured window opens
and closes, then one line with the samples or `{"error": ...}`. Its first line gives the address of its sink, the target
of tool calls.

The clock is perf_counter, since the event loop's clock stands still while the loop is busy and has whole milliseconds.
Invariant: closed loop. A client posts its next message only when its last turn has ended. Warm-up is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from time import perf_counter
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web

from devtools.bench.load.bare import Timing, bare_text, bare_turn
from devtools.bench.load.client import Client, Watch
from devtools.bench.load.view import UnexpectedTurn
from devtools.bench.load.workloads import Workload, workload

type Turn = Callable[[], Coroutine[Any, Any, Timing]]


class Load:
    """Carries out orders."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.sink_url = ""
        self._sunk = 0
        self._texts: dict[str, str] = {}

    async def sink(self, request: web.Request) -> web.Response:
        """The target of approved tool calls."""
        await request.read()
        self._sunk += 1
        return web.Response(text="ok")

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order and return its samples."""
        what = workload(order["workload"], sink_url=self.sink_url)
        match order["do"]:
            case "bare":
                bodies = what.bare_requests(order["tools"])
                turns: list[Turn] = [lambda: bare_turn(self._http, order["model_url"], bodies)] * order["sessions"]
                return await self._window(turns, turns, order)
            case "turns":
                return await self._turns(what, order)
            case "growth":
                return await self._growth(what, order)
        raise ValueError(f"no order {order['do']!r}")

    async def _turns(self, what: Workload, order: dict[str, Any]) -> dict[str, Any]:
        expected = await self._expected(what, order)
        sunk = self._sunk
        async with contextlib.AsyncExitStack() as stack:
            clients = [self._client(what, order) for _ in range(order["sessions"])]
            await asyncio.gather(*(stack.enter_async_context(client) for client in clients))
            warm: list[Turn] = [partial(client.turn, expected_text=expected) for client in clients]
            result = await self._window(warm, [client.turn for client in clients], order)
        if what.needs_approval and self._sunk - sunk != result["turns_in_all"]:
            raise UnexpectedTurn(f"{result['turns_in_all']} approved calls, but {self._sunk - sunk} arrived")
        return result

    async def _window(self, warm: list[Turn], turns: list[Turn], order: dict[str, Any]) -> dict[str, Any]:
        """Every client makes one warm-up turn; when the last of them has ended, the window opens.

        The window closes after `seconds`, but not before it contains as many ended turns as there are clients, or as
        soon as one client has made `max_turns`. Turns that end in the window are counted.
        """
        samples: list[Timing] = []
        opened = closed = 0.0
        warming = len(turns)
        in_all = 0

        def close() -> None:
            nonlocal closed
            if not closed:
                closed = perf_counter()
                _tell({"mark": "close"})

        async def run(first: Turn, turn: Turn) -> None:
            nonlocal opened, warming, in_all
            await first()
            warming -= 1
            in_all += 1
            if not warming:
                opened = perf_counter()
                _tell({"mark": "open"})
            made = 0
            while not closed:
                timing = await turn()
                in_all += 1
                if opened and not closed:
                    samples.append(timing)
                    made += 1
                    is_long = perf_counter() - opened >= order["seconds"] and len(samples) >= len(turns)
                    if is_long or made == order["max_turns"]:
                        close()

        await _all(run(first, turn) for first, turn in zip(warm, turns, strict=True))
        return {
            "window_s": closed - opened,
            "turns_in_all": in_all,
            "total_s": [sample.total_s for sample in samples],
            "first_s": [sample.first_s for sample in samples],
        }

    async def _growth(self, what: Workload, order: dict[str, Any]) -> dict[str, Any]:
        """Compare sessions after `turns` turns with new ones, one turn at a time without other load."""
        expected = await self._expected(what, order)
        early: list[float] = []
        late: list[float] = []
        async with contextlib.AsyncExitStack() as stack:
            grown = [self._client(what, order) for _ in range(order["sessions"])]
            await asyncio.gather(*(stack.enter_async_context(client) for client in grown))

            async def grow(client: Client) -> None:
                for _ in range(order["turns"]):
                    await client.turn()

            await _all(grow(client) for client in grown)
            for number in range(order["pairs"]):
                client = grown[number % len(grown)]
                async with self._client(what, order) as fresh:
                    early.append((await fresh.turn(expected_text=expected)).total_s)
                late.append((await client.turn(expected_text=expected)).total_s)
        bodies = {history: what.bare_requests(order["tools"], history=history) for history in (0, order["turns"])}
        bare: dict[int, list[float]] = {history: [] for history in bodies}
        for _ in range(order["pairs"]):
            for history, requests in bodies.items():
                bare[history].append((await bare_turn(self._http, order["model_url"], requests)).total_s)
        return {"early_s": early, "late_s": late, "bare_early_s": bare[0], "bare_late_s": bare[order["turns"]]}

    def _client(self, what: Workload, order: dict[str, Any]) -> Client:
        watch = Watch(order["watch"])
        if what.needs_approval and watch is Watch.SSE:
            watch = Watch.EVENTS  # a turn's own stream has no approval events
        return Client(self._http, order["app_url"], what.message, watch)

    async def _expected(self, what: Workload, order: dict[str, Any]) -> str:
        """The text that a turn must stream: the model's text for the last request of the bare form."""
        if what.name not in self._texts:
            body = what.bare_requests(order["tools"])[-1]
            self._texts[what.name] = await bare_text(self._http, order["model_url"], body)
        return self._texts[what.name]


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; the first failure cancels the others."""
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


async def _main() -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as http:
        load = Load(http)
        app = web.Application()
        app.router.add_post("/sink", load.sink)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"127.0.0.1:{runner.addresses[0][1]}"
            load.sink_url = f"http://{address}/sink"
            _tell({"sink": address})
            while line := await asyncio.to_thread(sys.stdin.buffer.readline):
                try:
                    _tell(await load.obey(orjson.loads(line)))
                except (ExceptionGroup, UnexpectedTurn, aiohttp.ClientError) as failure:
                    cause: BaseException = failure
                    while isinstance(cause, ExceptionGroup):
                        cause = cause.exceptions[0]
                    _tell({"error": f"{type(cause).__name__}: {cause}"})
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(_main())
