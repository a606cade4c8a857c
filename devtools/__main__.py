"""`python -m devtools COMMAND`: runs the commands of `./dev` inside `.venv`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools.setup.bootstrap import HELP
from devtools.setup.places import ROOT

_MIGRATE = "shared.adapters.sql.migrate"
_BENCH = "devtools.bench"
_IN_PROCESS = {
    "up": "devtools.local.up",
    "host": "devtools.host",
    "test": "devtools.checks",
    "check": "devtools.checks",
    "lock": "devtools.setup.lock",
    "infra": "devtools.infra.check",
    "package": "devtools.package",
    "new": "devtools.agents.new",
    "demo": "devtools.demo",
    "record": "devtools.cases.record",
    "replay": "devtools.cases.replay",
    "publish": "devtools.clients.publish",
    "upgrade-check": "devtools.histories.command",
}
"""Commands by the module whose `main(arguments)` runs them; other commands replace this process."""
_PROGRAMS = {
    "migrate": _MIGRATE,
    "hubs": "shared.adapters.sql.hubs",
    "bench": _BENCH,
    "chaos": "devtools.chaos",
}


MODULES = {**_IN_PROCESS, **_PROGRAMS}


def main(arguments: Sequence[str]) -> int:
    command, *rest = arguments or ["help"]
    if command in _IN_PROCESS:
        module = importlib.import_module(_IN_PROCESS[command])
        if command == "check":
            return int(module.check(rest))
        return int(module.main(rest))
    if command in _PROGRAMS:
        return _become(command, _PROGRAMS[command], rest)
    if command == "help":
        print(HELP)
        return 0
    print(f"dev: no command {command!r}; ./dev lists them", file=sys.stderr)
    return 2


def _become(command: str, module: str, arguments: Sequence[str]) -> int:
    """Replace this process, so that signals reach the program itself; returns only when the program is missing."""
    if command == "migrate" and not os.environ.get("POSTGRES_URL"):
        print("dev: set POSTGRES_URL to the database to migrate", file=sys.stderr)
        return 2
    # Its own lookup, since find_spec raises for a missing parent package.
    if not any((Path(ROOT, *module.split("."))).with_suffix(end).exists() for end in ("", ".py")):
        print(f"dev: {command} needs the package {module}, which this checkout does not have", file=sys.stderr)
        return 1
    return os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before a command handles signals itself, or in one without clean-up
        sys.exit(128 + signal.SIGINT)
