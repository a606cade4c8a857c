"""`./dev test` and `./dev check`: the same tests and checks as in CI.

Not Parley's alone: `agents/` is checked and tested with it.

Invariant: a failed check does not stop the next one; the exit code says whether all passed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from devtools.agents.look import look
from devtools.browser import chromium
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
WORKERS = 3
"""For two cores: while a worker waits, for a host, a browser or a time-out, two others compute. Four are no faster."""
TYPED = ("parley", "shared", "orchestrators", "activities", "triggers", "devhost", "devtools")
CLIENT = "clients/python"
_TEST_TIMEOUT_S = 300


def main(arguments: Sequence[str]) -> int:
    """`./dev test [pytest arguments]`; the real servers are started by the fixtures that need them."""
    options = [f"--timeout={_TEST_TIMEOUT_S}", "--durations=5"]
    if not _one_process(arguments):
        # Distributed by file, since the fixtures make one database per module; in the order of tests/conftest.py, for
        # xdist would put the files with few tests last, however long those take.
        options += ["-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder"]
    if _wants_browser(arguments):
        _have_browser()
    # Some hundred processes import the same modules: only the first is to compile them.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir(ROOT)
    return os.execv(sys.executable, [sys.executable, "-m", "pytest", *options, *arguments])  # noqa: S606  # no shell is wanted


def _have_browser() -> None:
    """Before the tests start, so that the progress is seen. Without one, they say why they fail."""
    try:
        asyncio.run(chromium.install(lambda _name, text: print(f"dev: {text}", file=sys.stderr, flush=True)))
    except chromium.NoChromium as reason:
        print(f"dev: {reason}", file=sys.stderr, flush=True)


def _wants_browser(arguments: Sequence[str]) -> bool:
    """Whether the arguments select browser tests, as far as can be told."""
    if any(argument.startswith("--ignore") and argument.endswith("tests/web") for argument in arguments):
        return False
    places = [argument for argument in arguments if argument.partition("/")[0] in {"tests", "agents", "examples"}]
    whole, within = {"tests", "examples"}, ("tests/web", "examples/plain-page")
    return not places or any(place.rstrip("/") in whole or place.startswith(within) for place in places)


def _one_process(arguments: Sequence[str]) -> bool:
    """Whether the arguments set the number of workers, make tests interactive, or select single tests."""
    chosen = ("-n", "--numprocesses", "--pdb", "--trace", "--collect-only", "--co", "-s", "--capture=no")
    return any(argument.startswith(chosen) or "::" in argument for argument in arguments)


def check(arguments: Sequence[str]) -> int:
    """`./dev check`: ruff, its formatter and mypy --strict; 0 when all pass."""
    if arguments:
        print("dev: check takes no arguments", file=sys.stderr)
        return 2
    typed = [name for name in TYPED if (ROOT / name).is_dir()]
    steps = (
        ("lint", ["ruff", "check", ".", "dev"]),
        ("format", ["ruff", "format", "--check", ".", "dev"]),
        ("types", ["mypy", "--strict", *typed]),
        # Of its own: for the oldest Python that it promises.
        ("client types", ["mypy", "--strict", "--config-file", f"{CLIENT}/pyproject.toml", f"{CLIENT}/src"]),
    )
    failed = [name for name, command in steps if not _passes(name, command)]
    failed += [] if _passes_agents(ROOT / "agents") else ["agents"]
    if failed:
        print(f"check: {', '.join(failed)} failed", file=sys.stderr)
    return 1 if failed else 0


def _passes_agents(folder: Path) -> bool:
    """Whether the app would take every file of the folder."""
    if not folder.is_dir():
        return True
    found = asyncio.run(look(folder))
    for problem in found.problems:
        print(problem, file=sys.stderr)
    state = "FAILED" if found.problems else "ok"
    print(f"check: agents {state}: {len(found.agents)} agents and {len(found.tools)} tools of {folder.name}/")
    return not found.problems


def _passes(name: str, command: Sequence[str]) -> bool:
    began = time.monotonic()
    print(f"check: {name} ({' '.join(command)})", flush=True)
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False)
    print(f"check: {name} {'ok' if done.returncode == 0 else 'FAILED'} {time.monotonic() - began:.1f} s", flush=True)
    return done.returncode == 0
