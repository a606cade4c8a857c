"""SessionService: the life of a session and of what is posted to it.

Invariant: the state machine is CREATED -> ACTIVE, ACTIVE <-> SUSPENDED, and anything -> ENDED, for good. The stored row
changes first; orchestrations are told afterwards, by the caller, and a sweep repeats what was cut.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from shared import tracing
from shared.ids import new_id
from shared.principal import Principal
from shared.rights import Action
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import (
    Event,
    EventLogUnavailable,
    EventType,
    SessionEventPublisher,
    Streamed,
    closed_turn_events,
)
from shared.sessions.features.templates import TemplateService
from shared.sessions.metrics import metrics
from shared.sessions.models import (
    ListedSession,
    Message,
    MessageRole,
    MessageStatus,
    NewMessage,
    NewSession,
    Session,
    SessionStatus,
    Turn,
    TurnError,
    TurnStatus,
)
from shared.sessions.posting.content import Payload, check_content
from shared.sessions.posting.models import Posted
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.posting.titles import title_of
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import idempotency
from shared.sessions.records.pages import Page, SessionFilter
from shared.sessions.records.sessions import SessionRecord, check_metadata
from shared.sessions.records.turns import (
    CutAnswer,
    FinishedTurn,
    Interruption,
    ReadableTurn,
    queued_turn,
)
from shared.sessions.repository import AttachmentReader, SessionRepository, TurnRepository
from shared.sessions.turns.ending import tell_end
from shared.sessions.turns.retry import MAX_LOG_TRIES

ALLOWED_FROM: Mapping[SessionStatus, tuple[SessionStatus, ...]] = {
    SessionStatus.ACTIVE: (SessionStatus.CREATED,),
    SessionStatus.SUSPENDED: (SessionStatus.ACTIVE,),
    SessionStatus.ENDED: (SessionStatus.CREATED, SessionStatus.ACTIVE, SessionStatus.SUSPENDED),
}
"""Where `activate`, `suspend` and `end` may start from."""

log = logging.getLogger(__name__)

RESUME_FROM = (SessionStatus.SUSPENDED,)

_STATUS_EVENT = {
    SessionStatus.ACTIVE: EventType.SESSION_ACTIVATED,
    SessionStatus.SUSPENDED: EventType.SESSION_SUSPENDED,
    SessionStatus.ENDED: EventType.SESSION_ENDED,
}


class _WithPayload(BaseModel):
    """A request as its idempotency key remembers it."""

    message: NewMessage
    payload: Any


@dataclass(frozen=True, slots=True)
class Changed:
    """A session that changed state, and whom the caller must tell."""

    session: Session
    messages: list[bytes]
    interruption: Interruption = field(default_factory=Interruption)
    next_turn_id: str | None = None
    """A turn to start."""


class SessionService:
    """Everything a caller may do with sessions, messages and turns. Checks access in every method."""

    def __init__(
        self,
        sessions: SessionRepository,
        turns: TurnRepository,
        publisher: SessionEventPublisher,
        planner: TurnPlanner,
        *,
        agents: AgentCatalog,
        templates: TemplateService,
        attachments: AttachmentReader,
    ) -> None:
        self._sessions = sessions
        self._turns = turns
        self._publisher = publisher
        self._planner = planner
        self._agents = agents
        self._attachments = attachments
        self._templates = templates

    async def create(
        self, body: NewSession, principal: Principal, *, idempotency_key: str | None, thread: str | None = None
    ) -> tuple[Session, bool, list[bytes]]:
        """Make a session; the flag is False when the same request made it before. thread: the caller's own name for it,
        of which there is one session.

        Raises InvalidInput, Conflict.
        """
        claim = idempotency(principal, "POST /sessions", idempotency_key, body)
        body = await self._templates.fill(body, principal)
        await self._agents.check(body.agent_id)
        check_metadata(body.metadata)
        now = datetime.now(UTC)
        session = Session(
            id=body.id or new_id(),
            name=body.name,
            status=SessionStatus.CREATED,
            agent_id=body.agent_id,
            config=body.config,
            tags=list(dict.fromkeys(body.tags)),
            metadata=body.metadata,
            created_at=now,
            updated_at=now,
        )
        record, created = await self._sessions.create(session, principal.user_id, idempotency=claim, thread=thread)
        if not created:
            return record.session, False, []
        metrics.session_created()
        target = replace(record.target, may_seed=True, subscribed_ms=0)
        event = Event(EventType.SESSION_CREATED, {"session": record.session.model_dump(mode="json")})
        return record.session, True, await self._publisher.publish(target, [event])

    async def get(self, session_id: str, principal: Principal) -> SessionRecord:
        """Raises NotFound."""
        return await self._sessions.get(session_id, principal.user_id)

    async def list_for(
        self, principal: Principal, wanted: SessionFilter, page: Page
    ) -> tuple[list[ListedSession], str | None]:
        """The caller's sessions and the next cursor."""
        found = await self._sessions.list_for(principal.user_id, wanted, page)
        if wanted.sort.column == "created_at":
            return page.cut(found, lambda session: (session.created_at, session.id))
        return page.cut(found, lambda session: (session.updated_at, session.id))

    async def change_status(self, session_id: str, principal: Principal, to: SessionStatus) -> Changed:
        """`activate`, `suspend`, `end`. Raises NotFound, InvalidState, and but for `end` Gone."""
        # Who posts activates a session, too.
        action = Action.POST if to is SessionStatus.ACTIVE else Action.CHANGE
        return await self._change(session_id, principal, ALLOWED_FROM[to], to, action)

    async def resume(self, session_id: str, principal: Principal) -> Changed:
        """Raises NotFound, InvalidState, Gone."""
        return await self._change(session_id, principal, RESUME_FROM, SessionStatus.ACTIVE, Action.CHANGE)

    async def _change(
        self,
        session_id: str,
        principal: Principal,
        allowed: tuple[SessionStatus, ...],
        to: SessionStatus,
        action: Action,
    ) -> Changed:
        now = datetime.now(UTC)
        record, interruption = await self._sessions.change_status(
            session_id, principal.user_id, allowed=allowed, to=to, now=now, action=action
        )
        next_turn_id = None
        if to is SessionStatus.ACTIVE:
            # A turn that ended while the session was suspended could not hand over.
            next_turn_id = await self._turns.claim_next(session_id, now=now)
        event = Event(_STATUS_EVENT[to], {"session": record.session.model_dump(mode="json")})
        messages = await self._publisher.publish(
            record.target, [event, *closed_turn_events(interruption.closed_turn_ids)]
        )
        return Changed(record.session, messages, interruption, next_turn_id)

    # Messages and turns. -----------------------------------------------------------------------

    async def post_message(
        self,
        session_id: str,
        body: NewMessage,
        principal: Principal,
        *,
        idempotency_key: str | None,
        payload: Payload | None = None,
    ) -> Posted:
        """Store a message and queue its turn, or store it in the turn that it joins. payload: comes with it, instead
        of files.

        Raises NotFound, Gone, InvalidState, InvalidInput, Conflict, BudgetExceeded.
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
        content = await check_content(
            session_id, body, self._attachments, max_context_tokens=plan.max_context_tokens, payload=payload
        )
        refuse_expired(record.session, now)
        turn_id, message_id = new_id(), new_id()
        message = Message(
            id=message_id,
            session_id=session_id,
            turn_id=turn_id,
            role=MessageRole.USER,
            content=body.content,
            attachments=content.attachments,
            author=principal.user_id,
            status=MessageStatus.COMPLETED,
            created_at=now,
        )
        turn = queued_turn(turn_id, session_id, message_id, now=now, plan=plan)
        result = await self._turns.post_message(
            message,
            turn,
            plan,
            user_id=principal.user_id,
            tokens=content.tokens,
            concurrency=body.concurrency or posting.concurrency,
            idempotency=idempotency(
                principal,
                f"POST /sessions/{session_id}/messages",
                idempotency_key,
                body if payload is None else _WithPayload(message=body, payload=payload.data),
            ),
            refusal=posting.refusal,
            note=content.note,
            sources=content.sources,
        )
        if result.replayed:
            return Posted(result, [])
        metrics.message_stored(MessageRole.USER)
        events: list[Event] = []
        if result.activated:
            title = record.session.title or title_of(result.message.content)
            session = record.session.model_copy(
                update={"status": SessionStatus.ACTIVE, "title": title, "updated_at": now}
            )
            events.append(Event(EventType.SESSION_ACTIVATED, {"session": session.model_dump(mode="json")}))
        if result.interrupted is not None:
            events.extend(closed_turn_events(result.interrupted.closed_turn_ids))
        events.append(
            Event(
                EventType.MESSAGE_CREATED,
                result.message.model_dump(mode="json", exclude_none=True),
                result.turn.id,
                message_id,
            )
        )
        return Posted(result, await self._publisher.publish(result.target, events))

    async def get_turn(self, session_id: str, turn_id: str, principal: Principal) -> Turn:
        """Raises NotFound."""
        return (await self.readable_turn(session_id, turn_id, principal)).turn

    async def readable_turn(self, session_id: str, turn_id: str, principal: Principal) -> ReadableTurn:
        """A turn to watch. Raises NotFound."""
        return await self._turns.readable_turn(session_id, turn_id, principal.user_id)

    async def open_turn(self, session_id: str, principal: Principal) -> ReadableTurn | None:
        """The turn that runs, waits or is next, if there is one. Raises NotFound."""
        return await self._turns.open_turn(session_id, principal.user_id)

    async def cancel_turn(
        self, session_id: str, turn_id: str, principal: Principal
    ) -> tuple[Turn, Interruption, list[bytes]]:
        """Ask a turn to stop; harmless when it has ended. Raises NotFound."""
        interruption, target = await self._turns.cancel(session_id, turn_id, principal.user_id, now=datetime.now(UTC))
        events = closed_turn_events(interruption.closed_turn_ids)
        messages = await self._publisher.publish(target, events) if events else []
        return await self._turns.get_turn(session_id, turn_id), interruption, messages

    async def _cut_answer(self, turn_id: str, tries: int) -> CutAnswer | None:
        """What readers saw of an answer that nobody ends any more: its process was killed, or it was cancelled while it
        waited for another try. Raises EventLogUnavailable, but at the last try goes on without the log."""
        found = await self._turns.open_answer(turn_id)
        if found is None:
            return None
        try:
            said = await self._publisher.streamed(found.feed, found.message_id)
        except EventLogUnavailable as exc:
            if tries < MAX_LOG_TRIES:
                raise
            log.warning("what was streamed of message %s cannot be read back: %s", found.message_id, exc)
            said = Streamed()
        # The log goes further, unless it is away or has lost it.
        content, reasoning = said.content or found.content, said.reasoning or found.reasoning
        return CutAnswer(content, reasoning, estimate_tokens(content))

    async def finish_turn(
        self, turn_id: str, *, status: TurnStatus, error: TurnError | None, tries: int = 0
    ) -> tuple[FinishedTurn, list[bytes]]:
        """Close a turn that its last step has not closed, and hand over to the next. Safe to repeat, and after that
        step: the end is said again.

        tries: how often this has failed. Raises EventLogUnavailable: an answer was cut whose text only the event log
        holds, and that is away; from the MAX_LOG_TRIES-th failure on the turn ends without that text.
        """
        answer = None if status is TurnStatus.COMPLETED else await self._cut_answer(turn_id, tries)
        finished = await self._turns.finish(turn_id, status=status, error=error, now=datetime.now(UTC), answer=answer)
        tracing.join_turn(turn_id, finished.target.session_id, finished)
        events = tell_end(turn_id, finished)
        return finished, await self._publisher.publish(finished.target, events)
