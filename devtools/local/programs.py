"""Programs of this project that `./dev up` runs and supervises like the servers: host, offline model, notes.

Invariant: a program is ready only when our own process says so, never because something answers on its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp

from devhost.servers.folder import LOOPBACK, ServerFolder, is_free
from devhost.servers.process import Command, ServerError
from devhost.servers.supervise import Report, Server
from devhost.settings.keys import master_key
from devtools.setup.places import ROOT


class Health(NamedTuple):
    """The app's answer to a health check."""

    is_ready: bool
    text: str
    """The answer in one line, for the message when the app does not become ready."""
    model: str = ""
    """The state of the model as text; empty when unknown."""
    model_may_pass: bool = True
    """Waiting may help when the model does not answer."""
    lacks_model_alone: bool = False
    """Only the model is missing for a turn."""


class _Program(Server):
    """A program of ours on its own port. It is ready when it has written its ready file."""

    module: str

    def __init__(self, folder: Path, *, report: Report, wanted_port: int | None = None) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self._wanted_port = wanted_port
        self.port = 0

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        # A restart keeps the port, since the app has been told.
        self.port = self.folder.port("port", fixed=self.port or self._free_wanted_port())
        self._ready_file.unlink(missing_ok=True)
        return _python(
            self,
            ("-m", self.module, "--port", str(self.port), "--ready-file", str(self._ready_file)),
            env=dict(os.environ),
            log_file=self.folder.log_file,
        )

    async def is_ready(self) -> bool:
        return self._ready_file.exists()

    def _free_wanted_port(self) -> int | None:
        wanted = self._wanted_port
        return wanted if wanted is not None and wanted <= 65535 and is_free(wanted) else None

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready"


class OfflineModel(_Program):
    """The model that is used when no endpoint is set."""

    name = "model"
    module = "devhost.model"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"


class Notes(_Program):
    """A target for the tool `http_request` when no host is on the allow-list."""

    name = "notes"
    module = "devtools.notes"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/notes"


class AppHost(Server):
    """The local Functions host with the app of this checkout; its output goes to the terminal.

    env: the whole environment. A restart keeps port and data, so that turns go on where they were.
    """

    name = "host"
    stop_timeout_s = 30.0
    ready_timeout_s = 120.0

    def __init__(
        self, folder: Path, *, port: int, env: Mapping[str, str], verbose: bool, report: Report, health_path: str
    ) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self.port = port
        self._env = env
        self._verbose = verbose
        self._health_path = health_path
        self.health = Health(False, "no answer yet")
        self.has_been_ready = False
        self._told = ""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def pages_url(self) -> str:
        """The host's own pages, with the key that lets a browser in. Call it when the host runs."""
        return f"{self.url}/admin/pages?code={master_key(self._data)}"

    @property
    def _data(self) -> Path:
        return self.folder.path / "data"

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        self.folder.port("port", fixed=self.port)
        self._ready_file.unlink(missing_ok=True)
        options = ["--verbose"] if self._verbose else []
        return _python(
            self,
            (
                *("-m", "devhost", ROOT, "--port", str(self.port), "--data", str(self._data)),
                *("--dev-identity", "--ready-file", str(self._ready_file), *options),
            ),
            env=self._env,
            log_file=None,
        )

    async def is_ready(self) -> bool:
        """Whether the host serves and the app reports that it is ready."""
        try:
            written = await asyncio.to_thread(self._ready_file.read_text)
        except FileNotFoundError:
            return False
        if json.loads(written).get("pid") != self.pid:
            return False
        self.health = await self._ask_health()
        if self.health.lacks_model_alone and self.has_been_ready:
            return True  # after a restart, a model that is down is no reason to stop
        self._tell_of_model()
        self.has_been_ready = self.has_been_ready or self.health.is_ready
        return self.health.is_ready

    async def load_anew(self) -> str | None:
        """Have the host load the app's code anew while it serves. Returns why not, or None."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.ready_timeout_s)) as session,
                session.post(
                    f"http://{LOOPBACK}:{self.port}/admin/host/restart",
                    headers={"x-functions-key": master_key(self._data)},
                ) as response,
            ):
                if response.status != 202:
                    return str((await response.json())["error"]).splitlines()[0]
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"the host did not load the app anew ({type(error).__name__})"
        await self.load_agents()
        return None

    async def load_agents(self) -> None:
        """Ask for the agents, so that changed files become versions now and not with somebody's first request."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.ready_timeout_s)) as session,
                session.get(f"http://{LOOPBACK}:{self.port}/api/v1/agents?limit=1"),
            ):
                pass

    def _tell_of_model(self) -> None:
        """Report a model that does not answer, once. Raises ServerError when waiting would not help."""
        if not self.health.lacks_model_alone or not self.health.model:
            return
        if not self.health.model_may_pass:
            raise ServerError(f"the model {self.health.model}")
        if self.health.model != self._told:
            self._told = self.health.model
            self.report("model", f"{self.health.model} (tried again until it does)")

    async def _ask_health(self) -> Health:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.get(f"http://{LOOPBACK}:{self.port}{self._health_path}") as response,
            ):
                text = await response.text()
                line = f"{self._health_path} said {response.status}: {' '.join(text.split())[:300]}"
                return _health(response.status == 200, line, text)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Health(False, f"{self._health_path} gave no answer ({type(error).__name__})")

    def silence(self) -> str:
        return f": {self.health.text}"

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready.json"


def _health(is_ready: bool, line: str, body: str) -> Health:
    try:
        said = json.loads(body)
        needed = {name: said["dependencies"][name] for name in ("postgres", "durable", "model")}
        model = said.get("model") or {}
        text, may_pass = str(model.get("text", "")), bool(model.get("may_pass", True))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Health(is_ready, line)
    lacking = [name for name, answer in needed.items() if answer not in {"ok", "busy"}]
    return Health(is_ready, line, text, may_pass, lacks_model_alone=lacking == ["model"])


def _python(server: Server, arguments: tuple[str, ...], *, env: Mapping[str, str], log_file: Path | None) -> Command:
    return Command(
        name=server.name,
        argv=(sys.executable, *arguments),
        env=env,
        cwd=Path(ROOT),
        pid_file=server.folder.pid_file,
        stop_signal=server.stop_signal,
        log_file=log_file,
        stop_timeout_s=server.stop_timeout_s,
    )
