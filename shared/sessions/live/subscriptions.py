"""SubscriptionService: who hears a session's events live through SignalR, and until when.

Invariant: what somebody joined to a session's group leaves it when they lose the right to read the session, whoever's
connection it was. SignalR cannot be asked whose a connection is, so each is on record before it joins; taking somebody
out ends their records in the same transaction, and what has ended is said for as long as a join could be on its way.

Invariant: whoever writes events knows of a join before the connection is in the group (`presence.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson

from shared.errors import NotFound
from shared.principal import Principal
from shared.rights import Access
from shared.sessions.events import session_group
from shared.sessions.live.groups import group_action
from shared.sessions.live.presence import OnRecord, Presence

MAX_CONNECTIONS = 256
"""Of one user in one session, the latest: nobody says when one has gone."""
SAID_AGAIN = timedelta(seconds=60)
"""How long what has ended is said again: longer than a function that joins a connection takes to end."""
_LIMIT = 1_000

ACCESS_METHOD = "access"
"""What SignalR clients may listen to beside `events.CLIENT_METHOD`."""


@dataclass(frozen=True, slots=True)
class EndedSubscription:
    """connection_id: None for all connections of the user."""

    feed: str
    user_id: str
    connection_id: str | None


@dataclass(frozen=True, slots=True)
class Joining:
    """What became of a subscription."""

    is_joined: bool
    """Whether every event that is sent from now on arrives. If not, subscribing again is for the client."""
    left: Sequence[bytes] = ()
    """Group actions that were not accepted, for the caller's output binding."""


class SubscriptionRepository(Protocol):
    async def add(self, session_id: str, user_id: str, connection_id: str | None, *, limit: int, now: datetime) -> str:
        """Put on record that the user joins a connection, or all of theirs; the feed they join. Ends the oldest beyond
        `limit`. Raises NotFound when the user may not read the session."""
        ...

    async def stands(self, session_id: str, user_id: str, connection_id: str | None) -> bool:
        """Whether what was added is still on record and not ended. Raises NotFound as `add` does."""
        ...

    async def remove(self, session_id: str, user_id: str, connection_id: str | None) -> tuple[str, list[str]]:
        """The feed they leave, and with None every connection that was on record. Raises NotFound as `add` does."""
        ...

    async def on_record(self, session_id: str) -> OnRecord:
        """Who has joined and not left, of all users. Raises Transient."""
        ...

    async def ended(self, *, limit: int) -> list[EndedSubscription]: ...

    async def forget(self, *, ended_before: datetime) -> None: ...


type ChangeGroup = Callable[[bytes], Awaitable[bool]]
"""Does a group action, and says whether it was accepted."""


class SubscriptionService:
    """Checks access in every method that takes a principal. What could not be done now is for the output binding."""

    def __init__(self, rows: SubscriptionRepository, presence: Presence) -> None:
        self._rows = rows
        self._presence = presence

    async def subscribe(
        self, session_id: str, connection_id: str | None, principal: Principal, change_group: ChangeGroup
    ) -> Joining:
        """One connection, or all of the caller's, also later ones. Raises NotFound.

        Somebody who is taken out while they join is let go at once.
        """
        user_id = principal.user_id
        now = datetime.now(UTC)
        feed = await self._rows.add(session_id, user_id, connection_id, limit=MAX_CONNECTIONS, now=now)
        await self._presence.joins(feed, now)
        subscription = EndedSubscription(feed, user_id, connection_id)
        joining = _action("add", subscription)
        if not await change_group(joining):
            return Joining(is_joined=False, left=[joining])
        leaving = _action("remove", subscription)
        try:
            if await self._rows.stands(session_id, user_id, connection_id):
                return Joining(is_joined=True)
        except NotFound:
            await change_group(leaving)  # if it is not accepted, `ended` says it again
            raise
        # They unsubscribed meanwhile.
        return Joining(is_joined=False, left=[] if await change_group(leaving) else [leaving])

    async def unsubscribe(
        self, session_id: str, connection_id: str | None, principal: Principal, change_group: ChangeGroup
    ) -> list[bytes]:
        """The counterpart; for all of the caller's also those that joined by their own id. Raises NotFound.

        Done before the answer, for who comes back at once must not be taken out by an output that is still on its way.
        Returns the group actions that were not accepted.
        """
        feed, found = await self._rows.remove(session_id, principal.user_id, connection_id)
        await self._presence.left(session_id, feed)
        return await _not_accepted(leave(feed, principal.user_id, [connection_id, *found]), change_group)

    async def ended(self, change_group: ChangeGroup, *, now: datetime) -> list[bytes]:
        """Let what must leave do so, again and again for as long as a join could be on its way, and then forget it.

        Returns the group actions that were not accepted; nothing is forgotten before all are.
        """
        actions = [_action("remove", ended) for ended in await self._rows.ended(limit=_LIMIT)]
        left = await _not_accepted(actions, change_group)
        if not left:
            await self._rows.forget(ended_before=now - SAID_AGAIN)
        return left


def leave(feed: str, user_id: str, connection_ids: Sequence[str | None]) -> list[bytes]:
    """Group actions that take out these connections; None: all of the user's."""
    return [_action("remove", EndedSubscription(feed, user_id, one)) for one in dict.fromkeys(connection_ids)]


async def _not_accepted(actions: Sequence[bytes], change_group: ChangeGroup) -> list[bytes]:
    accepted = await asyncio.gather(*(change_group(action) for action in actions))
    return [action for action, is_accepted in zip(actions, accepted, strict=True) if not is_accepted]


def access_message(session_id: str, user_id: str, access: Access | None) -> bytes:
    """A SignalR message that tells a user, on all their connections, what they may do in a session from now on. None:
    they are out. It has no number: it is not of the session's log, which they may no longer read."""
    told = {"session_id": session_id, "access": access}
    return orjson.dumps({"target": ACCESS_METHOD, "userId": user_id, "arguments": [told]})


def _action(verb: str, of: EndedSubscription) -> bytes:
    group = session_group(of.feed)
    if of.connection_id is None:
        return group_action(verb, group, user_id=of.user_id)
    return group_action(verb, group, connection_id=of.connection_id)
