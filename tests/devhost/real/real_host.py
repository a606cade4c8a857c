"""The engine tests' host with the extension itself in the engine's place: a pytest plugin.

`python -m pytest -p tests.devhost.real.real_host tests/devhost/durable/test_durable_apps.py ...` runs the tests on it,
and writes what it did where REAL_RECORDINGS says. REAL_DLL: the built `extension/Program.cs`. REAL_STORAGE: connection
string, by default Azurite on its usual ports. A test that looks into our engine is skipped from there on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import azure.durable_functions as df
import pytest
import uvicorn
from azure.durable_functions.models.utils import http_utils
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devhost.extensions.contract import Function, FunctionFailed
from tests.devhost.durable import durable_harness as harness

_START_S = 40.0
_OVER = ("Completed", "Failed", "Terminated", "Canceled")
_KEYS = {
    "orchestrationTrigger": ("orchestration", "orchestration"),
    "activityTrigger": ("activity", "activity"),
    "entityTrigger": ("entity", "entityName"),
}
_ANY_METHOD = ["GET", "POST", "PUT", "DELETE"]
_HANDED_BACK = ("content-type", "location", "retry-after", "x-ms-continuation-token")
_HOP = ("host", "content-length", "transfer-encoding", "connection", "accept-encoding")


class _NotThere:
    """Stands for what only our engine has: a test that touches it does not apply from there on."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> NoReturn:
        pytest.skip(f"looks into our engine: {self._path}.{name}")


class _Core(_NotThere):
    """The one part of the engine that the extension can do as well."""

    def __init__(self, host: RealHost) -> None:
        super().__init__("engine.core")
        self._host = host

    async def wait_until_over(self, instance_id: str, timeout_s: float) -> None:
        deadline = time.monotonic() + max(timeout_s, _START_S)
        while time.monotonic() < deadline:
            status, text = await _ask(f"{self._host.rpc}instances/{instance_id}")
            if status < 300 and json.loads(text).get("runtimeStatus") in _OVER:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(instance_id)


class _Engine(_NotThere):
    def __init__(self, host: RealHost) -> None:
        super().__init__("engine")
        self.core = _Core(host)


class RealHost(harness.RunningHost):
    """Starts the extension in a process, and forwards its calls of functions to the app's code in this one."""

    is_real = True

    async def __aenter__(self) -> RealHost:
        self.host = harness.LocalHost(self.module.app, self.data_dir, self.base_url, self.host_json)
        self.engine: Any = _Engine(self)
        self._functions: dict[tuple[str, str], tuple[Function, str]] = {}
        for function in self.host.context.functions:
            kind, key = _KEYS[function.trigger.type]
            name = str(function.trigger.raw.get(key) or function.name)
            self._functions[kind, name.casefold()] = (function, name)
        routes = [
            Route("/real/functions", self._listed),
            Route("/real/invoke/{kind}/{name}", self._invoked, methods=["POST"]),
            Route("/runtime/webhooks/durabletask/{rest:path}", self._webhook, methods=_ANY_METHOD),
            Route("/durabletask/{rest:path}", self._rpc_call, methods=_ANY_METHOD),
        ]
        config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_level="error", ws="none")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        await self.until(lambda: self._server.started)
        self._start()
        await self._ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await http_utils._close_session()
        self._process.kill()
        self._process.wait()
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._serving, 5)
        self.host.close()
        self._log.close()

    async def settle(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        section = dict((self.host_json or {}).get("extensions", {}).get("durableTask", {}))
        section.pop("hubName", None)
        provider = {
            "partitionCount": 1,
            "maxQueuePollingInterval": "00:00:00.200",
            **section.pop("storageProvider", {}),
        }
        limits = {"maxConcurrentActivityFunctions": 10, "maxConcurrentOrchestratorFunctions": 5}
        dll = Path(os.environ["REAL_DLL"])
        environment = {
            **os.environ,
            "BRIDGE": self.base_url,
            "REAL_PORT": str(self._port),
            "HUB": f"t{uuid.uuid4().hex[:16]}",
            "DURABLE_OPTIONS": json.dumps({**limits, "storageProvider": provider, **section}),
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": os.environ.get("REAL_STORAGE", "UseDevelopmentStorage=true"),
            "DOTNET_gcServer": "0",
        }
        self._log = (self.data_dir / "extension.log").open("a")
        self._process = subprocess.Popen(
            ["dotnet", str(dll)], env=environment, stdout=self._log, stderr=self._log, cwd=dll.parent
        )

    async def _ready(self) -> None:
        origin = f"http://127.0.0.1:{self._port}"
        self.payload = await self._first(f"{origin}/client", 200)
        self.rpc: str = json.loads(self.payload)["rpcBaseUrl"]
        await self._first(f"{self.rpc}instances/none", 404)
        self.client = df.DurableOrchestrationClient(self.payload)

    async def _first(self, url: str, wanted: int) -> str:
        """The body of the first answer with a status."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(aiohttp.ClientError):
                status, text = await _ask(url)
                if status == wanted:
                    return text
            await asyncio.sleep(0.1)
        raise RuntimeError(f"the extension did not start; its output is in {self._log.name}")

    async def _listed(self, _: Request) -> Response:
        return JSONResponse([{"kind": kind, "name": name} for (kind, _), (_, name) in self._functions.items()])

    async def _invoked(self, request: Request) -> Response:
        key = (request.path_params["kind"], str(request.path_params["name"]).casefold())
        function, _ = self._functions[key]
        try:
            answer = await self.host.invoke(function, (await request.body()).decode(), quiet=True)
        except FunctionFailed as failure:
            return JSONResponse({"message": failure.message, "stack": failure.stack}, 500)
        headers = {"x-null": "1"} if answer is None else {}
        return Response(answer or "", media_type="application/json", headers=headers)

    async def _webhook(self, request: Request) -> Response:
        return await self._forward(request, f"http://127.0.0.1:{self._port}{request.url.path}")

    async def _rpc_call(self, request: Request) -> Response:
        return await self._forward(request, self.rpc + request.path_params["rest"])

    async def _forward(self, request: Request, url: str) -> Response:
        sent = {name: value for name, value in request.headers.items() if name not in _HOP}
        query = list(request.query_params.multi_items())
        body = await request.body()
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, url, params=query, data=body, headers=sent) as answer,
        ):
            content = await answer.read()
            return Response(content, answer.status, headers=self._seen_from_here(answer.headers))

    def _seen_from_here(self, headers: Mapping[str, str]) -> dict[str, str]:
        there = self.rpc.removesuffix("/durabletask/")
        kept = {name: value for name, value in headers.items() if name.lower() in _HANDED_BACK}
        return {name: value.replace(there, self.base_url) for name, value in kept.items()}


async def _ask(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """An activity that waits for a file of a test that failed would keep the process from ending."""
    sys.stdout.flush()
    os._exit(0)


harness.RunningHost = RealHost  # type: ignore[misc]
