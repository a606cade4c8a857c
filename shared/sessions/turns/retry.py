"""When a failed activity, or a step that could not begin, is tried again: pure policy, used by orchestrators and
activities alike. A model that failed: `patience.py`."""

from __future__ import annotations

MAX_ACTIVITY_TRIES = 10
"""For failures of infrastructure other than the database, and of our own code: about four minutes."""

MAX_OUTAGE_TRIES = 250
"""For an activity that the database was away for: about four hours."""

MAX_LOG_TRIES = 6
"""For the end of a turn whose answer was cut and is in the event log alone, while that is away: about a minute."""

MAX_NOTIFY_TRIES = 20
"""For a webhook that its receiver does not take: about eight hours."""

_BASE_S = 1.0
_CAP_S = 60.0
_DOUBLINGS = 30
"""More would not fit into a float in the end, and are above every cap."""
_NOTIFY_CAP_S = 3_600.0
_HELD_CAP_S = 15.0
_HELD_OFTEN = 40
_QUEUE_CAP_S = 5.0
_QUEUE_OFTEN = 20
_PLACES_A_SECOND = 8


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


def queue_delay_s(looks: int, before: int) -> float:
    """Seconds before a step that found its lane full looks again, for the `looks`-th time.

    Often at first, since a place is kept for it meanwhile; and the later, the more wait longer: 40 that wait look eight
    times a second together, 500 look 28 times.
    """
    own_s = min(backoff_s(looks), _QUEUE_CAP_S) if looks <= _QUEUE_OFTEN else _HELD_CAP_S
    return max(own_s, min(before / _PLACES_A_SECOND, _CAP_S))
