"""What the SignalR tests share: the endpoint on a real server, and the real client under Node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from devhost.extensions.contract import Binding, Direction, Function, HostContext, TriggerData
from devhost.signalr.extension import SignalRExtension
from devhost.signalr.service.connection import Limits
from tests.support.node import install, node_binary, node_environment
from tests.support.serving import PromptServer

HERE = Path(__file__).parent
PATIENCE_S = 60.0


def connection_info(hub: str = "chat", **raw: Any) -> Binding:
    fields = {"type": "signalRConnectionInfo", "name": "info", "direction": "IN", "hubName": hub, **raw}
    return Binding("signalRConnectionInfo", "info", Direction.IN, fields)


def output(hub: str = "chat", **raw: Any) -> Binding:
    fields = {"type": "signalR", "name": "out", "direction": "OUT", "hubName": hub, **raw}
    return Binding("signalR", "out", Direction.OUT, fields)


def function(
    *, inputs: tuple[Binding, ...] = (), outputs: tuple[Binding, ...] = (), route: str = "negotiate"
) -> Function:
    trigger = Binding("httpTrigger", "req", Direction.IN, {"type": "httpTrigger", "route": route})
    return Function("negotiate", "id-1", trigger, inputs, outputs)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in itertools.repeat(None):
            if condition():
                return
            await asyncio.sleep(0.01)


@dataclass
class FakeHost:
    """A host as far as the extension looks at it."""

    context: HostContext

    async def invoke(
        self, function: Function, payload: str, *, correlation_id: str | None = None, quiet: bool = False
    ) -> str | None:
        raise AssertionError("the SignalR extension invokes nothing")


def host_context(
    data_dir: Path,
    *,
    base_url: str = "http://127.0.0.1:7071",
    settings: Mapping[str, str] | None = None,
    functions: Sequence[Function] | None = None,
    host_json: Mapping[str, Any] | None = None,
) -> HostContext:
    return HostContext(
        app_dir=data_dir,
        data_dir=data_dir,
        base_url=base_url,
        host_json=host_json or {},
        settings=settings or {},
        functions=functions
        if functions is not None
        else [function(inputs=(connection_info(userId="{headers.x-user}"),), outputs=(output(),))],
    )


@dataclass
class Endpoint:
    """The extension behind a real server; `POST /api/negotiate` stands for the app's function."""

    data_dir: Path
    limits: Limits
    port: int = 0
    extension: SignalRExtension = field(init=False)
    binding: Binding = field(default_factory=lambda: connection_info(userId="{headers.x-user}"))
    middleware: tuple[Middleware, ...] = ()
    _server: PromptServer = field(init=False)
    _task: asyncio.Task[None] = field(init=False)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def hub_url(self) -> str:
        """What a client is pointed at."""
        return f"{self.base_url}/api"

    @property
    def connection_string(self) -> str:
        return self.extension.default_settings(self.base_url)["AzureSignalRConnectionString"]

    async def start(self) -> None:
        config = uvicorn.Config(
            Starlette(), host="127.0.0.1", port=self.port, log_level="warning", ws_ping_interval=None, lifespan="off"
        )
        socket = config.bind_socket()
        self.port = socket.getsockname()[1]
        self.extension = SignalRExtension(self.limits)
        settings = self.extension.default_settings(self.base_url)
        self.extension.bind(FakeHost(host_context(self.data_dir, base_url=self.base_url, settings=settings)))
        routes = [*self.extension.routes(), Route("/api/negotiate", self._negotiate, methods=["POST"])]
        config.app = Starlette(routes=routes, middleware=list(self.middleware))
        await self.extension.start()
        self._server = PromptServer(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[socket]))
        while not self._server.started:
            assert not self._task.done(), "the server did not start"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.extension.stop()
        self._server.stop()
        await asyncio.wait_for(self._task, PATIENCE_S)

    async def kill(self) -> None:
        """End without a word to the clients, as a crash does."""
        self._server.config.timeout_graceful_shutdown = 0
        self._server.stop()
        await asyncio.wait_for(self._task, PATIENCE_S)
        await self.extension.stop()

    async def connection_info(self, headers: Mapping[str, str], binding: Binding | None = None) -> dict[str, str]:
        text = await self.extension.resolve_input(binding or self.binding, TriggerData(headers=headers))
        info: dict[str, str] = json.loads(text)
        return info

    async def send(self, value: Any, *, hub: str = "chat") -> None:
        """As a function does through its output binding."""
        await self.extension.send_output(output(hub), value)

    async def _negotiate(self, request: Request) -> Response:
        try:
            info = await self.extension.resolve_input(self.binding, TriggerData(headers=dict(request.headers)))
            return Response(info, media_type="application/json")
        except ValueError as exc:
            return PlainTextResponse(str(exc), status_code=500)


class NodeClients:
    """Any number of real clients in one Node process; events are awaited by client and kind.

    defaults: options of every connection, see `build` in signalr_client.cjs.
    """

    def __init__(self, **defaults: str) -> None:
        self._defaults = defaults
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._news = asyncio.Condition()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        modules = await asyncio.to_thread(install, HERE)
        self._process = await asyncio.create_subprocess_exec(
            str(node_binary()),
            str(HERE / "signalr_client.cjs"),
            env=node_environment(modules),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 * 1024 * 1024,
        )
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def connect(self, client: str, url: str, *, wait: bool = True, **options: Any) -> str:
        """Returns the connection id. options: see `build` in signalr_client.cjs."""
        await self.command(client, "connect", url=url, **{"targets": ["news"], **self._defaults, **options})
        return str((await self.expect(client, "connected"))["connectionId"]) if wait else ""

    async def command(self, client: str, action: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, "id": client, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def expect(self, client: str, event: str) -> dict[str, Any]:
        """The oldest unread event of this kind; waits for it."""

        def take() -> dict[str, Any] | None:
            unread = self._events.get(client, [])
            for index, item in enumerate(unread):
                if item["event"] == event:
                    return unread.pop(index)
            return None

        async with self._news:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while (found := take()) is None:
                        await self._news.wait()
            except TimeoutError:
                raise AssertionError(f"{client} saw no {event!r}, only {self._events.get(client)}") from None
        return found

    async def message(self, client: str) -> list[Any]:
        arguments: list[Any] = (await self.expect(client, "message"))["args"]
        return arguments

    def unread(self, client: str) -> list[dict[str, Any]]:
        return self._events.get(client, [])

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            async with self._news:
                self._events.setdefault(event["id"], []).append(event)
                self._news.notify_all()


@contextlib.asynccontextmanager
async def running_endpoint(data_dir: Path, limits: Limits | None = None, **options: Any) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(data_dir, limits or Limits(), **options)
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.stop()
