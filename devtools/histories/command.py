"""`./dev upgrade-check PACKAGE`: would every instance that waits now go on with the package?"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from devtools.histories.azure_storage import Hub
from devtools.histories.judging import Verdict, judge
from devtools.histories.package import NotAPackage, Package
from devtools.histories.stored import Stored, Unreadable, read
from devtools.setup.places import ROOT

_MOST_SAID = 50
_CONNECTION = "AzureWebJobsStorage"
HUB = "parley"
"""As host.json names it."""


def main(arguments: Sequence[str]) -> int:
    """0: all go on; 1: some would not; 2: it could not be found out."""
    parser = argparse.ArgumentParser(
        prog="./dev upgrade-check",
        description="Replay the histories of all instances that wait with the orchestrators of a package.",
    )
    parser.add_argument("package", type=Path, help="a folder of ./dev package, or its zip file")
    parser.add_argument("--data", type=Path, default=Path(ROOT) / ".data", help="data folder of a local host (.data)")
    parser.add_argument(
        "--histories",
        type=Path,
        action="append",
        metavar="PATH",
        help="exported histories instead: a file or a folder; may be given again (docs/replay.md has the format)",
    )
    parser.add_argument(
        "--storage",
        metavar="ACCOUNT",
        help=f"a deployed task hub in Azure Storage instead, read as whoever is signed in with az or azd; {_CONNECTION}"
        " as name: with the connection string of that setting",
    )
    parser.add_argument("--hub", default=HUB, help=f"its name ({HUB})")
    parser.add_argument(
        "--patience",
        type=float,
        default=0,
        metavar="SECONDS",
        help="how long to try again while the account refuses: a new role takes minutes to count (0)",
    )
    parser.add_argument("--python", type=Path, help="Python with the package's own requirements (the one of .venv)")
    options = parser.parse_args(arguments)
    try:
        waiting = [stored for stored in _found(options) if stored.waits]
        verdicts = check(waiting, options.package, python=options.python)
    except (NotAPackage, Unreadable) as error:
        print(f"upgrade-check: {error}", file=sys.stderr)
        return 2
    return say(verdicts)


def _found(options: argparse.Namespace) -> list[Stored]:
    if options.storage is None:
        return [one for path in options.histories or [_host_of(options.data)] for one in read(path)]
    if options.storage != _CONNECTION:
        return Hub.of_account(options.hub, options.storage, patience_s=options.patience).waiting()
    if not (connection := os.environ.get(_CONNECTION)):
        raise Unreadable(f"{_CONNECTION} is not set: the storage account's connection string")
    return Hub.of_connection(options.hub, connection, patience_s=options.patience).waiting()


def _host_of(data: Path) -> Path:
    """Where a host has its store in the data folder of `./dev up`, or of `./dev host`."""
    inside = data / "host" / "data"
    return inside if inside.is_dir() else data


def check(waiting: Sequence[Stored], package: Path, *, python: Path | None = None) -> list[Verdict]:
    """One verdict for each. Raises NotAPackage."""
    with Package.opened(package, python=python) as opened:
        return [judge(stored, opened.names, opened.replay) for stored in waiting]


def say(verdicts: Sequence[Verdict]) -> int:
    """Print what was found; returns the exit code."""
    stuck = [verdict for verdict in verdicts if verdict.why is not None]
    for verdict in stuck[:_MOST_SAID]:
        print(f"would not go on: {verdict.stored.orchestration} {verdict.stored.instance_id}: {verdict.why}")
    if len(stuck) > _MOST_SAID:
        print(f"... and {len(stuck) - _MOST_SAID} more")
    kinds = Counter(verdict.stored.orchestration for verdict in verdicts)
    of = ", ".join(f"{count} {name}" for name, count in sorted(kinds.items())) or "nothing waits"
    print(f"upgrade-check: {len(verdicts) - len(stuck)} of {len(verdicts)} instances go on ({of})")
    return 1 if stuck else 0
