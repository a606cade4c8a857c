"""The benchmark end to end at its smallest, on servers of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
_LIMIT_S = 150.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]


class _Run:
    """A running `./dev bench` with a temporary folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        # PostgreSQL's account, when we are root, must be able to come here.
        for place in (self.folder, folder, *folder.parents[:2]):
            place.chmod(0o711)
        self.figures = folder / "figures.json"
        self._log = folder / "output"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "devtools.bench", *arguments, "--json", str(self.figures)],
                env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def runs() -> Iterator[list[_Run]]:
    started: list[_Run] = []
    yield started
    for run in started:
        run.close()


@pytest.mark.parametrize("watch", ["sse", "signalr"])
def test_a_tiny_run_measures_every_workload(runs: list[_Run], tmp_path: Path, watch: str) -> None:
    size = ("--sessions", "2", "--rounds", "1", "--seconds", "0.2", "--watch", watch)
    run = _Run(tmp_path, "--only", "W1,W2,W3", *size)
    runs.append(run)
    assert run.process.wait(_LIMIT_S) == 0, run.output
    written = json.loads(run.figures.read_text())
    assert [case["case"] for case in written["cases"]] == ["W1/2", "W2/2", "W3/2"]
    for case in written["cases"]:
        assert case["turns"] >= 2
        assert case["turns_per_s"] > 0
        assert 0 < case["first_p50_ms"] <= case["e2e_p50_ms"] <= case["e2e_p95_ms"]
        assert case["bare_e2e_p50_ms"] > 0
        assert case["memory_mib"].keys() == {"host", "postgres", "valkey", "azurite", "model", "load"}
        assert case["memory_mib"]["host"] > 10
        assert case["case"] in run.output
    assert written["revisions"].keys() == {"here"}
    assert list(run.folder.iterdir()) == []


def test_sigterm_in_mid_measurement_leaves_nothing_behind(runs: list[_Run], tmp_path: Path) -> None:
    run = _Run(tmp_path, "--only", "W1", "--sessions", "2", "--rounds", "50")
    runs.append(run)
    run.wait_for("round 1/50")
    descendants = run.descendants()
    assert len(descendants) > 4
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(_LIMIT_S) == 130, run.output
    _, alive = psutil.wait_procs(descendants, timeout=20)
    assert alive == []
    assert list(run.folder.iterdir()) == []


def test_wrong_options_are_refused_before_anything_starts(runs: list[_Run], tmp_path: Path) -> None:
    run = _Run(tmp_path, "--only", "W9")
    runs.append(run)
    assert run.process.wait(_LIMIT_S) == 2
    assert "'W9' is none of W1, W2, W3, realistic, growth" in run.output
    assert list(run.folder.iterdir()) == []
