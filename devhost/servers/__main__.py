"""`python -m devhost.servers --data DIR`: the servers alone, until Ctrl-C or SIGTERM.

Prints one `NAME=URL` line per server once all are ready. Tests use it to share servers between processes:
`--ready-file` gets the URLs as JSON, and with `--while-locked FILE` it stops as soon as no process holds a
(shared) lock on FILE, which works even when a user is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from devhost.servers.azurite import Azurite
from devhost.servers.folder import owned_folder, write_private
from devhost.servers.postgres import MAJOR_VERSION, Postgres
from devhost.servers.process import ServerError
from devhost.servers.supervise import Server, enter_all
from devhost.servers.valkey import Valkey

SETTINGS = {"postgres": "POSTGRES_URL", "valkey": "REDIS_URL", "azurite": "AzureWebJobsStorage"}
"""The app setting for each server's URL."""
_LOCK_POLL_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m devhost.servers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder for their data")
    parser.add_argument("--only", choices=list(SETTINGS), action="append", help="start just this one (repeatable)")
    parser.add_argument("--fast", action="store_true", help="no durability, for tests")
    parser.add_argument("--ready-file", type=Path, help="write the URLs there as JSON when all are ready")
    parser.add_argument("--while-locked", type=Path, help="stop when nobody holds a lock on this file")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(_run(options))
    except ServerError as error:
        print(f"servers: {error}", file=sys.stderr)
        return 1


async def _run(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with owned_folder(options.data, version=f"servers-{MAJOR_VERSION}") as data:
        servers = _servers(data, options.only or list(SETTINGS), fast=options.fast)
        waits: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        if options.while_locked is not None:
            waits.append(asyncio.create_task(_until_unlocked(options.while_locked, options.ready_file)))
        running = asyncio.create_task(_keep(servers, options.ready_file))
        await asyncio.wait([running, *waits], return_when=asyncio.FIRST_COMPLETED)
        for task in (running, *waits):
            task.cancel()
        results = await asyncio.gather(running, *waits, return_exceptions=True)
        if isinstance(results[0], BaseException) and not isinstance(results[0], asyncio.CancelledError):
            raise results[0]
    return 0


def _servers(data: Path, names: list[str], *, fast: bool) -> list[Server]:
    made: dict[str, Server] = {
        "postgres": Postgres(data / "postgres", fast=fast, report=_report),
        "valkey": Valkey(data / "valkey", fast=fast, report=_report),
        "azurite": Azurite(data / "azurite", fast=fast, report=_report),
    }
    return [made[name] for name in names]


async def _keep(servers: list[Server], ready_file: Path | None) -> None:
    """Start all concurrently, print the URLs, and wait; raises the error of a server that was given up."""
    async with contextlib.AsyncExitStack() as stack:
        await enter_all(stack, servers)
        urls = {SETTINGS[server.name]: server.url for server in servers}
        if ready_file is not None:
            stack.callback(ready_file.unlink, missing_ok=True)
            write_private(ready_file, json.dumps(urls | _admin_url(servers)))
        for setting, url in urls.items():
            print(f"{setting}={url}", flush=True)
        await asyncio.wait(
            [asyncio.create_task(server.failed.wait()) for server in servers],
            return_when=asyncio.FIRST_COMPLETED,
        )
        raise next(server.error for server in servers if server.error is not None)


def _admin_url(servers: Sequence[Server]) -> dict[str, str]:
    return next(({"POSTGRES_ADMIN_URL": s.superuser_url} for s in servers if isinstance(s, Postgres)), {})


async def _until_unlocked(lock_file: Path, ready_file: Path | None) -> object:
    """Returns once we hold the lock exclusively, and keeps it, so that new users wait until we have stopped."""
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_LOCK_POLL_S)
            continue
        if ready_file is not None:  # removed before any process can take the lock again
            ready_file.unlink(missing_ok=True)  # noqa: ASYNC240  # one system call, at the end
        return None


def _report(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
