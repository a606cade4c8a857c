"""The data folder of a host: version, lock, small JSON files.

Invariant: only one host at a time writes to a data folder, and only one with the same data version.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

from devhost.extensions.contract import HostError

DATA_VERSION = 1
VERSION_FILE = "devhost-version.json"
LOCK_FILE = "devhost.lock"


class DataDir:
    """An opened (locked) data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Create, lock and check the folder.

        Raises HostError when another host holds it, another version wrote it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_FILE).open("a+")
        except OSError as exc:
            raise HostError(
                f"data folder {self.path} cannot be written ({exc.strerror}): choose another --data"
            ) from exc
        if not _try_lock(lock):
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise HostError(
                f"data folder {self.path} is in use by another devhost (process {holder}): "
                "stop it or choose another --data"
            )
        self._lock = lock
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            self._check_version()
        except HostError:
            self.close()
            raise

    def close(self) -> None:
        """Release the folder. Idempotent."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_version(self) -> None:
        path = self.path / VERSION_FILE
        if not path.exists():
            write_json(path, {"version": DATA_VERSION})
            return
        found = read_json(path).get("version")
        if found != DATA_VERSION:
            raise HostError(
                f"data folder {self.path} has data version {found}, this devhost reads {DATA_VERSION}: "
                "choose another --data or delete the folder"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A small state file; {} when absent. Raises HostError when it is damaged."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise HostError(f"{path} is damaged ({exc}): delete it to start afresh") from exc
    if not isinstance(value, dict):
        raise HostError(f"{path} is damaged (no JSON object): delete it to start afresh")
    return value


def write_json(path: Path, value: dict[str, Any], *, mode: int = 0o644) -> None:
    """Replace a small state file atomically. mode: its permissions, from the moment that it exists."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    scratch.replace(path)


def _try_lock(file: IO[str]) -> bool:
    """Take an advisory lock, which the system releases when the process ends in any way."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0x7FFF)  # a byte beyond the text, so that other processes can still read the holder's id
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
