"""`python -P -m tests.support.forking.server app|libraries SOCKET`: forks hosts and workers.

To import them costs three seconds of a core, to fork them a few milliseconds. `app`: with the modules of this app;
`libraries`: workers of other apps, with what those may import from packages.

A request is a connection: one line of JSON (`kind`, `arguments`, `cwd`, `environment`), with the descriptors that the
process gets. The answers are one line each: its pid; when it has ended, its exit status. The server ends, with all
that it forked, when its standard input does.

Invariants: what is forked has the modules and nothing else of this process: no setting, no connection, no thread, no
state of a random generator. `function_app` itself is imported by each worker, and so is what is in `agents/`.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_LARGEST = 1 << 20
_MOST_DESCRIPTORS = 5
_WORKERS = (
    "devhost.worker.process",
    "devhost.worker.indexing",
    "devhost.worker.calls",
    "devhost.worker.answers",
    "devhost.asgi.serving",
    "uvloop",
    "uvicorn",
    "azure.functions",
    "azure.durable_functions",
    "fastapi",
)
"""What each worker imports. Not the extension for FastAPI: an app that has imported it is another kind of app."""


_LATER = (
    "devhost.durable.extension",
    "devhost.queues.extension",
    "devhost.signalr.extension",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "azure.core.pipeline.transport",
    "azure.data.tables.aio",
    "azure.storage.blob.aio",
    "jsonschema_rs",
    "shared.sessions.agents.files",
)
"""What hosts and workers import when they first need it, beside the app's adapters and tools."""
_LATER_PACKAGES = ("shared.adapters", "shared.sessions.tools.builtin")


def preload_app() -> None:
    """Import what hosts and workers of this app will."""
    for name in ("devhost.cli", "devhost.runner", "openai"):
        importlib.import_module(name)
    for node in ast.parse((ROOT / "function_app.py").read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.module != "__future__":
            package = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(package, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
    for name in (*_LATER, *_modules_of(_LATER_PACKAGES)):
        importlib.import_module(name)


def _modules_of(packages: Sequence[str]) -> Iterator[str]:
    for name in packages:
        package = importlib.import_module(name)
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{name}."))


class Server:
    """Forks on request until its standard input ends."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(64)
        self._children: dict[int, socket.socket] = {}
        """Of each the connection that is told of its end."""

    def run(self) -> Callable[[], None] | None:
        """Returns twice or more: in each forked process what it is to do, and at last None."""
        ours, signals = socket.socketpair()
        for end in (ours, signals):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(signals.fileno())
        with selectors.DefaultSelector() as selector:
            for source in (self._listener, ours, sys.stdin.fileno()):
                selector.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        forked = self._accept([self._listener, ours, signals])
                        if forked is not None:
                            return forked
                    elif key.fileobj is ours:
                        with contextlib.suppress(BlockingIOError):
                            ours.recv(4096)
                        self._reap()
                    else:
                        for pid in self._children:
                            os.kill(pid, signal.SIGKILL)
                        return None

    def _accept(self, own: list[socket.socket]) -> Callable[[], None] | None:
        connection, _ = self._listener.accept()
        line, descriptors = _request(connection)
        pid = os.fork()
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            self._children[pid] = connection
            connection.sendall(f"{pid}\n".encode())
            return None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in (*own, connection, *self._children.values()):
            other.close()
        return lambda: _become(json.loads(line), descriptors)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._children.pop(pid)
            with contextlib.suppress(OSError):  # nobody waits for it any more
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()


def _request(connection: socket.socket) -> tuple[bytes, list[int]]:
    line, descriptors, _, _ = socket.recv_fds(connection, _LARGEST, _MOST_DESCRIPTORS)
    while not line.endswith(b"\n"):
        line += connection.recv(_LARGEST)
    return line, descriptors


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Go on as the process that was asked for."""
    random.seed()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    arguments: list[str] = request["arguments"]
    standard, others = descriptors[:3], descriptors[3:]
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["kind"] == "host":
        from devhost import cli
        from devhost.app import processes
        from tests.support.forking import client

        processes.start_process = client.start_worker
        sys.argv = ["devhost", *arguments]
        cli.exit_process(cli.main())
    else:
        from devhost.worker import process

        channel, log = others
        sys.argv = ["-c", json.dumps(json.loads(arguments[0]) | {"channel": channel, "log": log})]
        sys.path.insert(0, "")
        process.main()


def main() -> None:
    what, path = sys.argv[1:]
    for name in _WORKERS:
        importlib.import_module(name)
    if what == "app":
        preload_app()
    assert threading.active_count() == 1, "a thread would not be forked"
    server = Server(path)
    print("ready", flush=True)
    # What is imported is never freed: without this, each collection would copy its pages.
    gc.collect()
    gc.freeze()
    forked = server.run()
    if forked is not None:
        forked()


if __name__ == "__main__":
    main()
