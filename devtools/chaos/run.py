"""One run: users live, strikes fall, everything heals, all becomes quiet, and the evidence is judged."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil

from devhost.threads import in_new_thread
from devtools.bench.figures.statistics import median
from devtools.bench.figures.usage import MIB, usage_of
from devtools.chaos.client import World
from devtools.chaos.evidence import gather, until_quiet
from devtools.chaos.history import History
from devtools.chaos.invariants import Evidence, violations
from devtools.chaos.schedule import Planned, Schedule
from devtools.chaos.stack import Stack
from devtools.chaos.users import Seen, User, crowd, pulse

QUIET_LIMIT_S = 240.0
"""After the last strike. A lost turn is found within 10 s and five times `TURN_STALLED_SECONDS`, an answer that
hangs within `LLM_TIMEOUT_SECONDS`, five times; each restart of a step takes twice as long as the one before."""
_PROGRESS_S = 10.0
_SAMPLE_S = 2.0

type Say = Callable[[str], None]


class Fallen(NamedTuple):
    """A strike as it was. healed_s: once what was struck runs again. Seconds of the run."""

    planned: Planned
    began_s: float
    healed_s: float


@dataclass
class Run:
    """What happened. violations: by invariant."""

    schedule: Schedule
    history: History
    seen: Seen = field(default_factory=Seen)
    fallen: list[Fallen] = field(default_factory=list)
    peak_mib: float = 0.0
    quiet_s: float = 0.0
    """From the last healing until nothing was open."""
    evidence: Evidence = field(default_factory=Evidence)
    violations: dict[str, list[str]] = field(default_factory=dict)


async def carry_out(stack: Stack, schedule: Schedule, folder: Path, say: Say) -> Run:
    history = History(folder / "history.jsonl")
    run = Run(schedule, history)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, _sampled(stack, run, say):
        world = World(http, stack.host.url, history)
        users = [User(world, run.seen, schedule.seed, n, tool_url=stack.tool_url) for n in range(schedule.users)]
        async with asyncio.TaskGroup() as group:
            living = [group.create_task(user.run()) for user in users]
            living += [group.create_task(pulse(world, run.seen)), group.create_task(crowd(world))]
            await _strike_all(stack, run)
            healed_s = history.now()
            history.note("everything is healed")
            world.stopping.set()
            await _until_all_is_quiet(stack, living, world)
            run.quiet_s = history.now() - healed_s
        struck = frozenset(fallen.planned.target for fallen in run.fallen)
        run.evidence = await gather(stack, world, run.seen, struck=struck, peak_mib=run.peak_mib)
    run.violations = violations(run.evidence)
    history.note("judged", violations=run.violations)
    history.close()
    return run


async def _strike_all(stack: Stack, run: Run) -> None:
    # An orderly stop may take longer than was planned.
    alone = {planned.target: asyncio.Lock() for planned in run.schedule.strikes}
    async with asyncio.TaskGroup() as group:
        for planned in run.schedule.strikes:
            await asyncio.sleep(max(0.0, planned.at_s - run.history.now()))
            group.create_task(_strike(stack, run, planned, alone[planned.target]))
        await asyncio.sleep(max(0.0, run.schedule.seconds - run.history.now()))


async def _strike(stack: Stack, run: Run, planned: Planned, alone: asyncio.Lock) -> None:
    history = run.history
    async with alone:
        began_s = history.now()
        history.note("strike", planned=planned)
        async with stack.struck(planned):
            await asyncio.sleep(planned.for_s)
        run.fallen.append(Fallen(planned, began_s, history.now()))
        history.note("healed", planned=planned)


async def _until_all_is_quiet(stack: Stack, living: list[asyncio.Task[None]], world: World) -> None:
    """When it takes too long, everybody gives up, and what is open shows in the evidence."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(QUIET_LIMIT_S):
            await asyncio.wait(living)
            await until_quiet(stack)
    world.gives_up.set()
    await asyncio.wait(living)


@contextlib.asynccontextmanager
async def _sampled(stack: Stack, run: Run, say: Say) -> Any:
    """Watch the host's memory, and say how it goes."""

    def host_mib() -> float:
        pid = stack.groups.get(stack.host.name)
        with contextlib.suppress(psutil.Error):
            return usage_of({"host": pid})["host"].memory / MIB if pid is not None else 0.0
        return 0.0

    async def watch() -> None:
        told_s = 0.0
        while True:
            now_mib = await in_new_thread(host_mib)
            run.peak_mib = max(run.peak_mib, now_mib)
            if run.history.now() - told_s >= _PROGRESS_S:
                told_s = run.history.now()
                ended = Counter(turn.status for turn in run.seen.turned)
                states = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
                say(
                    f"{told_s:6.0f} s  turns: {states or 'none yet'};"
                    f" strikes: {len(run.fallen)} of {len(run.schedule.strikes)}; host {now_mib:.0f} MiB"
                )
            await asyncio.sleep(_SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def recoveries(run: Run) -> dict[str, list[float]]:
    """Seconds from healing until a turn has completed that was posted after it, by `target strike`.

    Of strikes that ended alone: where another one falls before that turn, nobody could say whose time it was.
    """
    found: dict[str, list[float]] = defaultdict(list)
    completed = sorted((turn for turn in run.seen.turned if turn.status == "completed"), key=lambda turn: turn.ended_s)
    for fallen in run.fallen:
        first = next((turn for turn in completed if turn.posted_s >= fallen.healed_s), None)
        if first is None:
            continue
        others = (other for other in run.fallen if other is not fallen)
        if not any(other.began_s < first.ended_s and other.healed_s > fallen.healed_s for other in others):
            found[name_of(fallen.planned)].append(first.ended_s - fallen.healed_s)
    return found


def name_of(planned: Planned) -> str:
    return f"{planned.target} {planned.strike}"


def figures(run: Run) -> dict[str, Any]:
    """What is printed, and kept for `docs/reliability.md`."""
    measured = recoveries(run)
    strikes: dict[str, dict[str, Any]] = {}
    for fallen in sorted(run.fallen, key=lambda fallen: name_of(fallen.planned)):
        name = name_of(fallen.planned)
        row = strikes.setdefault(name, {"count": 0, "seconds": 0.0})
        row["count"] += 1
        row["seconds"] = round(row["seconds"] + fallen.healed_s - fallen.began_s, 1)
    for name, times in measured.items():
        strikes[name] |= {
            "measured": len(times),
            "recovery_p50_s": round(median(times), 2),
            "recovery_max_s": round(max(times), 2),
        }
    operations: dict[str, dict[str, int]] = defaultdict(dict)
    for (kind, outcome), count in sorted(run.history.counts.items()):
        operations[kind][outcome.value] = count
    return {
        "seed": run.schedule.seed,
        "seconds": run.schedule.seconds,
        "users": run.schedule.users,
        "turns": dict(Counter(turn.status for turn in run.evidence.turns.values())),
        "sessions": len(run.evidence.sessions),
        "effects": sum(run.evidence.effects.values()),
        "events_heard": sum(len(heard.events) for heard in run.seen.heard.values()),
        "operations": dict(operations),
        "strikes": strikes,
        "quiet_s": round(run.quiet_s, 1),
        "slowest_s": round(max((op.ended_s - op.began_s for op in run.history.operations), default=0), 1),
        "peak_mib": round(run.peak_mib),
        "violations": {name: len(lines) for name, lines in run.violations.items()},
    }
