"""A tool whose result the measurement posts itself: it makes the token from the host's own secret."""

from __future__ import annotations

from parley.tools import Later, tool


@tool(risks=())
def come_later() -> Later:
    """Has a result that comes later."""
    return Later(timeout_s=3_600)
