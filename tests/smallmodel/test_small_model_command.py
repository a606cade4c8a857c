"""The command itself: what it prints, and that nothing outlives it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.e2e.support.processes import ROOT, STOP_LIMIT_S, free_port, wait_for
from tests.smallmodel.stack import RunningModel

_COMMAND = [sys.executable, "-P", "-m", "devtools.small_model"]


@pytest.fixture(autouse=True)
def _installed(small_model: RunningModel) -> None:
    """The others start at once, since one has installed what they need."""


@contextmanager
def _started(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, str]]:
    """The command, the server that it started, and the line it printed."""
    command = subprocess.Popen(
        [*_COMMAND, "--port", str(port), "--data", str(folder), "--context-tokens", "512"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert command.stdout is not None
        line = command.stdout.readline()
        [server] = [
            child for child in psutil.Process(command.pid).children() if "serve.py" in " ".join(child.cmdline())
        ]
        yield command, server, line
    finally:
        command.kill()
        command.communicate(timeout=STOP_LIMIT_S)


def test_it_says_where_the_model_is(tmp_path: Path) -> None:
    port = free_port()
    with _started(tmp_path / "server", port) as (_, _, line):
        assert line == f"small model ready on http://127.0.0.1:{port}/v1 (SmolLM2-135M-Instruct, window 512)\n"


def test_the_server_is_reached_from_this_machine_alone(tmp_path: Path) -> None:
    with _started(tmp_path / "server", free_port()) as (_, server, _):
        listening = [c.laddr.ip for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left(tmp_path: Path, number: signal.Signals) -> None:
    with _started(tmp_path / "server", free_port()) as (command, server, _):
        command.send_signal(number)
        code = command.wait(STOP_LIMIT_S)

        wait_for(lambda: not _runs(server), "the server to end", STOP_LIMIT_S)
    assert code == (-number if number == signal.SIGKILL else 0)


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*_COMMAND, "--port", str(port), "--data", str(tmp_path / "server")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"small model: port {port} is taken: stop what listens there, or choose another with --port"
    ]


def test_a_window_beyond_the_models_training_is_refused() -> None:
    done = subprocess.run(
        [*_COMMAND, "--context-tokens", "8193"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "'8193' is not a whole number from 256 to 8192" in done.stderr


def _is_server(process: psutil.Process) -> bool:
    return any(part.endswith("serve.py") for part in process.cmdline())


def _runs(process: psutil.Process) -> bool:
    """A zombie does not: some containers' init is slow to collect what it inherits."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
