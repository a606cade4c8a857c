"""ToolApprovalManager: asking a person, and recording what they said.

Invariant: the decision is in the store before anyone is told of it, and it binds exactly the arguments the approver
saw (or changed): what may run is compared with the stored digest again before it runs.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson

from shared.errors import AppError, Conflict, ErrorCode, Gone, InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.audit import AuditTrail
from shared.sessions.events import APPROVERS_GROUP, Event, EventType, SessionEventPublisher
from shared.sessions.models import Approval, ApprovalStatus, Decision, JsonObject, NewDecision
from shared.sessions.pages import ApprovalFilter, Page, encode_cursor
from shared.sessions.records import ApprovalRecord, DecisionRecord
from shared.sessions.repository import ApprovalRepository, ToolCallRepository
from shared.sessions.tools.registry import InvalidToolArguments, find_tool, validate_arguments
from shared.signing import ApprovalLinks

log = logging.getLogger(__name__)


def arguments_digest(tool: str, arguments: JsonObject) -> str:
    """SHA-256 over tool name and canonical JSON (sorted keys, whole numbers as integers), hex."""
    canonical = orjson.dumps([tool, _canonical(arguments)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _canonical(value: object) -> object:
    """JSON as it would come back from a jsonb column, which keeps a number's value and not how it was written."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        # From its shortest decimal form, which is what was sent to the database, not its binary value.
        whole = int(Decimal(repr(value)))
        return whole if -(2**63) <= whole < 2**64 else value
    return value


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An approval that stands, and what its orchestration needs to wait for it."""

    approval_id: str
    expires_at: datetime
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on record. new: it was made by this call and must be delivered."""

    approval: Approval
    instance_id: str
    new: bool
    messages: list[bytes]


class ToolApprovalManager:
    """Requests, shows and decides approvals."""

    def __init__(
        self,
        approvals: ApprovalRepository,
        tool_calls: ToolCallRepository,
        publisher: SessionEventPublisher,
        links: ApprovalLinks,
        audit: AuditTrail,
        *,
        print_links: bool,
    ) -> None:
        self._approvals = approvals
        self._tool_calls = tool_calls
        self._publisher = publisher
        self._links = links
        self._audit = audit
        self._print_links = print_links

    async def request(self, tool_call_id: str, *, instance_id: str) -> ApprovalRequest | None:
        """Open the approval of a tool call, once. None when its turn was cancelled before."""
        call = await self._tool_calls.tool_execution(tool_call_id)
        now = datetime.now(UTC)
        record, _ = await self._approvals.request(
            tool_call_id,
            approval_id=new_id(),
            digest=arguments_digest(call.name, call.arguments),
            instance_id=instance_id,
            expires_at=now + timedelta(seconds=call.plan.approval_timeout_seconds),
            now=now,
        )
        if record is None:
            return None
        messages: list[bytes] = []
        if record.status is ApprovalStatus.PENDING:
            # By a repeat too: whoever opened it may have been cut before anyone was told.
            event = Event(EventType.TOOL_CALL_PENDING, _event_data(record), record.turn_id, call.message_id)
            messages = await self._publisher.publish(record.target, [event], also_to=[APPROVERS_GROUP])
            details = {"approval_id": record.id, "tool": record.tool, "by": record.requested_by}
            await self._audit.record(record.session_id, "approval.requested", details)
            if self._print_links:
                # Only on a developer's machine: there the log is the approver's mailbox.
                link = self._links.url(record.id, expires_at=record.expires_at)
                log.warning("approval needed: %s %s\n  %s", record.tool, orjson.dumps(record.arguments).decode(), link)
        return ApprovalRequest(record.id, record.expires_at, messages)

    async def get(self, approval_id: str, principal: Principal) -> Approval:
        """Raises NotFound for callers who are neither approvers nor in its session."""
        return public_approval(await self._visible(approval_id, principal))

    async def inbox(
        self, principal: Principal, wanted: ApprovalFilter, page: Page
    ) -> tuple[list[Approval], str | None]:
        """What the caller may decide (approvers: everything), newest first, with the next cursor."""
        if not principal.may_approve:
            return [], None
        records = await self._approvals.list_for(wanted, page)
        more, records = len(records) > page.limit, records[: page.limit]
        cursor = encode_cursor(records[-1].requested_at, records[-1].id) if more else None
        return [public_approval(record) for record in records], cursor

    async def decide(self, approval_id: str, body: NewDecision, principal: Principal) -> Decided:
        """Record a decision.

        Raises NotFound, Conflict (another decision stands), Gone(APPROVAL_TIMEOUT), InvalidInput(INVALID_TOOL_ARGS).
        """
        record = await self._visible(approval_id, principal)
        if not principal.may_approve:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, "No such approval.")
        decision = _checked(record, body, principal.user_id)
        made_now = await self._approvals.decide(approval_id, decision, now=datetime.now(UTC))
        record = await self._visible(approval_id, principal)
        if not made_now:
            _refuse_unless_same(record, decision)
            return Decided(public_approval(record), record.instance_id, False, [])
        details = {"approval_id": record.id, "by": principal.user_id, "decision": decision.decision.value}
        if decision.arguments is not None:
            details["arguments_digest"] = record.arguments_digest
        await self._audit.record(record.session_id, "approval.decided", details)
        approved = record.status is ApprovalStatus.APPROVED
        kind = EventType.TOOL_CALL_APPROVED if approved else EventType.TOOL_CALL_REJECTED
        messages = await self._publisher.publish(
            record.target, [Event(kind, _event_data(record), record.turn_id)], also_to=[APPROVERS_GROUP]
        )
        return Decided(public_approval(record), record.instance_id, True, messages)

    async def _visible(self, approval_id: str, principal: Principal) -> ApprovalRecord:
        record = await self._approvals.get(approval_id, principal.user_id)
        if record is None or not (principal.may_approve or record.owner_id == principal.user_id or record.participates):
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, "No such approval.")
        return record


def _checked(record: ApprovalRecord, body: NewDecision, user_id: str) -> DecisionRecord:
    unchanged = DecisionRecord(body.decision, user_id, None, None, body.comment)
    if body.arguments is None:
        return unchanged
    # By digest, not by equality: to Python 1 and true are the same.
    digest = arguments_digest(record.tool, body.arguments)
    if digest == arguments_digest(record.tool, record.arguments):
        return unchanged
    if body.decision is Decision.REJECT:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "A rejection takes no arguments.")
    tool = find_tool(record.tool)
    if tool is None:
        raise InvalidInput(ErrorCode.TOOL_NOT_FOUND, f"The tool {record.tool!r} is gone.")
    try:
        validate_arguments(tool, body.arguments)
    except InvalidToolArguments as exc:
        raise _invalid_arguments(exc) from None
    return DecisionRecord(body.decision, user_id, body.arguments, digest, body.comment)


def _invalid_arguments(exc: InvalidToolArguments) -> AppError:
    return InvalidInput(ErrorCode.INVALID_TOOL_ARGS, str(exc), errors=[{"field": "arguments", "message": str(exc)}])


def _refuse_unless_same(record: ApprovalRecord, decision: DecisionRecord) -> None:
    if record.status in {ApprovalStatus.TIMED_OUT, ApprovalStatus.PENDING}:
        # Still pending means its time is over and its orchestration has not said so yet.
        raise Gone(ErrorCode.APPROVAL_TIMEOUT, "The time to decide is over.")
    if record.status is ApprovalStatus.CANCELLED:
        raise Conflict(ErrorCode.CONFLICT, "The turn was cancelled.")
    wanted = ApprovalStatus.APPROVED if decision.decision is Decision.APPROVE else ApprovalStatus.REJECTED
    if record.status is not wanted or record.decided_arguments != decision.arguments:
        raise Conflict(ErrorCode.CONFLICT, f"It was already {record.status} by {record.decided_by}.")


def public_approval(record: ApprovalRecord) -> Approval:
    """The approval as the wire shows it."""
    return Approval(
        id=record.id,
        tool_call_id=record.tool_call_id,
        session_id=record.session_id,
        turn_id=record.turn_id,
        tool=record.tool,
        arguments=record.arguments,
        decided_arguments=record.decided_arguments,
        status=record.status,
        requested_by=record.requested_by,
        requested_at=record.requested_at,
        expires_at=record.expires_at,
        decided_by=record.decided_by,
        decided_at=record.decided_at,
        comment=record.comment,
    )


def _event_data(record: ApprovalRecord) -> JsonObject:
    data = public_approval(record).model_dump(mode="json")
    return {"approval": data, "tool_call_id": record.tool_call_id}
