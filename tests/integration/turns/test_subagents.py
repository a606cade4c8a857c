"""Agents that agents call: one child for each call, whose end, usage and sources are its caller's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.adapters.postgres.turns.children import PostgresChildren
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.approvals.containment import FILES, sources_read
from shared.sessions.events import Caller, Event, EventLog, EventType, SessionEventPublisher
from shared.sessions.models import (
    ApprovalMode,
    MessageRole,
    SessionConfig,
    SessionStatus,
    ToolCallStatus,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.children import Child
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.records.tool_calls import CallStart
from shared.sessions.records.turns import PostedMessage
from shared.sessions.subagents import service
from shared.sessions.subagents.service import Subagents
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from tests.integration.domain import OWNER, WAIT_S, WRITER, Stores, call, envelopes, plan, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ADMIN = Principal("root", frozenset({Role.ADMIN}))
ASK = "ask_helper"
CHUNK = EventType.STREAM_CHUNK
ONCE = Usage(input_tokens=100, output_tokens=20, cost_usd=0.5)


@dataclass
class Office:
    stores: Stores
    handler: ToolCallHandler
    agents: Subagents
    helper: PlannedAgent

    def plan(self, **changes: Any) -> dict[str, Any]:
        return {"agent_id": "boss", "tools": ["calculate", ASK], "agents": {ASK: self.helper}} | changes

    async def asked(self, *, sources: frozenset[str] = frozenset(), **changes: Any) -> tuple[PostedMessage, str]:
        """A turn that has called the helper, and the id of the call."""
        session = await self.stores.session(config=changes.pop("config", SessionConfig()))
        posted = await self.stores.post(session.id, turn_plan=plan(**self.plan(**changes)))
        return posted, await self.call(posted, sources=sources)

    async def call(self, posted: PostedMessage, step: int = 1, **changes: Any) -> str:
        proposal = call(ASK, {"input": "count to three"})
        await self.stores.answer(posted.turn.id, step, calls=[proposal], **changes)
        assert (await self.handle(proposal.id)).wait is not None
        return proposal.id

    async def handle(self, call_id: str, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id, **options)

    async def child(self, call_id: str) -> Child:
        child = await self.agents.of_call(call_id)
        assert child is not None
        return child

    async def status(self, posted: PostedMessage) -> TurnStatus:
        return (await self.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).status

    async def told(self, posted: PostedMessage) -> Any:
        """What the model reads as the result."""
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return orjson.loads(message.content)


@pytest.fixture
async def office(stores: Stores, publisher: SessionEventPublisher) -> Office:
    catalog = AgentCatalog(PostgresAgents(stores.pool))
    agent_id = f"helper-{new_id()}"
    defaults = SessionConfig(approval_mode=ApprovalMode.AUTO)
    body = NewAgent(name="Helper", instructions="Help.", defaults=defaults, containment=Containment.OFF)
    made, _ = await catalog.put(agent_id, body, ADMIN, if_match=None)
    agents = Subagents(PostgresChildren(stores.pool), catalog, publisher, default_model="scripted")
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(
        stores.tool_calls, publisher, ToolServices(), watch, grace_s=0, waits=stores.waits, agents=agents
    )
    return Office(stores, handler, agents, PlannedAgent(id=made.id, version=made.version, name=made.name))


class TestOneChild:
    async def test_runs_of_a_call_at_once_make_one_child(self, office: Office) -> None:
        posted = await office.stores.turn(**office.plan())
        proposal = call(ASK, {"input": "count to three"})
        await office.stores.answer(posted.turn.id, calls=[proposal])

        reports = await asyncio.gather(*(office.handle(proposal.id) for _ in range(4)))

        child = await office.child(proposal.id)
        assert {report.start_turn_id for report in reports} == {child.turn_id}
        parents = b"SELECT count(*) FROM sessions WHERE parent_session_id = %(id)s"
        assert await office.stores.value(parents, id=posted.turn.session_id) == 1
        assert await office.status(posted) is TurnStatus.RUNNING

    async def test_its_end_is_the_result_once(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        await office.stores.answer(child.turn_id, content="one two three")
        assert (await office.handle(call_id)).wait is not None, "it has not ended yet"

        finished = await office.stores.finish(child.turn_id)
        reports = [await office.handle(call_id) for _ in range(3)]

        record = await office.stores.waits.of_call(call_id)
        assert record is not None
        assert finished.answers == (record.wait.id, record.instance_id)
        assert {report.status for report in reports} == {ToolCallStatus.COMPLETED}
        assert await office.told(posted) == {"status": "completed", "untrusted_output": "one two three"}

    async def test_a_failure_comes_up_in_its_words(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        error = TurnError(code="LLM_ERROR", detail="The model is away.")
        await office.stores.turns.finish(child.turn_id, status=TurnStatus.FAILED, error=error, now=utc_now())

        assert (await office.handle(call_id)).status is ToolCallStatus.FAILED
        assert (await office.told(posted))["error"] == f"The agent {office.helper.id} failed: The model is away."

    async def test_a_child_whose_session_is_deleted_does_not_keep_its_caller(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)

        await office.stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=child.session_id)

        assert (await office.handle(call_id)).status is ToolCallStatus.FAILED
        assert "was deleted" in (await office.told(posted))["error"]

    @pytest.mark.parametrize(("limit", "said"), [("MAX_OPEN", "work on this already"), ("MAX_BEGUN", "were made for")])
    async def test_calls_of_one_question_are_bounded(
        self, office: Office, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
    ) -> None:
        monkeypatch.setattr(service, limit, 1)
        posted = await office.stores.turn(**office.plan())
        first, second = (call(ASK, {"input": "count"}, ordinal=number) for number in range(2))
        await office.stores.answer(posted.turn.id, calls=[first, second])
        await office.handle(first.id)

        assert (await office.handle(second.id)).status is ToolCallStatus.FAILED
        assert said in (await office.told(posted))["error"]


class TestEnds:
    async def test_a_child_that_never_ends_is_stopped_at_the_deadline(self, office: Office) -> None:
        posted, call_id = await office.asked()
        waiting = (await office.handle(call_id)).wait
        assert waiting is not None

        report = await office.handle(call_id, late_wait=waiting.id)

        child = await office.child(call_id)
        assert report.status is ToolCallStatus.FAILED
        assert report.interruption is not None
        assert report.interruption.turn_ids == [child.turn_id]
        assert await office.stores.turns.cancel_requested([child.turn_id]) == {child.turn_id}
        assert "did not come in time" in (await office.told(posted))["error"]

    async def test_a_cancelled_caller_lets_nothing_below_it_begin_before_anybody_tells_it(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        inner = call()
        await office.stores.answer(child.turn_id, calls=[inner])

        await office.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

        start = await office.stores.tool_calls.begin_tool_call(inner.id, new_id(), now=utc_now())
        assert start is CallStart.CANCELLED
        assert not hasattr(await office.stores.begin(child.turn_id, 2), "context")
        stopped = await office.agents.stop_below(None, now=utc_now())
        assert child.turn_id in stopped.interruption.turn_ids
        assert child.turn_id not in (await office.agents.stop_below(None, now=utc_now())).interruption.turn_ids

    async def test_a_child_that_ends_while_its_caller_is_cancelled_waits_for_nobody(self, office: Office) -> None:
        """Both change the caller's turn and the wait of the call; in no order one has to be killed."""
        for _ in range(5):
            posted, call_id = await office.asked()
            child = await office.child(call_id)

            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(
                    office.stores.finish(child.turn_id),
                    office.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now()),
                )

            assert (await office.handle(call_id)).status is ToolCallStatus.FAILED

    async def test_a_suspended_caller_holds_what_is_below_it(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        inner = call()
        await office.stores.answer(child.turn_id, calls=[inner])

        await office.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)

        start = await office.stores.tool_calls.begin_tool_call(inner.id, new_id(), now=utc_now())
        assert start is CallStart.HELD
        hold = await office.stores.sessions.hold(posted.turn.session_id)
        assert hold is not None
        assert child.turn_id in hold.instances
        later = await office.stores.turns.to_look_at(running_before=utc_now(), waiting_before=utc_now(), limit=1_000)
        assert child.turn_id not in {turn.turn_id for turn in later}

    async def test_whoever_is_taken_out_of_the_session_takes_no_further_step_below_it(self, office: Office) -> None:
        session = await office.stores.shared_session()
        posted = await office.stores.post(session.id, user=WRITER, turn_plan=plan(**office.plan()))
        child = await office.child(await office.call(posted))
        await office.stores.started(child.turn_id)

        await office.stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session.id)

        assert not hasattr(await office.stores.begin(child.turn_id), "context")


class TestBudgets:
    async def test_what_a_child_uses_counts_for_its_callers_turn_and_session_and_once_for_the_day(
        self, office: Office
    ) -> None:
        day = b"SELECT coalesce(sum(input_tokens + output_tokens), 0)::int FROM token_usage WHERE user_id = %(u)s"
        posted, call_id = await office.asked()
        before = await office.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
        today = await office.stores.value(day, u=OWNER)
        child = await office.child(call_id)
        await office.stores.answer(child.turn_id, usage=ONCE)
        await office.stores.steps.add_usage(child.turn_id, ONCE, now=utc_now())
        await office.stores.finish(child.turn_id)

        turn = await office.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
        assert turn.usage.input_tokens - before.usage.input_tokens == 200
        assert turn.usage.output_tokens - before.usage.output_tokens == 40
        assert (turn.usage.cost_usd or 0) - (before.usage.cost_usd or 0) == pytest.approx(1.0)
        record = await office.stores.sessions.get(posted.turn.session_id, OWNER)
        assert record.used_tokens == turn.usage.input_tokens + turn.usage.output_tokens
        await office.stores.finish(posted.turn.id)
        assert await office.stores.value(day, u=OWNER) - today == 240

    @pytest.mark.parametrize("of_session", [False, True])
    async def test_a_child_gets_what_its_caller_has_left(self, office: Office, of_session: bool) -> None:
        budget = 10_000
        config = SessionConfig(max_session_tokens=budget) if of_session else SessionConfig()
        limits = {} if of_session else {"max_turn_tokens": budget}
        posted, call_id = await office.asked(config=config, **limits)
        used = (await office.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
        child = await office.child(call_id)

        first = await office.stores.answer(child.turn_id, usage=ONCE, calls=[call()])
        second = await office.stores.started(child.turn_id, 2)

        left = budget - used.input_tokens - used.output_tokens
        assert first.plan.max_turn_tokens == left
        # What it has used itself is in both: in its own count and in its caller's.
        assert second.plan.max_turn_tokens == left
        assert second.used.turn == 120


class TestRules:
    async def test_what_the_caller_had_read_counts_for_the_child_and_the_other_way_round(self, office: Office) -> None:
        posted, call_id = await office.asked(sources=frozenset({FILES}))
        child = await office.child(call_id)
        start = await office.stores.started(child.turn_id)
        assert sources_read(start.context) == {FILES}

        await office.stores.answer(child.turn_id, sources=frozenset({FILES, "fetch_url"}))
        await office.stores.finish(child.turn_id)
        await office.handle(call_id)

        context = (await office.stores.started(posted.turn.id, 2)).context
        assert sources_read(context) == {FILES, "fetch_url"}

    async def test_an_agent_that_read_nothing_taints_nobody(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        await office.stores.answer(child.turn_id)
        await office.stores.finish(child.turn_id)
        await office.handle(call_id)

        assert sources_read((await office.stores.started(posted.turn.id, 2)).context) == frozenset()

    async def test_a_child_may_no_more_than_its_caller(self, office: Office) -> None:
        _, call_id = await office.asked(roles=["auditor"], asked_through=["top"])

        plan_of = (await office.stores.started((await office.child(call_id)).turn_id)).plan

        assert plan_of.approval_mode is ApprovalMode.POLICY
        assert plan_of.containment is Containment.RULE_OF_TWO
        assert plan_of.roles == ["auditor"]
        assert plan_of.asked_through == ["top", "boss"]
        assert plan_of.agent_version == office.helper.version

    async def test_all_turns_of_a_question_share_what_choices_of_addresses_may_tell(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        await office.stores.answer(child.turn_id, calls=[call(choice_bits=3.0)])
        below = await office.stores.started(child.turn_id, 2)
        await office.stores.finish(child.turn_id)
        await office.handle(call_id)

        above = await office.stores.started(posted.turn.id, 2)
        later = await office.child(await office.call(posted, 2))

        assert (below.spent_bits, above.spent_bits) == (3.0, 3.0)
        assert (await office.stores.started(later.turn_id)).spent_bits == 3.0

    async def test_a_child_of_a_shared_session_is_not_private(self, office: Office) -> None:
        """What it finds is told in that session, to all who read it."""
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        is_private = PostgresLifecycle(office.stores.pool).is_private
        assert await is_private(child.session_id, OWNER)

        await office.stores.share(posted.turn.session_id, WRITER, "read")

        assert not await is_private(child.session_id, OWNER)


class TestApprovals:
    async def test_the_caller_waits_while_a_child_does_whatever_it_decides_itself(self, office: Office) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        inner = call("http_request", {"method": "POST", "url": "http://a.test/"}, needs_approval=True)
        await office.stores.answer(child.turn_id, calls=[inner])

        approval = await office.stores.request_approval(inner)
        assert await office.status(posted) is TurnStatus.WAITING_APPROVAL
        own = b"UPDATE turns SET status = 'running' WHERE id = %(id)s"
        await office.stores.sql(own, id=posted.turn.id)
        assert await office.status(posted) is TurnStatus.WAITING_APPROVAL
        assert await office.stores.time_out(inner.id)

        assert await office.status(posted) is TurnStatus.RUNNING
        assert approval.agent_id == office.helper.id
        assert approval.asked_through == ("boss",)


class TestTelling:
    @pytest.mark.parametrize(("kept_s", "reads"), [(3_600.0, 4), (0.0, 8)])
    async def test_text_that_streams_asks_for_its_caller_once_and_all_else_each_time(
        self, office: Office, event_log: EventLog, kept_s: float, reads: int
    ) -> None:
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        rows = PostgresChildren(office.stores.pool)
        asked: list[str] = []
        told: list[Any] = []

        class Counted:
            async def caller_of(self, session_id: str) -> Caller | None:
                asked.append(session_id)
                return await rows.caller_of(session_id)

        publisher = SessionEventPublisher(event_log, office.stores.sessions, callers=Counted(), caller_kept_s=kept_s)

        async def tell(kind: EventType, times: int = 1) -> None:
            for _ in range(times):
                data = {"frame": {"type": "content_delta", "index": 0, "text": "a"}} if kind is CHUNK else {}
                told.extend(envelopes(await publisher.publish(child.target, [Event(kind, data, child.turn_id)])))

        await tell(CHUNK, 3)
        await tell(EventType.MESSAGE_UPDATED)
        await tell(CHUNK, 2)
        await tell(EventType.STREAM_ENDED)
        await office.stores.finish(posted.turn.id)
        await tell(EventType.STREAM_ENDED)  # nobody waits any more, which is not remembered from before

        assert len(asked) == reads
        assert [event["session_id"] for event in told].count(posted.turn.session_id) == 7
