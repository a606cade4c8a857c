"""The worker process: imports the app, tells the host what it found, then runs what the host asks for.

Started by `../app/workers.py` with its options as JSON in the first argument. Its standard input is a pipe from the
host: when that closes, the host is gone, whatever this process is doing.

Invariant: a worker never outlives its host. Every call gets one answer, `done` or `failed`, unless the process ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devhost.correlation import current_invocation
from devhost.extensions.contract import FunctionFailed, HostError, Metadata
from devhost.worker.frames import Channel, Frame
from devhost.worker.logs import send_logs

logger = logging.getLogger("devhost.worker")

STOP_GRACE_S = 1
"""User code that is cancelled at a stop has this long to end."""
_BACKLOG = 2048
_KEEP_ALIVE_S = 86_400
"""The host closes the connections; one that the worker closed would lose the next request."""


def main() -> None:
    """Run until the host says stop. Ends the process."""
    options = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_the_host, name="host watch", daemon=True).start()
    # A signal may be sent to the host's whole group, as Ctrl-C is; only the host decides what it means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    app_dir = Path(options["app_dir"])
    sys.argv = [str(app_dir)]
    sys.path[0] = str(app_dir)
    send_logs(options["log"], options["levels"])
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(app_dir, options["channel"], has_own_packages=options["has_own_packages"]))
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: a sync function that still runs in a thread would keep the process.
    os._exit(0)


def _end_with_the_host() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _serve(app_dir: Path, channel_fd: int, *, has_own_packages: bool) -> None:
    worker = _Worker()
    loop = asyncio.get_running_loop()
    pair = socket.socket(fileno=channel_fd)
    pair.setblocking(False)
    _, channel = await loop.create_unix_connection(lambda: Channel(worker.on_frame, worker.on_lost), sock=pair)
    await worker.serve(app_dir, channel, has_own_packages=has_own_packages)


class _Worker:
    """The app, and the calls that run."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._calls: dict[str, Any] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._expecting: dict[int, asyncio.Future[Any]] = {}
        """Calls whose requests have not come yet."""
        self._exchanges: Any = None
        self._channel: Channel | None = None

    async def serve(self, app_dir: Path, channel: Channel, *, has_own_packages: bool) -> None:
        """Index the app and run calls until the host says stop."""
        self._channel = channel
        # Imported late, so that the process listens to its host at once.
        from devhost.worker.indexing import index_app

        try:
            indexed, is_streaming = index_app(app_dir, has_own_packages=has_own_packages)
        except HostError as error:
            channel.send(("refused", str(error)))
            await self.stopping.wait()
            return
        from devhost.worker import calls

        calls.start_threads()
        self._calls = {name: calls.Call(id_, streaming_http=is_streaming) for name, id_, _, _ in indexed}
        port, server, serving = self._listen() if is_streaming else (0, None, None)
        channel.send(("ready", indexed, is_streaming, port))
        await self.stopping.wait()
        await self._cancel_all()
        if server is not None and serving is not None:
            server.stop()
            await serving
        calls.stop_threads()
        channel.close()

    def on_frame(self, frame: Frame) -> None:
        match frame[0]:
            case "call":
                number = frame[1]
                if frame[-1] is not None:
                    self._expecting[number] = self._exchanges.expect(frame[3])
                task = asyncio.get_running_loop().create_task(self._run(*frame[1:]))
                self._running[number] = task
                task.add_done_callback(lambda _: self._running.pop(number, None))
            case "drop":
                if frame[1] in self._expecting:
                    self._expecting[frame[1]].cancel()
            case "stop":
                self.stopping.set()

    def on_lost(self) -> None:
        if not self.stopping.is_set():
            os._exit(1)

    async def _run(
        self,
        number: int,
        name: str,
        invocation_id: str,
        trace: tuple[str, str],
        retry: tuple[int, int],
        correlation_id: str,
        inputs: Sequence[tuple[str, str, Any]],
        metadata: Metadata,
        route: dict[str, str] | None,
    ) -> None:
        from devhost.worker.calls import Invocation

        assert self._channel is not None
        current_invocation.set((name, correlation_id))
        try:
            exchange = None
            if route is not None:
                exchange = await self._request(number, invocation_id)
                exchange.request.scope["path_params"] = route
            invocation = Invocation(invocation_id, *trace, retry)
            result, outputs = await self._calls[name].run(invocation, inputs, metadata, exchange)
            self._channel.send(("done", number, result, outputs))
        except FunctionFailed as failure:
            self._channel.send(("failed", number, failure.message, failure.stack))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._channel.send(("failed", number, "CancelledError: the function was cancelled by its own code", ""))
        except Exception as exc:
            self._channel.send(("failed", number, f"{type(exc).__name__}: {exc}", ""))

    async def _request(self, number: int, invocation_id: str) -> Any:
        """The proxied request of an invocation. Raises FunctionFailed when the host says that it does not come."""
        try:
            return await self._expecting[number]
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise FunctionFailed("the request did not reach the worker") from None
        finally:
            del self._expecting[number]
            self._exchanges.forget(invocation_id)

    def _listen(self) -> tuple[int, Any, asyncio.Task[None]]:
        """Serve the host's proxied requests. Returns the port, the server and its task."""
        import uvicorn

        from devhost.asgi.serving import ADDRESS, SEND_BUFFER_BYTES, Server
        from devhost.worker.answers import Exchanges

        self._exchanges = Exchanges()
        listener = socket.create_server((ADDRESS, 0), backlog=_BACKLOG)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setblocking(False)
        # It would log the traceback of an answer that broke off again.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server = Server(
            uvicorn.Config(
                self._exchanges,
                http="httptools",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_GRACE_S,
                proxy_headers=False,
            )
        )
        port = listener.getsockname()[1]
        return port, server, asyncio.get_running_loop().create_task(server.serve([listener]))

    async def _cancel_all(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE_S)
