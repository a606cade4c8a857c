"""PostgresApprovals on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.postgres.pool import json
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.models import ApprovalStatus, Decision, ToolCallStatus, TurnStatus
from shared.sessions.records.approval_policy import DEFAULT_POLICY, NoticeKind
from shared.sessions.records.approvals import ApprovalRecord, NewApproval
from shared.sessions.records.pages import ApprovalFilter, Page
from shared.sessions.records.steps import ProposedCall
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, call, no_notes, utc_now, vote_on

pytestmark = pytest.mark.integration

APPROVER = Principal("anna", frozenset({Role.USER, Role.APPROVER}))
_ARGUMENTS = {"method": "POST", "url": "http://example.test/", "body": "{}"}


def _risky(**changes: object) -> ProposedCall:
    return call("http_request", _ARGUMENTS, needs_approval=True, **changes)


def _asked(proposal: ProposedCall, instance_id: str) -> NewApproval:
    """An approval that expires at once."""
    return NewApproval(new_id(), proposal.id, "digest", instance_id, DEFAULT_POLICY, utc_now(), utc_now())


async def _waiting(
    stores: Stores, *, expires_in: timedelta = timedelta(hours=1)
) -> tuple[ProposedCall, ApprovalRecord]:
    proposal = _risky()
    await stores.proposed(proposal)
    return proposal, await stores.request_approval(proposal, expires_in=expires_in)


async def test_a_request_is_opened_once_and_the_turn_waits(stores: Stores) -> None:
    proposal, opened = await _waiting(stores)

    again, opened_now = await stores.approvals.request(_asked(proposal, "other"), no_notes)

    assert opened_now is False
    assert again == opened
    assert (opened.status, opened.arguments, opened.tool) == (ApprovalStatus.PENDING, _ARGUMENTS, "http_request")
    turn = await stores.turns.get_turn(opened.session_id, opened.turn_id)
    assert turn.status is TurnStatus.WAITING_APPROVAL


async def test_requests_at_once_open_one_approval(stores: Stores) -> None:
    proposal = _risky()
    await stores.proposed(proposal)

    records = await asyncio.gather(*(stores.request_approval(proposal) for _ in range(4)))

    assert len({record.id for record in records}) == 1


async def test_a_turn_that_was_cancelled_asks_nobody(stores: Stores) -> None:
    proposal = _risky()
    posted = await stores.proposed(proposal)
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    record, opened_now = await stores.approvals.request(_asked(proposal, "i"), no_notes)

    assert (record, opened_now) == (None, False)


async def test_of_deciders_at_once_exactly_one_wins(stores: Stores) -> None:
    _, approval = await _waiting(stores)
    votes = [vote_on(approval, f"user-{n}", list(Decision)[n % 2]) for n in range(6)]

    won = await asyncio.gather(*(stores.decide(approval, vote) for vote in votes))

    assert sum(won) == 1
    record = await stores.approvals.get(approval.id, OWNER)
    assert record is not None
    assert record.decided_by == f"user-{won.index(True)}"
    # Which field won must belong to the same decision.
    assert record.status == ("approved" if won.index(True) % 2 == 0 else "rejected")


@pytest.mark.parametrize(
    ("decision", "call_status"),
    [(Decision.APPROVE, ToolCallStatus.APPROVED), (Decision.REJECT, ToolCallStatus.REJECTED)],
)
async def test_a_decision_moves_the_call_and_the_turn(
    stores: Stores, decision: Decision, call_status: ToolCallStatus
) -> None:
    proposal, approval = await _waiting(stores)

    assert await stores.decide(approval, vote_on(approval, decision=decision, comment="ok 🙂"))

    execution = await stores.tool_calls.tool_execution(proposal.id)
    assert (execution.status, execution.comment, execution.decided_by) == (call_status, "ok 🙂", "anna")
    turn = await stores.turns.get_turn(approval.session_id, approval.turn_id)
    assert turn.status is TurnStatus.RUNNING


async def test_changed_arguments_are_kept_beside_what_was_asked(stores: Stores) -> None:
    proposal, approval = await _waiting(stores)
    changed = {**_ARGUMENTS, "method": "PUT"}

    await stores.decide(approval, vote_on(approval, arguments=changed))

    execution = await stores.tool_calls.tool_execution(proposal.id)
    assert (execution.arguments, execution.decided_arguments) == (_ARGUMENTS, changed)
    assert execution.arguments_digest == arguments_digest("http_request", changed)


async def test_a_decision_after_the_time_is_over_does_not_count(stores: Stores) -> None:
    _, approval = await _waiting(stores, expires_in=timedelta(seconds=10))

    assert await stores.decide(approval, vote_on(approval), now=approval.expires_at) is False
    just_in_time = approval.expires_at - timedelta(microseconds=1)
    assert await stores.decide(approval, vote_on(approval), now=just_in_time) is True


async def test_a_timeout_and_a_decision_at_once_leave_one_outcome(stores: Stores) -> None:
    for _ in range(5):
        proposal, approval = await _waiting(stores)

        decided, timed_out = await asyncio.gather(
            stores.decide(approval, vote_on(approval)),
            stores.time_out(proposal.id),
        )

        assert decided is not timed_out
        record = await stores.approvals.get(approval.id, OWNER)
        assert record is not None
        assert record.status == ("approved" if decided else "timed_out")


async def test_a_turn_waits_until_its_last_approval_is_decided(stores: Stores) -> None:
    proposals = [_risky(ordinal=0), _risky(ordinal=1)]
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=proposals)
    approvals = [await stores.request_approval(proposal) for proposal in proposals]

    statuses = []
    for approval in approvals:
        await stores.decide(approval, vote_on(approval))
        statuses.append((await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).status)

    assert statuses == [TurnStatus.WAITING_APPROVAL, TurnStatus.RUNNING]


async def test_cancelling_the_turn_cancels_what_is_pending_and_keeps_what_was_decided(stores: Stores) -> None:
    proposals = [_risky(ordinal=0), _risky(ordinal=1)]
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=proposals)
    decided, pending = [await stores.request_approval(proposal) for proposal in proposals]
    await stores.decide(decided, vote_on(decided))

    interruption, _ = await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    assert interruption.approvals == [(pending.id, pending.instance_id)]
    records = [await stores.approvals.get(approval.id, OWNER) for approval in (decided, pending)]
    assert [record.status for record in records if record] == [ApprovalStatus.APPROVED, ApprovalStatus.CANCELLED]
    assert await stores.decide(pending, vote_on(pending)) is False


async def test_who_takes_part_in_the_session_is_told_with_the_approval(stores: Stores) -> None:
    _, approval = await _waiting(stores)
    await stores.share(approval.session_id, WRITER, "write")
    await stores.share(approval.session_id, READER, "read")

    found = {user: await stores.approvals.get(approval.id, user) for user in (OWNER, WRITER, READER, STRANGER)}

    assert [record.owner_id for record in found.values() if record] == [OWNER] * 4
    assert {user: record.participates for user, record in found.items() if record} == {
        OWNER: False,
        WRITER: True,
        READER: True,
        STRANGER: False,
    }
    assert await stores.approvals.get("no-such-approval", OWNER) is None


async def test_the_inbox_pages_newest_first_while_approvals_arrive(stores: Stores) -> None:
    proposals = [_risky(ordinal=ordinal) for ordinal in range(5)]
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=proposals)
    wanted = ApprovalFilter(session_id=posted.turn.session_id)
    asked = [(await stores.request_approval(proposal)).id for proposal in proposals[:4]]

    first = await stores.approvals.list_for(wanted, Page(limit=2), APPROVER, now=utc_now())
    await stores.request_approval(proposals[4])
    after = Page(limit=9, after=(first[1].requested_at, first[1].id))
    rest = await stores.approvals.list_for(wanted, after, APPROVER, now=utc_now())

    assert [record.id for record in [*first[:2], *rest]] == asked[::-1]


async def test_the_inbox_filters_by_status_and_by_who_may_decide(stores: Stores) -> None:
    _, pending = await _waiting(stores)
    _, decided = await _waiting(stores)
    await stores.decide(decided, vote_on(decided))

    async def ids(wanted: ApprovalFilter, decider: Principal = APPROVER) -> set[str]:
        found = await stores.approvals.list_for(wanted, Page(limit=200), decider, now=utc_now())
        return {record.id for record in found}

    approved = await ids(ApprovalFilter(status=ApprovalStatus.APPROVED))
    assert decided.id in approved
    assert pending.id not in approved
    assert {pending.id, decided.id} <= await ids(ApprovalFilter())
    assert {pending.id, decided.id} <= await ids(ApprovalFilter(tool="http_request"))
    assert await ids(ApprovalFilter(tool="calculate")) == set()
    assert await ids(ApprovalFilter(), Principal(OWNER, frozenset({Role.USER, Role.ADMIN}))) == set()


async def test_undelivered_decisions_are_found_until_they_arrive(stores: Stores) -> None:
    arrives, is_given_up, waits = [await _waiting(stores) for _ in range(3)]
    for _, approval in (arrives, is_given_up):
        await stores.decide(approval, vote_on(approval))

    async def undelivered() -> set[str]:
        found = await stores.approvals.undelivered(before=utc_now() + timedelta(seconds=1), limit=1_000)
        assert all(instance_id.startswith("instance-") for _, instance_id in found)
        return {approval_id for approval_id, _ in found}

    found = await undelivered()
    assert {arrives[1].id, is_given_up[1].id} <= found
    assert waits[1].id not in found
    await stores.tool_calls.mark_approval_delivered(arrives[0].id, now=utc_now())
    await stores.approvals.give_up_delivery(is_given_up[1].id, now=utc_now())
    assert (await undelivered()).isdisjoint({arrives[1].id, is_given_up[1].id})


async def test_a_notice_is_looked_after_until_it_is_settled(stores: Stores) -> None:
    escalating = DEFAULT_POLICY.model_copy(update={"escalation_role": Role.ADMIN, "escalate_after_seconds": 120})
    proposals = [_risky() for _ in range(3)]
    for proposal in proposals:
        await stores.proposed(proposal)
    waits = await stores.request_approval(proposals[0])
    escalates = await stores.request_approval(proposals[1], policy=escalating)
    decided = await stores.request_approval(proposals[2])
    await stores.decide(decided, vote_on(decided))
    ours = {waits.id, escalates.id, decided.id}
    start = utc_now()

    async def claimed(after_s: float) -> set[tuple[str, NoticeKind]]:
        now = start + timedelta(seconds=after_s)
        found = await stores.approvals.claim_unsettled_notices(
            since=now - timedelta(hours=12), before=now - timedelta(seconds=60), now=now, limit=1_000
        )
        return {(approval_id, kind) for approval_id, kind in found if approval_id in ours}

    requested, told = NoticeKind.REQUESTED, NoticeKind.DECIDED
    everything = {(waits.id, requested), (escalates.id, requested), (decided.id, told)}
    assert await claimed(50) == set(), "their own instances have a minute"
    assert await claimed(70) == everything
    assert await claimed(100) == set(), "claimed for a minute"
    assert await claimed(185) == everything | {(escalates.id, NoticeKind.ESCALATED)}
    for approval_id, kind in ((waits.id, requested), (escalates.id, requested), (decided.id, told)):
        for _ in range(2):
            await stores.approvals.settle_notice(approval_id, kind)
    assert await claimed(250) == {(escalates.id, NoticeKind.ESCALATED)}
    assert await claimed(13 * 3600) == set(), "too late to be of use"
    [settled] = await stores.rows(b"SELECT notices_settled AS kinds FROM approvals WHERE id = %(id)s", id=waits.id)
    assert settled["kinds"] == ["requested"]


async def test_what_ends_soon_undecided_is_counted(stores: Stores) -> None:
    now = utc_now()

    async def expiring() -> int:
        return await stores.approvals.expiring(now=now, before=now + timedelta(minutes=15))

    before = await expiring()
    await _waiting(stores, expires_in=timedelta(minutes=10))
    await _waiting(stores, expires_in=timedelta(minutes=20))

    assert await expiring() == before + 1, "the later one is not among them"


@pytest.mark.parametrize(
    ("policy", "deciders"),
    [
        ({"roles": ["approver"], "users": ["zoe"]}, {("role:approver", None), ("user:zoe", None)}),
        (
            {"users": ["zoe"], "escalation_role": "admin", "escalate_after_seconds": 60},
            {("user:zoe", None), ("role:admin", 60)},
        ),
        ({"roles": ["admin"], "escalation_role": "admin", "escalate_after_seconds": 60}, {("role:admin", None)}),
        ({"roles": None, "users": "zoe"}, set()),
        ({}, set()),
    ],
)
async def test_who_may_decide_an_approval_stands_beside_it_whoever_wrote_it(
    stores: Stores, policy: dict[str, Any], deciders: set[tuple[str, int | None]]
) -> None:
    approval = (await _waiting(stores))[1].id
    read = (
        b"SELECT d.decider, extract(epoch FROM d.since - a.requested_at)::int AS after_s, d.status, d.tool"
        b" FROM approval_deciders d JOIN approvals a ON a.id = d.approval_id WHERE a.id = %(id)s"
    )
    for status in ("pending", "approved"):
        await stores.sql(
            b"UPDATE approvals SET policy = %(policy)s, status = %(status)s WHERE id = %(id)s",
            policy=json(policy),
            status=status,
            id=approval,
        )
        rows = await stores.rows(read, id=approval)
        assert {(row["decider"], row["after_s"]) for row in rows} == deciders
        assert {(row["status"], row["tool"]) for row in rows} <= {(status, "http_request")}
    await stores.sql(b"DELETE FROM approvals WHERE id = %(id)s", id=approval)
    assert await stores.rows(b"SELECT 1 FROM approval_deciders WHERE approval_id = %(id)s", id=approval) == []
