"""`./dev package [DIR]`: builds the console, then the deployed folder, without the files in `.funcignore`.

Its `requirements.txt` is not the checkout's: it names every package, indirect ones too, with the hashes from
`requirements-dev.lock`. Azure's build runs `pip install -r requirements.txt` (or uv), which then installs nothing whose
hash is not there. What `agents/requirements.txt` needs beyond that is appended, from `agents/requirements.lock`.

`packaged.json` says when the package was built: while a deployment rolls, the agents of the one that was built later
count (`shared/sessions/agents/file_versions.py`).

Its `host.json` names the durable backend as well, by `PARLEY_DURABLE_BACKEND`, as the app settings of infra/ do: the
settings reach the host, but the service that starts the app's instances is told of host.json alone. The checkout's
`host.json` names none, so the local host runs its own.

`azd` and Core Tools read `.funcignore` with the rules of `.gitignore`. This program supports only the simple rules (a
name or a glob, at the top with a leading `/`, otherwise anywhere; a whole path) and refuses all others, so that every
reader interprets the file in the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from devtools import console
from devtools.setup import agents_lock
from devtools.setup.places import ROOT as _ROOT

ROOT = Path(_ROOT)
FOLDER = ROOT / ".data" / "package"
"""Where `azd` takes the package from (`azure.yaml`)."""

HOST = "host.json"
MARK = "packaged.json"
BACKEND_VARIABLE = "PARLEY_DURABLE_BACKEND"
BACKENDS: dict[str, dict[str, str]] = {
    "scheduler": {"type": "azureManaged", "connectionStringName": "DURABLE_TASK_SCHEDULER_CONNECTION_STRING"},
    "storage": {
        "type": "AzureStorage",
        "connectionStringName": "AzureWebJobsStorage",
        "maxQueuePollingInterval": "00:00:01",
        "workItemQueueVisibilityTimeout": "00:01:00",
        "controlQueueVisibilityTimeout": "00:01:00",
    },
}
"""`durableTask.storageProvider` by infra's parameter `durableBackend`; tests hold it to the app settings."""
REQUIREMENTS, CONSTRAINTS, LOCK = "requirements.txt", "constraints.txt", "requirements-dev.lock"
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*"


class PackageError(Exception):
    """Nothing was built; the message says why."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./dev package", description="Build the folder that is deployed.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder: Path = parser.parse_args(arguments).folder
    try:
        # The package must contain the console, built from the current sources.
        asyncio.run(console.build())
        files = build(folder, backend=os.environ.get(BACKEND_VARIABLE) or "scheduler")
    except (PackageError, console.ConsoleNotBuilt) as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    size = sum((folder / file).stat().st_size for file in files)
    print(f"package: {len(files)} files, {size / 1e6:.1f} MB in {folder}")
    return 0


def build(
    target: Path, source: Path = ROOT, *, backend: str = "scheduler", packaged_at: datetime | None = None
) -> list[Path]:
    """Empty `target` and copy the deployed files from `source`; returns their relative paths. Raises PackageError.

    backend: a key of BACKENDS. packaged_at: aware; None: now.
    """
    if backend not in BACKENDS:
        raise PackageError(f"{BACKEND_VARIABLE} is {backend!r}: it must be one of {', '.join(BACKENDS)}")
    rules = read_rules(source / ".funcignore")
    files = sorted(_kept(source, rules))
    try:
        if target.exists() and any(target.iterdir()) and not (target / HOST).exists():
            raise PackageError(f"{target} contains other files than a package: name another folder")
        shutil.rmtree(target, ignore_errors=True)
        for file in files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, target / file)
        (target / REQUIREMENTS).write_text(hashed_requirements(source), encoding="utf-8")
        now = datetime.now(UTC) if packaged_at is None else packaged_at
        (target / MARK).write_text(json.dumps({"packaged_at": now.isoformat()}) + "\n", encoding="utf-8")
        (target / CONSTRAINTS).unlink()
        host = json.loads((source / HOST).read_text("utf-8"))
        host["extensions"]["durableTask"]["storageProvider"] = BACKENDS[backend]
        (target / HOST).write_text(json.dumps(host, indent=2) + "\n", encoding="utf-8")
        files.remove(Path(CONSTRAINTS))
        files.append(Path(MARK))
    except OSError as error:
        raise PackageError(f"{target} cannot be written ({error.strerror}): name another folder") from error
    return files


def hashed_requirements(source: Path) -> str:
    """Everything in constraints.txt, and what tools need beside it, with hashes.

    Raises PackageError when a lock does not have one of them, or was made for other requirements.
    """
    pins = re.findall(r"(?m)^([^\s#]+==\S+)", (source / CONSTRAINTS).read_text("utf-8"))
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", (source / LOCK).read_text("utf-8"))
    hashed = {block.split()[0]: block for block in blocks if "--hash=" in block}
    missing = [pin for pin in pins if pin not in hashed]
    if missing or not pins:
        raise PackageError(f"{LOCK} has no hash of {missing[0] if missing else 'anything'}: run ./dev lock")
    header = f"# Made by ./dev package from {CONSTRAINTS} and {LOCK}; do not edit.\n"
    agents = source / "agents"
    try:
        more = agents_lock.beside(
            source / CONSTRAINTS, agents / REQUIREMENTS, agents / "requirements.lock", source / LOCK
        )
    except agents_lock.StaleLock as stale:
        raise PackageError(
            "agents/requirements.lock does not belong to agents/requirements.txt: run ./dev lock"
        ) from stale
    return header + "".join(hashed[pin] for pin in pins) + "".join(more.values())


def read_rules(path: Path) -> list[str]:
    """The patterns of a `.funcignore`. Raises PackageError for an unsupported one."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    rules = [line for line in lines if line and not line.startswith("#")]
    for rule in rules:
        name = rule.removeprefix("/")
        # Only whole paths below the top: readers could differ on globs over several folders.
        plain = set(name) <= set(_PLAIN) or (rule != name and "*" not in name and set(name) <= {*_PLAIN, "/"})
        if not name or name.endswith("/") or not plain:
            raise PackageError(f"{path.name}: {rule!r} is not a plain name or glob")
    return rules


def is_ignored(path: str, rules: Sequence[str]) -> bool:
    """Whether a file or folder is excluded. path: relative to the top, with `/`."""
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path, rule[1:]) if rule.startswith("/") else fnmatch.fnmatchcase(name, rule)
        for rule in rules
    )


def _kept(source: Path, rules: Sequence[str]) -> list[Path]:
    kept: list[Path] = []
    for folder, folders, files in os.walk(source):
        inside = Path(folder).relative_to(source)
        # Excluded folders are not searched: .venv alone has about ten thousand files.
        folders[:] = [name for name in folders if not is_ignored((inside / name).as_posix(), rules)]
        kept += [inside / name for name in files if not is_ignored((inside / name).as_posix(), rules)]
    return kept
