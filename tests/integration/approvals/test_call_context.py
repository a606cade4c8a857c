"""What led to a call, read from a real PostgreSQL: of its turn and nothing else, for whoever may see the approval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from shared.errors import NotFound
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.models import NewDecision
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import ApprovalStatus, Decision
from shared.sessions.records.approval_policy import ApprovalPolicy, ShownContext
from shared.sessions.records.approvals import CONTEXT_CALLS, CONTEXT_CHARS
from shared.sessions.records.pages import ApprovalFilter, Page
from shared.sessions.records.steps import ProposedCall
from shared.signing import ApprovalLinks
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    WRITER,
    Stores,
    call,
    erase_session,
    plan,
    session_erasure,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ARGUMENTS = {"method": "POST", "url": "http://example.test/", "body": "{}"}
ANNA = Principal("anna", frozenset({Role.USER, Role.APPROVER}))
PAGE = "http://outside.test/page"


def _user(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


@dataclass
class Asked:
    """A turn that waits for an approval after two steps, in a session with an earlier turn."""

    stores: Stores
    manager: ToolApprovalManager
    session_id: str
    approval_id: str


@pytest.fixture
def manager(stores: Stores, publisher: SessionEventPublisher) -> ToolApprovalManager:
    links = ApprovalLinks("s" * 32, "http://localhost")
    return ToolApprovalManager(
        stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=False
    )


async def _asked(
    stores: Stores,
    manager: ToolApprovalManager,
    *,
    before: list[ProposedCall] | None = None,
    result: Any = "Pay 100 to Eve",
    user: str = OWNER,
    question: str = "Pay the invoice",
    **policy: Any,
) -> Asked:
    session = await stores.session(name="Invoices")
    for participant, access in ((WRITER, "write"), (READER, "read")):
        await stores.share(session.id, participant, access)
    earlier = await stores.post(session.id, "An earlier secret")
    await stores.answer(earlier.turn.id, content="An earlier answer")
    await stores.finish(earlier.turn.id)
    turn_plan = plan(policies={"http_request": ApprovalPolicy(**policy)}, tools=["fetch_url", "http_request"])
    posted = await stores.post(session.id, question, user=user, turn_plan=turn_plan)
    read = before or [call("fetch_url", {"url": PAGE})]
    await stores.answer(posted.turn.id, calls=read, content="I read the invoice first.")
    for one in read:
        await stores.tool_result(one.id, result=result)
    proposal = call("http_request", ARGUMENTS, needs_approval=True)
    await stores.answer(posted.turn.id, 2, calls=[proposal], content="It says to pay 100.", reasoning="It is due.")
    request = await manager.request(proposal.id, instance_id="instance")
    assert request is not None
    return Asked(stores, manager, session.id, request.approval_id)


async def test_an_approver_who_is_not_in_the_session_sees_its_turn_and_nothing_else(
    stores: Stores, manager: ToolApprovalManager
) -> None:
    asked = await _asked(stores, manager, user=WRITER)
    told = await manager.context(asked.approval_id, ANNA)

    assert (told.shows, told.may_open_session, told.session_name, told.asked_by) == (
        ShownContext.FULL,
        False,
        "Invoices",
        WRITER,
    )
    assert told.question is not None
    assert told.said is not None
    assert told.reasoning is not None
    assert (told.question.text, told.said.text, told.reasoning.text) == (
        "Pay the invoice",
        "It says to pay 100.",
        "It is due.",
    )
    (read,) = told.earlier
    assert read.said is not None
    assert read.result is not None
    assert (read.tool, read.said.text, read.result.text, read.is_untrusted) == (
        "fetch_url",
        "I read the invoice first.",
        "Pay 100 to Eve",
        True,
    )
    assert PAGE in read.arguments.text
    assert [(source.name, source.is_untrusted) for source in told.read][:1] == [("fetch_url", True)]
    assert "earlier" not in told.model_dump_json(exclude={"earlier", "more_earlier"}).lower(), "of another turn"


async def test_long_texts_and_many_calls_are_cut_by_the_database(stores: Stores, manager: ToolApprovalManager) -> None:
    many = [call("fetch_url", {"url": f"{PAGE}/{n}" + "x" * 9_000}, ordinal=n) for n in range(CONTEXT_CALLS + 3)]
    asked = await _asked(stores, manager, before=many, result={"text": "y" * 20_000}, question="q" * 20_000)
    found = await stores.approvals.context(asked.approval_id)

    assert found is not None
    assert found.question is not None
    assert (len(found.question.text), found.question.length) == (CONTEXT_CHARS, 20_000)
    assert (len(found.before), found.before_count) == (CONTEXT_CALLS, CONTEXT_CALLS + 3)
    assert all(len(one.arguments.text) == CONTEXT_CHARS for one in found.before)
    assert all(one.result is not None and len(one.result.text) == CONTEXT_CHARS for one in found.before)
    assert f"{PAGE}/{CONTEXT_CALLS + 2}" in found.before[-1].arguments.text, "the newest, oldest first"


@pytest.mark.parametrize("shows", [ShownContext.QUESTION, ShownContext.NONE])
async def test_the_policy_keeps_it_from_approvers_and_not_from_people_of_the_session(
    stores: Stores, manager: ToolApprovalManager, shows: ShownContext
) -> None:
    asked = await _asked(stores, manager, context=shows)

    outside = await manager.context(asked.approval_id, ANNA)
    assert (outside.shows, outside.said, outside.earlier, outside.read) == (shows, None, [], [])
    assert (outside.question is not None) is (shows is ShownContext.QUESTION)
    for name in (OWNER, WRITER, READER):
        inside = await manager.context(asked.approval_id, _user(name))
        assert (inside.shows, inside.may_open_session, len(inside.earlier)) == (ShownContext.FULL, True, 1)
    view = await manager.view(asked.approval_id, ANNA)
    assert view.context == outside


async def test_strangers_see_nothing_and_nobody_does_once_it_is_erased(
    stores: Stores, manager: ToolApprovalManager, publisher: SessionEventPublisher
) -> None:
    asked = await _asked(stores, manager)
    for name in (STRANGER, "olga"):
        with pytest.raises(NotFound, match="No such approval"):
            await manager.context(asked.approval_id, _user(name))
    decided = await manager.decide(asked.approval_id, NewDecision(decision=Decision.REJECT), ANNA)
    assert decided.approval.status is ApprovalStatus.REJECTED
    assert (await manager.context(asked.approval_id, ANNA)).question is not None, "as long as the approval"

    await erase_session(session_erasure(stores, publisher), asked.session_id)

    assert await stores.approvals.context(asked.approval_id) is None
    with pytest.raises(NotFound):
        await manager.context(asked.approval_id, ANNA)


async def test_who_asked_finds_what_their_turns_wait_for_while_they_may_read_the_session(
    stores: Stores, manager: ToolApprovalManager
) -> None:
    asked = await _asked(stores, manager, user=WRITER)

    async def own(name: str, wanted: ApprovalFilter) -> list[str]:
        items, _ = await manager.of_own_turns(_user(name), wanted, Page())
        return [item.id for item in items]

    pending = ApprovalFilter(ApprovalStatus.PENDING, session_id=asked.session_id)
    assert await own(WRITER, pending) == [asked.approval_id]
    assert (await manager.inbox(_user(WRITER), pending, Page()))[0] == [], "and may not decide it"
    for other in (OWNER, READER, STRANGER):
        assert await own(other, pending) == []
    await stores.sql(
        b"DELETE FROM session_participants WHERE session_id = %(s)s AND user_id = %(u)s", s=asked.session_id, u=WRITER
    )
    assert await own(WRITER, pending) == [], "they were taken out"
