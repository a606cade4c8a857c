"""The packages of the tools in `agents/`: `agents/requirements.txt`, and `agents/requirements.lock` with versions and
hashes of all of them, at the versions of Parley's own packages where both need one.

Invariant: a lock says which requirements and which packages of Parley it was made for; another one is never installed.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from devtools.setup.places import AGENTS_LOCK, AGENTS_REQUIREMENTS
from devtools.setup.places import LOCK as _LOCK

REQUIREMENTS, LOCK, OURS = Path(AGENTS_REQUIREMENTS), Path(AGENTS_LOCK), Path(_LOCK)
_NAME = re.compile(r"(?m)^([A-Za-z0-9._-]+)==")


class StaleLock(Exception):
    """The lock is missing, or was made for something else."""


def requirements(path: Path) -> list[str]:
    """The lines of a file that require something; empty without the file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    wanted = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [line for line in wanted if line]


def blocks_of(lock: str) -> dict[str, str]:
    """A lock's packages with their hashes, by name."""
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    return {match[1]: block for block in blocks if (match := _NAME.match(block)) is not None}


def beside(ours: Path, requirements_path: Path, lock: Path, dev: Path = OURS) -> dict[str, str]:
    """The packages of the lock that the lock `ours` does not have, with their hashes, by name.

    dev: the lock of development, beside which it was made. Raises StaleLock.
    """
    wanted = requirements(requirements_path)
    if not wanted:
        return {}
    try:
        text = lock.read_text("utf-8")
    except FileNotFoundError:
        raise StaleLock from None
    if _header(wanted, dev) not in text:
        raise StaleLock
    known = set(_NAME.findall(ours.read_text("utf-8")))
    return {name: block for name, block in blocks_of(text).items() if name not in known}


def write(*, upgrade: bool = False) -> bool:
    """Make the lock anew, or remove it where nothing is required. Whether there is one now. Raises LockError."""
    from devtools.setup.lock import LockError, resolve

    wanted = requirements(REQUIREMENTS)
    if not wanted:
        LOCK.unlink(missing_ok=True)
        return False
    try:
        lock = _resolved(resolve, wanted, upgrade=upgrade)
    except LockError as error:
        why = str(error)
        told = f"conflicts with Parley's own packages: {why[why.index('Because') :]}" if "Because" in why else why
        raise LockError(f"agents/requirements.txt {told}") from error
    first, _, rest = lock.partition("\n")
    LOCK.write_text(f"{first}\n{_header(wanted, OURS)}\n{rest}", "utf-8")
    return True


def _resolved(resolve: Callable[..., str], wanted: list[str], *, upgrade: bool) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text("\n".join(re.findall(r"(?m)^[^\s#]+==[^\s;]+", OURS.read_text("utf-8"))), "utf-8")
        return resolve(
            Path(scratch),
            "\n".join(wanted) + "\n",
            previous=None if upgrade else LOCK,
            header="agents/requirements.txt",
            options=("--generate-hashes", "--constraint", str(pins)),
        )


def _header(wanted: list[str], ours: Path) -> str:
    # Of our packages only names and versions: hashes are added to a lock when a package gets more files.
    pins = re.findall(r"(?m)^[^\s#]+==[^\s;]+", ours.read_text("utf-8"))
    digest = hashlib.sha256("\n".join([*wanted, "", *pins]).encode()).hexdigest()
    return f"# For these requirements, beside Parley's packages: {digest}"


def main(both: Path) -> int:
    """Write ours and theirs as one lock, if there are any of theirs."""
    from devtools.setup.lock import LockError

    try:
        try:
            more = beside(OURS, REQUIREMENTS, LOCK)
        except StaleLock:
            write()
            more = beside(OURS, REQUIREMENTS, LOCK)
    except LockError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if more:
        both.write_text(OURS.read_text("utf-8") + "".join(more.values()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
