"""What happens to child processes and their parents, without any real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devhost.servers import supervise
from devhost.servers.folder import ServerFolder
from devhost.servers.process import Child, Command, ServerError, run_to_end, stop_leftover
from devhost.servers.supervise import Server, enter_all

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[3]
SLEEP = "import time; time.sleep(300)"
STUBBORN = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(300)
"""


def _command(folder: Path, code: str, *, stop_timeout_s: float = 10.0) -> Command:
    return Command(
        name="sample",
        argv=(sys.executable, "-c", code),
        env=dict(os.environ),
        cwd=folder,
        pid_file=folder / "server.pid",
        log_file=folder / "server.log",
        stop_timeout_s=stop_timeout_s,
    )


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # the world outside sets no event
            await asyncio.sleep(0.01)


async def test_a_child_that_does_not_listen_is_killed_after_its_bound(tmp_path: Path) -> None:
    child = Child.start(_command(tmp_path, STUBBORN, stop_timeout_s=0.2))
    await _until(lambda: "deaf" in (tmp_path / "server.log").read_text())
    assert await child.stop() == -signal.SIGKILL
    assert not (tmp_path / "server.pid").exists()


async def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    command = _command(tmp_path, "")
    with pytest.raises(ServerError, match=r"sample: cannot run /none/such: No such file"):
        Child.start(
            Command(
                name="sample",
                argv=("/none/such",),
                env={},
                cwd=tmp_path,
                pid_file=command.pid_file,
                log_file=command.log_file,
            )
        )


async def test_a_cancelled_installer_does_not_go_on(tmp_path: Path) -> None:
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    task = asyncio.create_task(run_to_end([sys.executable, "-c", code], cwd=tmp_path, env=dict(os.environ)))
    await _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("code", [SLEEP, STUBBORN])
def test_children_end_with_a_parent_that_is_killed(tmp_path: Path, code: str) -> None:
    parent_code = f"""
import asyncio, os, sys
from pathlib import Path
from devhost.servers.process import Child, Command
async def main():
    folder = Path({str(tmp_path)!r})
    child = Child.start(Command(name="sample", argv=(sys.executable, "-c", {code!r}), env=dict(os.environ),
        cwd=folder, pid_file=folder / "server.pid", log_file=folder / "server.log", stop_timeout_s=0.5))
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    watchers = [p for p in psutil.Process(parent.pid).children() if p.pid != child.pid]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in (child, *watchers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    while not psutil.Process(process.pid).cmdline():  # the kernel fills it in a moment after exec
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


def _record(path: Path, process: subprocess.Popen[bytes], **changes: object) -> None:
    found = psutil.Process(process.pid)
    record = {"pid": process.pid, "argv": [sys.executable, "-c", SLEEP], "started": found.create_time()}
    path.write_text(json.dumps(record | changes))


def test_a_leftover_is_stopped(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    _record(tmp_path / "server.pid", stranger)
    assert stop_leftover(tmp_path / "server.pid", stop_signal=signal.SIGTERM, timeout_s=30)
    stranger.wait(30)
    assert not (tmp_path / "server.pid").exists()


@pytest.mark.parametrize("changes", [{"argv": ["something", "else"]}, {"started": 1.0}])
def test_a_process_that_only_has_the_number_of_a_leftover_is_left_alone(
    tmp_path: Path, stranger: subprocess.Popen[bytes], changes: dict[str, object]
) -> None:
    _record(tmp_path / "server.pid", stranger, **changes)
    assert not stop_leftover(tmp_path / "server.pid", stop_signal=signal.SIGTERM, timeout_s=30)
    assert stranger.poll() is None
    assert not (tmp_path / "server.pid").exists()


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"pid": "x"}'])
def test_a_damaged_pid_file_is_removed(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.pid").write_text(text)
    assert not stop_leftover(tmp_path / "server.pid", stop_signal=signal.SIGTERM, timeout_s=1)
    assert not (tmp_path / "server.pid").exists()


class Sample(Server):
    """Ready once it has written `ready`; ends at once from its `breaks_at`th start on."""

    name = "sample"

    def __init__(self, folder: Path, *, breaks_at: int = 1000) -> None:
        self.reports: list[str] = []
        super().__init__(ServerFolder(folder), report=lambda _, text: self.reports.append(text))
        self.starts = 0
        self._breaks_at = breaks_at

    async def prepare(self) -> None:
        self.folder.make()

    def command(self) -> Command:
        self.starts += 1
        (self.folder.path / "ready").unlink(missing_ok=True)
        write = f"open({str(self.folder.path / 'ready')!r}, 'w').close(); "
        code = "print('out of luck'); raise SystemExit(3)" if self.starts >= self._breaks_at else write + SLEEP
        return _command(self.folder.path, code)

    async def is_ready(self) -> bool:
        return (self.folder.path / "ready").exists()


def _kill(server: Server) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


async def test_a_server_that_dies_is_named_and_restarted(tmp_path: Path) -> None:
    async with Sample(tmp_path) as server:
        first = server.pid
        _kill(server)
        await _until(lambda: "runs again" in server.reports)
        assert server.reports[0] == "was ended by SIGKILL; restarting in 0.2 s"
        assert server.pid not in (None, first)
        last = server.pid
    assert last is not None
    assert not psutil.pid_exists(last)


async def test_a_server_that_is_put_down_stays_down_until_it_is_brought_up(tmp_path: Path) -> None:
    async with Sample(tmp_path) as server:
        await server.put_down(signal.SIGKILL)
        assert (server.pid, server.starts, server.reports) == (None, 1, [])
        await server.bring_up()
        assert server.pid is not None
        _kill(server)
        await _until(lambda: "runs again" in server.reports)
        assert server.starts == 3, "it is kept running as before"


async def test_a_server_that_does_not_listen_is_put_down_all_the_same(tmp_path: Path) -> None:
    class Deaf(Sample):
        stop_timeout_s = 0.2

        def command(self) -> Command:
            ready = f"; open({str(self.folder.path / 'ready')!r}, 'w').close(); "
            (self.folder.path / "ready").unlink(missing_ok=True)
            code = STUBBORN.replace("time.sleep", f"0{ready}time.sleep")
            return _command(self.folder.path, code, stop_timeout_s=0.2)

    async with Deaf(tmp_path) as server:
        await server.put_down(signal.SIGTERM)
        assert server.pid is None


async def test_a_server_that_cannot_be_restarted_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "RESTART_DELAYS_S", (0.01, 0.01))
    async with Sample(tmp_path, breaks_at=2) as server:
        _kill(server)
        async with asyncio.timeout(60):
            await server.failed.wait()
        assert str(server.error).startswith("sample ended with code 3 at start: out of luck (log: ")
        assert str(server.error).endswith("given up after 2 restarts")
        assert server.starts == 3


async def test_a_server_that_ends_at_its_first_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"sample ended with code 3 at start: out of luck \(log: .*server.log\)"):
        async with Sample(tmp_path, breaks_at=1):
            pass


async def test_when_one_of_several_cannot_start_the_others_are_stopped(tmp_path: Path) -> None:
    good, bad = Sample(tmp_path / "good"), Sample(tmp_path / "bad", breaks_at=1)
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(ServerError):
            await enter_all(stack, [good, bad])
    assert good.pid is None


async def test_stopping_in_the_middle_of_a_start_leaves_no_process(tmp_path: Path) -> None:
    class NeverReady(Sample):
        async def is_ready(self) -> bool:
            return False

    server = NeverReady(tmp_path)
    entering = asyncio.create_task(server.__aenter__())
    await _until(lambda: server.pid is not None)
    pid = server.pid
    assert pid is not None
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert not psutil.pid_exists(pid)
