"""A server's folder: its data, log, pid file, and the port and password that it keeps between runs.

Also the lock and version of a data folder that contains several of them.

Invariants: secrets are readable by their owner only; a data folder has at most one running owner.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from devhost.servers.process import ServerError

LOOPBACK = "127.0.0.1"


class ServerFolder:
    """One server's folder; its `server.json` stores ports and secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._memory = self.path / "server.json"

    def make(self, *, passable: bool = False) -> None:
        """passable: other accounts may go through it to their own subfolder, but cannot list it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self.path.chmod(0o711 if passable else 0o700)

    @property
    def pid_file(self) -> Path:
        return self.path / "server.pid"

    @property
    def log_file(self) -> Path:
        return self.path / "server.log"

    def secret(self, name: str) -> str:
        """The secret of that name: made on first use, then the same in every run. URL-safe, 256 bits."""
        memory = self._read()
        value = memory.get(name)
        if not isinstance(value, str):
            value = secrets.token_urlsafe(32)
            self._write(memory | {name: value})
        return value

    def forget(self, name: str) -> None:
        memory = self._read()
        memory.pop(name, None)
        self._write(memory)

    def port(self, name: str, *, fixed: int | None = None) -> int:
        """A free loopback port: the one of the last run if it is still free, so that URLs stay the same.

        fixed: use exactly this port; ServerError when something listens there.
        """
        if fixed is not None:
            if not is_free(fixed):
                raise ServerError(f"port {fixed} is taken: stop what listens there or choose another port")
            return fixed
        memory = self._read()
        last = memory.get(name)
        if isinstance(last, int) and is_free(last):
            return last
        port = free_port()
        self._write(memory | {name: port})
        return port

    def _read(self) -> dict[str, object]:
        try:
            memory = json.loads(self._memory.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ServerError(f"{self._memory} is damaged: remove {self.path} to start afresh") from error
        if not isinstance(memory, dict):
            raise ServerError(f"{self._memory} is damaged: remove {self.path} to start afresh")
        return memory

    def _write(self, memory: dict[str, object]) -> None:
        write_private(self._memory, json.dumps(memory))


def write_private(path: Path, text: str) -> None:
    """Replace `path` atomically, readable only by its owner from the start."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def is_free(port: int) -> bool:
    """Whether a server could listen on that loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a lingering TIME_WAIT does not count
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextlib.contextmanager
def owned_folder(path: Path, *, version: str) -> Iterator[Path]:
    """Hold a data folder exclusively for this process; it is made when absent.

    version: version of the folder's layout, stored at first and compared later.
    Raises ServerError when it cannot be written, another process owns it or another version made it.
    The system releases the lock with its process, so a killed owner needs no cleanup.
    """
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ServerError(
            f"the data folder {path} cannot be written ({error.strerror}): choose another with --data"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 100).decode(errors="replace").strip() or "unknown"
            raise ServerError(
                f"the data folder {path} is in use by process {owner}: stop that one, or choose another with --data"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        _check_version(path, version)
        yield path
    finally:
        os.close(descriptor)


def _check_version(path: Path, version: str) -> None:
    mark = path / "version"
    if not mark.exists():
        mark.write_text(version + "\n")
        return
    found = mark.read_text().strip()
    if found != version:
        raise ServerError(
            f"the data folder {path} is from another version ({found}, this is {version}): "
            "move it away, or choose another folder"
        )
