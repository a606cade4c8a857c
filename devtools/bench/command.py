"""The command line of `./dev bench`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devhost.servers import ServerError
from devtools.bench.contender import Version
from devtools.bench.figures.profile import profile
from devtools.bench.figures.report import tables
from devtools.bench.figures.statements import statements
from devtools.bench.load.client import Watch
from devtools.bench.machine import machine
from devtools.bench.plan import ALL, SESSIONS, Case, Plan, make_plan
from devtools.bench.run import Outcome, carry_out, running
from devtools.bench.timeline.command import timeline
from devtools.bench.worktree import revision_of, worktree
from devtools.setup.places import ROOT
from devtools.signals import until_signal

_RESULTS = Path(ROOT) / "bench-results"
_HERE = "here"
_APIS = ("responses", "chat")
"""The model's APIs; the ratio is first to second."""
_PROFILE_S = 15.0
_STATEMENTS_S = 8.0


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(until_signal("bench", _bench(options)))
    except ServerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


async def _bench(options: argparse.Namespace) -> int:
    plan = make_plan(
        only=options.only,
        sessions=options.sessions,
        quick=options.quick,
        rounds=options.rounds,
        seconds=options.seconds,
        watch=options.watch,
    )
    began = datetime.now(UTC)
    target = options.json or _RESULTS / f"{began:%Y%m%d-%H%M%S}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = temporary_folder(stack)
        contenders = {_HERE: Version(Path(ROOT))}
        if options.apis:
            contenders = {api: Version(Path(ROOT), {"MODEL_API": api}) for api in _APIS}
        if options.compare is not None:
            checkout = stack.enter_context(worktree(Path(ROOT), options.compare, folder / "checkout"))
            contenders[options.compare] = Version(checkout)
        say(f"starting servers, model and {len(contenders)} host(s) in {folder}")
        async with running(folder, contenders, say, statistics=options.statements) as bench:
            outcome = await carry_out(bench, plan, say)
            say("\n" + tables(outcome))
            target.write_text(json.dumps(document(began, contenders, plan, outcome), indent=1) + "\n")
            say(f"\nfigures in {target}")
            busiest = max(plan.cases, key=lambda case: case.sessions, default=Case("W1", 64, 0, 0))
            if options.statements:
                case = Case(busiest.workload, busiest.sessions, _STATEMENTS_S, busiest.max_turns or 25)
                for contender in bench.contenders:
                    say(f"\n{await statements(bench, contender, case, plan.watch)}")
            if options.profile:
                case = Case(busiest.workload, busiest.sessions, _PROFILE_S, 10_000)
                text = await profile(bench, case, plan.watch, target.with_suffix(".folded"))
                target.with_suffix(".profile.txt").write_text(text + "\n")
                say("\n" + text)
        if options.timeline:
            say("\n" + await timeline(folder / "timeline", say))
    return 0


def temporary_folder(stack: contextlib.ExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    # When we are root, PostgreSQL runs under another account, which must be able to reach the folder.
    folder.chmod(0o711)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def document(began: datetime, versions: dict[str, Version], plan: Plan, outcome: Outcome) -> dict[str, Any]:
    return {
        "at": began.isoformat(),
        "machine": machine(),
        "revisions": {label: revision_of(version.checkout) for label, version in versions.items()},
        "watch": plan.watch,
        "rounds": plan.rounds,
        "idle_memory_mib": outcome.idle_mib,
        "cases": [result.as_json() for result in outcome.cases],
        "growth": [result.as_json() for result in outcome.growth],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev bench", description="Measure turns on the real servers against a fast fake model."
    )
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", type=_names, default=(), metavar="NAME,...", help=f"of {', '.join(ALL)}")
    parser.add_argument("--sessions", type=counts, default=SESSIONS, metavar="N,...", help="at once (1,16,64)")
    parser.add_argument("--rounds", type=count, help="how often each case is measured (3; quick: 1)")
    parser.add_argument("--seconds", type=seconds, help="length of a measured window (5; quick: 1.5)")
    parser.add_argument("--watch", choices=list(Watch), default=Watch.SSE.value, help="how clients watch the answer")
    parser.add_argument("--compare", metavar="REV", help="also measure this git revision, and print ratios")
    parser.add_argument("--apis", action="store_true", help="measure the model over both of its APIs, and print ratios")
    parser.add_argument("--profile", action="store_true", help="then profile the host with py-spy")
    parser.add_argument(
        "--statements", action="store_true", help="then count what each statement of a turn costs PostgreSQL"
    )
    parser.add_argument("--timeline", action="store_true", help="then tell when what happens in one turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures (bench-results/<time>.json)")
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ALL)}")
    return names


def counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) <= 600:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 600")


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def say(text: str) -> None:
    print(text, flush=True)
