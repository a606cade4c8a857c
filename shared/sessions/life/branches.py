"""BranchService: other answers to the same question, side by side.

Invariant: nothing that was said is lost or moved. A branch forks at a step of an older one and reads what stands before
it; what followed there stays as it was, on its own branch. New messages go to the session's active branch, and a turn
stays on the branch it was posted to, whichever is active when it runs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from pydantic import Field

from shared.errors import AppError
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.cache import SessionChanges, SessionReader
from shared.sessions.events import Event, EventType, SessionEventPublisher, closed_turn_events
from shared.sessions.models import (
    Concurrency,
    Regeneration,
    Session,
    SessionStatus,
    Turn,
    Value,
)
from shared.sessions.posting.models import Posted
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import Idempotency, idempotency
from shared.sessions.records.pages import Page
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import PostedMessage, queued_turn

MAX_BRANCHES = 1_000
"""Of one session: bounds how many forks lie between a reader and the beginning."""


class Branch(Value):
    branch: int
    parent_branch: int | None
    fork_message_id: str | None = Field(description="The last message it shares with its parent; null: none")
    message_count: int = Field(description="Messages of its own, without those it shares with its parent")
    created_at: datetime
    active: bool


class BranchRepository(Protocol):
    async def regenerate(
        self,
        turn: Turn,
        plan: TurnPlan,
        *,
        user_id: str,
        concurrency: Concurrency,
        idempotency: Idempotency | None,
        refusal: AppError | None = None,
    ) -> PostedMessage:
        """Fork behind `turn.message_id`, make the new branch active and queue the turn on it.

        Raises NotFound, InvalidState, InvalidInput (not a user's message), Conflict, and `refusal`, unless an earlier
        request is only repeated.
        """
        ...

    async def list_for(self, session_id: str, page: Page) -> list[Branch]:
        """By number, one more than `page.limit` when there are more."""
        ...

    async def activate(
        self, session_id: str, user_id: str, branch: int, *, now: datetime
    ) -> tuple[SessionRecord, bool]:
        """The session, and whether another branch was active before. Raises NotFound, InvalidState, Gone, Conflict."""
        ...


class BranchService:
    """Checks access in every method."""

    def __init__(
        self,
        sessions: SessionReader,
        branches: BranchRepository,
        publisher: SessionEventPublisher,
        planner: TurnPlanner,
        changes: SessionChanges,
    ) -> None:
        """planner: its rules for a new turn hold here too. changes: who is told of another active branch."""
        self._sessions = sessions
        self._branches = branches
        self._publisher = publisher
        self._planner = planner
        self._changes = changes

    async def regenerate(
        self,
        session_id: str,
        message_id: str,
        body: Regeneration,
        principal: Principal,
        *,
        idempotency_key: str | None,
    ) -> Posted:
        """Queue another answer to a user's message, on a new branch that becomes the active one.

        Clients hear `session.activated` with the branch, and `message.updated` for the message that is asked again,
        with the new turn. Raises NotFound, Gone, InvalidState, InvalidInput, Conflict, BudgetExceeded.
        """
        now = datetime.now(UTC)
        posting = await self._planner.plan(
            session_id,
            principal,
            body.approval_mode,
            now=now,
            output_schema=body.output_schema,
            client_tools=body.client_tools,
        )
        record = posting.record
        refuse_expired(record.session, now)
        turn = queued_turn(new_id(), session_id, message_id, now=now, plan=posting.plan)
        scope = f"POST /sessions/{session_id}/messages/{message_id}/regenerate"
        async with self._changes.changing(session_id):
            result = await self._branches.regenerate(
                turn,
                posting.plan,
                user_id=principal.user_id,
                concurrency=body.concurrency or posting.concurrency,
                idempotency=idempotency(principal, scope, idempotency_key, body),
                refusal=posting.refusal,
            )
        if result.replayed:
            return Posted(result, [])
        session = record.session.model_copy(
            update={"status": SessionStatus.ACTIVE, "active_branch": result.turn.branch, "updated_at": now}
        )
        events = [branch_activated(session)]
        if result.interrupted is not None:
            events.extend(closed_turn_events(result.interrupted.closed_turn_ids))
        data = result.message.model_dump(mode="json", exclude_none=True)
        events.append(Event(EventType.MESSAGE_UPDATED, data, turn.id, message_id))
        return Posted(result, await self._publisher.publish(result.target, events))

    async def list_for(self, session_id: str, principal: Principal, page: Page) -> tuple[list[Branch], str | None]:
        """Oldest first, and the next cursor. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        found = await self._branches.list_for(session_id, page)
        return page.cut(found, lambda branch: (branch.branch, ""))

    async def activate(self, session_id: str, branch: int, principal: Principal) -> tuple[Session, list[bytes]]:
        """Go on from another branch; harmless when it is the active one. Refused while a turn is open.

        Raises NotFound, Gone, InvalidState, Conflict.
        """
        now = datetime.now(UTC)
        async with self._changes.changing(session_id):
            record, changed = await self._branches.activate(session_id, principal.user_id, branch, now=now)
        events = [branch_activated(record.session)] if changed else []
        return record.session, await self._publisher.publish(record.target, events) if events else []


def branch_activated(session: Session) -> Event:
    """`session.activated` with `active_branch`: that branch became the active one, whatever the session's status."""
    data = {"session": session.model_dump(mode="json"), "active_branch": session.active_branch}
    return Event(EventType.SESSION_ACTIVATED, data)
