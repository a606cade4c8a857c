"""Lines that code without an outbox claimed and never wrote: restored exactly, where the database still tells them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from azure.data.tables import TableClient, TableServiceClient

from shared.adapters.azure.audit_tables import TablesAuditLines
from shared.adapters.postgres.audit import PostgresVerifiedTrails
from shared.errors import ErrorCode
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.models import NewDecision
from shared.sessions.approvals.notices import webhook_id
from shared.sessions.approvals.retelling import Retelling
from shared.sessions.audit import notes
from shared.sessions.audit.chain import BEING_WRITTEN, SealedLine
from shared.sessions.audit.verification import DAMAGED_LINE, AuditVerification
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import Decision
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind
from shared.sessions.records.pages import Page
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.signing import ApprovalLinks
from tests.integration.approvals.auditing import AuditProcess
from tests.integration.domain import AUDIT_KEY, Stores, call, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ADMIN = Principal("root", frozenset({Role.USER, Role.ADMIN}))
ANNA = Principal("anna", frozenset({Role.USER, Role.APPROVER}))
ARGUMENTS = {"method": "POST", "url": "http://example.test/", "body": "{}"}
LINES = [
    "approval.requested",
    "approval.notified",
    "approval.viewed",
    "approval.reminder",
    "approval.voted",
    "approval.decided",
    "session.tool_granted",
    "tool_call.started",
    "tool_call.ended",
]


@pytest.fixture
def table(storage_url: str) -> Iterator[TableClient]:
    """A table of its own: the verification reads all of it."""
    with TableServiceClient.from_connection_string(storage_url) as service:
        table = service.create_table(f"audit{uuid4().hex}")
        yield table
        table.delete_table()


@pytest.fixture
async def process(stores: Stores, storage_url: str, table: TableClient) -> AsyncIterator[AuditProcess]:
    lines = TablesAuditLines(connection_string=storage_url, endpoint=None, table=table.table_name)
    await stores.sql(b"DELETE FROM audit_outbox")
    await stores.sql(b"DELETE FROM sessions")
    await stores.sql(b"UPDATE audit_verification SET begun_at = NULL, position = '', completed_at = NULL")
    yield AuditProcess(stores, lines)
    await lines.aclose()
    for statement in (b"DELETE FROM audit_findings", b"DELETE FROM sessions"):
        await stores.sql(statement)


async def _lived(
    stores: Stores, publisher: SessionEventPublisher, *, changes: bool = False
) -> tuple[str, list[SealedLine]]:
    """A session whose trail has a line of every kind, and the lines; nothing of it is in the table."""
    links = ApprovalLinks("s" * 32, "http://localhost")
    manager = ToolApprovalManager(
        stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=False
    )
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(), watch)
    proposal = call("http_request", ARGUMENTS, needs_approval=True)
    policy = ApprovalPolicy(allow_for_session=True, reminder_seconds=60)
    posted = await stores.proposed(proposal, policies={"http_request": policy})
    session_id = posted.turn.session_id
    request = await manager.request(proposal.id, instance_id="instance")
    assert request is not None
    approval_id, kind = request.approval_id, NoticeKind.REQUESTED
    await stores.approvals.settle_notice(
        approval_id, kind, notes.notified(approval_id, kind, webhook_id(approval_id, kind, 0))
    )
    await stores.trail.record(session_id, notes.viewed(approval_id, ANNA.user_id))
    await stores.sql(
        b"UPDATE approvals SET requested_at = requested_at - interval '2 minutes' WHERE id = %(id)s", id=approval_id
    )
    assert await manager.give_notice(approval_id, NoticeKind.REMINDER, 1) is not None
    changed = {**ARGUMENTS, "body": '{"changed": true}'} if changes else None
    decision = NewDecision(decision=Decision.APPROVE, arguments=changed, comment="go", for_session=True)
    await manager.decide(approval_id, decision, ANNA)
    assert (await handler.handle_tool_call(proposal.id)).status is not None
    lines = await AuditProcess(stores, TablesAuditLines(connection_string=None, endpoint=None)).anchors.waiting(
        session_id
    )
    await stores.sql(b"DELETE FROM audit_outbox WHERE session_id = %(id)s", id=session_id)
    assert [line.action for line in lines] == LINES
    return session_id, lines


def _verification(stores: Stores, process: AuditProcess) -> AuditVerification:
    retelling = Retelling(stores.tool_calls, stores.approvals)
    return AuditVerification(
        PostgresVerifiedTrails(stores.pool),
        process.lines,
        retelling.of_session,
        keys=[b"o" * 32, AUDIT_KEY],
        clock=lambda: utc_now() + BEING_WRITTEN,
    )


async def _write_without(process: AuditProcess, session_id: str, lines: list[SealedLine], *lost: int) -> None:
    kept = [line for line in lines if line.number not in lost]
    assert await process.lines.append(session_id, kept) == []


@pytest.mark.parametrize("lost", [[n] for n in range(1, 10)] + [[1, 2], [5, 6], [8, 9]], ids=str)
async def test_a_line_that_was_claimed_and_never_written_is_restored_exactly_and_told(
    stores: Stores,
    publisher: SessionEventPublisher,
    process: AuditProcess,
    lost: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_id, lines = await _lived(stores, publisher)
    await _write_without(process, session_id, lines, *lost)
    verification = _verification(stores, process)
    later = AuditProcess(stores, process.lines, ahead=BEING_WRITTEN)
    assert not (await later.report(session_id)).verified

    with caplog.at_level(logging.ERROR):
        await verification.run(lambda: True)

    assert (await verification.findings(ADMIN, Page())).items == []
    numbers = ", ".join(map(str, lost))
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{DAMAGED_LINE} session {session_id}, line {numbers} was missing and is restored"]
    assert (await later.report(session_id)).verified
    await process.forwarder.drain(within_s=5)
    assert [line async for line in process.lines.read(session_id)] == lines


@pytest.mark.parametrize(
    ("why", "lost"),
    [("other words", [6]), ("no claim", [6]), ("too many", [6, 7, 8]), ("arguments, whose order nobody knows", [5])],
)
async def test_what_cannot_be_told_for_certain_is_not_restored(
    stores: Stores, publisher: SessionEventPublisher, process: AuditProcess, why: str, lost: list[int]
) -> None:
    session_id, lines = await _lived(stores, publisher, changes="arguments" in why)
    match why:
        case "other words":
            await stores.sql(b"UPDATE approvals SET decided_by = 'eve' WHERE session_id = %(id)s", id=session_id)
        case "no claim":
            await stores.sql(b"UPDATE sessions SET audit_claims = '{}' WHERE id = %(id)s", id=session_id)
    await _write_without(process, session_id, lines, *lost)
    verification = _verification(stores, process)

    await verification.run(lambda: True)

    [finding] = (await verification.findings(ADMIN, Page())).items
    assert [problem.line for problem in finding.problems] == lost[:1]


async def test_a_session_without_calls_has_nothing_to_tell(stores: Stores) -> None:
    assert await Retelling(stores.tool_calls, stores.approvals).of_session((await stores.session()).id) == []
    assert len(ErrorCode) < 100, "each may have ended a call, and pairs of lines are tried"
