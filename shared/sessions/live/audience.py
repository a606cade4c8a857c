"""Audience: whom an event is addressed to that is for a session and for approvers, so that no connection gets it twice.

A user is in the groups of their roles with all their connections, and one who follows the session is in its group, too.
SignalR knows no "in this group and not in that one"; so whoever is reached as an approver is left out where the session
is addressed.

Invariant: what cannot be found out costs a second copy, never the only one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from shared.errors import Transient
from shared.sessions.events import EventTarget, Receiver, session_group
from shared.sessions.live.realtime import DeliveryFailed

log = logging.getLogger(__name__)

MOST_LISTENERS = 200
"""On record in a session, beyond which its group is addressed whoever is in it."""
MOST_CONNECTIONS = 16
"""Of one user, the latest, that are addressed one by one: nobody says when one has gone."""
MOST_ASKED = 128
"""Questions to SignalR about one event."""


class Listener(NamedTuple):
    """Who joined a session's group and has not left it. connection_id: None for all connections of the user."""

    user_id: str
    connection_id: str | None


class Audience:
    """Finds out who is reached how."""

    def __init__(
        self,
        listeners: Callable[[str, int], Awaitable[Sequence[Listener]]],
        is_member: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        """listeners: of a session by id, the latest first and at most so many; raises Transient. is_member: whether a
        user is in a group with all their connections; raises DeliveryFailed."""
        self._listeners = listeners
        self._is_member = is_member

    async def receivers(
        self, target: EventTarget, groups: Sequence[str], users: Sequence[str], *, is_heard: bool
    ) -> list[Receiver]:
        """The session, these groups of roles and these users. is_heard: somebody may be in the session's group."""
        named = dict.fromkeys(users)
        listeners = await self._on_record(target.session_id) if is_heard else []
        members = await self._members(groups, {*named, *(listener.user_id for listener in listeners)})
        session = _session(target, listeners, members | named.keys()) if is_heard else []
        return [
            *session,
            *(Receiver("groupName", group) for group in groups),
            *(Receiver("userId", user) for user in named if user not in members),
        ]

    async def _on_record(self, session_id: str) -> Sequence[Listener]:
        try:
            found = await self._listeners(session_id, MOST_LISTENERS + 1)
        except Transient as exc:
            log.info("nobody can say who hears session %s: %s", session_id, exc)
            return []
        return found if len(found) <= MOST_LISTENERS else []

    async def _members(self, groups: Sequence[str], users: Collection[str]) -> set[str]:
        """Those of `users` who are in one of `groups`."""
        asked = [(group, user) for user in sorted(users) for group in groups]
        if len(asked) > MOST_ASKED:
            return set()
        try:
            found = await asyncio.gather(*(self._is_member(group, user) for group, user in asked))
        except DeliveryFailed as exc:
            log.info("nobody can say who is in the groups of their roles: %s", exc)
            return set()
        return {user for (_, user), is_in in zip(asked, found, strict=True) if is_in}


def _session(target: EventTarget, listeners: Sequence[Listener], reached: Collection[str]) -> list[Receiver]:
    """Who hears the session and is not reached anyway: its group where that is everybody."""
    if not any(listener.user_id in reached for listener in listeners):
        return [Receiver("groupName", session_group(target.feed))]
    connections: dict[str, list[str | None]] = {}
    for listener in listeners:
        if listener.user_id not in reached:
            connections.setdefault(listener.user_id, []).append(listener.connection_id)
    found: list[Receiver] = []
    for user, ids in connections.items():
        if None in ids:
            found.append(Receiver("userId", user))
        else:
            found += [Receiver("connectionId", one) for one in ids[:MOST_CONNECTIONS] if one is not None]
    return found
