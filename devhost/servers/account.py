"""PostgreSQL refuses to run as root: the account used instead, and folders that this account can reach.

Invariant: none of the caller's files becomes more readable. Files that `nobody` cannot reach are copied to,
or kept in, our own folder below /var/tmp; permissions of existing folders do not change.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from devhost.servers.process import RunAs, ServerError

_SHARED_ROOT = Path("/var/tmp")  # noqa: S108  # survives reboots; what we make in it is owner-checked


def unprivileged() -> RunAs | None:
    """`nobody` when we are root; None: run as the current user."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise ServerError(
            "postgres cannot run as root and there is no account 'nobody': run as another user"
        ) from error
    return RunAs(uid=entry.pw_uid, gid=entry.pw_gid, home="/")


def is_reachable(path: Path) -> bool:
    """Whether any account can pass through every folder above `path`."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def place_for_data(wanted: Path) -> Path:
    """`wanted` itself when `nobody` can reach it, otherwise a separate folder below /var/tmp.

    The name below /var/tmp comes from an id stored in `wanted`, so the data follow a moved folder, and
    deleting `wanted` means a new start.
    """
    if is_reachable(wanted):
        return wanted
    marker = wanted.with_name(wanted.name + ".place")
    if not marker.exists():
        marker.write_text(tempfile.mkdtemp(prefix="data-", dir=_own_root()) + "\n")
    place = Path(marker.read_text().strip())
    place.mkdir(exist_ok=True)
    place.chmod(0o711)
    return place / wanted.name


def place_for_programs(folder: Path, *, label: str) -> Path:
    """`folder` itself when `nobody` can run the programs in it, otherwise a copy, made once per label."""
    if is_reachable(folder):
        return folder
    source = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    copy = _own_root() / f"{label}-{source}"
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=copy.parent))
        shutil.copytree(folder, unfinished / "tree", symlinks=True)
        (unfinished / "tree").chmod(0o755)
        try:
            (unfinished / "tree").rename(copy)
        except OSError:
            if not copy.exists():  # otherwise another process made the same copy first
                raise
        shutil.rmtree(unfinished)
    return copy


def _own_root() -> Path:
    """Our folder below /var/tmp; refused when another account owns it."""
    root = _SHARED_ROOT / f"devhost-{os.geteuid()}"
    root.mkdir(mode=0o711, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ServerError(f"{root} is not a folder of ours alone: remove it and try again")
    root.chmod(0o711)
    return root
