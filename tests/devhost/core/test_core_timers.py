"""Timers with a clock that the tests move."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devhost.extensions.contract import HostError
from devhost.runner import HostOptions, run_host
from devhost.testing import PROJECT_DIR

pytestmark = pytest.mark.usefixtures("forked_workers")

APP = PROJECT_DIR / "tests" / "devhost" / "apps" / "timers"
NOON = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


WRITES = """
import json, os
import azure.functions as func
app = func.FunctionApp()

def write(what):
    with open(os.environ["TIMER_LOG"], "a") as log:
        log.write(json.dumps(what) + "\\n")
"""


class MovedClock:
    """Stands still until told to move; then wakes sleepers in order."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Event]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, when: datetime) -> None:
        if when <= self._now:
            return
        self._count += 1
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (when, self._count, event))
        await event.wait()

    async def move(self, by: timedelta, patience_s: float = 20) -> None:
        end = self._now + by
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, event = heapq.heappop(self._sleepers)
            self._now = when
            asleep = len(self._sleepers)
            event.set()
            await self.until_asleep(asleep + 1, patience_s)
        self._now = end

    async def until_asleep(self, count: int, patience_s: float = 20) -> None:
        """Wait until that many timers sleep again: their runs are in another process."""
        async with asyncio.timeout(patience_s):
            while len(self._sleepers) < count:  # noqa: ASYNC110 - another process cannot set an Event here
                await asyncio.sleep(0.002)


class Runs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self, name: str | None = None) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        runs = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [run for run in runs if name is None or run["name"].startswith(name)]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.all()) < count:  # noqa: ASYNC110 - another process writes them
                await asyncio.sleep(0.01)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    path = tmp_path / "runs.jsonl"
    monkeypatch.setenv("TIMER_LOG", str(path))
    return Runs(path)


@asynccontextmanager
async def timers_app(tmp_path: Path, start: datetime, app: Path = APP) -> AsyncIterator[MovedClock]:
    clock = MovedClock(start)
    async with run_host(HostOptions(app, port=0, data_dir=tmp_path / "data", clock=clock)) as host:
        await clock.until_asleep(len([f for f in host.context.functions if f.trigger.type == "timerTrigger"]))
        yield clock


async def test_timer_runs_when_due_and_not_before(tmp_path: Path, runs: Runs) -> None:
    async with timers_app(tmp_path, NOON + timedelta(minutes=31)) as clock:
        await clock.move(timedelta(minutes=28))
        assert runs.all("hourly") == []

        await clock.move(timedelta(hours=2))

    assert [(run["past_due"], run["status"]["Next"]) for run in runs.all("hourly")] == [
        (False, "2026-05-04T13:00:00+00:00"),
        (False, "2026-05-04T14:00:00+00:00"),
    ]
    assert runs.all("hourly")[1]["status"]["Last"] == "2026-05-04T13:00:00+00:00"


async def test_run_missed_while_the_host_was_down_happens_at_start(tmp_path: Path, runs: Runs) -> None:
    async with timers_app(tmp_path, NOON + timedelta(minutes=31)):
        pass
    assert runs.all("hourly") == []

    async with timers_app(tmp_path, NOON + timedelta(hours=5, minutes=10)) as clock:
        assert [run["past_due"] for run in runs.all("hourly")] == [True], "five missed runs are made up by one"
        await clock.move(timedelta(minutes=50))

    assert [run["past_due"] for run in runs.all("hourly")] == [True, False]


async def test_nothing_is_past_due_when_no_run_was_missed(tmp_path: Path, runs: Runs) -> None:
    for minute in (31, 40, 50):
        async with timers_app(tmp_path, NOON + timedelta(minutes=minute)):
            pass

    assert runs.all("hourly") == []


async def test_run_on_startup_runs_at_each_start(tmp_path: Path, runs: Runs) -> None:
    for _ in range(2):
        async with timers_app(tmp_path, NOON):
            pass

    assert [run["past_due"] for run in runs.all("at_start")] == [False, False]


async def test_schedule_under_a_minute_is_not_monitored(
    tmp_path: Path, runs: Runs, make_app: Callable[..., Path]
) -> None:
    app = make_app(
        function_app__py=WRITES
        + """
@app.timer_trigger(arg_name="timer", schedule="*/5 * * * * *")
async def often(timer: func.TimerRequest) -> None:
    write({"past_due": timer.past_due, "status": timer.schedule_status})
"""
    )
    for start, so_far in ((NOON, 2), (NOON + timedelta(minutes=1), 4)):
        async with timers_app(tmp_path, start, app) as clock:
            await clock.move(timedelta(seconds=10))
            assert runs.all() == [{"past_due": False, "status": {}}] * so_far


async def test_failed_timer_is_retried_as_its_policy_says(tmp_path: Path, runs: Runs) -> None:
    async with timers_app(tmp_path, NOON + timedelta(minutes=29)) as clock:
        await clock.move(timedelta(minutes=1, seconds=5))
        assert [run["name"] for run in runs.all("flaky")] == ["flaky 0", "flaky 1", "flaky 2"]

        await clock.move(timedelta(hours=1))
        assert len(runs.all("flaky")) == 6


async def test_timer_never_overlaps_itself(tmp_path: Path, runs: Runs, make_app: Callable[..., Path]) -> None:
    gate = tmp_path / "gate"
    app = make_app(
        function_app__py=WRITES
        + f"""
import asyncio, pathlib
running = []

@app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
async def slow(timer: func.TimerRequest) -> None:
    running.append(1)
    write({{"at_once": len(running)}})
    while not pathlib.Path({str(gate)!r}).exists():
        await asyncio.sleep(0.01)
    running.pop()
"""
    )
    async with timers_app(tmp_path, NOON, app) as clock:
        with pytest.raises(TimeoutError):
            await clock.move(timedelta(minutes=1), patience_s=0.2)
        await clock.move(timedelta(minutes=4))
        await runs.until(1)
        assert runs.all() == [{"at_once": 1}], "minutes pass while the first run still sits there"

        gate.touch()
        await clock.until_asleep(1)
        await clock.move(timedelta(minutes=1))
        assert runs.all() == [{"at_once": 1}] * 2, "the next due time is counted from the end of the run"


@pytest.mark.parametrize(
    ("schedule", "zone", "part"),
    [("not a schedule", "", "'bad'.*schedule"), ("0 * * * * *", "Moon/Crater", "WEBSITE_TIME_ZONE")],
)
async def test_wrong_schedule_or_zone_is_refused_by_name(
    tmp_path: Path,
    make_app: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
    zone: str,
    part: str,
) -> None:
    monkeypatch.setenv("WEBSITE_TIME_ZONE", zone)
    app = make_app(
        function_app__py=f"""
import azure.functions as func
app = func.FunctionApp()

@app.timer_trigger(arg_name="timer", schedule="{schedule}")
def bad(timer: func.TimerRequest) -> None: ...
"""
    )
    with pytest.raises(HostError, match=part):
        async with timers_app(tmp_path, NOON, app):
            pass


async def test_schedule_is_read_in_the_zone_of_the_app(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, make_app: Callable[..., Path]
) -> None:
    monkeypatch.setenv("WEBSITE_TIME_ZONE", "Europe/Prague")
    app = make_app(
        function_app__py=WRITES
        + """
@app.timer_trigger(arg_name="timer", schedule="0 0 15 * * *")
async def at_three(timer: func.TimerRequest) -> None:
    write(1)
"""
    )
    async with timers_app(tmp_path, NOON, app) as clock:
        await clock.move(timedelta(minutes=59))
        assert runs.all() == []
        await clock.move(timedelta(minutes=2))  # 13:00 UTC is 15:00 in Prague in May
        assert runs.all() == [1]
