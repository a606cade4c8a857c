"""One session with the realistic model, and when what happens in its turns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from devhost.servers import ServerError
from devtools.bench.contender import Version
from devtools.bench.load.client import Watch
from devtools.bench.plan import REALISTIC, Case
from devtools.bench.run import Say, running
from devtools.bench.timeline.moments import FILE, MOMENTS
from devtools.setup.places import ROOT

_TURNS_S = 12.0
_WARM_UP = Case("W1", 8, 1.0, 1_000)
type Turn = dict[int, float]
"""Milliseconds from the turn's first moment, by number in MOMENTS."""


async def timeline(folder: Path, say: Say) -> str:
    """The table. Raises ServerError."""
    noted = await asyncio.to_thread(_new_file, folder)
    environment = {FILE: str(noted), "PYTHONPATH": os.pathsep.join((str(Path(__file__).parent), ROOT))}
    host = Version(Path(ROOT), environment)
    async with running(folder, {"here": host}, say, load_environment=environment) as bench:
        await bench.measure(_WARM_UP, bench.contenders[0], Watch.SSE)
        warm = len(await asyncio.to_thread(noted.read_text))
        await bench.measure(Case(REALISTIC, 1, _TURNS_S, 25), bench.contenders[0], Watch.SSE)
        bare = await bench.measure_bare(Case(REALISTIC, 1, 2.0, 10), 2.0)
    turns = list(turns_of((await asyncio.to_thread(noted.read_text))[warm:]))
    return table(turns, bare_first_ms=median(bare.samples["first_s"]) * 1_000)


def _new_file(folder: Path) -> Path:
    folder.mkdir(mode=0o711)
    noted = folder / "moments"
    noted.touch()
    return noted


def turns_of(noted: str) -> Iterator[Turn]:
    """Whole turns of one session. noted: lines `nanoseconds number`, in any order."""
    lines = sorted((int(at), int(number)) for at, number in map(str.split, noted.splitlines()))
    begins = [index for index, (_, number) in enumerate(lines) if number == 0]
    for begin, end in pairwise([*begins, len(lines)]):
        turn, seen = dict[int, float](), dict[int, int]()
        for at, number in lines[begin:end]:
            seen[number] = seen.get(number, 0) + 1
            if seen[number] == MOMENTS[number].nth:
                turn[number] = (at - lines[begin][0]) / 1e6
        if len(turn) == len(MOMENTS):
            yield turn


def table(turns: Sequence[Turn], *, bare_first_ms: float | None = None) -> str:
    """Medians. Raises ServerError when there is no whole turn."""
    if not turns:
        raise ServerError("no whole turn was noted: a function of devtools/bench/timeline/moments.py has another name")
    at = {number: median(turn[number] for turn in turns) for number in range(len(MOMENTS))}
    lines = [f"{len(turns)} turns of one session, medians", "", "   ms    +ms"]
    before = 0.0
    for number, moment in sorted(at.items(), key=lambda pair: pair[1]):
        lines.append(f"{moment:6.1f} {moment - before:6.1f}  {MOMENTS[number].text}")
        before = moment
    if bare_first_ms is not None:
        lines.append(f"\nThe model alone has its first words after {bare_first_ms:.1f} ms.")
    return "\n".join(lines)
