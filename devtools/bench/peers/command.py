"""Measures Parley and the peers alternately, in one run, with the same clients, model and servers."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from devhost.servers import ServerError
from devtools.bench.command import count, counts, document, say, seconds, temporary_folder
from devtools.bench.contender import Entry, Version
from devtools.bench.figures.report import tables
from devtools.bench.load.client import Watch
from devtools.bench.peers.contender import Peer, environment
from devtools.bench.plan import make_plan
from devtools.bench.run import carry_out, running
from devtools.setup.places import ROOT
from devtools.signals import until_signal

PARLEY = "parley"
ENGINES = ("none", "langgraph", "dbos", "dbos-tokens")
_ENVIRONMENT = Path(ROOT) / "bench-results" / "peers"


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(until_signal("peers", _measure(options)))
    except ServerError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1


async def _measure(options: argparse.Namespace) -> int:
    began = datetime.now(UTC)
    say(f"the peers' packages, in {_ENVIRONMENT} (a minute, the first time)")
    python = await environment(_ENVIRONMENT)
    entries: dict[str, Entry] = {PARLEY: Version(Path(ROOT)), **{name: Peer(name, python) for name in options.only}}
    plan = make_plan(
        only=("W1", "realistic"),
        sessions=options.sessions,
        quick=False,
        rounds=options.rounds,
        seconds=options.seconds,
        watch=Watch.SSE.value,
    )
    with contextlib.ExitStack() as stack:
        async with running(temporary_folder(stack), entries, say) as bench:
            outcome = await carry_out(bench, plan, say)
        say("\n" + tables(outcome))
        if options.json is not None:
            made = document(began, {PARLEY: Version(Path(ROOT))}, plan, outcome)
            options.json.write_text(json.dumps(made, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devtools.bench.peers", description=__doc__)
    parser.add_argument("--only", type=_engines, default=ENGINES, metavar="NAME,...", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--sessions", type=counts, default=(1, 64), metavar="N,...", help="at once (1,64)")
    parser.add_argument("--rounds", type=count, default=3, help="how often each case is measured (3)")
    parser.add_argument("--seconds", type=seconds, default=4.0, help="length of a measured window (4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    return parser


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in ENGINES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(ENGINES)}")
    return names
