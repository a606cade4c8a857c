"""Rules of policies on a real PostgreSQL: who is asked, how votes count, what runs; with roles of an organisation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import orjson
import pytest

from shared.errors import InvalidInput, NotFound
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.models import Approval, NewDecision
from shared.sessions.events import SessionEventPublisher
from shared.sessions.live.groups import role_group
from shared.sessions.models import ApprovalMode, ApprovalStatus, Decision, JsonObject, ToolCallStatus
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind
from shared.sessions.records.pages import ApprovalFilter, Page
from shared.sessions.records.steps import ProposedCall
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import FetchRequest, FetchResponse, ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.signing import ApprovalLinks
from tests.integration.domain import Stores, call, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

SMALL: JsonObject = {"method": "POST", "url": "http://api.test/", "body": "900"}
LARGE = SMALL | {"body": "5000"}
LARGE_SUM: JsonObject = {
    "name": "Large refund",
    "when": {"argument": "body", "matches": "^[0-9]{4,}$"},
    "then": {"roles": ["finance"], "quorum": 2},
}
ABROAD: JsonObject = {
    "name": "Abroad",
    "when": {"argument": "url", "part": "host", "ne": "api.test"},
    "then": {"roles": ["legal"]},
}


def _who(name: str, *roles: str) -> Principal:
    return Principal(name, frozenset({Role.USER.value, *roles}))


BOB, FAY, FRED, LEA = _who("bob", "approver"), _who("fay", "finance"), _who("fred", "finance"), _who("lea", "legal")
BOTH = [_who(f"both-{n}", "approver", "finance") for n in range(4)]


class _Fetcher:
    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.bodies.append(request.body)
        return FetchResponse(200, request.url, {}, "done", 4, False, False)


class Desk:
    """Asks for approvals, takes votes and runs what was approved."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher) -> None:
        self.stores, self.fetcher = stores, _Fetcher()
        self.publisher = publisher
        watch = CancelWatch(stores.turns.cancel_requested)
        self.handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(http=self.fetcher), watch)
        links = ApprovalLinks("s" * 32, "http://localhost")
        self.manager = ToolApprovalManager(
            stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=False
        )

    async def asked(
        self, arguments: JsonObject, *rules: JsonObject, **fields: Any
    ) -> tuple[ProposedCall, str, set[str]]:
        """(call, approval id, groups that hear of it) of a call under a policy with these rules."""
        proposal = call("http_request", arguments, needs_approval=True)
        policy = ApprovalPolicy.model_validate(fields | {"rules": list(rules)})
        await self.stores.proposed(proposal, policies={"http_request": policy})
        request = await self.manager.request(proposal.id, instance_id="instance")
        assert request is not None
        return proposal, request.approval_id, _groups(request.messages)

    async def yes(self, approval_id: str, who: Principal, changed: JsonObject | None = None, **fields: Any) -> Approval:
        body = NewDecision(decision=Decision.APPROVE, arguments=changed, **fields)
        return (await self.manager.decide(approval_id, body, who)).approval

    async def inbox(self, who: Principal, approval_id: str) -> bool:
        items, _ = await self.manager.inbox(who, ApprovalFilter(status=ApprovalStatus.PENDING), Page())
        return approval_id in {item.id for item in items}


@pytest.fixture
def desk(stores: Stores, publisher: SessionEventPublisher) -> Desk:
    return Desk(stores, publisher)


async def test_a_large_refund_takes_two_of_finance_and_nobody_else(desk: Desk) -> None:
    proposal, approval_id, groups = await desk.asked(LARGE, LARGE_SUM)

    with pytest.raises(NotFound):
        await desk.yes(approval_id, BOB)
    assert [await desk.inbox(who, approval_id) for who in (BOB, FAY, FRED, LEA)] == [False, True, True, False]
    assert role_group("finance", utc_now()) in groups
    assert role_group(Role.APPROVER, utc_now()) not in groups
    first = await desk.yes(approval_id, FAY)
    assert (first.status, first.requirements[0].approvals, first.quorum) == (ApprovalStatus.PENDING, 1, 2)
    assert (await desk.yes(approval_id, FAY)).status is ApprovalStatus.PENDING, "the same person counts once"
    assert (await desk.handler.handle_tool_call(proposal.id)).pending
    second = await desk.yes(approval_id, FRED)
    assert (second.status, second.requirements[0].approvals) == (ApprovalStatus.APPROVED, 2)
    assert (await desk.handler.handle_tool_call(proposal.id)).status is ToolCallStatus.COMPLETED
    assert "Large refund" in (second.reason or "")
    requested = next(line for line in desk.stores.audit.lines if line[1] == "approval.requested")
    assert requested[2]["rules"] == ["Large refund"]


async def test_a_small_one_takes_what_the_policy_says(desk: Desk) -> None:
    _, approval_id, _ = await desk.asked(SMALL, LARGE_SUM)

    assert not await desk.inbox(FAY, approval_id)
    assert (await desk.yes(approval_id, BOB)).status is ApprovalStatus.APPROVED


async def test_to_approve_a_larger_sum_takes_the_rule_for_that_sum(desk: Desk) -> None:
    proposal, approval_id, _ = await desk.asked(SMALL, LARGE_SUM)

    with pytest.raises(InvalidInput, match="Large refund"):
        await desk.yes(approval_id, BOB, LARGE)
    assert (await desk.yes(approval_id, BOTH[0], LARGE)).status is ApprovalStatus.PENDING
    assert (await desk.handler.handle_tool_call(proposal.id)).pending
    done = await desk.yes(approval_id, BOTH[1], LARGE)
    assert (done.status, done.decided_arguments) == (ApprovalStatus.APPROVED, LARGE)
    await desk.handler.handle_tool_call(proposal.id)
    assert desk.fetcher.bodies == [b"5000"]


async def test_votes_for_the_smaller_sum_are_none_for_the_larger(desk: Desk) -> None:
    _, approval_id, _ = await desk.asked(SMALL, LARGE_SUM, quorum=2)

    assert (await desk.yes(approval_id, BOB)).status is ApprovalStatus.PENDING
    assert (await desk.yes(approval_id, BOTH[0], LARGE)).status is ApprovalStatus.PENDING
    done = await desk.yes(approval_id, _who("bea", "approver"))
    assert (done.status, done.decided_arguments) == (ApprovalStatus.APPROVED, None)


async def test_of_racing_votes_for_a_larger_sum_exactly_the_second_decides(desk: Desk) -> None:
    for _ in range(3):
        _, approval_id, _ = await desk.asked(SMALL, LARGE_SUM)
        votes = [desk.manager.decide(approval_id, _larger(), who) for who in BOTH]

        cast = await asyncio.gather(*votes, return_exceptions=True)

        assert sum(getattr(one, "new", False) for one in cast) == 1
        found = await desk.stores.approvals.get(approval_id, "")
        assert found is not None
        assert (found.status, len(found.votes)) == (ApprovalStatus.APPROVED, 2)


def _groups(messages: Sequence[bytes]) -> set[str]:
    return {group for message in messages if (group := orjson.loads(message).get("groupName"))}


def _larger() -> NewDecision:
    return NewDecision(decision=Decision.APPROVE, arguments=LARGE)


async def test_rules_that_hold_together_each_take_their_own_people_in_any_order(desk: Desk) -> None:
    for rules in ([LARGE_SUM, ABROAD], [ABROAD, LARGE_SUM]):
        for order in permutations([FAY, FRED, LEA]):
            arguments = LARGE | {"url": "http://other.test/"}
            _, approval_id, _ = await desk.asked(arguments, *rules)
            statuses = [(await desk.yes(approval_id, who)).status for who in order]
            assert statuses == [ApprovalStatus.PENDING] * 2 + [ApprovalStatus.APPROVED]


async def test_more_people_of_one_rule_do_not_stand_in_for_another(desk: Desk) -> None:
    _, approval_id, _ = await desk.asked(LARGE | {"url": "http://other.test/"}, LARGE_SUM, ABROAD)

    for who in (FAY, FRED, _who("fia", "finance")):
        assert (await desk.yes(approval_id, who)).status is ApprovalStatus.PENDING
    body = NewDecision(decision=Decision.REJECT)
    assert (await desk.manager.decide(approval_id, body, LEA)).approval.status is ApprovalStatus.REJECTED


async def test_a_vote_counts_for_the_roles_that_its_voter_had(desk: Desk) -> None:
    _, approval_id, _ = await desk.asked(LARGE | {"url": "http://other.test/"}, LARGE_SUM, ABROAD)

    await desk.yes(approval_id, FAY)
    await desk.yes(approval_id, _who("two-hats", "finance", "legal"))
    found = await desk.stores.approvals.get(approval_id, "")
    assert found is not None
    assert found.status is ApprovalStatus.APPROVED
    assert [vote.counts_for for vote in found.votes] == [["Large refund"], ["Large refund", "Abroad"]]


async def test_an_approval_stays_under_the_rule_that_it_was_opened_with(desk: Desk) -> None:
    """Whatever the agent's policy says by now: a policy is frozen with the approval."""
    proposal, approval_id, _ = await desk.asked(LARGE, LARGE_SUM)
    await desk.stores.sql(
        b"UPDATE turns SET plan = plan || '{\"policies\": {}}'::jsonb WHERE id = %(id)s",
        id=(await desk.stores.tool_calls.tool_execution(proposal.id)).turn_id,
    )

    with pytest.raises(NotFound):
        await desk.yes(approval_id, BOB)
    assert (await desk.yes(approval_id, FAY)).status is ApprovalStatus.PENDING


async def test_escalation_to_a_role_of_the_organisation_reaches_who_holds_it(desk: Desk) -> None:
    _, approval_id, _ = await desk.asked(LARGE, LARGE_SUM, escalate_after_seconds=1, escalation_role="Head.Of-Sales")
    head = _who("hal", "Head.Of-Sales")
    assert not await desk.inbox(head, approval_id)
    await desk.stores.sql(
        b"UPDATE approvals SET requested_at = requested_at - interval '2 seconds' WHERE id = %(id)s", id=approval_id
    )

    told = await desk.manager.give_notice(approval_id, NoticeKind.ESCALATED, 0)

    assert role_group("Head.Of-Sales", utc_now()) in _groups(told or [])
    assert await desk.inbox(head, approval_id)
    await desk.yes(approval_id, head)
    assert (await desk.yes(approval_id, FAY)).status is ApprovalStatus.APPROVED


async def test_a_granted_tool_asks_again_where_a_rule_holds_and_the_call_does_not_run_without(desk: Desk) -> None:
    stores = desk.stores
    policy = ApprovalPolicy.model_validate({"required": True, "allow_for_session": True, "rules": [LARGE_SUM]})
    bound: dict[str, Any] = {"policies": {"http_request": policy}, "approval_mode": ApprovalMode.AUTO}
    first = call("http_request", SMALL, needs_approval=True)
    posted = await stores.proposed(first, **bound)
    request = await desk.manager.request(first.id, instance_id="instance")
    assert request is not None
    await desk.yes(request.approval_id, BOB, for_session=True)
    # As a step would have stored them that did not look at the arguments.
    small, large = (call("http_request", arguments, ordinal=n) for n, arguments in enumerate((SMALL, LARGE)))
    await stores.answer(posted.turn.id, 2, calls=[small, large])

    assert (await desk.handler.handle_tool_call(small.id)).status is ToolCallStatus.COMPLETED
    assert (await desk.handler.handle_tool_call(large.id)).status is ToolCallStatus.FAILED
    assert desk.fetcher.bodies == [b"900"]
