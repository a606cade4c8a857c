"""Server-Sent Events as bytes."""

from __future__ import annotations

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which readers skip."""

KEEP_ALIVE_SECONDS = 15.0
"""Proxies cut connections that are silent for a minute or so."""

RECONNECT = b"retry: 200\n\n"
"""Before a clean end: the client is to reconnect after so many milliseconds, instead of its own three seconds or so."""

RESUME = b"retry: 1000\n"
"""In the first event: a client that is too slow to be told anything later is closed, and comes back after a second. In
an event and not by itself, since not every client expects a block without data."""


def sse(event: str, data: bytes, event_id: int | None = None) -> bytes:
    """One server-sent event. data: JSON, so it holds no line break."""
    if event_id is None:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event_id, event.encode(), data)
