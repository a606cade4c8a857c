"""ToolApprovalManager: asking people, and recording what they said.

Invariant: the decision is in the store before anyone is told of it, and it binds exactly the arguments the approvers
saw (or changed): what may run is compared with the stored digest again before it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from shared import tracing
from shared.errors import ErrorCode, NotFound
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.approvals.call_context import ApprovalContext, context_of
from shared.sessions.approvals.containment import why_contained
from shared.sessions.approvals.deciders import (
    deciding_roles,
    is_in_session,
    may_decide,
    may_see,
    refusal_to_approve,
)
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.models import Approval, NewDecision
from shared.sessions.approvals.notices import NoticeSchedule
from shared.sessions.approvals.opening import opening
from shared.sessions.approvals.timing import escalates_at, notice_schedule, timeout_seconds
from shared.sessions.approvals.voting import checked_vote, public_approval, refuse_unless_same
from shared.sessions.audit import notes
from shared.sessions.audit.trail import AuditTrail
from shared.sessions.cache import SessionReader
from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.live.groups import groups_of_roles
from shared.sessions.models import ApprovalStatus
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.approvals import ApprovalBelow, ApprovalRecord, NewApproval, VoteEffect
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, Page
from shared.sessions.repository import ApprovalRepository, ToolCallRepository
from shared.sessions.tools.registry import ready
from shared.signing import ApprovalLinks

log = logging.getLogger(__name__)

_NO_APPROVAL = "No such approval."
_FRESH = timedelta(minutes=10)
"""An approval that was asked for within this time may be asked for again because the first try was cut."""
_EARLY_S = 1.0
"""Timers of Azure Storage were seen to fire up to 0.7 s before their time."""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An approval that stands, and what its orchestration needs to wait for it."""

    approval_id: str
    schedule: NoticeSchedule
    messages: list[bytes]
    is_decided: bool = False
    """Or over in another way."""

    @property
    def expires_at(self) -> datetime:
        return self.schedule.expires_at


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """An approval as one person sees it. refusal: why their yes would not count, though they may say no."""

    approval: Approval
    may_decide: bool
    refusal: str | None
    context: ApprovalContext


@dataclass(frozen=True, slots=True)
class AskedIn:
    """An approval that a turn of a session waits for. turn_id: of that turn, which may be above the approval's own."""

    approval: Approval
    turn_id: str
    may_decide: bool


@dataclass(frozen=True, slots=True)
class Decided:
    """A vote on record. new: it was this call that decided."""

    approval: Approval
    instance_id: str
    new: bool
    messages: list[bytes]

    @property
    def must_be_delivered(self) -> bool:
        """The orchestration that waits must hear of it; again for a repeat, since the first may have been cut."""
        return self.approval.status is not ApprovalStatus.PENDING


class ToolApprovalManager:
    """Requests, shows and decides approvals."""

    def __init__(
        self,
        approvals: ApprovalRepository,
        tool_calls: ToolCallRepository,
        publisher: SessionEventPublisher,
        sessions: SessionReader,
        links: ApprovalLinks,
        audit: AuditTrail,
        *,
        print_links: bool,
    ) -> None:
        self._approvals = approvals
        self._tool_calls = tool_calls
        self._publisher = publisher
        self._sessions = sessions
        self._links = links
        self._audit = audit
        self._print_links = print_links

    async def request(self, tool_call_id: str, *, instance_id: str) -> ApprovalRequest | None:
        """Open the approval of a tool call, once. None when its turn was cancelled before."""
        await ready()
        call = await self._tool_calls.tool_execution(tool_call_id)
        tracing.join_turn(call.turn_id, call.session_id, call.plan)
        opened_with = opening(
            call.name,
            call.arguments,
            call.plan,
            contained=call.contained,
            sources=call.sources,
            choice_bits=call.choice_bits,
        )
        policy = opened_with.policy
        now = datetime.now(UTC)
        record, _ = await self._approvals.request(
            NewApproval(
                new_id(),
                tool_call_id,
                digest=arguments_digest(call.name, call.arguments, call.plan.definition_of(call.name)),
                instance_id=instance_id,
                policy=policy,
                requested_at=now,
                expires_at=now + timedelta(seconds=timeout_seconds(policy, call.plan)),
                reason=opened_with.reason,
                requirements=opened_with.requirements,
            ),
            lambda opened: [notes.requested(opened, why_contained(call))],
        )
        if record is None:
            return None
        messages: list[bytes] = []
        if record.status is ApprovalStatus.PENDING:
            # By a repeat too: whoever opened it may have been cut before anyone was told.
            messages = await self._tell(EventType.TOOL_CALL_PENDING, record, message_id=call.message_id)
            if now - record.requested_at < _FRESH:
                self._print_link(record)
        return ApprovalRequest(
            record.id, notice_schedule(record, now), messages, is_decided=record.status is not ApprovalStatus.PENDING
        )

    async def give_notice(self, approval_id: str, kind: NoticeKind, number: int) -> list[bytes] | None:
        """Remind those who may decide, or tell those it escalates to; the events to send.

        None when it is decided or over: then there is nothing to tell.
        """
        record = await self._approvals.get(approval_id, "")
        if record is None:
            return None
        tracing.join_turn(record.turn_id, record.session_id, record)
        if record.status is not ApprovalStatus.PENDING or record.expires_at <= datetime.now(UTC):
            return None
        role: str | None = None
        messages: list[bytes] = []
        if kind is NoticeKind.ESCALATED and (at := escalates_at(record.policy, record.requested_at)) is not None:
            # A timer may be early, and who is told shall be allowed to decide.
            await asyncio.sleep(min(_EARLY_S, max(0.0, (at - datetime.now(UTC)).total_seconds())))
        if kind is NoticeKind.ESCALATED and record.policy.escalation_role is not None:
            role = record.policy.escalation_role
            messages = await self._tell(EventType.TOOL_CALL_PENDING, record, role=role)
        await self._audit.record(record.session_id, notes.noticed(record.id, kind, number, role))
        self._print_link(record)
        return messages

    async def get(self, approval_id: str, principal: Principal) -> Approval:
        """Raises NotFound for callers who may neither decide it nor read its session."""
        return public_approval(await self._visible(approval_id, principal, datetime.now(UTC)))

    async def view(self, approval_id: str, principal: Principal) -> ApprovalView:
        """An approval and what the caller may do about it. Raises NotFound."""
        now = datetime.now(UTC)
        record = await self._visible(approval_id, principal, now)
        return ApprovalView(
            public_approval(record),
            may_decide(record, principal, now),
            refusal_to_approve(record, principal.user_id),
            await self._context(record, principal),
        )

    async def context(self, approval_id: str, principal: Principal) -> ApprovalContext:
        """What led to its call, as far as its policy shows it to the caller. Raises NotFound as `get`."""
        return await self._context(await self._visible(approval_id, principal, datetime.now(UTC)), principal)

    async def asked_in(self, session_id: str, approval_id: str, principal: Principal) -> AskedIn:
        """An approval that a turn of a session waits for, its own or one of a subagent: for everyone who may read the
        session, since the stream of the turn tells of it. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        turn_id = await self._approvals.waits_for(session_id, approval_id)
        record = None if turn_id is None else await self._approvals.get(approval_id, principal.user_id)
        if turn_id is None or record is None:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_APPROVAL)
        return AskedIn(public_approval(record), turn_id, may_decide(record, principal, datetime.now(UTC)))

    async def pending_of(self, session_id: str, turn_id: str, principal: Principal) -> list[Approval]:
        """What a turn waits for now, its own and what its subagents ask; oldest first. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        wanted = ApprovalFilter(status=ApprovalStatus.PENDING, turn_id=turn_id)
        own = await self._approvals.list_in_session(session_id, wanted, Page(limit=MAX_LIMIT))
        below = await self._approvals.list_below([turn_id], ApprovalStatus.PENDING)
        return [public_approval(record) for record in [*reversed(own), *(one.approval for one in below)]]

    async def below(self, session_id: str, turn_ids: Sequence[str], principal: Principal) -> list[ApprovalBelow]:
        """What the subagents of turns of a session have asked people for, for everyone who may read the session; oldest
        first. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        return await self._approvals.list_below(turn_ids)

    async def inbox(
        self, principal: Principal, wanted: ApprovalFilter, page: Page
    ) -> tuple[list[Approval], str | None]:
        """What the caller may decide, newest first, with the next cursor."""
        return _cut(await self._approvals.list_for(wanted, page, principal, now=datetime.now(UTC)), page)

    async def of_own_turns(
        self, principal: Principal, wanted: ApprovalFilter, page: Page
    ) -> tuple[list[Approval], str | None]:
        """What the caller's own turns asked people for, whether or not the caller may decide; newest first, with the
        next cursor."""
        return _cut(await self._approvals.list_of_turns(principal.user_id, wanted, page), page)

    async def of_session(
        self, session_id: str, principal: Principal, wanted: ApprovalFilter, page: Page
    ) -> tuple[list[Approval], str | None]:
        """What a session asked people for, newest first, with the next cursor: for everyone who may read it, since who
        waits must see for whom. Raises NotFound.
        """
        await self._sessions.get(session_id, principal.user_id)
        return _cut(await self._approvals.list_in_session(session_id, wanted, page), page)

    async def decide(self, approval_id: str, body: NewDecision, principal: Principal) -> Decided:
        """Record somebody's vote, which decides when it is the one that was missing.

        Raises NotFound (also for who may see it and not decide), Conflict (another decision stands; their own request),
        Gone(APPROVAL_TIMEOUT), InvalidInput (VALIDATION_ERROR, INVALID_TOOL_ARGS).
        """
        await ready()
        now = datetime.now(UTC)
        record = await self._visible(approval_id, principal, now)
        if not may_decide(record, principal, now):
            roles = ", ".join(deciding_roles(record, now)) or "named people only"
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, f"This is not yours to decide; it takes one of: {roles}.")
        vote = checked_vote(record, body, principal, now)
        cast = await self._approvals.vote(
            approval_id, vote, lambda effect, after: notes.voted(effect, after, vote), now=now
        )
        if cast.record is None:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_APPROVAL)
        record = cast.record
        if cast.effect is VoteEffect.NOTHING:
            refuse_unless_same(record, vote, now)
            return Decided(public_approval(record), record.instance_id, False, [])
        if cast.effect is VoteEffect.COUNTED:
            # Still pending: told again, so that everyone who looks at it sees how far it is.
            messages = await self._tell(EventType.TOOL_CALL_PENDING, record)
            return Decided(public_approval(record), record.instance_id, False, messages)
        approved = record.status is ApprovalStatus.APPROVED
        messages = await self._tell(EventType.TOOL_CALL_APPROVED if approved else EventType.TOOL_CALL_REJECTED, record)
        return Decided(public_approval(record), record.instance_id, True, messages)

    def _print_link(self, record: ApprovalRecord) -> None:
        """Only on a developer's machine: there the log is the approver's mailbox."""
        if self._print_links:
            link = self._links.url(record.id, expires_at=record.expires_at)
            log.warning("approval needed: %s %s\n  %s", record.tool, orjson.dumps(record.arguments).decode(), link)

    async def _tell(
        self, kind: EventType, record: ApprovalRecord, *, message_id: str | None = None, role: str | None = None
    ) -> list[bytes]:
        """The event of an approval, for its session and for whoever may decide it.

        role: may decide it too from this moment on, whatever the clock here says.
        """
        data = {"approval": public_approval(record).model_dump(mode="json"), "tool_call_id": record.tool_call_id}
        now = datetime.now(UTC)
        roles = [*deciding_roles(record, now), *([] if role is None else [role])]
        groups = groups_of_roles(roles, now)
        event = Event(kind, data, record.turn_id, message_id)
        return await self._publisher.publish(record.target, [event], also_to=groups, users=record.policy.users)

    async def _context(self, record: ApprovalRecord, principal: Principal) -> ApprovalContext:
        await ready()
        found = await self._approvals.context(record.id)
        return context_of(record.id, found, record.policy.context, in_session=is_in_session(record, principal))

    async def _visible(self, approval_id: str, principal: Principal, now: datetime) -> ApprovalRecord:
        record = await self._approvals.get(approval_id, principal.user_id)
        if record is None or not may_see(record, principal, now):
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_APPROVAL)
        return record


def _cut(found: list[ApprovalRecord], page: Page) -> tuple[list[Approval], str | None]:
    records, cursor = page.cut(found, lambda record: (record.requested_at, record.id))
    return [public_approval(record) for record in records], cursor
