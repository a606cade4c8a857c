"""When a failed model step or activity is tried again: pure policy, used by orchestrators and activities alike."""

from __future__ import annotations

MAX_MODEL_TRIES = 5
"""First try included. With the delays below a model may be gone for about a minute."""

MAX_ACTIVITY_TRIES = 10
"""For infrastructure failures (database, storage): about four minutes."""

MAX_NOTIFY_TRIES = 20
"""For a webhook that its receiver does not take: about nine hours."""

_BASE_S = 1.0
_CAP_S = 60.0
_NOTIFY_CAP_S = 3_600.0
_HELD_CAP_S = 15.0
MAX_RETRY_AFTER_S = 600.0
"""A server that asks for more than ten minutes is as good as down: the turn fails instead."""


def backoff_s(tries: int) -> float:
    """Seconds before the next try when `tries` have failed: 1, 2, 4, ... capped at 60.

    Without jitter, because orchestrators must compute the same value again in replay.
    """
    return float(min(_CAP_S, _BASE_S * 2 ** (tries - 1)))


def activity_delay_s(tries: int) -> float | None:
    """Seconds before an activity is tried again after `tries` failures, or None: give up."""
    return None if tries >= MAX_ACTIVITY_TRIES else backoff_s(tries)


def held_delay_s(looks: int) -> float:
    """Seconds before a step of a suspended session is tried again: 1, 2, 4, ... capped at a quarter of a minute.

    Only until its orchestration is suspended as well, which takes seconds; without end, since it must not be lost.
    """
    return min(_HELD_CAP_S, backoff_s(looks))


def notify_delay_s(tries: int) -> float | None:
    """The same for a webhook: 1, 2, 4, ... seconds, capped at an hour."""
    return None if tries >= MAX_NOTIFY_TRIES else float(min(_NOTIFY_CAP_S, _BASE_S * 2 ** (tries - 1)))


def model_delay_s(tries: int, retry_after_s: float | None) -> float | None:
    """Seconds before a model step is tried again after `tries` failures, or None: give up."""
    if tries >= MAX_MODEL_TRIES or (retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S):
        return None
    return max(backoff_s(tries), retry_after_s or 0.0)
