"""The command line of `./dev chaos`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from devhost.servers import ServerError
from devtools.bench.machine import machine
from devtools.bench.worktree import revision_of
from devtools.chaos.report import keep, summary, told
from devtools.chaos.run import carry_out, figures
from devtools.chaos.schedule import Schedule, Target, make_schedule, read_schedule
from devtools.chaos.stack import running
from devtools.setup.places import ROOT
from devtools.signals import until_signal

_ENGINES = {"kind": {}, "harsh": {"DEVHOST_ENGINE": "harsh", "DEVHOST_HARSH_SECOND": "0.2"}}


def main(arguments: Sequence[str]) -> int:
    """0: every invariant held; 1: one did not, or nothing could be started."""
    options = _parser().parse_args(arguments)
    command = shlex.join(["./dev", "chaos", *arguments])
    status = 1
    try:
        status = asyncio.run(until_signal("chaos", _chaos(options, _schedule(options), command)))
    except* (ServerError, ValueError, OSError) as failures:
        for failure in _leaves(failures):
            print(f"chaos: {failure}", file=sys.stderr)
    return status


def _leaves(failure: BaseException) -> list[BaseException]:
    if isinstance(failure, BaseExceptionGroup):
        return [leaf for part in failure.exceptions for leaf in _leaves(part)]
    return [failure]


def _schedule(options: argparse.Namespace) -> Schedule:
    if options.schedule is not None:
        return read_schedule(options.schedule.read_bytes())
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    return make_schedule(seed, options.minutes * 60, users=options.users, targets=options.only)


async def _chaos(options: argparse.Namespace, schedule: Schedule, command: str) -> int:
    began = datetime.now(UTC)
    folder = _folder(schedule)
    strikes = len(schedule.strikes)
    _say(f"seed {schedule.seed}: {schedule.seconds:g} s, {schedule.users} users, {strikes} strikes, in {folder}")
    with contextlib.ExitStack() as stack:
        if not options.keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        async with running(folder, _say, _ENGINES[options.engine]) as everything:
            run = await carry_out(everything, schedule, folder, _say)
        found = figures(run)
        _say("\n" + summary(found))
        if options.json is not None:
            about = {"at": began.isoformat(), "command": command, "revision": revision_of(Path(ROOT))}
            keep(options.json, {**about, "machine": machine(), "engine": options.engine, **found})
        if not run.violations:
            _say(f"\nseed {schedule.seed}: ok")
            return 0
        stack.pop_all()  # what was found is looked into there
        again = f"./dev chaos --schedule {folder / 'schedule.json'}"
        _say(f"\n{told(run.violations)}\n\nseed {schedule.seed}: broken\n  logs: {folder}\n  again: {again}")
        return 1


def _folder(schedule: Schedule) -> Path:
    """A new folder with the schedule in it."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o711)  # when we are root, PostgreSQL runs under another account, which must reach it
    (folder / "schedule.json").write_bytes(schedule.dumps())
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev chaos", description="Random faults of everything under real turns, and whether the promises held."
    )
    parser.add_argument("--minutes", type=_minutes, default=2.0, help="how long faults go on (2)")
    parser.add_argument("--seed", type=int, help="of schedule and users (random)")
    parser.add_argument("--users", type=_users, default=6, help="at once (6)")
    parser.add_argument("--only", type=_targets, default=tuple(Target), metavar="TARGET,...", help=", ".join(Target))
    parser.add_argument("--engine", choices=list(_ENGINES), default="kind", help="the durable engine (kind)")
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="repeat this schedule; its seed is the users'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the figures to this file")
    parser.add_argument("--keep", action="store_true", help="keep logs and data also when all is well")
    return parser


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (minutes := float(text)) <= 24 * 60:
            return minutes
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes up to a day")


def _users(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of users from 1 to 1000")
    return int(text)


def _targets(text: str) -> tuple[Target, ...]:
    try:
        return tuple(Target(name) for name in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _say(text: str) -> None:
    print(text, flush=True)
