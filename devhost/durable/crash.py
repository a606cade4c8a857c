"""Dying at an exact place, for tests of what an app makes of it.

`DEVHOST_CRASH_AFTER_COMMIT=N` in the environment: the host kills itself (SIGKILL, nothing is tidied up) right after
the N-th commit of this process that touches an orchestration, before anything else learns of that commit. Started
again and again with N=1, a host dies once at every step of an orchestration that it takes over.

Invariant: off unless asked for, and then the writer tests one integer per commit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from devhost.durable.records import Unit
from devhost.extension import HostError

SETTING = "DEVHOST_CRASH_AFTER_COMMIT"


def commits_to_live() -> int:
    """How many commits this process may live to see; 0: no limit. Raises HostError for what is no number."""
    text = os.environ.get(SETTING, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise HostError(f"{SETTING} must be a whole number from 1, not {text!r}")
    return int(text)


def count_down(left: int, committed: Sequence[Unit]) -> int:
    """What is left after a commit of these units; does not return when that is nothing. left: at least 1."""
    if not any(_touches_orchestration(unit) for unit in committed):
        return left
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return left - 1


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
