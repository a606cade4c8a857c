"""Connections that were negotiated and are not open yet.

Invariant: what opens a connection is random, is good once, for the hub and the user it was issued to, and for a short
time. At most so many are kept.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass

WITH_TOKEN = 1
"""The latest version of the negotiation: what others may know, the connection id, does not open the connection."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    connection_id: str
    token: str
    """What the client sends as `id`; in version 0 the connection id itself."""
    hub: str
    user_id: str | None
    until: float


class Negotiations:
    """lifetime_s: how long one may take to be opened. most: above it the oldest is forgotten."""

    def __init__(self, *, lifetime_s: float, most: int) -> None:
        self._lifetime_s = lifetime_s
        self._most = most
        self._waiting: OrderedDict[str, Negotiated] = OrderedDict()

    def issue(self, hub: str, user_id: str | None, *, version: int, now: float) -> Negotiated:
        waiting = self._waiting
        while waiting and (len(waiting) >= self._most or next(iter(waiting.values())).until <= now):
            waiting.popitem(last=False)
        connection_id = new_connection_id()
        token = new_connection_id() if version >= WITH_TOKEN else connection_id
        negotiated = waiting[token] = Negotiated(connection_id, token, hub, user_id, now + self._lifetime_s)
        return negotiated

    def take(self, token: str, hub: str, user_id: str | None, *, now: float) -> Negotiated | None:
        """What was issued with this token to this user of this hub. A second call finds nothing."""
        found = self._waiting.get(token)
        if found is None or found.until <= now or (found.hub, found.user_id) != (hub, user_id):
            return None
        return self._waiting.pop(token)


def new_connection_id() -> str:
    """128 random bits."""
    return secrets.token_urlsafe(16)
