"""A host in its own process, for tests and tools.

Invariant: the process has ended when the block ends, whatever happened inside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devhost.settings.keys import master_key

PROJECT_DIR = Path(__file__).resolve().parent.parent
READY_LIMIT_S = 60.0
_STOP_LIMIT_S = 30.0
_LOG_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A running `python -m devhost`."""

    base_url: str
    port: int
    process: subprocess.Popen[bytes]
    log_file: Path
    data_dir: Path

    @property
    def admin_headers(self) -> dict[str, str]:
        """Headers with which a request to `/admin` is let in."""
        return admin_headers(self.data_dir)

    def log(self) -> str:
        """The process's output so far."""
        return self.log_file.read_text("utf-8", "replace")

    def logs(self, text: str) -> bool:
        """Whether its output has a text, or has it soon: what is said of a request may come after its answer."""
        deadline = time.monotonic() + _LOG_LIMIT_S
        while text not in self.log():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def stop(self) -> int:
        """Ask it to stop (SIGTERM), wait, return its exit status."""
        self.process.terminate()
        return self.process.wait(_STOP_LIMIT_S)


def admin_headers(data_dir: Path) -> dict[str, str]:
    """Headers with the master key of the host that uses a data folder."""
    return {"x-functions-key": master_key(data_dir)}


@contextmanager
def host_process(
    app_dir: Path,
    data_dir: Path,
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    port: int = 0,
) -> Iterator[HostProcess]:
    """Run a host until the block ends.

    data_dir also receives `host.log` and the ready file (beside it, as `<name>.log`, `<name>.ready`).
    Raises RuntimeError with the host's output when it does not start.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    ready = data_dir.with_name(f"{data_dir.name}.ready")
    ready.unlink(missing_ok=True)
    log_file = data_dir.with_name(f"{data_dir.name}.log")
    command = [sys.executable, "-m", "devhost", str(app_dir), "--port", str(port), "--data", str(data_dir)]
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [*command, "--ready-file", str(ready), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_DIR,
            env={**os.environ, **(environment or {})},
        )
    try:
        address = _wait_until_ready(process, ready, log_file)
        yield HostProcess(address["base_url"], int(address["port"]), process, log_file, data_dir)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log_file: Path) -> dict[str, str]:
    deadline = time.monotonic() + READY_LIMIT_S
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the host ended with status {process.returncode}:\n{log_file.read_text()}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the host was not ready after {READY_LIMIT_S:g} s:\n{log_file.read_text()}")
        time.sleep(0.02)
    address: dict[str, str] = json.loads(ready.read_text("utf-8"))
    return address
