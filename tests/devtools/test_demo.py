"""`./dev demo`: what it says is seen, and its exit status says whether it was right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from devtools import demo

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_two_subagents_survive_the_kill_of_their_host() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "devtools", "demo", "subagents"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("demo: ") for line in lines)
    assert re.fullmatch(r"demo: kill -9 \d+: the host is gone, in the middle of it all", lines[4])
    assert lines[-1] == "demo: right: the sum is 391, and the note arrived once"


@pytest.mark.parametrize(
    ("notes", "answer", "said"),
    [
        ([], "391", "should have arrived once"),
        ([{"text": "hello from a subagent"}] * 2, "391", "should have arrived once"),
        ([{"text": "hello from a subagent"}], "390", "did not end as it should"),
    ],
)
def test_what_is_not_right_is_not_called_right(notes: list[object], answer: str, said: str, tmp_path: Path) -> None:
    taken = {"notes": [{"note": note} for note in notes]}
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=taken)))
    stack = demo._Stack(tmp_path, subprocess.Popen([sys.executable, "-c", ""]), tmp_path / "log", http)
    stack.notes = "http://notes/"
    turn = {"status": "completed", "tool_calls": [{"result": {"content": answer}}, {"result": {"content": "sent"}}]}

    with pytest.raises(demo.Wrong, match=said):
        demo._judge(stack, turn)
    stack.process.wait()
