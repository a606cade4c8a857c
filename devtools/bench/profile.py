"""A profile of the host under load: py-spy's stacks, and a summary by function and by part of the program.

Taken in a window of its own after the measuring, as a profiler slows what it watches.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from pathlib import Path

from devhost.servers import ServerError
from devtools.bench.plan import Case
from devtools.bench.run import Bench

_RATE_HZ = 200
_TOP = 40
_PARTS = (
    ("durable engine", r"devhost/durable/"),
    ("signalr service", r"devhost/signalr/"),
    ("host: http", r"devhost/(http|routing|asgi|cors|identity|correlation)"),
    ("host: dispatch", r"devhost/"),
    ("durable SDK", r"durable_functions/"),
    ("worker library", r"azure_functions_runtime|azurefunctions|azure/functions|functions/"),
    ("http server", r"uvicorn/|starlette/|fastapi/|anyio/|websockets/|wsproto/"),
    ("postgres client", r"psycopg"),
    ("redis client", r"redis/"),
    ("openai client", r"openai/|httpx|httpcore|h11/"),
    ("http client", r"aiohttp/|yarl/|multidict/"),
    ("pydantic", r"pydantic"),
    ("json", r"json/"),
    ("app: triggers", r"triggers/"),
    ("app: orchestrators", r"orchestrators/"),
    ("app: activities", r"activities/"),
    ("app: adapters", r"shared/adapters/"),
    ("app: domain", r"shared/"),
    ("logging", r"logging/"),
    ("event loop", r"asyncio/|uvloop"),
)


async def profile(bench: Bench, case: Case, watch: str, target: Path) -> str:
    """Record `case` with the first contender; writes folded stacks to `target` and returns the summary."""
    contender = bench.contenders[0]
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise ServerError("py-spy is not installed: run without --profile")
    load = asyncio.create_task(bench.measure(case, contender, watch))
    recorder = await asyncio.create_subprocess_exec(
        *(str(program), "record", "--pid", str(contender.pid), "--duration", f"{case.seconds:.0f}"),
        *("--rate", str(_RATE_HZ), "--format", "raw", "--subprocesses", "--nonblocking", "--output", str(target)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await recorder.communicate()
    measured = await load
    if recorder.returncode != 0:
        raise ServerError(f"py-spy could not record: {output.decode(errors='replace').strip()[-300:]}")
    rate = len(measured.samples["total_s"]) / measured.samples["window_s"]
    return f"profile of the host, {case.name}, {rate:.1f} turns/s under py-spy; stacks in {target}\n\n" + summary(
        await asyncio.to_thread(target.read_text)
    )


def summary(folded: str) -> str:
    """Shares of all samples, by part (own, and with what it calls) and by function. folded: one stack per line."""
    own_parts: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        frames = [re.sub(r":\d+\)", ")", frame) for frame in stack.split(";")]
        weight = int(count)
        total += weight
        own[frames[-1]] += weight
        own_parts[part_of(frames[-1])] += weight
        for frame in set(frames):
            cumulative[frame] += weight
        for part in {part_of(frame) for frame in frames}:
            parts[part] += weight
    if not total:
        raise ServerError("the profile holds no samples")
    lines = [f"{total} samples", "  own   with callees  part"]
    lines += [
        f"{own_parts[name] / total:6.1%} {count / total:8.1%}        {name}" for name, count in parts.most_common()
    ]
    for title, counter in (("own time", own), ("with callees", cumulative)):
        lines += ["", title, *(f"{count / total:6.1%}  {name}" for name, count in counter.most_common(_TOP))]
    return "\n".join(lines)


def part_of(frame: str) -> str:
    """The part of the program a frame `function (file)` belongs to."""
    place = frame.rpartition("(")[2]
    return next((name for name, pattern in _PARTS if re.search(pattern, place)), "python")
