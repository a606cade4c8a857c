"""Everything that runs in a chaos run: servers, proxies in front of them, the host, and how each is struck and healed.

Invariant: only processes that are started here are ended here, and all of them are gone with the block.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from devhost.servers import Azurite, Postgres, Server, Valkey, enter_all
from devhost.servers.folder import LOOPBACK, ServerFolder, free_port
from devhost.servers.process import Command
from devhost.servers.supervise import Report
from devhost.threads import in_new_thread
from devtools.bench.contender import FastModel, Host
from devtools.chaos.proxy import Fault, FaultyProxy
from devtools.chaos.schedule import NETWORK, Planned, Strike, Target
from devtools.chaos.sink import Sink
from devtools.setup.places import ROOT

_KEY = "only-for-chaos-" + "0" * 32
_LATENCY_S = 0.15
_SIGNALR_APP = """
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
@app.route("nothing")
def nothing(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("nothing")
"""
SETTINGS = {
    # Waits for a person are short here, and so is what comes after one that is lost.
    "TURN_STALLED_SECONDS": "5",
    "LLM_TIMEOUT_SECONDS": "3",
    "STREAMS_PER_USER": "0",
}


class ChaosHost(Host):
    """A host that is there when it serves, whatever it can reach."""

    ready_timeout_s = 90.0

    async def is_ready(self) -> bool:
        try:
            written = await in_new_thread(self._ready_file.read_text)
            return bool(json.loads(written)["pid"] == self.pid)
        except (FileNotFoundError, ValueError):
            return False

    @property
    def data(self) -> Path:
        return self.folder.path / "data"


class SignalRService(Server):
    """The dev host's SignalR service in a host of its own, which may go away alone."""

    name = "signalr"

    def __init__(self, folder: Path, *, report: Report) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self._port = free_port()

    @property
    def port(self) -> int:
        return self._port

    def connection_string(self, server_port: int) -> str:
        """server_port: where the app sends to."""
        own = f"http://{LOOPBACK}:{self._port}"
        return f"Endpoint={own};ServerEndpoint=http://{LOOPBACK}:{server_port};AccessKey={_KEY};Version=1.0;"

    async def prepare(self) -> None:
        self.folder.make()
        self._app.mkdir(exist_ok=True)
        (self._app / "host.json").write_text('{"version": "2.0"}')
        (self._app / "function_app.py").write_text(_SIGNALR_APP)

    def command(self) -> Command:
        self._ready_file.unlink(missing_ok=True)
        place = ("--port", str(self._port), "--data", str(self.folder.path / "data"))
        return Command(
            name=self.name,
            argv=(
                *(sys.executable, "-P", "-m", "devhost", str(self._app), *place),
                *("--ready-file", str(self._ready_file)),
            ),
            env=os.environ | {"AzureSignalRConnectionString": self.connection_string(self._port)},
            cwd=self._app,
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
        )

    async def is_ready(self) -> bool:
        return self._ready_file.exists()

    @property
    def _app(self) -> Path:
        return self.folder.path / "app"

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready.json"


@dataclass
class Stack:
    """What runs. reports: what the supervision said of each, which says nothing while nobody dies by himself."""

    host: ChaosHost
    postgres: Postgres
    redis: Valkey
    signalr: SignalRService
    model: FastModel
    sink: Sink
    proxies: Mapping[Target, FaultyProxy]
    reports: list[str] = field(default_factory=list)

    @property
    def tool_url(self) -> str:
        return f"http://{LOOPBACK}:{self.proxies[Target.TOOL].port}"

    @property
    def groups(self) -> dict[str, int]:
        """Process groups by name, of those that run."""
        servers: tuple[Server, ...] = (self.host, self.postgres, self.redis, self.signalr, self.model)
        return {server.name: server.pid for server in servers if server.pid is not None}

    @contextlib.asynccontextmanager
    async def struck(self, planned: Planned) -> AsyncIterator[None]:
        """In the block the strike lasts; healed when it is left."""
        if planned.strike in NETWORK:
            proxy = self.proxies[planned.target]
            if planned.strike is Strike.LATENCY:
                proxy.latency_s = _LATENCY_S
            else:
                await proxy.become(Fault(planned.strike.value))
            try:
                yield
            finally:
                proxy.latency_s = 0.0
                await proxy.become(Fault.NONE)
            return
        server = self._servers[planned.target]
        aside = self.redis.folder.path / "aside"
        kept = self.redis.folder.path / "appendonlydir"
        if planned.strike is Strike.ROLL_BACK:
            await in_new_thread(lambda: shutil.copytree(kept, aside))
        else:
            if planned.strike is Strike.VANISH:
                for proxy in self.proxies.values():
                    proxy.lose_clients()
            await server.put_down(server.stop_signal if planned.strike is Strike.STOP else signal.SIGKILL)
        try:
            yield
        finally:
            if planned.strike is Strike.ROLL_BACK:
                await server.put_down(signal.SIGKILL)
            if planned.strike in {Strike.ROLL_BACK, Strike.FORGET}:
                await in_new_thread(lambda: shutil.rmtree(kept))
            if planned.strike is Strike.ROLL_BACK:
                aside.rename(kept)
            await server.bring_up()

    @property
    def _servers(self) -> dict[Target, Server]:
        return {
            Target.HOST: self.host,
            Target.POSTGRES: self.postgres,
            Target.REDIS: self.redis,
            Target.SIGNALR: self.signalr,
        }


@contextlib.asynccontextmanager
async def running(folder: Path, say: Callable[[str], None], settings: Mapping[str, str]) -> AsyncIterator[Stack]:
    """Start everything in `folder`. settings: of the app, beside `SETTINGS`. Raises ServerError."""
    reports: list[str] = []

    def report(name: str, text: str) -> None:
        reports.append(f"{name}: {text}")
        say(f"  {name}: {text}")

    async with contextlib.AsyncExitStack() as stack:
        postgres = Postgres(folder / "postgres", report=report)
        redis = Valkey(folder / "valkey", report=report)
        azurite = Azurite(folder / "azurite", report=report)
        model = FastModel(folder / "model", report=report)
        signalr = SignalRService(folder / "signalr", report=report)
        sink = await stack.enter_async_context(Sink())
        await enter_all(stack, [postgres, redis, azurite, model, signalr])
        parts = dict(part.partition("=")[::2] for part in azurite.url.split(";"))
        ports = {
            Target.POSTGRES: urlsplit(postgres.url).port,
            Target.REDIS: urlsplit(redis.url).port,
            Target.BLOB: urlsplit(parts["BlobEndpoint"]).port,
            Target.TABLE: urlsplit(parts["TableEndpoint"]).port,
            Target.SIGNALR: signalr.port,
            Target.MODEL: urlsplit(model.url).port,
            Target.TOOL: sink.port,
        }
        proxies = {
            target: await stack.enter_async_context(FaultyProxy(LOOPBACK, port or 0)) for target, port in ports.items()
        }

        def through(target: Target, url: str) -> str:
            return url.replace(f":{ports[target]}", f":{proxies[target].port}", 1)

        host = ChaosHost(
            "host",
            Path(ROOT),
            folder / "host",
            settings={
                "POSTGRES_URL": through(Target.POSTGRES, postgres.url),
                "REDIS_URL": through(Target.REDIS, redis.url),
                "AzureWebJobsStorage": through(Target.TABLE, through(Target.BLOB, azurite.url)),
                "AzureSignalRConnectionString": signalr.connection_string(proxies[Target.SIGNALR].port),
                "OPENAI_BASE_URL": through(Target.MODEL, model.url),
                "TOOLS_HTTP_ALLOW": f"{LOOPBACK}:{proxies[Target.TOOL].port}",
                **SETTINGS,
                **settings,
            },
            report=report,
        )
        await stack.enter_async_context(host)
        reports.clear()  # of the first start
        yield Stack(host, postgres, redis, signalr, model, sink, proxies, reports)
