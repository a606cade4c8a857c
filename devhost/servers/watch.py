"""The parent's side of `reaper.py`: one watcher process that outlives this one just long enough to clean up.

A watcher on a pipe instead of PR_SET_PDEATHSIG: it works on macOS too, does not depend on which thread
started the child, and stops servers gently (PostgreSQL gets its fast shutdown) before it kills.

Invariant: from `guard(pid)` until `release(pid)` the process cannot outlive this one, however this one ends.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from pathlib import Path

_REAPER = Path(__file__).with_name("reaper.py")


class Watcher:
    """Starts its process on first use, and again if that was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._guarded: dict[int, str] = {}

    def guard(self, pid: int, *, stop_signal: int, stop_timeout_s: float) -> None:
        """Stop `pid` (a session leader) with `stop_signal` when this process is gone."""
        with self._lock:
            self._guarded[pid] = f"+ {pid} {int(stop_signal)} {stop_timeout_s}\n"
            self._send(self._guarded[pid])

    def release(self, pid: int) -> None:
        """Stop guarding `pid`, which has ended; its number may be reused."""
        with self._lock:
            if self._guarded.pop(pid, None) is not None:
                self._send(f"- {pid}\n")

    def close(self) -> None:
        """End the watcher; it first stops whatever is still guarded."""
        with self._lock:
            # After os.fork() the child holds a copy of the pipe but the watcher belongs to the parent.
            process, self._process = self._process, None
            if process is None or process.stdin is None or self._owner_pid != os.getpid():
                return
            process.stdin.close()
            process.wait()

    def _send(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        else:
            try:
                self._write(line)
            except BrokenPipeError:
                self._start()

    def _start(self) -> None:
        """Start a watcher process and tell it every guarded process."""
        if not self._guarded:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_REAPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # signals to our process group, such as Ctrl-C, must not reach it
        )
        for line in self._guarded.values():
            self._write(line)

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), line.encode())


watcher = Watcher()
"""The one watcher of this process."""
atexit.register(watcher.close)
