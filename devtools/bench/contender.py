"""The system under test: a program with a database, a Redis database and a data folder of its own, such as a checkout's
host.

The servers and the fake model are shared, so that two revisions can be measured alternately under equal conditions.

Invariant: the app gets no setting of the user who runs the benchmark, and never talks to a real model.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp
import psycopg
from psycopg import sql

from devhost.servers import ServerError
from devhost.servers.folder import LOOPBACK, ServerFolder, free_port
from devhost.servers.postgres import Postgres
from devhost.servers.process import Command, run_to_end
from devhost.servers.supervise import Report, Server
from devtools.setup.places import ROOT

_MIGRATE = "shared.adapters.sql.migrate"
_CLEARED = (
    "AZURE_OPENAI_ENDPOINT",
    "AZURE_OPENAI_DEPLOYMENT",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_API_VERSION",
    "MODEL_API",
    "MODEL_CONTEXT_TOKENS",
    "MODEL_REASONING_EFFORT",
    "MODELS",
    "APPROVAL_WEBHOOK_URL",
    "APPROVAL_WEBHOOK_SECRET",
    "REALTIME_DELIVERY",
)
"""Set to empty values: an environment variable wins over local.settings.json even when it is empty."""
_SIGNALR = "AzureSignalRConnectionString"


class FastModel(Server):
    """The offline model without delays, with scripts."""

    name = "model"

    def __init__(self, folder: Path, *, report: Report) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/v1"

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        self._port = self.folder.port("port", fixed=self._port or None)
        self._ready_file.unlink(missing_ok=True)
        arguments = ("-m", "devhost.model", "--port", str(self._port), "--ready-file", str(self._ready_file))
        pace = ("--scripted", "--tokens-per-second", "0", "--first-token-ms", "0")
        return _python(self, (*arguments, *pace), checkout=Path(ROOT), env=os.environ | {"PYTHONPATH": ROOT})

    async def is_ready(self) -> bool:
        return self._ready_file.exists()

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready"


class Contender(Server):
    """What answers the load generator. Its processor time is that of the group `host`."""

    name = "host"
    stop_timeout_s = 30.0

    def __init__(self, label: str, folder: Path, *, settings: Mapping[str, str], report: Report) -> None:
        """settings: the addresses of its servers; all other settings are made here."""
        super().__init__(ServerFolder(folder), report=report)
        self.label = label
        self._settings = settings
        self._port = free_port()
        self.started_at_pid = 0

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}/api/v1"

    @property
    def postgres_url(self) -> str:
        return self._settings["POSTGRES_URL"]

    async def after_first_start(self) -> None:
        assert self.pid is not None
        self.started_at_pid = self.pid

    def check_alive(self) -> None:
        """Raises ServerError when it was restarted meanwhile, which invalidates the measurement."""
        if self.pid != self.started_at_pid:
            raise ServerError(f"{self.label}: it ended while it was measured (log: {self.folder.log_file})")

    async def tools(self) -> list[dict[str, object]]:
        """The tools that it offers to the model, in the format of chat completions."""
        return []

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready.json"


@dataclass(frozen=True, slots=True)
class Version:
    """A checkout to measure, with its own settings."""

    checkout: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def contender(self, label: str, folder: Path, *, settings: Mapping[str, str], report: Report) -> Contender:
        return Host(label, self.checkout, folder, settings={**settings, **self.settings}, report=report)


class Entry(Protocol):
    """What makes a contender."""

    def contender(self, label: str, folder: Path, *, settings: Mapping[str, str], report: Report) -> Contender:
        """settings: the addresses of its servers."""
        ...


class Host(Contender):
    """A host that runs the app of `checkout`; migrates its database first."""

    def __init__(
        self, label: str, checkout: Path, folder: Path, *, settings: Mapping[str, str], report: Report
    ) -> None:
        super().__init__(label, folder, settings=settings, report=report)
        self.checkout = checkout

    async def prepare(self) -> None:
        self.folder.make()
        self._refuse_other_signalr()
        code, output = await run_to_end(
            [sys.executable, "-P", "-m", _MIGRATE], cwd=self.checkout, env=self._environment()
        )
        if code != 0:
            raise ServerError(f"{self.label}: the migrations failed: {output.strip()[-300:]}")

    def command(self) -> Command:
        self._ready_file.unlink(missing_ok=True)
        where = ("--port", str(self._port), "--data", str(self.folder.path / "data"))
        arguments = ("-m", "devhost", ".", *where, "--dev-identity", "--ready-file", str(self._ready_file))
        return _python(self, arguments, checkout=self.checkout, env=self._environment())

    async def is_ready(self) -> bool:
        try:
            written = await asyncio.to_thread(self._ready_file.read_text)
        except FileNotFoundError:
            return False
        if json.loads(written)["pid"] != self.pid:
            return False
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/health/ready") as response:
            return response.status == 200

    async def tools(self) -> list[dict[str, object]]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/tools") as response:
            items = (await response.json())["items"]
        names = ("name", "description", "parameters")
        return [{"type": "function", "function": {name: item[name] for name in names}} for item in items]

    def _refuse_other_signalr(self) -> None:
        """Refuse a SignalR setting in local.settings.json. The host does not accept an empty value to override it."""
        path = self.checkout / "local.settings.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig")).get("Values", {})
        except FileNotFoundError:
            return
        except (ValueError, AttributeError) as error:
            raise ServerError(f"{path} is not valid ({error})") from error
        if values.get(_SIGNALR):
            raise ServerError(f"{path} sets {_SIGNALR}: take it out while measuring, or it measures that service")

    def _environment(self) -> dict[str, str]:
        address = f"http://{LOOPBACK}:{self._port}"
        return {
            **{name: value for name, value in os.environ.items() if name != _SIGNALR},
            "PYTHONPATH": str(self.checkout),
            **dict.fromkeys(_CLEARED, ""),
            "AUTH_MODE": "dev",
            "PUBLIC_BASE_URL": address,
            "RATE_LIMIT_PER_MINUTE": "0",  # no limit: one user sends all requests
            "APPROVAL_LINK_SECRET": "only-for-the-benchmark-" + "0" * 32,
            "OPENAI_API_KEY": "bench",
            "OPENAI_MODEL": "offline-demo",
            **self._settings,
        }


async def make_database(postgres: Postgres, number: int) -> str:
    """The URL of a new database for contender `number`, owned by the app's role."""
    if number == 0:
        return postgres.url
    name = f"{postgres.database}_{number}"
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        await connection.execute(statement.format(sql.Identifier(name), sql.Identifier(postgres.database)))
    return postgres.url.rpartition("/")[0] + f"/{name}"


def _python(server: Server, arguments: tuple[str, ...], *, checkout: Path, env: Mapping[str, str]) -> Command:
    return Command(
        name=server.name,
        argv=(sys.executable, "-P", *arguments),
        env=env,
        cwd=checkout,
        pid_file=server.folder.pid_file,
        log_file=server.folder.log_file,
        stop_timeout_s=server.stop_timeout_s,
    )
