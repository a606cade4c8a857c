"""One child process: started in its own session, logged to a file, stopped within a bound.

Invariant: a child never outlives the program that started it. While this program runs, `stop` ends the child; when it
is killed, the watcher does. If both are killed, the next start finds the child by its pid file and stops it, provided
that pid, start time and command line are still the recorded ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devhost.servers.watch import watcher

_MAX_LOG_BYTES = 10_000_000


class ServerError(Exception):
    """A server cannot start or keep running; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """The account a child runs under when we are root."""

    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a server.

    env: the whole environment. stop_signal: makes it shut down in order; after stop_timeout_s seconds it is
    killed. log_file: receives standard output and error; None: it inherits ours.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    pid_file: Path
    log_file: Path | None
    run_as: RunAs | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0


class Child:
    """A started `Command`."""

    def __init__(self, command: Command, popen: subprocess.Popen[bytes]) -> None:
        self.command = command
        self._popen = popen
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        # A thread, not the loop's child watcher, works on every event loop (uvloop refuses user=).
        threading.Thread(target=self._wait_in_thread, args=(loop,), name=f"wait-{command.name}", daemon=True).start()

    @classmethod
    def start(cls, command: Command) -> Child:
        """Start the process. Raises ServerError when it cannot be executed."""
        run_as = command.run_as
        account: dict[str, int | list[int]] = {}
        if run_as is not None:
            account = {"user": run_as.uid, "group": run_as.gid, "extra_groups": []}
        with contextlib.ExitStack() as stack:
            output = None
            if command.log_file is not None:
                output = stack.enter_context(_open_log(command.log_file))
            try:
                popen: subprocess.Popen[bytes] = subprocess.Popen(
                    command.argv,
                    env=dict(command.env),
                    cwd=command.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    **account,  # type: ignore[call-overload]  # typeshed wants the three spelled out
                )
            except OSError as error:
                raise ServerError(f"{command.name}: cannot run {command.argv[0]}: {error.strerror}") from error
        watcher.guard(popen.pid, stop_signal=command.stop_signal, stop_timeout_s=command.stop_timeout_s)
        _write_pid_file(command, popen.pid)
        return cls(command, popen)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def wait(self) -> int:
        """The exit code once the process has ended (negative: the signal that ended it)."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> int:
        """Ask it to stop, kill it after the timeout; returns the exit code. Idempotent."""
        self.send_signal(self.command.stop_signal)
        try:
            async with asyncio.timeout(self.command.stop_timeout_s):
                return await self.wait()
        except TimeoutError:
            self.send_signal(signal.SIGKILL)
            return await self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process and its process group; does nothing when it has ended."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def last_log_line(self) -> str:
        """The last non-empty line of the log, for an error message; empty without a log."""
        if self.command.log_file is None:
            return ""
        with contextlib.suppress(OSError):
            tail = self.command.log_file.read_bytes()[-4000:].decode(errors="replace")
            lines = [line.strip() for line in tail.splitlines() if line.strip()]
            return lines[-1] if lines else ""
        return ""

    def _wait_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        code = self._popen.wait()
        watcher.release(self._popen.pid)
        self.command.pid_file.unlink(missing_ok=True)
        with contextlib.suppress(RuntimeError):  # the loop was closed before the child ended
            loop.call_soon_threadsafe(self._set_ended, code)

    def _set_ended(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


async def run_to_end(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str],
    run_as: RunAs | None = None,
    stop_timeout_s: float = 5.0,
) -> tuple[int, str]:
    """Run a short-lived program, such as an installer; returns (exit code, standard output and error).

    Guarded like a server: it ends when we are cancelled or killed. Raises OSError when it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="run-") as scratch:
        command = Command(
            name=Path(argv[0]).name,
            argv=tuple(str(part) for part in argv),
            env=env,
            cwd=cwd,
            pid_file=Path(scratch) / "pid",
            log_file=Path(scratch) / "output",
            run_as=run_as,
            stop_timeout_s=stop_timeout_s,
        )
        child = Child.start(command)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await child.stop()
            raise
        assert command.log_file is not None
        return code, command.log_file.read_text(errors="replace")


def stop_leftover(pid_file: Path, *, stop_signal: signal.Signals, timeout_s: float) -> bool:
    """Stop the process left behind by an earlier, killed program; True when there was one.

    Blocks for at most about timeout_s. If the pid now belongs to another process, only the pid file is removed.
    """
    process = _recorded_process(pid_file)
    found = process is not None
    for number, seconds in ((stop_signal, timeout_s), (signal.SIGKILL, 5.0)):
        if process is not None and _runs(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
            deadline = time.monotonic() + seconds
            while _runs(process) and time.monotonic() < deadline:
                time.sleep(0.02)
    pid_file.unlink(missing_ok=True)
    return found


def _recorded_process(pid_file: Path) -> psutil.Process | None:
    try:
        record = json.loads(pid_file.read_text())
        process = psutil.Process(int(record["pid"]))
        same = process.cmdline() == record["argv"] and abs(process.create_time() - record["started"]) < 2
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if same and _runs(process) else None


def _runs(process: psutil.Process) -> bool:
    """Whether a process runs. A zombie does not: some containers' init collects processes late or never."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _write_pid_file(command: Command, pid: int) -> None:
    record = {"pid": pid, "argv": list(command.argv), "started": time.time()}
    temporary = command.pid_file.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(command.pid_file)  # atomic, in case we are killed here


def _open_log(path: Path) -> contextlib.AbstractContextManager[int]:
    """The log's descriptor, for appending; a log that earlier runs made too large starts over."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            flags |= os.O_TRUNC
    return _closing(os.open(path, flags, 0o600))


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
