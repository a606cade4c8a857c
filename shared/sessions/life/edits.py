"""EditService: a user's message said anew, on a branch of its own.

Invariant: nothing that was said changes. The edited message is a message of its own, by whoever edited it; the former
one and what followed stay on their branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import AppError
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.cache import SessionChanges
from shared.sessions.events import Event, EventType, SessionEventPublisher, closed_turn_events
from shared.sessions.life.branches import branch_activated
from shared.sessions.metrics import metrics
from shared.sessions.models import (
    Concurrency,
    Message,
    MessageRole,
    MessageStatus,
    NewMessage,
    SessionStatus,
    Turn,
)
from shared.sessions.posting.content import check_content
from shared.sessions.posting.models import Posted
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import Idempotency, idempotency
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import PostedMessage, queued_turn
from shared.sessions.repository import AttachmentReader


class EditRepository(Protocol):
    async def edit(
        self,
        edited_id: str,
        message: Message,
        turn: Turn,
        plan: TurnPlan,
        *,
        user_id: str,
        tokens: int,
        concurrency: Concurrency,
        idempotency: Idempotency | None,
        refusal: AppError | None = None,
        note: str | None = None,
        sources: Sequence[str] = (),
    ) -> PostedMessage:
        """Fork before the message `edited_id`, make the new branch active, and store `message` with its queued turn on
        it.

        Raises NotFound, InvalidState, InvalidInput (not a user's message, or one that began no turn), Conflict, and
        `refusal`, unless an earlier request is only repeated.
        """
        ...


class EditService:
    """Checks access."""

    def __init__(
        self,
        edits: EditRepository,
        publisher: SessionEventPublisher,
        planner: TurnPlanner,
        attachments: AttachmentReader,
        changes: SessionChanges,
    ) -> None:
        """planner: its rules for a new turn hold here too. changes: who is told of another active branch."""
        self._edits = edits
        self._publisher = publisher
        self._planner = planner
        self._attachments = attachments
        self._changes = changes

    async def edit(
        self,
        session_id: str,
        message_id: str,
        body: NewMessage,
        principal: Principal,
        *,
        idempotency_key: str | None,
    ) -> Posted:
        """Store what a message says instead, and queue its turn.

        Clients hear `session.activated` with the branch, and `message.created`. Raises NotFound, Gone, InvalidState,
        InvalidInput, Conflict, BudgetExceeded.
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
        record, plan = posting.record, posting.plan
        content = await check_content(session_id, body, self._attachments, max_context_tokens=plan.max_context_tokens)
        refuse_expired(record.session, now)
        turn_id, new_message_id = new_id(), new_id()
        message = Message(
            id=new_message_id,
            session_id=session_id,
            turn_id=turn_id,
            role=MessageRole.USER,
            content=body.content,
            attachments=content.attachments,
            author=principal.user_id,
            status=MessageStatus.COMPLETED,
            created_at=now,
        )
        scope = f"POST /sessions/{session_id}/messages/{message_id}/edit"
        async with self._changes.changing(session_id):
            result = await self._edits.edit(
                message_id,
                message,
                queued_turn(turn_id, session_id, new_message_id, now=now, plan=plan),
                plan,
                user_id=principal.user_id,
                tokens=content.tokens,
                concurrency=body.concurrency or posting.concurrency,
                idempotency=idempotency(principal, scope, idempotency_key, body),
                refusal=posting.refusal,
                note=content.note,
                sources=content.sources,
            )
        if result.replayed:
            return Posted(result, [])
        metrics.message_stored(MessageRole.USER)
        session = record.session.model_copy(
            update={"status": SessionStatus.ACTIVE, "active_branch": result.turn.branch, "updated_at": now}
        )
        events = [branch_activated(session)]
        if result.interrupted is not None:
            events.extend(closed_turn_events(result.interrupted.closed_turn_ids))
        data = result.message.model_dump(mode="json", exclude_none=True)
        events.append(Event(EventType.MESSAGE_CREATED, data, turn_id, new_message_id))
        return Posted(result, await self._publisher.publish(result.target, events))
