"""Names of what Redis keeps of a session's events; all of one feed share a cluster slot."""

from __future__ import annotations

COUNTER_SECONDS = 90 * 86_400
"""A counter lives much longer than its stream: without it, the next event would leave a gap in the numbers."""


def _slot(feed: str) -> str:
    return f"parley:{{{feed}}}"


def counter(feed: str) -> str:
    """A hash. Numbers: `seq`, `ceiling`; the last batch: `append`, `first`; when both keys' lives were lengthened:
    `renewed`; who may be listening: `presence` (`presence.py`), `followed` (`followed.py`)."""
    return _slot(feed) + ":seq"


def stream(feed: str) -> str:
    """A stream: an entry per event, whose id is the event's number."""
    return _slot(feed) + ":events"


def channel(feed: str) -> str:
    """Where batches are announced."""
    return _slot(feed) + ":live"


def here(feed: str) -> str:
    """A sorted set: who has the session before them, by when they last said so. It lives for less than a minute."""
    return _slot(feed) + ":here"
