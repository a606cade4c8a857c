"""What the integration tests share: stores, sessions and turns made in one line, senders that remember."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.attachments import PostgresAttachments
from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.features.features import PostgresTemplates
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.erasure import PostgresErasures
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.adapters.postgres.sessions.sessions import PostgresSessions
from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions
from shared.adapters.postgres.turns.approvals import PostgresApprovals
from shared.adapters.postgres.turns.steps import PostgresSteps
from shared.adapters.postgres.turns.tool_calls import PostgresToolCalls
from shared.adapters.postgres.turns.turns import PostgresTurns
from shared.adapters.postgres.turns.waits import PostgresWaits
from shared.adapters.redis.guard import RedisGuard
from shared.durable.hub import TaskHub
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import KnownModels
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.approvals.containment import authors_read, sources_read
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import grant_of
from shared.sessions.audit.sealing import Sealer
from shared.sessions.audit.trail import FiledLine
from shared.sessions.cache import SessionChanges
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import EventLog, EventTarget, SessionEventPublisher
from shared.sessions.features.templates import TemplateService
from shared.sessions.life.erasure import ErasableStore, SessionErasure
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.live.open_streams import CHECK_S, OpenStreams, Viewer
from shared.sessions.llm.registry import ModelRegistry
from shared.sessions.models import (
    ApprovalMode,
    Concurrency,
    Decision,
    Message,
    MessageRole,
    MessageStatus,
    Session,
    SessionConfig,
    SessionStatus,
    ToolCallStatus,
    Turn,
    TurnStatus,
    Usage,
)
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
from shared.sessions.records.approvals import ApprovalRecord, NewApproval, VoteEffect, VoteRecord
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.steps import ProposedCall, StepResult, StepStart
from shared.sessions.records.tool_calls import ToolCallResult
from shared.sessions.records.turns import PostedMessage, queued_turn
from shared.sessions.service import SessionService
from shared.sessions.streaming import LONGEST_S, StreamingHandler
from shared.sessions.turns.patience import ANSWER_SECONDS

OWNER = "ann"
WRITER = "will"
READER = "rita"
STRANGER = "mallory"
WAIT_S = 20.0
"""How long a test waits for what must come; never a measure of speed."""


def vote_on(
    approval: ApprovalRecord, user: str = "anna", decision: Decision = Decision.APPROVE, **changes: Any
) -> VoteRecord:
    """A vote about the arguments that were asked for, unless `changes` names others."""
    arguments = changes.get("arguments") or approval.arguments
    if changes.get("for_session"):
        agent = approval.agent_id, approval.agent_version
        changes["grant"] = grant_of(approval.tool, approval.policy, *agent, approval.requested_by)
    changes.setdefault("needed", {"": approval.policy.quorum})
    return VoteRecord(decision, user, arguments_digest(approval.tool, arguments), **changes)


def utc_now() -> datetime:
    return datetime.now(UTC)


def connect_redis(url: str, *, socket_timeout: float | None = 2.0) -> Redis:
    """A client as the composition root makes it."""
    return Redis.from_url(
        url, protocol=2, socket_connect_timeout=2.0, socket_timeout=socket_timeout, retry=Retry(NoBackoff(), 1)
    )


def patient(redis: Redis) -> RedisGuard:
    """A guard for tests of something else: on a busy machine an answer that is late is no outage."""
    return RedisGuard(redis, answer_s=5, patience_s=5)


def plan(**changes: Any) -> TurnPlan:
    values: dict[str, Any] = {
        "instructions": "Be brief.",
        "model": "scripted",
        "temperature": None,
        "max_output_tokens": None,
        "max_steps": 8,
        "tools": ["calculate", "current_time", "http_request"],
        "approval_mode": ApprovalMode.POLICY,
        "approval_timeout_seconds": 3_600,
        "tool_timeout_seconds": 60,
        "max_context_tokens": 100_000,
    }
    return TurnPlan(**values | changes)


def call(name: str = "calculate", arguments: dict[str, Any] | None = None, **changes: Any) -> ProposedCall:
    values: dict[str, Any] = {
        "id": new_id(),
        "ordinal": 0,
        "provider_call_id": f"call_{new_id()}",
        "name": name,
        "arguments": {"expression": "1 + 1"} if arguments is None else arguments,
        "argument_error": None,
        "needs_approval": False,
    }
    return ProposedCall(**values | changes)


@dataclass(frozen=True)
class Stores:
    """The repositories, and shorthand for putting rows into them the way the app does."""

    pool: PostgresPool
    sessions: PostgresSessions
    turns: PostgresTurns
    steps: PostgresSteps
    tool_calls: PostgresToolCalls
    approvals: PostgresApprovals
    waits: PostgresWaits
    trail: PostgresAuditTrail
    audit: RecordingAudit
    """What these stores committed to trails."""

    @classmethod
    def over(cls, pool: PostgresPool, hub: TaskHub | None = None) -> Stores:
        audit = RecordingAudit()
        trail = PostgresAuditTrail(pool, SEALER, audit.committed)
        return cls(
            pool,
            PostgresSessions(pool, hub),
            PostgresTurns(pool, hub),
            PostgresSteps(pool, hub),
            PostgresToolCalls(pool, trail),
            PostgresApprovals(pool, trail, hub),
            PostgresWaits(pool, trail, hub),
            trail,
            audit,
        )

    async def session(self, *, owner: str = OWNER, idempotency: Idempotency | None = None, **fields: Any) -> Session:
        record, _ = await self.create(new_session(**fields), owner, idempotency)
        return record.session

    async def create(
        self, session: Session, owner: str = OWNER, idempotency: Idempotency | None = None
    ) -> tuple[SessionRecord, bool]:
        return await self.sessions.create(session, owner, idempotency=idempotency)

    async def share(self, session_id: str, user_id: str, access: str) -> None:
        await self.sql(
            b"INSERT INTO session_participants (session_id, user_id, access) VALUES (%(s)s, %(u)s, %(a)s)",
            s=session_id,
            u=user_id,
            a=access,
        )

    async def shared_session(self) -> Session:
        """A session with one participant who may write and one who may read."""
        session = await self.session()
        await self.share(session.id, WRITER, "write")
        await self.share(session.id, READER, "read")
        return session

    async def move(self, session_id: str, to: SessionStatus, *allowed: SessionStatus, user: str = OWNER) -> Any:
        return await self.sessions.change_status(
            session_id, user, allowed=allowed or tuple(SessionStatus), to=to, now=utc_now()
        )

    async def post(
        self,
        session_id: str,
        content: str = "hello",
        *,
        user: str = OWNER,
        concurrency: Concurrency = Concurrency.REJECT,
        idempotency: Idempotency | None = None,
        turn_plan: TurnPlan | None = None,
    ) -> PostedMessage:
        message, turn = new_message(session_id, content, author=user, turn_plan=turn_plan)
        return await self.turns.post_message(
            message,
            turn,
            turn_plan or plan(),
            user_id=user,
            tokens=estimate_tokens(content),
            concurrency=concurrency,
            idempotency=idempotency,
        )

    async def turn(self, content: str = "hello", **plan_changes: Any) -> PostedMessage:
        """A dispatched turn in a session of its own."""
        session = await self.session()
        return await self.post(session.id, content, turn_plan=plan(**plan_changes))

    async def begin(self, turn_id: str, step: int = 1) -> Any:
        now = utc_now()
        quiet_until = now + timedelta(seconds=ANSWER_SECONDS)
        return await self.steps.begin_step(turn_id, step, message_id=new_id(), now=now, quiet_until=quiet_until)

    async def started(self, turn_id: str, step: int = 1) -> StepStart:
        start = await self.begin(turn_id, step)
        assert isinstance(start, StepStart), start
        return start

    async def answer(
        self,
        turn_id: str,
        step: int = 1,
        *,
        content: str = "answer",
        calls: Sequence[ProposedCall] = (),
        **changes: Any,
    ) -> StepStart:
        """Run the whole model step `step` without a model. changes: of its `StepResult`."""
        start = await self.started(turn_id, step)
        result = result_of(start, content=content, calls=calls)
        assert await self.steps.save_step(replace(result, **changes))
        return start

    async def tool_result(self, tool_call_id: str, **changes: Any) -> bool:
        """Store how a tool call ended; whether it had no result before. changes: of its `ToolCallResult`."""
        values: dict[str, Any] = {
            "status": ToolCallStatus.COMPLETED,
            "result": {},
            "error_code": None,
            "message_id": new_id(),
            "content": "{}",
            "tokens": 3,
            "ended_at": utc_now(),
        }
        return await self.tool_calls.save_tool_result(ToolCallResult(tool_call_id, **values | changes))

    async def finish(self, turn_id: str, status: TurnStatus = TurnStatus.COMPLETED) -> Any:
        return await self.turns.finish(turn_id, status=status, error=None, now=utc_now())

    async def proposed(self, proposal: ProposedCall, **plan_changes: Any) -> PostedMessage:
        """A turn whose first step asked for `proposal`."""
        posted = await self.turn(**plan_changes)
        await self.answer(posted.turn.id, calls=[proposal])
        return posted

    async def request_approval(
        self,
        proposal: ProposedCall,
        *,
        expires_in: timedelta = timedelta(hours=1),
        instance_id: str | None = None,
        policy: ApprovalPolicy = DEFAULT_POLICY,
    ) -> ApprovalRecord:
        now = utc_now()
        record, _ = await self.approvals.request(
            NewApproval(
                new_id(),
                proposal.id,
                digest=arguments_digest(proposal.name, proposal.arguments),
                instance_id=instance_id or f"instance-{proposal.id}",
                policy=policy,
                requested_at=now,
                expires_at=now + expires_in,
            ),
            no_notes,
        )
        assert record is not None
        return record

    async def decide(self, approval: ApprovalRecord, vote: VoteRecord, *, now: datetime | None = None) -> bool:
        """Whether this vote was the one that decided."""
        return await self.cast(approval, vote, now=now) is VoteEffect.DECIDED

    async def cast(self, approval: ApprovalRecord, vote: VoteRecord, *, now: datetime | None = None) -> VoteEffect:
        return (await self.approvals.vote(approval.id, vote, no_notes, now=now or utc_now())).effect

    async def time_out(self, tool_call_id: str) -> bool:
        return await self.tool_calls.time_out_approval(tool_call_id, no_notes, now=utc_now())

    async def sql(self, query: bytes, **parameters: Any) -> int:
        return await self.pool.execute(query, parameters)

    async def rows(self, query: bytes, **parameters: Any) -> list[dict[str, Any]]:
        return await self.pool.fetch_all(query, parameters)

    async def value(self, query: bytes, **parameters: Any) -> Any:
        rows = await self.rows(query, **parameters)
        assert len(rows) == 1, rows
        return next(iter(rows[0].values()))


class Uncached:
    """`SessionChanges` for where nothing is kept: these readers ask the database."""

    def changing(self, session_id: str, *, takes_access: bool = False) -> AbstractAsyncContextManager[None]:
        return nullcontext()


def open_streams(stores: Stores, *, per_user: int | None = None, check_s: float = CHECK_S) -> OpenStreams:
    """Those of a process; it asks the database."""
    readable = PostgresSubscriptions(stores.pool).readable
    return OpenStreams(readable, per_user=per_user, longest_s=LONGEST_S, check_s=check_s)


def streaming(log: EventLog, stores: Stores) -> StreamingHandler:
    return StreamingHandler(log, stores.turns, open_streams(stores))


def viewer_of(target: EventTarget, user_id: str = OWNER) -> Viewer:
    return Viewer(target.session_id, user_id, target.feed)


def session_service(
    stores: Stores,
    publisher: SessionEventPublisher,
    *,
    user_daily_tokens: int | None = None,
    limits: DailyLimits | None = None,
    registry: ModelRegistry | None = None,
) -> SessionService:
    """The service over the database alone."""
    agents = AgentCatalog(PostgresAgents(stores.pool))
    return SessionService(
        stores.sessions,
        stores.turns,
        publisher,
        turn_planner(stores, limits=limits or DailyLimits(user_daily_tokens), registry=registry),
        agents=agents,
        templates=TemplateService(PostgresTemplates(stores.pool), agents),
        attachments=PostgresAttachments(stores.pool),
    )


def turn_planner(
    stores: Stores, *, limits: DailyLimits | None = None, registry: ModelRegistry | None = None
) -> TurnPlanner:
    return TurnPlanner(
        stores.sessions,
        default_model="scripted",
        limits=limits or DailyLimits(),
        known=KnownModels(registry or ModelRegistry()),
    )


def session_lifecycle(
    stores: Stores, publisher: SessionEventPublisher, *, changes: SessionChanges | None = None
) -> SessionLifecycle:
    """The lifecycle over the database."""
    return SessionLifecycle(
        PostgresLifecycle(stores.pool),
        publisher,
        stores.sessions.get,
        changes or Uncached(),
        agents=AgentCatalog(PostgresAgents(stores.pool)),
    )


def session_erasure(
    stores: Stores,
    publisher: SessionEventPublisher,
    erased: Sequence[ErasableStore] = (),
    *,
    changes: SessionChanges | None = None,
) -> SessionErasure:
    """The erasure over the database; erased: the stores beside it that forget a session too."""
    return SessionErasure(
        PostgresErasures(stores.pool, stores.audit.committed), publisher, erased, SEALER, changes or Uncached()
    )


async def finish_erasure(erasing: SessionErasure, session_id: str) -> bool:
    """What `activities/erasure.py` does, with every durable instance gone at once."""
    found = await erasing.erase_stores(session_id)
    if found is None:
        return True
    erasure, forgot = found
    return await erasing.finish(erasure, erasure.instances, stores_forgot=forgot)


async def erase_session(erasing: SessionErasure, session_id: str, owner: str = OWNER) -> None:
    """From the request to its end."""
    await erasing.mark(session_id, Principal(owner, frozenset({Role.USER})), if_match=None)
    assert await finish_erasure(erasing, session_id)


def new_session(**fields: Any) -> Session:
    now = fields.pop("now", None) or utc_now()
    values: dict[str, Any] = {
        "id": new_id(),
        "name": None,
        "status": SessionStatus.CREATED,
        "agent_id": None,
        "config": SessionConfig(),
        "tags": [],
        "metadata": {},
        "created_at": now,
        "updated_at": now,
    }
    return Session(**values | fields)


def new_message(
    session_id: str, content: str = "hello", *, author: str = OWNER, turn_plan: TurnPlan | None = None
) -> tuple[Message, Turn]:
    now = utc_now()
    turn_id, message_id = new_id(), new_id()
    message = Message(
        id=message_id,
        session_id=session_id,
        turn_id=turn_id,
        role=MessageRole.USER,
        content=content,
        author=author,
        status=MessageStatus.COMPLETED,
        created_at=now,
    )
    turn = queued_turn(turn_id, session_id, message_id, now=now, plan=turn_plan or plan())
    return message, turn


def result_of(
    start: StepStart,
    *,
    content: str = "answer",
    calls: Sequence[ProposedCall] = (),
    status: MessageStatus = MessageStatus.COMPLETED,
    attempt: int | None = None,
) -> StepResult:
    return StepResult(
        message_id=start.message_id,
        attempt=attempt or start.attempt,
        content=content,
        status=status,
        calls=list(calls),
        usage=Usage(input_tokens=10, output_tokens=5),
        tokens=estimate_tokens(content),
        ended_at=datetime.now(UTC),
        sources=sources_read(start.context),
        authors=authors_read(start.context, start.requested_by),
    )


def key(name: str, body: str = "body", *, user: str = OWNER, scope: str = "POST /x") -> Idempotency:
    return Idempotency(user, scope, name, body)


def script(**directives: Any) -> str:
    """The user message that tells the scripted model how to answer."""
    return "#script " + json.dumps(directives)


@dataclass
class RecordingSender:
    """A `RealtimeSender` that keeps the envelopes it was given."""

    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, messages: Sequence[bytes]) -> None:
        self.batches.append(envelopes(messages))
        self.sent.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch]


AUDIT_KEY = b"k" * 32
SEALER = Sealer([AUDIT_KEY])


def no_notes(*of: object) -> list[AuditNote]:
    """For acts that leave nothing in the trail."""
    return []


@dataclass
class RecordingAudit:
    """Keeps the lines that were committed, and forwards none."""

    lines: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    who: list[str] = field(default_factory=list)
    """Of each line."""

    def committed(self, lines: Sequence[FiledLine]) -> None:
        for session_id, line in lines:
            self.lines.append((session_id, line.action, orjson.loads(line.details)))
            self.who.append(line.who)


def envelopes(messages: Sequence[bytes]) -> list[dict[str, Any]]:
    """The event of each encoded SignalR message."""
    return [orjson.loads(message)["arguments"][0] for message in messages]


def text_of(events: Sequence[dict[str, Any]]) -> str:
    """What a client shows: the deltas of the last attempt, joined."""
    text = ""
    for event in events:
        frame = event["data"].get("frame", {}) if event["type"] == "stream.chunk" else {}
        if frame.get("type") == "message_start":
            text = ""
        elif frame.get("type") == "content_delta":
            text += frame["text"]
    return text


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something only another process can tell."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():  # noqa: ASYNC110  # another process gives no event
            await asyncio.sleep(0.02)
