"""Dying at an exact place, for tests of what an app makes of it.

Two variables of the environment, each a whole number from 1; the host then kills itself (SIGKILL, nothing is tidied
up) at a commit of this process that touches an orchestration:

- `DEVHOST_CRASH_AFTER_COMMIT=N`: right after the N-th, before anything else learns of it. Started again and again
  with N=1, a host dies once between every two steps of an orchestration that it takes over.
- `DEVHOST_CRASH_BEFORE_COMMIT=N`: in place of the N-th. Started again and again with N=2, it loses every step once,
  so every activity is called a second time.

Invariant: off unless asked for, and then the writer makes two cheap tests per commit.
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
    """Counts commits. after, before: the number of the fatal one; 0: none is."""

    after: int
    before: int
    _commits: int = 0

    @classmethod
    def from_environment(cls) -> CrashPoint | None:
        """None when nothing was asked for. Raises HostError for what is no number."""
        after, before = _number(AFTER), _number(BEFORE)
        return cls(after, before) if after or before else None

    def about_to_commit(self, units: Sequence[Unit]) -> None:
        """Does not return when these units must not be stored."""
        if any(_touches_orchestration(unit) for unit in units):
            self._commits += 1
            if self._commits == self.before:
                _die()

    def committed(self) -> None:
        """Does not return when this commit was the last."""
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
    """Whether a unit holds more than operations of entities."""
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
