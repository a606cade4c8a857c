"""When a try is repeated, and when a receiver is given up. Pure functions of values and times.

The delays follow the proposal of Standard Webhooks: soon after a hiccup, then for a day.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from datetime import datetime, timedelta

_HOUR = 3_600
DELAYS_S = (5, 30, 120, 600, 1_800, _HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 8 * _HOUR)
"""Before the second try, the third, ...; together a day. After the last one a delivery has failed."""

OFF_AFTER = timedelta(days=3)
"""A receiver that has taken nothing for so long is switched off."""

_LONGEST_ASKED_S = 24 * _HOUR
GONE = 410
"""The status by which a receiver says that it wants nothing any more."""


def next_try(tries: int, *, now: datetime, asked_s: float | None = None) -> datetime | None:
    """When to try again after `tries` tries; None: never. asked_s: the receiver's Retry-After."""
    if tries > len(DELAYS_S):
        return None
    wait_s = float(DELAYS_S[tries - 1])
    if asked_s is not None:
        wait_s = max(wait_s, min(asked_s, _LONGEST_ASKED_S))
    return now + timedelta(seconds=wait_s)


def why_off(answer_code: int | None, *, failing_since: datetime, now: datetime) -> str | None:
    """Why a receiver is switched off after this failure; None: it is not."""
    if answer_code == GONE:
        return f"The receiver answered {GONE}: it wants nothing any more."
    if now - failing_since >= OFF_AFTER:
        return f"The receiver has taken nothing for {OFF_AFTER.days} days."
    return None
