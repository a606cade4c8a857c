"""`./dev infra`: compiles, lints and evaluates `infra/` with Bicep where there is one, and scans it with checkov.

`--update` writes the snapshots instead, which only Bicep can; nothing is written while Bicep or an invariant objects.
Without Bicep, the hash beside the snapshots says whether what is in git has been through it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devtools.infra import changes
from devtools.infra.compiler import TO_GET_IT, Compiler, CompilerError, Resource, find
from devtools.infra.deployments import (
    CHOICES,
    FOLDER,
    SNAPSHOTS,
    SOURCES,
    Choice,
    committed,
    evaluate,
    sources_hash,
    stored,
)
from devtools.infra.invariants import clocks, faults
from devtools.infra.scan import scan

STALE = "infra/ changed: run ./dev infra --update"
DEPLOYMENTS = [*CHOICES, Choice("prod", True, "scheduler", public_app=True)]


def main(arguments: Sequence[str]) -> int:
    """0 when nothing was found."""
    update = list(arguments) == ["--update"]
    if arguments and not update:
        print("dev: infra takes --update, or nothing", file=sys.stderr)
        return 2
    began = time.monotonic()
    said = []
    try:
        program = find()
        if program is not None:
            with Compiler(program) as compiler:
                lines = check(compiler, update=update)
                said.append(f"Bicep {compiler.version()}: {len(DEPLOYMENTS)} deployments")
        else:
            print(f"infra: no Bicep here, so nothing is compiled; {TO_GET_IT}", file=sys.stderr)
            lines = ["--update needs Bicep"] if update else stale()
    except CompilerError as error:
        lines = [str(error)]
    if not update:
        found, summary = scan()
        lines += found
        said.append(summary)
    for line in lines:
        print(f"infra: {line}", file=sys.stderr)
    print(f"infra: {'FAILED' if lines else 'ok'} {time.monotonic() - began:.1f} s ({'; '.join(said)})")
    return 1 if lines else 0


def stale(folder: Path = FOLDER) -> list[str]:
    """Whether the snapshots are those of other sources."""
    return [] if _seen(folder)[0] == sources_hash(folder) else [STALE]


def _seen(folder: Path) -> list[str]:
    """The hash of the sources that the snapshots are of, and the version of the Bicep that wrote them."""
    file = folder / SOURCES
    return file.read_text("utf-8").split() if file.is_file() else ["none", "none"]


def check(compiler: Compiler, folder: Path = FOLDER, *, update: bool = False) -> list[str]:
    """Everything that is wrong with the sources, else with the snapshots, which `update` writes."""
    lines, template = lint(compiler, folder)
    if not lines:
        deployments = {each: evaluate(compiler, template, each.variables(), folder) for each in DEPLOYMENTS}
        lines = wrong(deployments)
    if not lines:
        current = committed(compiler, template, folder)
        lines = _write(compiler, current, folder) if update else _compare(compiler, current, folder)
    return lines


def lint(compiler: Compiler, folder: Path = FOLDER) -> tuple[list[str], dict[str, Any]]:
    """What the compiler and its linter object to, and the template."""
    main_file = folder / "main.bicep"
    found = compiler.compile(main_file)
    unused = set(folder.rglob("*.bicep")) - compiler.files(main_file)
    lines = [f"{file.relative_to(folder)}: main.bicep does not reach it" for file in sorted(unused)]
    lines += [f"main.bicep: {name}() is another value in every deployment" for name in clocks(found.template)]
    return found.findings + lines, found.template


def wrong(deployments: Mapping[Choice, list[Resource]]) -> list[str]:
    """What the invariants object to, each line once."""
    where: dict[str, list[Choice]] = {}
    for choice, resources in deployments.items():
        for line in faults(resources, private=choice.private, public_app=choice.public_app):
            where.setdefault(line, []).append(choice)
    return [f"{line} (in {len(found)} of {len(deployments)}: {found[0]})" for line, found in where.items()]


def _compare(compiler: Compiler, current: Mapping[str, str], folder: Path) -> list[str]:
    files = {name: folder / SNAPSHOTS / f"{name}.json" for name in current}
    if stale(folder) or all(
        file.is_file() and file.read_text("utf-8") == current[name] for name, file in files.items()
    ):
        return stale(folder)
    mine, theirs = compiler.version(), _seen(folder)[1]
    return [f"Bicep {mine} evaluates to other snapshots than those of Bicep {theirs} in git: run ./dev infra --update"]


def _write(compiler: Compiler, current: Mapping[str, str], folder: Path) -> list[str]:
    for name, text in current.items():
        file = folder / SNAPSHOTS / f"{name}.json"
        before = stored(name, folder) if file.is_file() else []
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
        for line in sorted(changes.refused(before, stored(name, folder))):
            print(f"infra: {name}: Azure refuses to change this on what exists: {line}", file=sys.stderr)
    (folder / SOURCES).write_text(f"{sources_hash(folder)} {compiler.version()}\n", "utf-8")
    print(f"infra: wrote {', '.join(current)}; `git diff infra/snapshots` shows what changes")
    return []
