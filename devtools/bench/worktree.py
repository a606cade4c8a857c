"""Another revision of a checkout in its own folder, for `--compare`."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from devhost.servers import ServerError


def revision_of(checkout: Path) -> str:
    """Short commit id, with `+` when files are changed; "unknown" outside git."""
    try:
        commit = _git(checkout, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(checkout, "status", "--porcelain") else "")
    except ServerError:
        return "unknown"


@contextlib.contextmanager
def worktree(repository: Path, revision: str, folder: Path) -> Iterator[Path]:
    """`revision` checked out in `folder`; removed at the end. Raises ServerError for an unknown one."""
    _git(repository, "worktree", "add", "--detach", "--force", str(folder), revision)
    try:
        yield folder
    finally:
        _git(repository, "worktree", "remove", "--force", str(folder))


def _git(checkout: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=False, timeout=120
        )
    except OSError as error:
        raise ServerError(f"git cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        raise ServerError(f"git {arguments[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
