"""A bounded run of `./dev chaos`: the same faults each time, on everything that can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from devtools.chaos.schedule import Planned, Schedule, Strike, Target
from tests.e2e.support.processes import ROOT

pytestmark = pytest.mark.timeout(420)

_LIMIT_S = 400
SECONDS = 45.0
USERS = 4
STRIKES = (
    Planned(2, Strike.KILL, Target.HOST, 0.2),
    Planned(4, Strike.RESET, Target.TOOL, 2),
    Planned(7, Strike.HANG, Target.REDIS, 3),
    Planned(11, Strike.REFUSE, Target.POSTGRES, 3),
    Planned(16, Strike.HALF_OPEN, Target.MODEL, 3),
    Planned(18, Strike.STOP, Target.HOST, 0.5),
    Planned(22, Strike.KILL, Target.SIGNALR, 2),
    Planned(24, Strike.ROLL_BACK, Target.REDIS, 1),
    Planned(28, Strike.KILL, Target.POSTGRES, 1),
    Planned(32, Strike.HANG, Target.BLOB, 2),
    Planned(33, Strike.VANISH, Target.HOST, 1),
    Planned(36, Strike.LATENCY, Target.TABLE, 3),
    Planned(40, Strike.FORGET, Target.REDIS, 1),
)


def test_whatever_fails_every_promise_holds(tmp_path: Path) -> None:
    """Other seeds and an hour of each: `./dev chaos` (docs/reliability.md)."""
    schedule = tmp_path / "schedule.json"
    figures = tmp_path / "figures.json"
    schedule.write_bytes(Schedule(seed=1, seconds=SECONDS, users=USERS, strikes=STRIKES).dumps())
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o711)  # PostgreSQL's account, when we are root, must be able to come here
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "devtools.chaos"),
            *("--schedule", str(schedule), "--json", str(figures)),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    assert figures.exists(), done.stdout
    [run] = orjson.loads(figures.read_bytes())["runs"]
    assert (run["violations"], done.returncode) == ({}, 0), done.stdout
    assert sum(row["count"] for row in run["strikes"].values()) == len(STRIKES)
    assert run["turns"]["completed"] >= USERS, "it had something to judge"
    assert run["effects"] > 0
