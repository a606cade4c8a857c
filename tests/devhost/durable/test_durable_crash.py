"""Dying at an exact place: what counts, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from devhost.durable.store.crash import AFTER, BEFORE, CrashPoint
from devhost.durable.store.records import EntityOp, Unit
from devhost.extensions.contract import HostError

ENTITY = Unit(entity_ops=[EntityOp(1, "@counter@a", "add", None)])

COMMITS = """
from devhost.durable.store.crash import CrashPoint
from devhost.durable.store.records import Unit
point = CrashPoint({after}, {before})
for number in range(1, 5):
    point.about_to_commit([Unit(drop_messages=[1]), Unit(drop_messages=[2])])
    print("stored", number, flush=True)
    point.committed()
    print("told", number, flush=True)
"""


def test_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(AFTER, raising=False)
    monkeypatch.delenv(BEFORE, raising=False)
    assert CrashPoint.from_environment() is None
    monkeypatch.setenv(BEFORE, "3")
    assert CrashPoint.from_environment() == CrashPoint(0, 3)


@pytest.mark.parametrize("setting", [AFTER, BEFORE])
@pytest.mark.parametrize("text", ["0", "-1", "soon", "1.5", "\u0663"])
def test_what_is_no_number_stops_the_start(monkeypatch: pytest.MonkeyPatch, setting: str, text: str) -> None:
    monkeypatch.setenv(setting, text)
    with pytest.raises(HostError, match=setting):
        CrashPoint.from_environment()


def test_commits_of_entities_alone_do_not_count() -> None:
    point = CrashPoint(after=1, before=1)
    point.about_to_commit([ENTITY])
    point.committed()


@pytest.mark.parametrize(
    ("after", "before", "last"), [(1, 0, "stored 1"), (2, 0, "stored 2"), (0, 2, "told 1"), (0, 3, "told 2")]
)
def test_process_dies_at_the_commit_that_was_named(after: int, before: int, last: str) -> None:
    code = COMMITS.format(after=after, before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (-signal.SIGKILL, last)
