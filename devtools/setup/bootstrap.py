"""Makes a complete `.venv` with any Python that started `./dev`, then re-executes in it.

Written for Python 3.8, unlike the rest of the project. If the stamp matches the current locks, it only re-executes
itself; that path imports as little as possible.

Invariants: the stamp is written last, so an interrupted set-up is repeated. Asking for help sets nothing up.
"""

# Importing pathlib alone would take as long as the rest of the fast path.
# ruff: noqa: PTH110, PTH123
from __future__ import annotations

import hashlib
import os
import sys

from devtools.setup.places import AGENTS_LOCK, AGENTS_REQUIREMENTS, LOCK, PYTHON, ROOT, STAMP, USAGE

HELP = """usage: ./dev COMMAND [arguments]

  up [--port N] [--data DIR] [--agents DIR]   start everything, print the URLs and `ready`; Ctrl-C stops all
  new tool|workflow|agent NAME                write one into agents/, with a test
  record SESSION [--to FOLDER]                write a session of the running host as a case
  replay [CASES] [--junit FILE]               play cases against today's agents, without a model; what changed?
  demo subagents                              two subagents, one waits for a person, the host is killed; is it right?
  test [pytest arguments]                     run the test suite; `test agents`: your own tests
  bench [arguments]                           run the benchmark
  chaos [--minutes N] [--seed S]              random faults of everything under real turns; did the promises hold?
  host DIR [--port N] [--data DIR]            run any other Functions app, with its own packages, without the servers
  check                                       lint, format and types, as CI does
  migrate                                     apply the SQL migrations to POSTGRES_URL
  hubs [adopt HUB [BY]]                       the task hubs of POSTGRES_URL; what to do when one is gone
  lock                                        resolve the requirements anew and write the lock files
  infra [--update]                            compile, lint, evaluate (Bicep) and scan (checkov) the deployment
  package [DIR]                               build the folder that is deployed
  upgrade-check PACKAGE                       would all that waits go on with that package?
  publish python|javascript [--dry-run]       build and publish a client package

`./dev COMMAND --help` says more about one, and sets nothing up.
The first run makes .venv (needs Python 3.13 or newer and the package registry)."""

COMMANDS = (
    "up",
    "new",
    "record",
    "replay",
    "demo",
    "test",
    "bench",
    "chaos",
    "host",
    "check",
    "migrate",
    "hubs",
    "lock",
    "infra",
    "package",
    "upgrade-check",
    "publish",
)


def main(arguments: list[str]) -> int:
    """Replace this process by `python -m devtools`; returns the exit code when that is not possible."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if arguments[0] not in COMMANDS:  # fails without a set-up
        print(f"dev: no command {arguments[0]!r}; ./dev lists them", file=sys.stderr)
        return 2
    if "-h" in arguments or "--help" in arguments:
        print(usage_of(arguments[0]))
        return 0
    if _stamp_found() != _stamp_wanted():
        from devtools.setup import install

        code = install.run(_stamp_found, _stamp_wanted)
        if code != 0:
            return code
    # -P: nothing in the current folder may be imported; a .pth file in .venv adds the project.
    return os.execv(PYTHON, [PYTHON, "-P", "-m", "devtools", *arguments])  # noqa: S606  # no shell is wanted


def usage_of(command: str) -> str:
    """A command's page of help. Its options are declared in Python that may not be there yet, so it is kept as text
    (`devtools/usage.py` writes it)."""
    with open(USAGE, encoding="utf-8") as file:
        pages = file.read().split("\n===== ")
    return next(text.strip() for name, _, text in (page.partition("\n") for page in pages) if name == command)


def _stamp_wanted() -> str:
    with open(LOCK, "rb") as lock:
        wanted = hashlib.sha256(lock.read() + b"\0" + ROOT.encode())
    for path in (AGENTS_REQUIREMENTS, AGENTS_LOCK):
        try:
            with open(path, "rb") as file:
                wanted.update(b"\0" + file.read())
        except OSError:
            wanted.update(b"\0")
    return wanted.hexdigest()


def _stamp_found() -> str:
    try:
        with open(STAMP, encoding="ascii") as stamp:
            found = stamp.read().strip()
    except OSError:
        return ""
    return found if os.path.exists(PYTHON) else ""  # a dangling link if its Python was removed
