"""A running `./dev up`, as a test handles it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from devhost.servers.folder import free_port

WAIT_S = 90.0
_OURS = (
    "POSTGRES_",
    "REDIS_",
    "OPENAI_",
    "AZURE_OPENAI",
    "AzureWebJobs",
    "AUTH_MODE",
    "PUBLIC_BASE",
    "APPROVAL_",
    "TOOLS_",
)


class Up:
    """A running `./dev up` (without the set-up before it)."""

    def __init__(self, checkout: Path, *arguments: str, data: Path, env: dict[str, str], port: int | None = None):
        self.port = port or free_port()
        self.data = data
        self._log = Path(tempfile.mkstemp(prefix="up-", suffix=".log")[1])
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "devtools", "up", "--port", str(self.port)),
                    *("--data", str(data), *arguments),
                ],
                env=clean | {"PYTHONPATH": str(checkout)} | env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._seen: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, *, times: int = 1) -> None:
        self.wait_until(lambda: self.output.count(text) >= times, f"{text!r} did not appear")

    def wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            self.look()
            assert time.monotonic() < deadline, f"{complaint}:\n{self.output}"
            assert self.process.poll() is None or condition(), f"{complaint}; up ended:\n{self.output}"
            time.sleep(0.02)

    def look(self) -> set[psutil.Process]:
        """Every process it was seen to have started."""
        with contextlib.suppress(psutil.Error):
            self._seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return self._seen

    def child(self, name: str) -> psutil.Process:
        """The direct child recorded in that part's pid file."""
        return psutil.Process(json.loads((self.data / name / "server.pid").read_text())["pid"])

    def send(self, number: signal.Signals) -> None:
        self.look()
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(WAIT_S)

    def left_over(self) -> list[psutil.Process]:
        return [process for process in self._seen if _runs(process)]

    def wait_until_nothing_is_left(self) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.left_over():
            assert time.monotonic() < deadline, f"still running: {self.left_over()}"
            time.sleep(0.02)

    def close(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
            self.wait()
        self._log.unlink(missing_ok=True)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


StartUp = Callable[..., Up]
