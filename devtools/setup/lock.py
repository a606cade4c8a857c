"""`./dev lock`: resolve requirements.txt and requirements-dev.txt into constraints.txt and requirements-dev.lock.

constraints.txt pins the app's dependencies; requirements-dev.lock pins and hashes everything, the app included, at the
same versions. `./dev package` takes the deployed requirements from the two.

Invariant: neither file contains a registry address or a path of this machine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from devtools.setup import agents_lock
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
CONSTRAINTS = "constraints.txt"
DEV_LOCK = "requirements-dev.lock"
_FORBIDDEN = re.compile(r"(?m)^--|://|(?<![\w.])/(?:\w+/)|@ file")
_HEADER = "# Made by ./dev lock from {sources}; do not edit.\n"


class LockError(Exception):
    """The locks cannot be made; the message is one line."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev lock", description="Resolve the requirements and write the locks.")
    parser.add_argument("--upgrade", action="store_true", help="take newer indirect dependencies where allowed")
    options = parser.parse_args(arguments)
    try:
        _lock(upgrade=options.upgrade)
    except LockError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    print(f"wrote {CONSTRAINTS} and {DEV_LOCK}")
    try:
        if agents_lock.write(upgrade=options.upgrade):
            print("wrote agents/requirements.lock")
    except LockError as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    return 0


def _lock(*, upgrade: bool) -> None:
    app = _requirements("requirements.txt")
    dev = _requirements("requirements-dev.txt")
    with tempfile.TemporaryDirectory() as scratch:
        constraints = resolve(
            Path(scratch), app, previous=None if upgrade else ROOT / CONSTRAINTS, header="requirements.txt"
        )
        pins = Path(scratch) / "pins.txt"
        pins.write_text(constraints)
        lock = resolve(
            Path(scratch),
            app + dev,
            previous=None if upgrade else ROOT / DEV_LOCK,
            header="requirements.txt and requirements-dev.txt",
            options=("--generate-hashes", "--constraint", str(pins)),
        )
    (ROOT / CONSTRAINTS).write_text(constraints)
    (ROOT / DEV_LOCK).write_text(lock)


def _requirements(name: str) -> str:
    """The file's requirements without its `-r` and `-c` lines, which would name the locks that are being made."""
    lines = (ROOT / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("-")) + "\n"


def resolve(
    scratch: Path, requirements: str, *, previous: Path | None, header: str, options: Sequence[str] = ()
) -> str:
    """The lock of some requirements. previous: a lock whose versions are kept where they may. Raises LockError."""
    source, output = scratch / "in.txt", scratch / "out.txt"
    source.write_text(requirements)
    if previous is not None and previous.exists():
        output.write_text(previous.read_text())  # uv keeps the versions in this file
    else:
        output.unlink(missing_ok=True)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("uv")),
            *("pip", "compile", "--quiet", "--universal"),
            *("--python-version", "3.13", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--no-emit-find-links", *options, "--output-file", str(output), str(source)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"UV_CUSTOM_COMPILE_COMMAND": "./dev lock"},
    )
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["uv gave no reason"]
        raise LockError("cannot resolve the requirements: " + " ".join(lines)[:500])
    text = _HEADER.format(sources=header) + output.read_text()
    found = _FORBIDDEN.search("\n".join(line for line in text.splitlines() if not line.startswith("    --hash=")))
    if found is not None:
        raise LockError(f"the lock would contain an address or an option of this machine: {found.group()!r}")
    return text
