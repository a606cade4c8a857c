"""Handovers: another agent goes on with the turn and its session, once, and nothing becomes looser."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import KnownModels, NewAgent
from shared.sessions.agents.below import AgentPins
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.agents.handing_over import MAX_HANDOVERS, Handovers
from shared.sessions.approvals.proposals import Standing, propose_all
from shared.sessions.events import EventType, SessionEventPublisher
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, Concurrency, SessionConfig, ToolCallStatus
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import StepResult
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from tests.integration.domain import OWNER, WAIT_S, WRITER, Stores, call, envelopes, plan, result_of, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ADMIN = Principal("root", frozenset({Role.ADMIN}))
ANN = Principal(OWNER, frozenset({Role.USER}))
HAND_OVER = "hand_over_to_billing"


@dataclass
class Desk:
    stores: Stores
    handler: ToolCallHandler
    planner: TurnPlanner
    agents: AgentCatalog

    async def put(self, agent_id: str, **fields: Any) -> int:
        body = NewAgent(name=agent_id.title(), instructions=f"Be {agent_id}.", **fields)
        return (await self.agents.put(agent_id, body, ADMIN, if_match=None))[0].version

    async def begin(self, user: str = OWNER, config: SessionConfig | None = None, **options: Any) -> PostedMessage:
        session = await self.stores.session(agent_id="front", config=config or SessionConfig())
        if user != OWNER:
            await self.stores.share(session.id, user, "write")
        return await self.post(session.id, user, **options)

    async def post(self, session_id: str, user: str = OWNER, **options: Any) -> PostedMessage:
        planned = await self.planner.plan(
            session_id, Principal(user, frozenset({Role.USER})), options.pop("mode", None), now=utc_now()
        )
        return await self.stores.post(session_id, user=user, turn_plan=planned.plan, **options)

    async def propose(self, posted: PostedMessage, step: int = 1, name: str = HAND_OVER, note: str = "") -> str:
        proposal = call(name, {"note": note} if note else {})
        await self.stores.answer(posted.turn.id, step, calls=[proposal])
        return proposal.id

    async def handle(self, call_id: str) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id)

    async def plan_of(self, posted: PostedMessage) -> TurnPlan:
        stored = await self.stores.value(b"SELECT plan FROM turns WHERE id = %(t)s", t=posted.turn.id)
        return TurnPlan.model_validate(stored)

    async def agent_of(self, posted: PostedMessage) -> str:
        return str(await self.stores.value(b"SELECT agent_id FROM sessions WHERE id = %(s)s", s=posted.turn.session_id))


@pytest.fixture
async def desk(stores: Stores, publisher: SessionEventPublisher) -> Desk:
    agents = AgentCatalog(PostgresAgents(stores.pool))
    pins = AgentPins(agents.newest)
    known = KnownModels()
    planner = TurnPlanner(stores.sessions, default_model="scripted", known=known, below=pins)
    handovers = Handovers(stores.sessions, agents, pins, "scripted", known)
    handler = ToolCallHandler(
        stores.tool_calls, publisher, ToolServices(), CancelWatch(stores.turns), handovers=handovers
    )
    desk = Desk(stores, handler, planner, agents)
    await desk.put("billing", tools=["calculate"])
    await desk.put("front", tools=["current_time"], hands_over_to=["billing"])
    return desk


async def test_the_next_step_is_the_other_agents_and_so_are_later_messages(desk: Desk) -> None:
    posted = await desk.begin()
    report = await desk.handle(await desk.propose(posted, note="Wants a refund."))

    assert report.status is ToolCallStatus.COMPLETED
    second = await desk.stores.started(posted.turn.id, 2)
    assert (second.plan.agent_id, second.plan.instructions) == ("billing", "Be billing.")
    assert second.plan.tools == ["calculate"]
    read = orjson.loads(second.context[0].content)
    assert read["untrusted_note"] == "Wants a refund."
    assert "You are Billing" in read["handed_over"]
    saved = await desk.stores.steps.save_last_step(posted.turn.id, result_of(second, content="Refunded."))
    assert saved.finished is not None
    assert saved.finished.agent_id == "billing"
    turn = await desk.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert (turn.agent_id, turn.agent_version, turn.model) == ("billing", second.plan.agent_version, "scripted")
    first = [(one.agent_id, one.agent_version, one.model, one.last_step) for one in turn.agents_before]
    assert first == [("front", posted.turn.agent_version, "scripted", 1)]
    rows = await desk.stores.rows(
        b"SELECT agent_id FROM messages WHERE turn_id = %(t)s AND role = 'assistant' ORDER BY step", t=posted.turn.id
    )
    assert [row["agent_id"] for row in rows] == ["front", "billing"]
    assert await desk.agent_of(posted) == "billing"
    later = await desk.post(posted.turn.session_id)
    assert (await desk.plan_of(later)).agent_id == "billing"


async def test_it_is_told_and_noted_once_and_said_again_by_a_repeat(desk: Desk) -> None:
    posted = await desk.begin()
    call_id = await desk.propose(posted)
    reports = [await desk.handle(call_id), await desk.handle(call_id)]

    for report in reports:
        (told,) = [one for one in envelopes(report.messages) if one["type"] == EventType.SESSION_HANDED_OVER]
        version = (await desk.plan_of(posted)).agent_version
        assert told["data"] == {
            "tool_call_id": call_id,
            "from_agent_id": "front",
            "agent_id": "billing",
            "agent_version": version,
            "for_session": True,
        }
    noted = [details for _, action, details in desk.stores.audit.lines if action == "tool_call.ended"]
    assert [one["handed_over_to"] for one in noted] == ["billing"]


async def test_two_processes_hand_over_once(desk: Desk) -> None:
    posted = await desk.begin()
    call_id = await desk.propose(posted)
    await asyncio.gather(desk.handle(call_id), desk.handle(call_id))
    handed = (await desk.plan_of(posted)).handed_over
    assert handed is not None
    assert (handed.count, handed.step) == (1, 1)


async def test_the_version_is_that_of_when_the_turn_was_posted(desk: Desk) -> None:
    posted = await desk.begin()
    await desk.put("billing", tools=["calculate", "http_request"])
    await desk.handle(await desk.propose(posted))
    assert (await desk.plan_of(posted)).tools == ["calculate"]


async def test_nothing_becomes_looser(desk: Desk) -> None:
    await desk.put(
        "billing",
        tools=["calculate"],
        containment=Containment.OFF,
        defaults=SessionConfig(approval_mode=ApprovalMode.AUTO, max_steps=50, max_turn_tokens=900_000),
    )
    posted = await desk.begin(
        config=SessionConfig(approval_mode=ApprovalMode.AUTO, max_turn_tokens=5_000), mode=ApprovalMode.POLICY
    )
    before = await desk.plan_of(posted)
    await desk.handle(await desk.propose(posted))

    after = await desk.plan_of(posted)
    assert after.agent_id == "billing"
    assert (after.approval_mode, after.containment) == (ApprovalMode.POLICY, Containment.RULE_OF_TWO)
    assert (after.max_steps, after.max_turn_tokens) == (before.max_steps, 5_000)
    assert after.roles == before.roles == ["user"]


async def test_and_what_the_other_agent_requires_holds(desk: Desk) -> None:
    await desk.put(
        "billing",
        tools=["calculate"],
        approval_floor={"calculate": ApprovalMode.MANUAL},
        defaults=SessionConfig(max_turn_tokens=700),
    )
    posted = await desk.begin(config=SessionConfig(approval_mode=ApprovalMode.AUTO))
    await desk.handle(await desk.propose(posted))
    plan_now = await desk.plan_of(posted)
    asked = ModelToolCall("1", "calculate", '{"expression": "1"}')
    (proposed,) = propose_all([asked], plan_now, Standing(OWNER, frozenset(), frozenset(), frozenset(), [], 0.0))
    assert proposed.needs_approval
    assert plan_now.max_turn_tokens == 700


async def test_a_participants_turn_is_handed_over_and_the_owners_session_is_not(desk: Desk) -> None:
    posted = await desk.begin(WRITER)
    await desk.handle(await desk.propose(posted))
    assert (await desk.plan_of(posted)).agent_id == "billing"
    assert await desk.agent_of(posted) == "front"


async def test_beside_other_calls_nothing_is_handed_over(desk: Desk) -> None:
    posted = await desk.begin()
    plan_now = await desk.plan_of(posted)
    calls = [ModelToolCall("1", "current_time", "{}"), ModelToolCall("2", HAND_OVER, "{}")]
    standing = Standing(OWNER, frozenset(), frozenset(), frozenset(), [], 0.0)
    time, handover = propose_all(calls, plan_now, standing)
    assert time.argument_error is None
    assert "without other calls" in (handover.argument_error or "")
    result: StepResult = result_of(await desk.stores.started(posted.turn.id), calls=[time, handover])
    assert await desk.stores.steps.save_step(result)
    assert (await desk.handle(handover.id)).status is ToolCallStatus.FAILED
    assert (await desk.plan_of(posted)).agent_id == "front"


async def test_two_agents_hand_over_to_each_other_a_few_times(desk: Desk) -> None:
    await desk.put("billing", hands_over_to=["front"], tools=[])
    posted = await desk.begin()
    for step in range(1, MAX_HANDOVERS + 1):
        name = HAND_OVER if step % 2 else "hand_over_to_front"
        assert (await desk.handle(await desk.propose(posted, step, name))).status is ToolCallStatus.COMPLETED
    assert (await desk.plan_of(posted)).handovers == {}, "then its agent has to answer"


async def test_an_agent_that_is_gone_takes_nothing_over(desk: Desk) -> None:
    posted = await desk.begin()
    await desk.stores.sql(b"DELETE FROM agents WHERE id = 'billing'")
    report = await desk.handle(await desk.propose(posted))
    assert report.status is ToolCallStatus.FAILED
    assert (await desk.plan_of(posted)).agent_id == "front"
    assert not [one for one in envelopes(report.messages) if one["type"] == EventType.SESSION_HANDED_OVER]


async def test_items_of_another_models_api_are_not_sent_on(desk: Desk) -> None:
    await desk.put("billing", model="other", tools=["calculate"])
    posted = await desk.begin()
    proposal = call(HAND_OVER, {})
    await desk.stores.answer(posted.turn.id, calls=[proposal], kept=[{"type": "reasoning", "id": "r"}])
    await desk.handle(proposal.id)
    again = call()
    second = await desk.stores.answer(posted.turn.id, 2, calls=[again], kept=[{"type": "reasoning", "id": "s"}])
    assert {one.role: one.kept for one in second.context if one.role == "assistant"} == {"assistant": None}
    await desk.stores.tool_result(again.id)
    third = (await desk.stores.started(posted.turn.id, 3)).context
    assert [one.kept for one in third if one.role == "assistant"] == [[{"type": "reasoning", "id": "s"}], None]


async def test_a_message_joins_the_turn_under_its_new_agent(desk: Desk) -> None:
    posted = await desk.begin()
    await desk.handle(await desk.propose(posted))
    joined = await desk.post(posted.turn.session_id, concurrency=Concurrency.STEER)
    assert joined.turn.id == posted.turn.id


@pytest.mark.parametrize("listed", ["front", "nobody"])
async def test_who_is_not_there_or_oneself_cannot_be_listed(desk: Desk, listed: str) -> None:
    with pytest.raises(Exception, match=r"itself|no agent"):
        await desk.put("front", hands_over_to=[listed])
    assert plan(handovers={}).stored() == plan().stored(), "plans of turns without it are as they were"
    assert new_id()
