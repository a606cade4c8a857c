"""Fault injection: kills the host at an exact commit, to test an app's recovery.

Two environment variables, each a whole number from 1. The host kills itself (SIGKILL, without cleanup) at a commit of
this process that touches an orchestration:

- `DEVHOST_CRASH_AFTER_COMMIT=N`: right after the N-th commit, before anything else learns of it. A host restarted
  repeatedly with N=1 crashes once between every two steps of an orchestration.
- `DEVHOST_CRASH_BEFORE_COMMIT=N`: instead of the N-th commit. A host restarted repeatedly with N=2 loses every step
  once, so every activity is called a second time.

Invariant: off by default; when it is on, the writer makes two cheap checks per commit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from devhost.durable.store.records import Unit
from devhost.extensions.contract import HostError

AFTER = "DEVHOST_CRASH_AFTER_COMMIT"
BEFORE = "DEVHOST_CRASH_BEFORE_COMMIT"


@dataclass(slots=True)
class CrashPoint:
    """Counts commits. after, before: the number of the fatal commit; 0: none."""

    after: int
    before: int
    _commits: int = 0

    @classmethod
    def from_environment(cls) -> CrashPoint | None:
        """None when neither variable is set. Raises HostError for a value that is not a number."""
        after, before = _number(AFTER), _number(BEFORE)
        return cls(after, before) if after or before else None

    def about_to_commit(self, units: Sequence[Unit]) -> None:
        """Does not return when the process must crash before this commit."""
        if any(_touches_orchestration(unit) for unit in units):
            self._commits += 1
            if self._commits == self.before:
                _die()

    def committed(self) -> None:
        """Does not return when the process must crash after this commit."""
        if self._commits and self._commits == self.after:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _number(setting: str) -> int:
    text = os.environ.get(setting, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise HostError(f"{setting} must be a whole number from 1, not {text!r}")
    return int(text)


def _touches_orchestration(unit: Unit) -> bool:
    """Whether a unit contains more than entity operations."""
    return bool(
        unit.instances
        or unit.updates
        or unit.history
        or unit.messages
        or unit.tasks
        or unit.drop_messages
        or unit.drop_tasks
        or unit.drop_gens
    )
