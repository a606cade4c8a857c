"""How long to wait for a turn, and how often to look."""

from __future__ import annotations

from ..errors import TurnStillOpen
from ..models import Turn

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
_GROWTH = 1.5


class Waiting:
    """Looks often at first, since most turns are short, and every two seconds in the end."""

    def __init__(self, *, now: float, timeout_s: float | None, past_approvals: bool) -> None:
        """now: seconds of a clock that only goes forward. timeout_s: None: for ever. past_approvals: a turn that waits
        for a person is waited for, too."""
        self._until = None if timeout_s is None else now + timeout_s
        self._past_approvals = past_approvals
        self._pause_s = FIRST_PAUSE_S

    def pause_after(self, turn: Turn, *, now: float) -> float | None:
        """Seconds until the next look; None: this is what was waited for. Raises TurnStillOpen."""
        if turn.is_over or (turn.status == "waiting_approval" and not self._past_approvals):
            return None
        if self._until is not None and now >= self._until:
            raise TurnStillOpen(turn.id, turn.status)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * _GROWTH, LONGEST_PAUSE_S)
        return pause_s if self._until is None else min(pause_s, self._until - now)
