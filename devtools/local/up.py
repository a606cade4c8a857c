"""`./dev up`: the servers, the offline model, the migrations and the host, until Ctrl-C or SIGTERM.

Invariants: `ready` is printed only when the app itself reports that a turn would work. However this ends, no process is
left behind. A part that crashes is named and restarted, or everything stops.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from devhost.harsh import ENGINE_SETTING, SEED_SETTING
from devhost.pages.beside import SERVERS_SETTING
from devhost.queues.account import parse_connection_string
from devhost.queues.service import Queue, QueueFailed, QueueService
from devhost.servers import Azurite, AzuriteMissing, Server, ServerError, enter_all, owned_folder, together
from devhost.servers.folder import is_free
from devhost.servers.process import run_to_end
from devtools import console
from devtools.local.agents import AgentsFolder, folder_of
from devtools.local.programs import AppHost
from devtools.local.stack import ROOT, TRIGGER_QUEUE, Stack, lacking_model, user_settings

DATA_VERSION = "parley-1"
"""Version of the data folder's layout; raised when older folders can no longer be read."""
_HEALTH_PATH = "/api/v1/health/ready"
_NPM_HINT = "run ./dev up again with a network, or set NPM_CONFIG_REGISTRY to a registry that you can reach"
_ABOUT_FILES = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
)
"""Error numbers of a data folder that the user can fix, such as wrong permissions or a full disk."""
_MIGRATE = "shared.adapters.sql.migrate"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev up", description="Start everything on this machine.")
    parser.add_argument("--port", type=_port, default=7071, help="port of the app (7071)")
    parser.add_argument("--data", type=Path, default=ROOT / ".data", help="folder for all state (.data)")
    parser.add_argument("--agents", type=Path, metavar="DIR", help="your agents and tools (agents)")
    parser.add_argument("--verbose", action="store_true", help="log what the host does in detail")
    parser.add_argument(
        "--engine",
        choices=("kind", "harsh"),
        default="kind",
        help="harsh: late messages, repeated work and lost results, as Azure has them (kind)",
    )
    parser.add_argument("--seed", type=int, help="repeats what a harsh engine drew (a new one)")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(_main(options))
    except ServerError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in _ABOUT_FILES:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"dev: {where}{error.strerror}: put that right, or choose another --data", file=sys.stderr)
        return 1


async def _main(options: argparse.Namespace) -> int:
    """Run `_up` until it ends or a signal arrives, then wait until everything is stopped; ignores further signals."""
    engine = _engine(options.engine, options.seed)
    running = asyncio.create_task(_up(options.port, options.data, options.agents, engine, verbose=options.verbose))
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        if stopped_by:
            _say("still stopping; nothing is lost by waiting")
            return
        stopped_by.append(number)
        running.cancel()
        _say("stopping")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        await running
    except asyncio.CancelledError:
        _say("stopped")
    return 0


def _engine(name: str, seed: int | None) -> dict[str, str]:
    """The host's settings for its engine. A harsh one keeps its seed when the host restarts."""
    if name == "kind":
        return {}
    return {ENGINE_SETTING: name, SEED_SETTING: str(secrets.randbelow(1_000_000) if seed is None else seed)}


async def _up(port: int, data: Path, agents: Path | None, engine: dict[str, str], *, verbose: bool) -> None:
    """Never returns; raises ServerError when something cannot start or was given up."""
    began = time.monotonic()
    settings = user_settings()
    folder_of_agents = folder_of(agents, settings, report=_report)
    if agents is not None and not folder_of_agents.exists:
        raise ServerError(f"{agents} is no folder: name one with agents and tools")
    _look_for_model(settings, folder_of_agents)
    if not is_free(port):
        free = next((other for other in range(port + 1, 65536) if is_free(other)), 0)
        raise ServerError(f"port {port} is taken: stop what listens there, or ./dev up --port {free}")
    with owned_folder(data, version=DATA_VERSION) as folder:
        async with contextlib.AsyncExitStack() as running:
            stack = Stack(folder, settings, port=port, report=_report)
            # In parallel with the servers: both take seconds the first time, and neither needs the other.
            building = await running.enter_async_context(_beside(_build_console()))
            await _start_servers(running, stack, settings)
            has_console = await building
            environment = _environment(stack, folder_of_agents, settings, port=port) | engine
            # Only into a database of our own; a user's is the user's.
            database = None if stack.postgres is None else stack.postgres.url
            looking = await running.enter_async_context(_beside(_begin(folder_of_agents, environment, database)))
            host = AppHost(
                folder / "host",
                port=port,
                env=environment,
                verbose=verbose,
                report=_report,
                health_path=_HEALTH_PATH,
            )
            await running.enter_async_context(host)
            await looking
            await host.load_agents()
            _say(_welcome(host, stack, folder_of_agents, data=folder, has_console=has_console))
            if engine:
                seed = engine[SEED_SETTING]
                _say(f"  engine  harsh: work is late, repeated or lost; repeat it with --engine harsh --seed {seed}")
            _say(f"ready ({time.monotonic() - began:.1f} s)")
            if folder_of_agents.exists:
                await running.enter_async_context(_beside(_follow(folder_of_agents, host, environment, database)))
            await _until_one_fails([*stack.servers, host])


def _look_for_model(settings: Mapping[str, str], agents: AgentsFolder) -> None:
    """Raises ServerError when it is said where a model is, and not which one: the app would not start with that."""
    if (lacking := lacking_model(settings)) is None or lacking in agents.settings(settings):
        return
    if lacking == "OPENAI_MODEL":
        url = settings["OPENAI_BASE_URL"].rstrip("/")
        raise ServerError(f"OPENAI_MODEL is not set: add OPENAI_MODEL=NAME, one of those that GET {url}/models lists")
    raise ServerError(f"{lacking} is not set: add {lacking}=NAME, the name of the deployment in your Azure OpenAI")


def _environment(stack: Stack, agents: AgentsFolder, settings: dict[str, str], *, port: int) -> dict[str, str]:
    """The app's, with what the folder of agents sets and the user does not."""
    environment = stack.app_environment(port=port)
    more = {name: value for name, value in agents.settings(environment).items() if name not in settings}
    beside = {SERVERS_SETTING: json.dumps([(server.name, _address(server)) for server in stack.servers])}
    return environment | more | beside | {"AGENTS_FOLDER": str(agents.path)}


async def _begin(agents: AgentsFolder, environment: Mapping[str, str], database: str | None) -> None:
    if not agents.exists:
        return
    if database is not None:
        await agents.run_statements(database)
    await agents.begin(environment)


async def _follow(agents: AgentsFolder, host: AppHost, environment: Mapping[str, str], database: str | None) -> None:
    """Changes that cannot be followed stop nothing."""
    try:
        await agents.follow(host, environment, database)
    except Exception as error:
        _report("agents", f"changes are not taken any more ({type(error).__name__}: {error}): start ./dev up again")


async def _start_servers(running: contextlib.AsyncExitStack, stack: Stack, settings: dict[str, str]) -> None:
    """Start all servers concurrently; the migrations run as soon as PostgreSQL answers."""

    async def migrate_when_ready() -> None:
        if stack.postgres is not None:
            await _timed(running, stack.postgres)
        await migrate(stack.postgres.url if stack.postgres is not None else settings["POSTGRES_URL"])

    async def start(server: Server) -> None:
        try:
            await _timed(running, server)
        except AzuriteMissing as missing:
            stack.leave_out(server)
            _report(server.name, f"is left out, and so are files and the audit trail: {missing.reason}; {_NPM_HINT}")
            return
        if isinstance(server, Azurite):
            await _make_queue(server.url)

    others = [server for server in stack.servers if server is not stack.postgres]
    await together(migrate_when_ready(), *(start(server) for server in others))


async def _make_queue(storage: str) -> None:
    """As Bicep does in Azure: the host makes no queue that it listens to."""
    service = QueueService()
    try:
        await Queue(service, parse_connection_string(storage, setting="AzureWebJobsStorage"), TRIGGER_QUEUE).create()
    except QueueFailed as failed:
        raise ServerError(f"azurite made no queue: {failed}") from failed
    finally:
        await service.close()


@contextlib.asynccontextmanager
async def _beside[T](work: Coroutine[None, None, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run work in the background; it ends with the block at the latest."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _build_console() -> bool:
    """Whether the console is built. The first time it needs the npm registry; everything else works without it."""
    try:
        await console.build(_report)
    except console.ConsoleNotBuilt as reason:
        _report("console", f"is not built, all else works: {reason}; {_NPM_HINT}")
        return False
    return True


async def _timed(running: contextlib.AsyncExitStack, server: Server) -> None:
    began = time.monotonic()
    await enter_all(running, [server])
    _report(server.name, f"runs ({time.monotonic() - began:.1f} s) {_address(server)}")


def _address(server: Server) -> str:
    """The server's address, without a password."""
    if "=" in server.url:
        return "see its folder for the connection string"
    return urlsplit(server.url).netloc.rpartition("@")[2] if "://" in server.url else ""


async def migrate(url: str) -> None:
    began = time.monotonic()
    code, output = await run_to_end(
        [sys.executable, "-m", _MIGRATE], cwd=ROOT, env=dict(os.environ) | {"POSTGRES_URL": url}
    )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if code != 0:
        raise ServerError(f"the migrations failed: {lines[-1] if lines else f'code {code}'}")
    _report("schema", f"{lines[-1] if lines else 'up to date'} ({time.monotonic() - began:.1f} s)")


async def _until_one_fails(servers: Sequence[Server]) -> None:
    watches = [asyncio.create_task(server.failed.wait()) for server in servers]
    try:
        await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for watch in watches:
            watch.cancel()
    raise next(server.error for server in servers if server.error is not None)


def _welcome(host: AppHost, stack: Stack, agents: AgentsFolder, *, data: Path, has_console: bool) -> str:
    url = host.url
    model = host.health.model or "as set"
    if stack.uses_offline_model:
        model += "; it is a demo: set OPENAI_BASE_URL or AZURE_OPENAI_ENDPOINT for a real one"
    notes = [] if stack.notes is None else [f"  notes   {stack.notes.url} (what the tool http_request may reach)"]
    lines = [
        "",
        f"  console {url}/" if has_console else "  console not built: see above",
        f"  app     {url}/api/v1",
        f"  docs    {url}/api/docs",
        f"  health  {url}{_HEALTH_PATH}",
        f"  host    {host.pages_url} (functions, orchestrations, clients, servers, approve links)",
        f"  model   {model}",
        *notes,
        *([] if agents.is_empty else [f"  agents  {agents.summary}; changes are taken at once"]),
        f"  state   {data}",
        "  tour    README.md, five minutes",
    ]
    return "\n".join(lines)


def _report(name: str, text: str) -> None:
    _say(f"  {name:<9} {text}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # even with a closed terminal, stop everything in order
        print(text, flush=True)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)
