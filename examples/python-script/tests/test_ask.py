"""The script, as a person runs it, against the running app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support.client import post_call, script
from tests.e2e.support.processes import ROOT, AppHost, Sink
from tests.e2e.support.stack import model_url, parley, sink

__all__ = ["model_url", "parley", "sink"]
pytestmark = pytest.mark.e2e

SCRIPT = Path(__file__).parents[1] / "ask.py"


def ask(url: str, question: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "clients" / "python" / "src")}
    environment |= {"PARLEY_URL": url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    command = [sys.executable, str(SCRIPT), question]
    return subprocess.run(
        command, env=environment, input=typed, capture_output=True, text=True, timeout=120, check=False
    )


def test_an_answer_is_printed_while_it_comes_and_whole_at_the_end(parley: AppHost) -> None:
    done = ask(parley.base_url, script(content="Three hundred and ninety-one."))

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Three hundred and ninety-one."
    assert "Three hundred and ninety-one." in done.stderr
    assert "completed" in done.stderr


@pytest.mark.parametrize(("typed", "status", "sent"), [("y\n", "approved", 1), ("\n", "rejected", 0)])
def test_a_call_runs_only_if_it_is_let(parley: AppHost, sink: Sink, typed: str, status: str, sent: int) -> None:
    path = f"/asked/{status}"
    done = ask(parley.base_url, script(tool_calls=[[post_call(sink.url(path))]], content="Done."), typed)

    assert done.returncode == 0, done.stderr
    assert sink.url(path) in done.stdout
    assert f"[{status}]" in done.stdout
    assert done.stdout.rstrip().endswith("Done.")
    assert len(sink.at(path)) == sent


def test_a_refusal_is_one_sentence(parley: AppHost) -> None:
    done = ask(parley.base_url, "")

    assert done.returncode == 1
    assert "INVALID_MESSAGE" in done.stderr
    assert "Traceback" not in done.stderr
