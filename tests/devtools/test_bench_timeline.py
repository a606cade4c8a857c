"""When what happens in one turn: the moments that are noted, and the table of them."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devhost.servers import ServerError
from devtools.bench.timeline.command import table, turns_of
from devtools.bench.timeline.moments import FILE, MOMENTS, Moment

ROOT = Path(__file__).parents[2]
_HOOK = ROOT / "devtools/bench/timeline"


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.text)
def test_each_moment_is_one_of_a_function_that_there_is(moment: Moment) -> None:
    found = importlib.import_module(moment.module)
    for name in moment.function.split("."):
        found = getattr(found, name)
    assert callable(found)


def lines(*turns: float) -> str:
    """Turns that begin at these milliseconds, with a moment in each following one."""
    noted = []
    for begin in turns:
        for number, moment in enumerate(MOMENTS):
            noted += [f"{int((begin + number) * 1e6) + call} {number}" for call in range(moment.nth)]
    return "\n".join(noted)


def test_turns_are_told_from_one_another_and_cut_ones_are_left_out() -> None:
    cut = f"{int(5_000 * 1e6)} 0\n{int(5_001 * 1e6)} 1"
    turns = list(turns_of(f"{lines(1_000, 3_000)}\n{cut}"))

    assert len(turns) == 2
    assert [round(turns[1][number]) for number in range(len(MOMENTS))] == list(range(len(MOMENTS)))


def test_the_table_says_how_long_each_step_took() -> None:
    said = table(list(turns_of(lines(0))), bare_first_ms=202.1)

    assert "   1.0    1.0  the host has passed it on, and the function begins" in said
    assert "202.1 ms" in said


def test_without_a_whole_turn_it_says_what_may_be_wrong() -> None:
    with pytest.raises(ServerError, match="has another name"):
        table([])


async def test_a_process_with_the_folder_in_its_path_notes_what_begins_and_ends(tmp_path: Path) -> None:
    noted = tmp_path / "moments"
    code = """
from devtools.bench.load.view import TURN_SSE, TurnView
view = TurnView(TURN_SSE)
view.feed(b"event: x\\n", 1.0)
view.feed(b"content_delta", 2.0)
view.feed(b"content_delta", 3.0)
"""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-P", "-c", code],
        env={**os.environ, FILE: str(noted), "PYTHONPATH": os.pathsep.join((str(_HOOK), str(ROOT)))},
        check=True,
        capture_output=True,
    )
    assert done.stderr == b""

    (line,) = noted.read_text().splitlines()
    assert MOMENTS[int(line.split()[1])].text == "the client has them"
