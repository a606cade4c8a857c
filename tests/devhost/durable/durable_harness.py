"""A host for engine tests: real SDK handles, called directly; real SQLite; a real HTTP port on loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import azure.durable_functions as df
import uvicorn
from azure.durable_functions.models.utils import http_utils
from azure.functions._durable_functions import df_dumps, df_loads
from starlette.applications import Starlette

from devhost.durable.extension import DurableExtension
from devhost.extensions.contract import Binding, Direction, Function, FunctionFailed, HostContext, TriggerData
from devhost.harsh import Harsh
from tests.devhost.real.episodes import Invocation
from tests.support.serving import PromptServer

APPS = Path(__file__).resolve().parent.parent / "apps"
_DURABLE = ("orchestrationTrigger", "activityTrigger", "entityTrigger")
_COMPARED = {"orchestrationTrigger": ("orchestration", "orchestration"), "entityTrigger": ("entity", "entityName")}

HEARD: list[Invocation] = []
"""Every invocation of an orchestrator or entity in the current test."""


def load_app(name: str) -> ModuleType:
    """A fresh copy of an app module, so that no test sees another's state."""
    path = APPS / name / "function_app.py"
    spec = importlib.util.spec_from_file_location(f"app_{name}_{uuid.uuid4().hex}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _functions(app: Any) -> list[Any]:
    # The SDK refuses to index an app twice.
    if not hasattr(app, "indexed_functions"):
        app.indexed_functions = app.get_functions()
    functions: list[Any] = app.indexed_functions
    return functions


class LocalHost:
    """The part of the dev host that the engine needs."""

    def __init__(
        self,
        app: Any,
        data_dir: Path,
        base_url: str,
        host_json: dict[str, Any] | None = None,
        settings: dict[str, str] | None = None,
        harsh: Harsh | None = None,
    ) -> None:
        self._code: dict[str, Callable[..., Any]] = {}
        functions: list[Function] = []
        for index, item in enumerate(_functions(app)):
            bindings = [binding.get_dict_repr() for binding in item.get_bindings()]
            trigger = next((b for b in bindings if b["type"] in _DURABLE), None)
            if trigger is None:
                continue
            self._code[str(index)] = item.get_user_function()
            binding = Binding(trigger["type"], trigger["name"], Direction.IN, trigger)
            functions.append(Function(item.get_function_name(), str(index), binding, (), ()))
        self.context = HostContext(
            app_dir=data_dir,
            data_dir=data_dir,
            base_url=base_url,
            host_json=host_json or {"version": "2.0"},
            settings=settings or {},
            functions=functions,
            harsh=harsh,
        )
        self._pool = ThreadPoolExecutor(8)
        self.calls: list[str] = []
        self.running = 0
        self.most_running: dict[str, int] = {}
        self._running: dict[str, int] = {}

    async def invoke(
        self, function: Function, payload: str, *, correlation_id: str | None = None, quiet: bool = False
    ) -> str | None:
        try:
            answer = await self._invoke(function, payload)
        except FunctionFailed as failure:
            self._hear(function, payload, None, failure.message)
            raise
        self._hear(function, payload, answer, None)
        return answer

    def _hear(self, function: Function, payload: str, answer: str | None, failed: str | None) -> None:
        if function.trigger.type in _COMPARED:
            kind, key = _COMPARED[function.trigger.type]
            name = str(function.trigger.raw.get(key) or function.name)
            HEARD.append(Invocation(kind, name, payload, answer, failed))

    async def _invoke(self, function: Function, payload: str) -> str | None:
        code = self._code[function.function_id]
        kind = function.trigger.type
        self.calls.append(function.name)
        self._running[kind] = self._running.get(kind, 0) + 1
        self.most_running[kind] = max(self.most_running.get(kind, 0), self._running[kind])
        try:
            if kind == "activityTrigger":
                try:
                    value = df_loads(payload)
                except json.JSONDecodeError:
                    value = payload
                if asyncio.iscoroutinefunction(code):
                    result = await code(**{function.trigger.name: value})
                else:
                    result = await asyncio.get_running_loop().run_in_executor(
                        self._pool, lambda: code(**{function.trigger.name: value})
                    )
                return df_dumps(result)
            context = SimpleNamespace(body=payload)
            return await asyncio.get_running_loop().run_in_executor(self._pool, code, context)
        except Exception as error:
            raise FunctionFailed(f"{type(error).__name__}: {error}") from error
        finally:
            self._running[kind] -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class RunningHost:
    """The engine behind a loopback port, with a real SDK client."""

    is_real = False
    """Whether the extension itself is behind it (`tests/devhost/real`)."""

    def __init__(
        self,
        module: ModuleType,
        data_dir: Path,
        host_json: dict[str, Any] | None = None,
        harsh: Harsh | None = None,
    ) -> None:
        self.harsh = harsh
        self.module = module
        self.data_dir = data_dir
        self.host_json = host_json
        self.client: df.DurableOrchestrationClient
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def __aenter__(self) -> RunningHost:
        self.host = LocalHost(self.module.app, self.data_dir, self.base_url, self.host_json, harsh=self.harsh)
        self.extension = DurableExtension()
        self.extension.bind(self.host)
        await self.extension.start()
        assert self.extension._engine is not None
        self.engine = self.extension._engine
        config = uvicorn.Config(
            Starlette(routes=list(self.extension.routes())), lifespan="off", log_level="error", ws="none"
        )
        self._server = PromptServer(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        binding = Binding("durableClient", "client", Direction.IN, {})
        self.payload = str(await self.extension.resolve_input(binding, TriggerData()))
        self.client = df.DurableOrchestrationClient(self.payload)
        await self.until(lambda: self._server.started)
        return self

    async def __aexit__(self, *_: object) -> None:
        await http_utils._close_session()
        await self.extension.stop()
        self._server.stop()
        await self._serving
        self.host.close()

    async def settle(self, seconds: float) -> None:
        """Wait until nothing is under way; seconds: how long the extension is given instead."""
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.02)
            live = self.engine.core.cache._live.values()
            is_busy = any(instance.is_busy or instance.has_work for instance in live)
            quiet = 0 if is_busy or any(self.host._running.values()) else quiet + 1

    async def run(self, name: str, given: Any = None, timeout_s: float = 20) -> Any:
        """Start an orchestration, wait for its end, return its status."""
        instance_id = await self.client.start_new(name, None, given)
        return await self.end(instance_id, timeout_s)

    async def end(self, instance_id: str, timeout_s: float = 20) -> Any:
        await self.engine.core.wait_until_over(instance_id, timeout_s)
        return await self.client.get_status(instance_id)

    async def until(self, condition: Callable[[], Any], timeout_s: float = 20) -> Any:
        """Wait until a condition holds; returns its value."""
        async with asyncio.timeout(timeout_s):
            while True:
                value = condition()
                if asyncio.iscoroutine(value):
                    value = await value
                if value:
                    return value
                await asyncio.sleep(0.005)
