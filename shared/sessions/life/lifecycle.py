"""SessionLifecycle: what happens to a session beside its turns: revised, shared, expired.

Invariant: a change that takes somebody's right to write also cancels what runs for them, in the same transaction.

Not here: its deletion from every store (`erasure.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.principal import Principal
from shared.rights import Action
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.cache import SessionChanges
from shared.sessions.events import EventTarget, SessionEventPublisher, closed_turn_events
from shared.sessions.live.subscriptions import access_message, leave
from shared.sessions.models import NewParticipant, Participant, Session, SessionPatch, SessionStatus, Turn
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.records.sessions import SessionRecord, check_metadata
from shared.sessions.records.turns import Interruption

MAX_PARTICIPANTS = 256


@dataclass(frozen=True, slots=True)
class Curtailed:
    """A session in which somebody may do less than before."""

    target: EventTarget
    interruption: Interruption
    """What ran for them."""
    connection_ids: list[str] = field(default_factory=list)
    """What they had joined to its group, when they may no longer read it."""
    took_part: bool = True
    """False: there was nobody to remove."""


@dataclass(frozen=True, slots=True)
class AccessChange:
    """Whom the caller must tell that a participant's access changed."""

    interruption: Interruption
    messages: list[bytes]
    """Events and group actions to send."""


class LifecycleRepository(Protocol):
    async def revise(
        self, session_id: str, user_id: str, revise: Callable[[Session], Session], *, now: datetime
    ) -> SessionRecord:
        """Store what `revise` makes of the session, which is locked meanwhile. Raises NotFound, and what it raises."""
        ...

    async def list_turns(self, session_id: str, page: Page) -> list[tuple[int, Turn]]:
        """(number, turn), newest first, one more than `page.limit` when there are more, or CutRows."""
        ...

    async def expired(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(session id, owner id) of sessions that have expired and not ended."""
        ...

    async def participant(self, session_id: str, user_id: str) -> Participant | None: ...

    async def participants(self, session_id: str) -> list[Participant]:
        """By user id, without the owner."""
        ...

    async def put_participant(
        self, participant: Participant, owner_id: str, *, limit: int, now: datetime
    ) -> Curtailed | None:
        """None when the session has `limit` others. Raises NotFound, Gone."""
        ...

    async def remove_participant(self, session_id: str, user_id: str, by_user_id: str, *, now: datetime) -> Curtailed:
        """Harmless when there is none. Raises NotFound when `by_user_id` takes no part in the session."""
        ...


class SessionLifecycle:
    """Checks access in every method that takes a principal."""

    def __init__(
        self,
        rows: LifecycleRepository,
        publisher: SessionEventPublisher,
        read: Callable[[str, str], Awaitable[SessionRecord]],
        changes: SessionChanges,
        *,
        agents: AgentCatalog,
    ) -> None:
        """read: a session for a user, raises NotFound. changes: who is told of changed access. agents: those a session
        may be given."""
        self._rows = rows
        self._publisher = publisher
        self._read = read
        self._changes = changes
        self._agents = agents

    async def patch(
        self, session_id: str, body: SessionPatch, principal: Principal, *, if_match: str | None
    ) -> SessionRecord:
        """Revise a session. Raises NotFound, Conflict (stale), Gone, InvalidState, InvalidInput."""
        check_metadata(body.metadata)
        await self._agents.check(body.agent_id)
        now = datetime.now(UTC)

        def revised(session: Session) -> Session:
            check_match(session, if_match)
            refuse_expired(session, now)
            if session.status is SessionStatus.ENDED:
                raise InvalidState("A session that is ENDED does not change.")
            changes = {field: getattr(body, field) for field in body.model_fields_set}
            if "config" in changes:
                given = {field: getattr(body.config, field) for field in body.config.model_fields_set}
                changes["config"] = session.config.model_copy(update=given)
            if "agent_id" in changes:
                changes["agent_version"] = None  # what it tried was of the other agent
            if "tags" in changes:
                changes["tags"] = list(dict.fromkeys(body.tags))
            return session.model_copy(update=changes)

        return await self._rows.revise(session_id, principal.user_id, revised, now=now)

    async def list_turns(self, session_id: str, principal: Principal, page: Page) -> tuple[list[Turn], str | None]:
        """Newest first, and the next cursor. Raises NotFound."""
        await self._read(session_id, principal.user_id)
        found = await self._rows.list_turns(session_id, page)
        found, cursor = page.cut(found, lambda row: (row[0], row[1].id))
        return [turn for _, turn in found], cursor

    async def expired(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(session id, owner id) of sessions to end."""
        return await self._rows.expired(now=now, limit=limit)

    # Participants. -----------------------------------------------------------------------------

    async def participant(self, session_id: str, user_id: str, principal: Principal) -> Participant:
        """For everyone who may read the session. Raises NotFound."""
        record = await self._read(session_id, principal.user_id)
        if user_id == record.owner_id:
            return Participant(session_id=session_id, user_id=user_id, access="owner")
        found = await self._rows.participant(session_id, user_id)
        if found is None:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such participant.")
        return found

    async def participants(self, session_id: str, principal: Principal) -> list[Participant]:
        """Who may read the session or write to it beside its owner, by user id; for everyone who may read it. At most
        MAX_PARTICIPANTS. Raises NotFound."""
        await self._read(session_id, principal.user_id)
        return await self._rows.participants(session_id)

    async def put_participant(
        self, session_id: str, user_id: str, body: NewParticipant, principal: Principal
    ) -> tuple[Participant, AccessChange]:
        """Let somebody in, or change what they may do; the owner's to do. Raises NotFound, Gone, InvalidInput."""
        record = await self._read(session_id, principal.user_id)
        record.require(Action.SHARE)
        if user_id == record.owner_id:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                "The owner has every access already.",
                errors=[{"field": "user_id", "message": "is the owner"}],
            )
        participant = Participant(session_id=session_id, user_id=user_id, access=body.access)
        now = datetime.now(UTC)
        async with self._changes.changing(session_id):
            curtailed = await self._rows.put_participant(
                participant, principal.user_id, limit=MAX_PARTICIPANTS, now=now
            )
        if curtailed is None:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"A session takes {MAX_PARTICIPANTS} participants.",
                errors=[{"field": "user_id", "message": "too many participants"}],
            )
        change = await self._access_change(curtailed)
        told = access_message(session_id, user_id, participant.access)
        return participant, replace(change, messages=[*change.messages, told])

    async def remove_participant(self, session_id: str, user_id: str, principal: Principal) -> AccessChange:
        """The owner may remove anyone, others may leave; harmless when it was done. Raises NotFound, InvalidInput."""
        record = await self._read(session_id, principal.user_id)
        if user_id == record.owner_id and record.access == "owner":
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                "The owner stays until the session is deleted.",
                errors=[{"field": "user_id", "message": "is the owner"}],
            )
        record.require(Action.LEAVE if user_id == principal.user_id else Action.SHARE)
        async with self._changes.changing(session_id, takes_access=True):
            curtailed = await self._rows.remove_participant(
                session_id, user_id, principal.user_id, now=datetime.now(UTC)
            )
        change = await self._access_change(curtailed)
        # All of the user's too, on record or not: nothing else holds for a connection that was joined by user.
        left = leave(curtailed.target.feed, user_id, [None, *curtailed.connection_ids])
        # A stranger is not told that there is such a session.
        told = [access_message(session_id, user_id, None)] if curtailed.took_part else []
        return replace(change, messages=[*change.messages, *left, *told])

    async def _access_change(self, curtailed: Curtailed) -> AccessChange:
        events = closed_turn_events(curtailed.interruption.closed_turn_ids)
        messages = await self._publisher.publish(curtailed.target, events) if events else []
        return AccessChange(curtailed.interruption, messages)


def etag_of(session: Session) -> str:
    """The strong validator of a session's representation."""
    return f'"{hashlib.sha256(session.model_dump_json().encode()).hexdigest()[:32]}"'


def check_match(session: Session, if_match: str | None) -> None:
    """Raises Conflict when the caller's `If-Match` names another state of the session."""
    if if_match is None:
        return
    known = [tag.strip() for tag in if_match.split(",")]
    if "*" not in known and etag_of(session) not in known:
        raise Conflict(ErrorCode.CONFLICT, "The session has changed since you read it.")
