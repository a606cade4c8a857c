"""When a failed model step or activity is tried again: pure policy, used by orchestrators and activities alike."""

from __future__ import annotations

MAX_MODEL_TRIES = 5
"""First try included. With the delays below a model may be gone for about a minute."""

MAX_ACTIVITY_TRIES = 10
"""For failures of infrastructure other than the database, and of our own code: about four minutes."""

MAX_OUTAGE_TRIES = 250
"""For an activity that the database was away for: about four hours."""

MAX_NOTIFY_TRIES = 20
"""For a webhook that its receiver does not take: about eight hours."""

_BASE_S = 1.0
_CAP_S = 60.0
_DOUBLINGS = 30
"""More would not fit into a float in the end, and are above every cap."""
_NOTIFY_CAP_S = 3_600.0
_HELD_CAP_S = 15.0
_HELD_OFTEN = 40
MAX_RETRY_AFTER_S = 600.0
"""A server that asks for more than ten minutes is as good as down: the turn fails instead."""


def backoff_s(tries: int) -> float:
    """Seconds before the next try when `tries` have failed: 1, 2, 4, ... capped at 60.

    Without jitter, because orchestrators must compute the same value again in replay.
    """
    return min(_CAP_S, _BASE_S * 2.0 ** min(tries - 1, _DOUBLINGS))


def activity_delay_s(tries: int) -> float | None:
    """Seconds before an activity is tried again after `tries` failures, or None: give up."""
    return None if tries >= MAX_ACTIVITY_TRIES else backoff_s(tries)


def outage_delay_s(tries: int) -> float | None:
    """The same while the database is away."""
    return None if tries >= MAX_OUTAGE_TRIES else backoff_s(tries)


def held_delay_s(looks: int) -> float:
    """Seconds before a step is tried again that could not begin, since its session is suspended or the database away:
    1, 2, 4, ... capped at a quarter of a minute, and after ten minutes at a minute.

    Without end, since it must not be lost: an orchestration of a suspended session is suspended within seconds.
    """
    return min(_HELD_CAP_S if looks <= _HELD_OFTEN else _CAP_S, backoff_s(looks))


def notify_delay_s(tries: int) -> float | None:
    """The same for a webhook: 1, 2, 4, ... seconds, capped at an hour."""
    return None if tries >= MAX_NOTIFY_TRIES else min(_NOTIFY_CAP_S, _BASE_S * 2.0 ** min(tries - 1, _DOUBLINGS))


def model_delay_s(tries: int, retry_after_s: float | None) -> float | None:
    """Seconds before a model step is tried again after `tries` failures, or None: give up."""
    if tries >= MAX_MODEL_TRIES or (retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S):
        return None
    return max(backoff_s(tries), retry_after_s or 0.0)
