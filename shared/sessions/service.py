"""SessionService: the life of a session and of what is posted to it.

Invariant: the state machine is CREATED -> ACTIVE, ACTIVE <-> SUSPENDED, and anything -> ENDED, for good. The stored row
changes first; orchestrations are told afterwards, by the caller, and a sweep repeats what was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Protocol

from shared import tracing
from shared.errors import AppError, BudgetExceeded, ErrorCode, InvalidInput
from shared.ids import is_valid_id, new_id
from shared.principal import Principal
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, KnownModels, effective_config, plan_turn
from shared.sessions.agents.catalog import AgentCatalog, unknown_agent
from shared.sessions.context.note import MAX_NOTE_CHARS, note_for, reference
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import (
    Event,
    EventType,
    FrameType,
    SessionEventPublisher,
    closed_turn_events,
    ended_event,
    frame,
)
from shared.sessions.features.templates import TemplateService
from shared.sessions.limits.budgets import (
    NO_DAILY_LIMITS,
    DailyLimits,
    MoneyBudgets,
    MoneySpent,
    TokenBudgets,
    TokensUsed,
    posting_refusal,
    usage_day,
)
from shared.sessions.metrics import metrics
from shared.sessions.models import (
    MAX_CONTENT_CHARS,
    ApprovalMode,
    AttachmentRef,
    Concurrency,
    JsonObject,
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
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import idempotency
from shared.sessions.records.pages import Page, SessionFilter
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import DayUsed, SessionRecord, check_metadata
from shared.sessions.records.turns import (
    FinishedTurn,
    Interruption,
    PostedMessage,
    ReadableTurn,
    queued_turn,
)
from shared.sessions.repository import AttachmentReader, SessionRepository, TurnRepository

ALLOWED_FROM: Mapping[SessionStatus, tuple[SessionStatus, ...]] = {
    SessionStatus.ACTIVE: (SessionStatus.CREATED,),
    SessionStatus.SUSPENDED: (SessionStatus.ACTIVE,),
    SessionStatus.ENDED: (SessionStatus.CREATED, SessionStatus.ACTIVE, SessionStatus.SUSPENDED),
}
"""Where `activate`, `suspend` and `end` may start from."""

RESUME_FROM = (SessionStatus.SUSPENDED,)

_STATUS_EVENT = {
    SessionStatus.ACTIVE: EventType.SESSION_ACTIVATED,
    SessionStatus.SUSPENDED: EventType.SESSION_SUSPENDED,
    SessionStatus.ENDED: EventType.SESSION_ENDED,
}


@dataclass(frozen=True, slots=True)
class Changed:
    """A session that changed state, and whom the caller must tell."""

    session: Session
    messages: list[bytes]
    interruption: Interruption = field(default_factory=Interruption)
    next_turn_id: str | None = None
    """A turn to start."""


@dataclass(frozen=True, slots=True)
class Posting:
    """A session that somebody posts to. refusal: why no turn may be added to it now."""

    record: SessionRecord
    plan: TurnPlan
    concurrency: Concurrency
    refusal: BudgetExceeded | None


@dataclass(frozen=True, slots=True)
class Posted:
    """A message on record. start: its turn is next; messages: events to send."""

    result: PostedMessage
    messages: list[bytes]

    @property
    def start(self) -> bool:
        return self.result.dispatched and not self.result.replayed


class PostedSessions(SessionRepository, Protocol):
    """Sessions, and in one read all that posting to one takes."""

    async def get_for_posting(
        self, session_id: str, user_id: str, *, day: date
    ) -> tuple[SessionRecord, Agent | None, DayUsed]:
        """Also the newest version of its agent that is stored, and what the user's turns have used on that day. Raises
        NotFound."""
        ...


class SessionService:
    """Everything a caller may do with sessions, messages and turns. Checks access in every method."""

    def __init__(
        self,
        sessions: PostedSessions,
        turns: TurnRepository,
        publisher: SessionEventPublisher,
        *,
        default_model: str,
        agents: AgentCatalog,
        templates: TemplateService,
        attachments: AttachmentReader,
        limits: DailyLimits = NO_DAILY_LIMITS,
        known: KnownModels | None = None,
    ) -> None:
        """known: what is known of the models that turns are planned for."""
        self._sessions = sessions
        self._turns = turns
        self._publisher = publisher
        self._default_model = default_model
        self._limits = limits
        self._known = known or KnownModels()
        self._agents = agents
        self._attachments = attachments
        self._templates = templates

    async def create(
        self, body: NewSession, principal: Principal, *, idempotency_key: str | None
    ) -> tuple[Session, bool, list[bytes]]:
        """Make a session; the flag is False when the same request made it before.

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
        record, created = await self._sessions.create(session, principal.user_id, idempotency=claim)
        if not created:
            return record.session, False, []
        metrics.session_created()
        target = replace(record.target, may_seed=True)
        event = Event(EventType.SESSION_CREATED, {"session": record.session.model_dump(mode="json")})
        return record.session, True, await self._publisher.publish(target, [event])

    async def get(self, session_id: str, principal: Principal) -> SessionRecord:
        """Raises NotFound."""
        return await self._sessions.get(session_id, principal.user_id)

    async def list_for(
        self, principal: Principal, wanted: SessionFilter, page: Page
    ) -> tuple[list[Session], str | None]:
        """The caller's sessions and the next cursor."""
        found = await self._sessions.list_for(principal.user_id, wanted, page)
        if wanted.sort.column == "created_at":
            return page.cut(found, lambda session: (session.created_at, session.id))
        return page.cut(found, lambda session: (session.updated_at, session.id))

    async def change_status(self, session_id: str, principal: Principal, to: SessionStatus) -> Changed:
        """`activate`, `suspend`, `end`. Raises NotFound, InvalidState, and but for `end` Gone."""
        return await self._change(session_id, principal, ALLOWED_FROM[to], to)

    async def resume(self, session_id: str, principal: Principal) -> Changed:
        """Raises NotFound, InvalidState, Gone."""
        return await self._change(session_id, principal, RESUME_FROM, SessionStatus.ACTIVE)

    async def _change(
        self, session_id: str, principal: Principal, allowed: tuple[SessionStatus, ...], to: SessionStatus
    ) -> Changed:
        now = datetime.now(UTC)
        record, interruption = await self._sessions.change_status(
            session_id, principal.user_id, allowed=allowed, to=to, now=now
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

    async def for_posting(
        self,
        session_id: str,
        principal: Principal,
        approval_mode: ApprovalMode | None,
        *,
        now: datetime,
        output_schema: JsonObject | None = None,
    ) -> Posting:
        """What a turn that is posted now runs with, and why it may not. Raises NotFound, InvalidInput."""
        record, agent, today = await self._sessions.get_for_posting(session_id, principal.user_id, day=usage_day(now))
        if agent is None:
            if record.session.agent_id not in {None, DEFAULT_AGENT.id}:
                raise unknown_agent(record.session.agent_id)
            agent = DEFAULT_AGENT
        config = effective_config(agent, record.session.config)
        plan = plan_turn(
            agent,
            config,
            model=self._default_model,
            approval_mode=approval_mode,
            output_schema=output_schema,
            known=self._known,
        )
        limits = self._limits
        refusal = posting_refusal(
            TokenBudgets(session=config.max_session_tokens, user_day=limits.daily_tokens),
            TokensUsed(session=record.used_tokens, user_day=today.tokens),
            now=now,
            money=MoneyBudgets(session=config.max_session_cost_usd, user_day=limits.daily_cost_usd),
            spent=MoneySpent(session=record.used_cost_usd, user_day=today.cost_usd),
        )
        return Posting(record, plan, config.concurrency, refusal)

    async def post_message(
        self, session_id: str, body: NewMessage, principal: Principal, *, idempotency_key: str | None
    ) -> Posted:
        """Store a message and queue its turn. Raises NotFound, Gone, InvalidState, InvalidInput, Conflict,
        BudgetExceeded."""
        now = datetime.now(UTC)
        posting = await self.for_posting(
            session_id, principal, body.approval_mode, now=now, output_schema=body.output_schema
        )
        record, plan = posting.record, posting.plan
        tokens = _checked_tokens(body, plan.max_context_tokens)
        attachments: list[AttachmentRef] = []
        note: str | None = None
        if body.attachment_ids:
            files = await self._attached(session_id, body.attachment_ids)
            attachments = [reference(file) for file in files]
            note = note_for(files, max_tokens=plan.max_context_tokens - tokens)
            tokens += estimate_tokens(note)
            if tokens > plan.max_context_tokens:
                raise _too_long(tokens, plan.max_context_tokens)
        refuse_expired(record.session, now)
        turn_id, message_id = new_id(), new_id()
        message = Message(
            id=message_id,
            session_id=session_id,
            turn_id=turn_id,
            role=MessageRole.USER,
            content=body.content,
            attachments=attachments,
            author=principal.user_id,
            status=MessageStatus.COMPLETED,
            created_at=now,
        )
        turn = queued_turn(turn_id, session_id, message_id, now=now)
        result = await self._turns.post_message(
            message,
            turn,
            plan,
            user_id=principal.user_id,
            tokens=tokens,
            concurrency=body.concurrency or posting.concurrency,
            idempotency=idempotency(principal, f"POST /sessions/{session_id}/messages", idempotency_key, body),
            refusal=posting.refusal,
            note=note,
        )
        if result.replayed:
            return Posted(result, [])
        metrics.message_stored(MessageRole.USER)
        events: list[Event] = []
        if result.activated:
            session = record.session.model_copy(update={"status": SessionStatus.ACTIVE, "updated_at": now})
            events.append(Event(EventType.SESSION_ACTIVATED, {"session": session.model_dump(mode="json")}))
        if result.interrupted is not None:
            events.extend(closed_turn_events(result.interrupted.closed_turn_ids))
        events.append(
            Event(
                EventType.MESSAGE_CREATED,
                result.message.model_dump(mode="json", exclude_none=True),
                turn_id,
                message_id,
            )
        )
        return Posted(result, await self._publisher.publish(result.target, events))

    async def _attached(self, session_id: str, ids: list[str]) -> list[AttachmentRecord]:
        """The files a message comes with, in its order, each once. Raises InvalidInput (INVALID_MESSAGE)."""
        found = {}
        if all(is_valid_id(item) for item in ids):
            found = await self._attachments.some(session_id, ids, max_chars=MAX_NOTE_CHARS)
        for item in ids:
            if item not in found:
                raise _unknown_attachment(item)
        return [found[item] for item in dict.fromkeys(ids)]

    async def get_turn(self, session_id: str, turn_id: str, principal: Principal) -> Turn:
        """Raises NotFound."""
        return (await self.readable_turn(session_id, turn_id, principal)).turn

    async def readable_turn(self, session_id: str, turn_id: str, principal: Principal) -> ReadableTurn:
        """A turn to watch. Raises NotFound."""
        return await self._turns.readable_turn(session_id, turn_id, principal.user_id)

    async def cancel_turn(
        self, session_id: str, turn_id: str, principal: Principal
    ) -> tuple[Turn, Interruption, list[bytes]]:
        """Ask a turn to stop; harmless when it has ended. Raises NotFound."""
        interruption, target = await self._turns.cancel(session_id, turn_id, principal.user_id, now=datetime.now(UTC))
        events = closed_turn_events(interruption.closed_turn_ids)
        messages = await self._publisher.publish(target, events) if events else []
        return await self._turns.get_turn(session_id, turn_id), interruption, messages

    async def finish_turn(
        self, turn_id: str, *, status: TurnStatus, error: TurnError | None
    ) -> tuple[FinishedTurn, list[bytes]]:
        """Close a turn and hand over to the next; called by the turn itself, safe to repeat."""
        finished = await self._turns.finish(turn_id, status=status, error=error, now=datetime.now(UTC))
        session_id = finished.target.session_id
        tracing.join_turn(turn_id, session_id, finished)
        tracing.turn_ended(
            turn_id,
            session_id,
            finished,
            agent=(finished.agent_id, finished.agent_version),
            model=finished.model,
            status=finished.status,
            error_code=finished.error.code if finished.error else None,
            usage=tracing.UsedTokens(
                finished.usage.input_tokens,
                finished.usage.output_tokens,
                finished.usage.cached_input_tokens,
                finished.usage.reasoning_tokens,
            ),
            began=finished.began_at,
            ended=finished.ended_at,
        )
        # Said again by a repeat: whoever closed it may have been cut before it could say so.
        events: list[Event] = []
        if finished.error is not None:
            data = finished.error.model_dump()
            events.append(frame(FrameType.ERROR, turn_id, None, **data))
            events.append(Event(EventType.ERROR_OCCURRED, data, turn_id))
        events.append(ended_event(turn_id, finished.status, finished.usage, finished.steps, finished.finish_reason))
        return finished, await self._publisher.publish(finished.target, events)


def _checked_tokens(body: NewMessage, max_context_tokens: int) -> int:
    if not body.content.strip():
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "A message needs content.")
    if "\x00" in body.content:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "A message cannot hold the character U+0000.")
    if len(body.content) > MAX_CONTENT_CHARS:
        raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A message may have {MAX_CONTENT_CHARS} characters.")
    tokens = estimate_tokens(body.content)
    if tokens > max_context_tokens:
        raise _too_long(tokens, max_context_tokens)
    return tokens


def _too_long(tokens: int, max_context_tokens: int) -> AppError:
    return InvalidInput(
        ErrorCode.MESSAGE_TOO_LONG,
        f"The message is about {tokens} tokens; this session's model reads {max_context_tokens}.",
    )


def _unknown_attachment(attachment_id: str) -> AppError:
    return InvalidInput(
        ErrorCode.INVALID_MESSAGE,
        f"This session has no attachment {attachment_id[:64]!r}.",
        errors=[{"field": "attachment_ids", "message": "unknown attachment"}],
    )
