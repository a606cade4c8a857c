"""Has hosts and their workers forked by `server.py`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[3]
SERVER_SETTING = "TESTS_FORK_SERVER"
"""The server's socket, for hosts that start workers."""


forked = 0
"""Hosts, and workers of hosts in this process."""


class ForkServer:
    """A server of this process, and of the hosts that it starts."""

    def __init__(self, what: str) -> None:
        """what: see `server.py`."""
        self._folder = tempfile.mkdtemp(prefix="forks-")
        self.path = str(Path(self._folder) / "server")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.support.forking.server", what, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the fork server did not start"

    def close(self) -> None:
        """Ends it, and whatever it forked and still runs."""
        self._process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)


_servers: dict[str, ForkServer] = {}


def fork_server(what: str) -> ForkServer:
    """Started when it is first wanted."""
    if what not in _servers:
        _servers[what] = ForkServer(what)
    return _servers[what]


def close_fork_servers() -> None:
    """End those that were started. They also end when this process does."""
    while _servers:
        _servers.popitem()[1].close()


class ForkedHost:
    """As a `subprocess.Popen` of a host."""

    def __init__(self, arguments: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> None:
        global forked
        forked += 1
        path = fork_server("app").path
        with open(os.devnull, "rb") as nothing:
            self._connection, self.pid = _fork(
                path,
                {
                    "kind": "host",
                    "arguments": [*arguments],
                    "cwd": str(ROOT),
                    "environment": {**environment, SERVER_SETTING: path},
                },
                [nothing.fileno(), log.fileno(), log.fileno()],
            )
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """timeout: seconds. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired("devhost", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _look(self, timeout: float | None) -> int | None:
        if self._status is None and select.select([self._connection], [], [], timeout)[0]:
            self._status = int(self._connection.recv(64))
            self._connection.close()
        return self._status


class ForkedWorker:
    """As an `asyncio.subprocess.Process` of a worker."""

    def __init__(self, connection: socket.socket, pid: int, stdin: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._stdin = stdin
        self._ended = asyncio.create_task(self._watch(connection))

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def kill(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)

    async def _watch(self, connection: socket.socket) -> int:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        self.returncode = int(await reader.read(64))
        writer.close()
        os.close(self._stdin)
        return self.returncode


async def start_worker(
    python: Path | None, options: Mapping[str, Any], *, channel: int, log: int, environment: Mapping[str, str]
) -> ForkedWorker:
    """As `devhost.app.processes.start_process`, in a forked host: of this app."""
    return await _start_worker(os.environ[SERVER_SETTING], python, options, channel, log, environment)


async def start_library_worker(
    python: Path | None, options: Mapping[str, Any], *, channel: int, log: int, environment: Mapping[str, str]
) -> ForkedWorker:
    """As `devhost.app.processes.start_process`, in this process: of an app that is not this one."""
    global forked
    forked += 1
    return await _start_worker(fork_server("libraries").path, python, options, channel, log, environment)


async def _start_worker(
    path: str,
    python: Path | None,
    options: Mapping[str, Any],
    channel: int,
    log: int,
    environment: Mapping[str, str],
) -> ForkedWorker:
    assert python is None, "only what runs this Python is forked"
    request = {
        "kind": "worker",
        "arguments": [json.dumps(options)],
        "cwd": options["app_dir"],
        "environment": dict(environment),
    }
    stdin, ours = os.pipe()
    try:
        connection, pid = _fork(path, request, [stdin, 1, 2, channel, log])
    finally:
        os.close(stdin)
    return ForkedWorker(connection, pid, ours)


def _fork(path: str, request: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[socket.socket, int]:
    """The connection that tells of its end, and its pid."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(path)
    line = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [line], descriptors)
    connection.sendall(line[sent:])
    pid = int(_line(connection))
    return connection, pid


def _line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(1)
        assert part, "the fork server has ended"
        line += part
    return line
