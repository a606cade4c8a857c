"""A profile of the host under load: py-spy's stacks, and a summary by part of the program and by function.

It is taken in a separate window after the measurement, since a profiler slows the host. It only sees threads that hold
the GIL, which is the first bottleneck; their share of all samples is its utilisation. Work without the GIL (such as
SQLite's commits) is the rest of the host's processor time.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from devhost.servers import ServerError
from devtools.bench.figures.results import turns_per_s
from devtools.bench.plan import Case
from devtools.bench.run import Bench

_RATE_HZ = 100
"""Each sample stops the host for a moment; twice this rate halves its throughput."""
_TOP = 40
_LINE = re.compile(r":\d+\)$")
_STANDARD = "standard library"
_BARE_LOOP = "event loop"
# anyio counts as the standard library, since the HTTP server is built on it.
_PARTS = (
    ("devhost: durable engine", r"devhost/durable/"),
    ("devhost: signalr", r"devhost/signalr/"),
    ("devhost: http", r"devhost/(http|routing|asgi|cors|identity|correlation)"),
    ("devhost: rest", r"devhost/"),
    ("durable SDK", r"durable_functions/"),
    ("worker library", r"azure_functions_runtime|azurefunctions|azure/functions|^functions/"),
    ("http server", r"uvicorn/|starlette/|fastapi/|websockets/"),
    ("postgres client", r"psycopg"),
    ("redis client", r"redis/"),
    ("openai client", r"openai/|httpx|httpcore|h11/"),  # only in older revisions, for comparisons
    ("http client (aiohttp)", r"aiohttp/|yarl/|multidict/"),
    ("pydantic", r"pydantic"),
    ("date parsing", r"dateutil/"),
    ("json", r"json/"),
    ("logging", r"logging/"),
    ("app: triggers", r"triggers/"),
    ("app: orchestrators", r"orchestrators/"),
    ("app: activities", r"activities/"),
    ("app: adapters", r"shared/adapters/"),
    ("app: domain", r"shared/"),
)
_LOOP = "Runner.run (asyncio/runners.py)"
_OURS = re.compile(r"\((devhost|shared|triggers|activities|orchestrators)/")


async def profile(bench: Bench, case: Case, watch: str, stacks: Path) -> str:
    """Load the first contender with `case`, record it for `case.seconds`; returns the summary.

    stacks: the file for folded stacks, which speedscope and flamegraph.pl read.
    """
    contender = bench.contenders[0]
    load = asyncio.create_task(bench.measure(case, contender, watch))
    try:
        await _record(contender.pid, case.seconds, stacks)
        measured = await load
    finally:
        load.cancel()
    rate = turns_per_s(measured)
    head = f"profile of the host, {case.name}, {rate:.1f} turns/s under py-spy; stacks in {stacks}"
    folded = await asyncio.to_thread(stacks.read_text)
    return f"{head}\n\n{summary(folded, expected=round(case.seconds * _RATE_HZ))}"


async def _record(pid: int | None, seconds: float, stacks: Path) -> None:
    try:
        recorder = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--gil", "--subprocesses"),
            *("--duration", f"{seconds:.0f}", "--rate", str(_RATE_HZ), "--format", "raw", "--output", str(stacks)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # this process handles Ctrl-C
        )
    except FileNotFoundError:
        raise ServerError("py-spy is not installed: run without --profile") from None
    try:
        output, _ = await recorder.communicate()
    finally:
        if recorder.returncode is None:
            recorder.kill()
            await recorder.wait()
    if recorder.returncode != 0:
        raise ServerError(f"py-spy could not record: {output.decode(errors='replace').strip()[-300:]}")


def summary(folded: str, *, expected: int) -> str:
    """Shares of all samples, by part and by function. folded: one stack per line; expected: samples at full load."""
    own_parts: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for frames, weight in _stacks(folded):
        own[frames[-1]] += weight
        own_parts[_owner(frames)] += weight
        cumulative.update(dict.fromkeys(frames, weight))
        parts.update(dict.fromkeys(map(part_of, frames), weight))
    total = own.total()
    if not total:
        raise ServerError("the profile holds no samples")
    lines = [f"{total} samples of {expected} that one busy thread would give: {total / expected:.0%}", ""]
    lines.append("   own  with callees  part (the standard library is charged to whoever calls it)")
    for name, count in own_parts.most_common():
        lines.append(f"{count / total:6.1%}  {parts[name] / total:12.1%}  {name}")
    lines += _top("functions, own time", own, total)
    lines += _top("functions of this project, with callees", cumulative, total, lambda frame: bool(_OURS.search(frame)))
    lines += _top("other functions, with callees", cumulative, total, lambda frame: not _OURS.search(frame))
    return "\n".join(lines)


def _top(
    title: str, counter: Counter[str], total: int, wanted: Callable[[str], bool] = lambda frame: True
) -> list[str]:
    chosen = [(name, count) for name, count in counter.most_common() if wanted(name)][:_TOP]
    return ["", title, *(f"{count / total:6.1%}  {name}" for name, count in chosen)]


def _stacks(folded: str) -> Iterator[tuple[list[str], int]]:
    """(frames `function (file)` below the event loop or the thread's start; samples)."""
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        frames = [_LINE.sub(")", frame) for frame in stack.split(";") if not frame.startswith(("process ", "thread "))]
        if _LOOP in frames:
            frames = frames[frames.index(_LOOP) + 1 :] or [_BARE_LOOP]
        yield frames, int(count)


def _owner(frames: list[str]) -> str:
    """The part that a sample is charged to: the innermost one outside the standard library."""
    return next((part for part in map(part_of, reversed(frames)) if part != _STANDARD), _STANDARD)


def part_of(frame: str) -> str:
    """The part of the program of a frame `function (file)`."""
    if frame == _BARE_LOOP:
        return _BARE_LOOP
    place = frame.rpartition("(")[2]
    return next((name for name, pattern in _PARTS if re.search(pattern, place)), _STANDARD)
