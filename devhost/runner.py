"""Start and stop a whole host: `async with run_host(HostOptions(...)) as host`.

Order of start: data folder, settings, sockets (so that the ports are known), a worker that indexes the app, extensions,
timers, serving. Stop uses the reverse order and is bounded in time. Its first step is to accept nothing more, as in
Azure: new connections are refused, while requests, streams and activities that run have one grace period together.
The app's own processes reach the engine over a socket of their own until the end, as Azure's extension has one.

Invariant: a failed start leaves nothing behind: no socket, no lock, no process.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from devhost.app.describe import IndexedApp, describe_functions
from devhost.app.dispatch import Dispatcher
from devhost.app.workers import Workers, process_count
from devhost.asgi.cors import CORS_LOCAL_SETTING
from devhost.asgi.hosts import HOSTS_SETTING, AllowedHosts
from devhost.asgi.serving import ADDRESS, SEND_BUFFER_BYTES, Server
from devhost.clock import Clock, SystemClock
from devhost.extensions.contract import Extension, HostContext, HostError
from devhost.extensions.loading import KNOWN, ExtensionLoader, Known, offered_settings
from devhost.harsh import Harsh, from_settings
from devhost.http.access import AdminAccess
from devhost.http.admin import Admin
from devhost.http.protocol import LocalProtocol
from devhost.http.server import HttpApp, HttpPolicy
from devhost.logs import apply_log_level
from devhost.pages.beside import SERVERS_SETTING, Beside
from devhost.pages.pages import Pages
from devhost.settings.config import (
    DEFAULT_PORT,
    app_environment,
    body_limit_bytes,
    function_timeout_s,
    grace_s,
    http_options,
    load_local_settings,
)
from devhost.settings.datadir import DataDir
from devhost.settings.host_json import load_host_json, lookup
from devhost.settings.keys import Keys
from devhost.timers.timers import TimerService, find_timers

logger = logging.getLogger("devhost.host")

DEFAULT_DATA_DIR = Path(".data") / "devhost"
CUT_LIMIT_S = 2.0
"""What was cut has this long to end."""
KEEP_ALIVE_S = 120
_EXTENSION_STOP_LIMIT_S = 30.0
_BACKLOG = 2048
# Settings that change how an app runs in the real worker, but have no effect here.
_WITHOUT_EFFECT = (
    "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY",
    "PYTHON_ENABLE_OPENTELEMETRY",
)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How to run an app."""

    app_dir: Path
    port: int | None = None
    """None: `LocalHttpPort` of local.settings.json, else 7071. 0: any free port."""
    data_dir: Path | None = None
    """None: `.data/devhost` in the app's folder."""
    enable_auth: bool = False
    dev_identity: bool = False
    clock: Clock = field(default_factory=SystemClock)
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings on top of local.settings.json; the environment still wins."""
    known_extensions: Sequence[Known] = KNOWN
    python: Path | None = None
    """Of the app's workers: has the app's packages and those of the worker (README.md). None: this process's."""


@dataclass(frozen=True, slots=True)
class RunningHost:
    """A started host."""

    base_url: str
    port: int
    context: HostContext
    dispatcher: Dispatcher
    timers: TimerService
    keys: Keys


@asynccontextmanager
async def run_host(options: HostOptions) -> AsyncIterator[RunningHost]:
    """Serve an app for the length of the block.

    Raises HostError when the app or its settings cannot be served.
    """
    app_dir = options.app_dir.resolve()
    async with AsyncExitStack() as stack:
        local = load_local_settings(app_dir)
        given = {**local.values, **options.settings}
        host_json = load_host_json(app_dir, {**given, **os.environ})
        data_dir = DataDir((options.data_dir or app_dir / DEFAULT_DATA_DIR).resolve())
        data_dir.open()
        stack.callback(data_dir.close)
        port = options.port if options.port is not None else (local.http_port or DEFAULT_PORT)
        listener, local_listener = _listen(port), _listen(0)
        stack.callback(listener.close)
        stack.callback(local_listener.close)
        port = listener.getsockname()[1]
        local_url = f"http://{ADDRESS}:{local_listener.getsockname()[1]}"
        base_url = f"http://{ADDRESS}:{port}"

        loader = ExtensionLoader(options.known_extensions)
        given = {**_host_settings(port), **given}
        offered = offered_settings(loader.load_always(), base_url)
        settings = app_environment(given, offered)
        apply_log_level(host_json)
        for name in _WITHOUT_EFFECT:
            if name in settings:
                logger.warning("app setting %s has no effect in devhost", name)
        # Not resolved: the Python of a virtual environment is a link.
        python = options.python.absolute() if options.python is not None else None
        workers = Workers(app_dir, settings, process_count(settings), python=python)
        stack.push_async_callback(workers.stop)
        app = await _index(workers, settings, host_json)
        extensions = loader.load_for(app.functions)

        keys = Keys(data_dir.path, [function.name for function in app.functions])
        enforced = keys if options.enable_auth else None
        harsh = _harsh(settings)
        context = HostContext(app_dir, data_dir.path, base_url, host_json, settings, app.functions, harsh, local_url)
        dispatcher = Dispatcher(context, app, extensions, workers, function_timeout_s(host_json))
        found = find_timers(app.functions, app.retries, settings, options.clock.now())
        timers = TimerService(dispatcher, found, options.clock)
        # Registered twice, since stopping is idempotent: here for a start that fails half-way, and again after
        # serving began, so that a running host stops its work before its own endpoints disappear.
        stack.push_async_callback(_stop_extensions, extensions)
        for extension in extensions:
            extension.bind(dispatcher)
        http = http_options(host_json)
        beside = _beside(port, settings)
        logging.getLogger().addHandler(beside)
        stack.callback(logging.getLogger().removeHandler, beside)
        pages = Pages(app.functions, extensions, http.route_prefix, beside)
        admin = Admin(dispatcher, timers, keys, AdminAccess(keys, port), http.route_prefix, pages)
        homepage = settings.get("AzureWebJobsDisableHomepage", "").lower() != "true"
        policy = HttpPolicy(
            http,
            body_limit_bytes(settings),
            enforced,
            options.dev_identity,
            homepage,
            _hosts(settings),
            local.cors_origins,
            local.cors_credentials,
            settings.get(CORS_LOCAL_SETTING, "").lower() == "true",
        )
        routes = [route for extension in extensions for route in extension.routes()]
        stack.enter_context(_quiet_cuts())
        server = _server(HttpApp(dispatcher, policy, routes, admin))

        serving = await stack.enter_async_context(_serving(server, listener, local_listener))
        stack.push_async_callback(_stop_extensions, extensions)
        # As soon as extensions start, their engines may call functions, and functions may call this host.
        for extension in extensions:
            await extension.start()
        stack.push_async_callback(dispatcher.drain)
        stack.push_async_callback(admin.close)
        stack.push_async_callback(timers.stop)
        timers.start()
        stack.callback(serving.stop_accepting, grace_s(settings))
        yield RunningHost(base_url, port, context, dispatcher, timers, keys)


async def _index(workers: Workers, settings: Mapping[str, str], host_json: Mapping[str, object]) -> IndexedApp:
    only = lookup(host_json, "functions")
    if only is not None and not (isinstance(only, list) and all(isinstance(name, str) for name in only)):
        raise HostError('host.json: "functions" must be a list of function names')
    indexed, streaming = await workers.start()
    functions, retries = describe_functions(indexed, settings, only)
    return IndexedApp(functions, retries, streaming)


def _harsh(settings: Mapping[str, str]) -> Harsh | None:
    try:
        harsh = from_settings(settings)
    except ValueError as exc:
        raise HostError(f"app setting {exc}") from exc
    if harsh is not None:
        logger.warning("harsh engine, seed %d: %s", harsh.seed, ", ".join(harsh.possible()))
    return harsh


def _beside(port: int, settings: Mapping[str, str]) -> Beside:
    try:
        return Beside(port, settings.get(SERVERS_SETTING, ""))
    except ValueError as exc:
        raise HostError(f"app setting {SERVERS_SETTING}: {exc}") from exc


def _hosts(settings: Mapping[str, str]) -> AllowedHosts:
    try:
        return AllowedHosts.parse(settings.get(HOSTS_SETTING, ""))
    except ValueError as exc:
        raise HostError(f"app setting {HOSTS_SETTING}: {exc}") from exc


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        # Lets a restarted host reuse its port at once. (On Windows it would let two hosts share it.)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        listener.bind((ADDRESS, port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise HostError(f"port {port} is taken: stop the program that uses it or choose another --port") from exc
        raise HostError(f"port {port} cannot be opened ({exc.strerror}): choose another --port") from exc
    listener.setblocking(False)
    return listener


def _host_settings(port: int) -> dict[str, str]:
    """The settings that Core Tools sets for an app."""
    return {
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "WEBSITE_HOSTNAME": f"localhost:{port}",
    }


def _server(app: HttpApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http=LocalProtocol,
            ws="websockets-sansio",
            # SignalR has its own pings. Compressing each small message would cost four times as much as sending it.
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            # Longer than clients keep idle connections (aiohttp 15 s), so that none is closed during a request.
            timeout_keep_alive=KEEP_ALIVE_S,
            # There is no proxy in front, so forwarded headers of a caller are not trusted.
            proxy_headers=False,
        )
    )


class _Serving:
    """The HTTP server while it runs."""

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._cut_at = 0.0

    def stop_accepting(self, grace_s: float) -> None:
        """The first step of a stop. grace_s: from now on, for what is being answered."""
        self._cut_at = time.monotonic() + grace_s
        self._server.stop_accepting(self._listener)

    @property
    def left_s(self) -> int:
        """Of the grace period, in whole seconds, as the server counts."""
        return math.ceil(max(0.0, self._cut_at - time.monotonic()))


@asynccontextmanager
async def _serving(server: Server, listener: socket.socket, local: socket.socket) -> AsyncIterator[_Serving]:
    """listener: for callers. local: for the app's own processes."""
    task = asyncio.create_task(server.serve([listener, local]), name="devhost http")
    serving = _Serving(server, listener)
    try:
        while not server.started:
            if task.done():
                await task
                raise HostError("the HTTP server ended while it started; its log lines say why")
            await asyncio.sleep(0.005)
        yield serving
    finally:
        server.config.timeout_graceful_shutdown = serving.left_s
        server.stop()
        # uvicorn would log each stream that is cut after the grace period as an error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await task
        if cut := set(server.server_state.tasks):
            # Cancelled but not yet ended; user code must end before the app's environment is removed.
            await asyncio.wait(cut, timeout=CUT_LIMIT_S)
        logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)


@contextmanager
def _quiet_cuts() -> Iterator[None]:
    """Leave out uvicorn's line about an answer that was cut; the invocation's own line says why it was."""
    log = logging.getLogger("uvicorn.error")

    def tells_more(record: logging.LogRecord) -> bool:
        return "without completing response" not in str(record.msg)

    log.addFilter(tells_more)
    try:
        yield
    finally:
        log.removeFilter(tells_more)


async def _stop_extensions(extensions: Sequence[Extension]) -> None:
    for extension in reversed(extensions):
        try:
            async with asyncio.timeout(_EXTENSION_STOP_LIMIT_S):
                await extension.stop()
        except TimeoutError:
            logger.error("extension %s did not stop within %g s", extension.name, _EXTENSION_STOP_LIMIT_S)
        except Exception:
            # The other parts must still be stopped.
            logger.exception("extension %s failed to stop", extension.name)
