"""Workflows as the store knows them: begun once, answered once, and ended when nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import pytest

from parley.workflows import ToolArguments, workflow
from shared.adapters.postgres.turns.workflows import PostgresWorkflows
from shared.durable.names import call_instance, workflow_instance
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import MessageRole, SessionStatus, ToolCallStatus, TurnStatus, WaitKind
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.turns import PostedMessage
from shared.sessions.records.waits import WorkflowBegun, WorkflowLook
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools import of_plan
from shared.sessions.tools.base import Tool
from shared.sessions.tools.kinds.workflows import declared_of
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.waits.workflows import Workflows
from tests.integration.domain import (
    OWNER,
    WAIT_S,
    Stores,
    call,
    envelopes,
    session_erasure,
    utc_now,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

HIDDEN_TEXT = "tok-5f1e-6c2d"
DONE = {"content": "shipped", "data": {"parcel": 7}}


class Ship(ToolArguments):
    item: str


@dataclass
class Yard:
    stores: Stores
    handler: ToolCallHandler
    workflows: Workflows
    rows: PostgresWorkflows

    async def asked(self) -> tuple[PostedMessage, str]:
        """A turn that has called the workflow."""
        proposal = call("ship", {"item": "kettle"})
        posted = await self.stores.proposed(proposal)
        assert (await self.handle(proposal.id)).workflow is not None
        return posted, proposal.id

    async def begun(self) -> tuple[PostedMessage, str]:
        posted, call_id = await self.asked()
        assert await self.workflows.begin(call_id, "one") is WorkflowBegun.NOW
        return posted, call_id

    async def handle(self, call_id: str, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id, **options)

    async def told(self, posted: PostedMessage) -> Any:
        """What the model reads as the result."""
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return orjson.loads(message.content)

    async def looks(self, call_id: str, *, later_s: float = 3_600) -> list[WorkflowLook]:
        """What a sweep would look at, that long from now."""
        now = utc_now() + timedelta(seconds=later_s)
        found = await self.rows.to_look_at(pending_before=now, over_before=now, now=now, limit=1_000)
        return [one for one in found if one.tool_call_id == call_id]


@pytest.fixture
async def yard(stores: Stores, publisher: SessionEventPublisher, monkeypatch: pytest.MonkeyPatch) -> Yard:
    @workflow(arguments=Ship, risks=(), timeout_s=600)
    def ship(context: object) -> None:
        """Ship an item."""

    declared = declared_of(ship)
    assert declared is not None
    of_name: Callable[[str], Tool | None] = {"ship": declared.tool}.get
    monkeypatch.setattr(of_plan, "find_tool", of_name)
    mask = SettingSecrets({"TOOL_SECRET_CRM_TOKEN": HIDDEN_TEXT}).mask()
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(
        stores.tool_calls, publisher, ToolServices(), watch, grace_s=0, mask=mask, waits=stores.waits
    )
    rows = PostgresWorkflows(stores.pool)
    workflows = Workflows(rows, stores.waits, stores.tool_calls, publisher, mask=mask)
    return Yard(stores, handler, workflows, rows)


async def test_a_call_is_a_wait_with_a_start_until_its_workflow_has_begun(yard: Yard) -> None:
    posted, call_id = await yard.asked()

    again = await yard.handle(call_id)

    assert again.workflow is not None
    assert again.workflow.instance_id == workflow_instance(posted.turn.id, call_id)
    assert (again.workflow.name, again.workflow.input) == ("ship", {"item": "kettle"})
    assert (again.workflow.user_id, again.workflow.session_id) == (OWNER, posted.turn.session_id)
    assert again.wait is not None
    assert again.wait.kind is WaitKind.RESULT
    assert timedelta(seconds=500) < again.wait.expires_at - utc_now() <= timedelta(seconds=600)
    assert await yard.workflows.start(call_id) == again.workflow

    assert await yard.workflows.begin(call_id, "one") is WorkflowBegun.NOW
    assert (await yard.handle(call_id)).workflow is None


async def test_of_all_starts_one_begins_and_may_say_so_again(yard: Yard) -> None:
    _, call_id = await yard.asked()

    begun = await asyncio.gather(*(yard.workflows.begin(call_id, f"start-{number}") for number in range(5)))

    assert sorted(begun) == [*[WorkflowBegun.NEVER] * 4, WorkflowBegun.NOW]
    first = f"start-{begun.index(WorkflowBegun.NOW)}"
    assert await yard.workflows.begin(call_id, first) is WorkflowBegun.NOW
    await yard.workflows.end(call_id, DONE)
    assert await yard.workflows.begin(call_id, first) is WorkflowBegun.NEVER, "it was answered"
    assert await yard.workflows.begin("no-such-call", "one") is WorkflowBegun.NEVER


async def test_its_outcome_is_the_result_once(yard: Yard) -> None:
    posted, call_id = await yard.begun()

    first = await yard.workflows.end(call_id, DONE)
    assert first is not None
    assert first.instance_id == call_instance(posted.turn.id, call_id)
    assert [event["type"] for event in envelopes(first.messages)] == ["tool_call.answered"]
    repeated = await yard.workflows.end(call_id, {"error": "something else"})
    reports = [await yard.handle(call_id) for _ in range(2)]

    assert repeated is not None
    assert repeated.wait.id == first.wait.id
    assert {report.status for report in reports} == {ToolCallStatus.COMPLETED}
    assert reports[0].over_workflow_id is None
    assert await yard.told(posted) == {"status": "completed", "untrusted_output": "shipped"}


async def test_an_error_is_the_models_and_secrets_are_nobodys(yard: Yard) -> None:
    posted, call_id = await yard.begun()
    told = await yard.workflows.progress(call_id, f"using {HIDDEN_TEXT}", 0.5)
    await yard.workflows.end(call_id, {"error": f"refused {HIDDEN_TEXT}"})

    assert (await yard.handle(call_id)).status is ToolCallStatus.FAILED
    assert (await yard.told(posted))["error"] == "refused [secret CRM_TOKEN]"
    (event,) = envelopes(told)
    assert (event["type"], event["data"]["text"]) == ("tool_call.progress", "using [secret CRM_TOKEN]")
    assert await yard.workflows.progress(call_id, "too late", None) == []


async def test_one_that_never_ends_fails_its_call_at_the_deadline_and_is_to_be_ended(yard: Yard) -> None:
    posted, call_id = await yard.begun()
    waiting = (await yard.handle(call_id)).wait
    assert waiting is not None

    report = await yard.handle(call_id, late_wait=waiting.id)

    assert report.over_workflow_id == workflow_instance(posted.turn.id, call_id)
    assert "did not come in time" in (await yard.told(posted))["error"]
    assert await yard.workflows.end(call_id, DONE) is None, "too late"
    (look,) = await yard.looks(call_id)
    assert not look.is_awaited


async def test_a_cancel_lets_no_start_begin_and_the_sweep_ends_what_runs(yard: Yard) -> None:
    posted, call_id = await yard.begun()
    unbegun, second = await yard.asked()
    for each in (posted, unbegun):
        await yard.stores.turns.cancel(each.turn.session_id, each.turn.id, OWNER, now=utc_now())

    assert await yard.workflows.begin(second, "late") is WorkflowBegun.NEVER
    assert await yard.workflows.begin(call_id, "one") is WorkflowBegun.NEVER
    (look,) = await yard.looks(call_id)
    assert (look.is_awaited, look.is_begun) == (False, True)
    assert (await yard.handle(call_id)).over_workflow_id == look.instance_id

    await yard.rows.is_over(look.wait_id, now=utc_now())
    assert await yard.looks(call_id, later_s=7_200) == []


async def test_a_suspended_session_lets_none_begin_and_holds_those_that_run(yard: Yard) -> None:
    posted, call_id = await yard.asked()
    running, second = await yard.begun()
    for each in (posted, running):
        await yard.stores.move(each.turn.session_id, SessionStatus.SUSPENDED, SessionStatus.ACTIVE)

    assert await yard.workflows.begin(call_id, "one") is WorkflowBegun.HELD
    assert await yard.looks(call_id) == []
    hold = await yard.stores.sessions.hold(running.turn.session_id)
    assert hold is not None
    assert workflow_instance(running.turn.id, second) in hold.instances

    await yard.stores.move(posted.turn.session_id, SessionStatus.ACTIVE, SessionStatus.SUSPENDED)
    assert await yard.workflows.begin(call_id, "one") is WorkflowBegun.NOW


async def test_an_erasure_knows_its_instance_and_what_comes_after_it_tells_nobody(
    yard: Yard, publisher: SessionEventPublisher
) -> None:
    posted, call_id = await yard.begun()
    erasing = session_erasure(yard.stores, publisher)
    owner = Principal(OWNER, frozenset({Role.USER}))
    await erasing.mark(posted.turn.session_id, owner, if_match=None)
    found = await erasing.erase_stores(posted.turn.session_id)

    assert found is not None
    assert workflow_instance(posted.turn.id, call_id) in found[0].instances
    assert await yard.workflows.end(call_id, DONE) is None
    assert await yard.workflows.progress(call_id, "still there", None) == []
    assert await yard.workflows.begin(call_id, "one") is WorkflowBegun.NEVER


async def test_a_turn_waits_for_it_as_for_every_result(yard: Yard) -> None:
    posted, call_id = await yard.begun()
    turns = yard.stores.turns

    assert (await turns.get_turn(posted.turn.session_id, posted.turn.id)).status is TurnStatus.WAITING_INPUT
    await yard.workflows.end(call_id, DONE)
    assert (await turns.get_turn(posted.turn.session_id, posted.turn.id)).status is TurnStatus.RUNNING
