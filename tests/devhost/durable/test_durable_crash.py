"""Dying at an exact place: what counts, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from devhost.durable import crash
from devhost.durable.records import EntityOp, Unit
from devhost.extension import HostError

ORCHESTRATION = Unit(drop_messages=[1])
ENTITY = Unit(entity_ops=[EntityOp(1, "@counter@a", "add", None)])


def test_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crash.SETTING, raising=False)
    assert crash.commits_to_live() == 0
    monkeypatch.setenv(crash.SETTING, "3")
    assert crash.commits_to_live() == 3


@pytest.mark.parametrize("text", ["0", "-1", "soon", "1.5", "\u0663"])
def test_what_is_no_number_stops_the_start(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(crash.SETTING, text)
    with pytest.raises(HostError, match=crash.SETTING):
        crash.commits_to_live()


def test_one_commit_counts_once_however_many_units_it_carries_and_entities_do_not() -> None:
    assert crash.count_down(3, [ORCHESTRATION, ORCHESTRATION]) == 2
    assert crash.count_down(1, [ENTITY]) == 1


def test_the_last_commit_kills_the_process() -> None:
    code = "from devhost.durable import crash; from devhost.durable.records import Unit;"
    code += " crash.count_down(1, [Unit(drop_messages=[1])]); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, env=os.environ)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
