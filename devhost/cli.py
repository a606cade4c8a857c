"""The command line: `python -m devhost DIR`.

Invariant: an error that the user can fix is one line on stderr and exit status 1 (2 for wrong arguments). A stop by
Ctrl-C or SIGTERM ends with status 0 and leaves no process behind.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from devhost.extensions.contract import HostError
from devhost.harsh import ENGINE_SETTING, SEED_SETTING
from devhost.logs import configure_logging
from devhost.settings.keys import KEYS_FILE

logger = logging.getLogger("devhost.host")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a host until it is told to stop. Returns the exit status."""
    parsed = parser().parse_args(arguments)
    configure_logging(verbose=parsed.verbose)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The app's print() must show at once, even when the output goes to a file or pipe.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(parsed))
    except HostError as exc:
        print(f"devhost: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def exit_process(status: int) -> None:
    """Exit even while a sync function still runs in a thread that Python would wait for."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    stuck = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    if stuck:
        os._exit(status)
    sys.exit(status)


async def _serve(parsed: argparse.Namespace) -> None:
    # Imported late, so that `--help` and wrong arguments answer at once.
    from devhost.runner import HostOptions, run_host

    stop = asyncio.Event()
    _stop_on_signals(stop)
    chosen = {ENGINE_SETTING: parsed.engine, SEED_SETTING: parsed.seed}
    os.environ.update({name: value for name, value in chosen.items() if value is not None})
    options = HostOptions(
        app_dir=parsed.dir,
        port=parsed.port,
        data_dir=parsed.data,
        enable_auth=parsed.enable_auth,
        dev_identity=parsed.dev_identity,
        python=parsed.python,
    )
    async with run_host(options) as host:
        functions = host.context.functions
        logger.info(
            "%d functions of %s on %s (data in %s)",
            len(functions),
            host.context.app_dir,
            host.base_url,
            host.context.data_dir,
        )
        logger.info("/admin needs the master key in %s", host.context.data_dir / KEYS_FILE)
        if parsed.dev_identity:
            logger.warning("--dev-identity: callers name themselves, unverified (header x-dev-user)")
        if parsed.ready_file is not None:
            _write_ready_file(parsed.ready_file, host.base_url, host.port)
        await stop.wait()
        logger.info("stopping")
        if parsed.ready_file is not None:
            parsed.ready_file.unlink(missing_ok=True)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, _on_signal, stop)
        except NotImplementedError:
            # Windows loops have no signal handlers of their own.
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        # A second Ctrl-C: stop without waiting.
        os._exit(1)
    stop.set()


def _write_ready_file(path: Path, base_url: str, port: int) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps({"base_url": base_url, "port": port, "pid": os.getpid()}), "utf-8")
    scratch.replace(path)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def parser() -> argparse.ArgumentParser:
    """Of the command line's arguments."""
    parser = argparse.ArgumentParser(prog="devhost", description="Run an Azure Functions app (Python) on this machine.")
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder of the app (holds host.json)")
    parser.add_argument("--port", type=_port, help="port on 127.0.0.1; 0 takes a free one (default: 7071)")
    parser.add_argument("--data", type=Path, help="folder for the host's state (default: DIR/.data/devhost)")
    parser.add_argument("--verbose", action="store_true", help="log what the host does in detail")
    parser.add_argument("--enable-auth", action="store_true", help="enforce auth levels and function keys")
    parser.add_argument(
        "--dev-identity",
        action="store_true",
        help="stand in for App Service Authentication; callers name themselves with x-dev-user: NAME[;role,role]",
    )
    parser.add_argument("--engine", choices=("kind", "harsh"), help="harsh: as unkind as Azure's (default: kind)")
    parser.add_argument("--seed", help="repeats what a harsh engine drew (default: a new one, which is printed)")
    parser.add_argument(
        "--python", type=Path, help="Python of the app's workers, with its packages (default: this one)"
    )
    parser.add_argument("--ready-file", type=Path, help="write base_url, port and pid here once the host serves")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)
