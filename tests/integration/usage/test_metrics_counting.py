"""Metrics over the real stores: what is done once counts once however often it is asked for; processes add up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.adapters.models.service import ModelService
from shared.adapters.postgres.branches.forks import PostgresForks
from shared.adapters.postgres.metrics import PostgresGauges
from shared.adapters.postgres.queries import load_queries
from shared.adapters.redis.metrics import RedisMetrics
from shared.adapters.telemetry.prometheus import render
from shared.errors import Conflict
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.bridge import SessionAgentBridge
from shared.sessions.events import SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.life.forks import ForkService, NewFork
from shared.sessions.llm.registry import Model, ModelRegistry
from shared.sessions.measuring.catalogue import MODEL_COST, SESSION_CREATED, TOOL_EXECUTION_TIME
from shared.sessions.measuring.sharing import SharedMetrics
from shared.sessions.metrics import MetricsCollector, metrics
from shared.sessions.models import NewMessage, NewSession, SessionStatus, Usage
from shared.sessions.service import SessionService
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from tests.integration.bench import settings_for
from tests.integration.domain import OWNER, RecordingSender, Stores, call, patient, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ANN = Principal(OWNER, frozenset({Role.USER}))


@pytest.fixture(autouse=True)
def _from_zero() -> None:
    metrics.take()


def counted(name: str) -> dict[str, int]:
    """This process's counts of a metric since the test began, by labels; of a histogram, how many were observed."""
    found: dict[str, int] = {}
    for field, value in metrics.take().items():
        metric, *labels = field.split("|")
        if metric == name and labels[-1:] != ["sum_us"]:
            key = "|".join(labels[:-1] if name.endswith("_seconds") else labels)
            found[key] = found.get(key, 0) + value
    return found


# Once. -------------------------------------------------------------------------------------------


async def test_a_session_counts_once_under_one_idempotency_key(service: SessionService) -> None:
    for _ in range(2):
        await service.create(NewSession(name="n"), ANN, idempotency_key="create")
    assert counted("session_created_total") == {"": 1}


async def test_a_fork_is_a_session_that_was_created_and_counts_once(
    stores: Stores, service: SessionService, publisher: SessionEventPublisher
) -> None:
    session, _, _ = await service.create(NewSession(), ANN, idempotency_key=None)
    forks = ForkService(PostgresForks(stores.pool), publisher)
    for _ in range(2):
        await forks.fork(session.id, NewFork(), ANN, idempotency_key="fork")
    assert counted("session_created_total") == {"": 2}


async def test_a_message_counts_once_under_one_idempotency_key_and_not_when_refused(service: SessionService) -> None:
    session, _, _ = await service.create(NewSession(), ANN, idempotency_key=None)
    for _ in range(2):
        await service.post_message(session.id, NewMessage(content="hello"), ANN, idempotency_key="post")
    with pytest.raises(Conflict):
        await service.post_message(session.id, NewMessage(content="again"), ANN, idempotency_key=None)
    assert counted("message_count_total") == {"user": 1}


@pytest.fixture
async def bridge(stores: Stores, publisher: SessionEventPublisher, model_url: str) -> AsyncIterator[SessionAgentBridge]:
    model = ModelService(settings_for(model_url))
    watch = CancelWatch(stores.turns.cancel_requested)
    yield SessionAgentBridge(stores.steps, AgentExecutor(model), publisher, RecordingSender(), watch)
    await model.aclose()


async def test_a_step_asked_for_again_counts_one_answer_and_one_model_call(
    bridge: SessionAgentBridge, stores: Stores
) -> None:
    metrics.admit_models(["scripted"])
    posted = await stores.turn(script(tokens=5))
    for _ in range(2):
        await bridge.run_step(posted.turn.id, 1)
    kept = metrics.take()
    assert kept["message_count_total|assistant"] == 1
    model_calls = {field: value for field, value in kept.items() if field.startswith("llm_response_time_seconds")}
    assert sum(value for field, value in model_calls.items() if "sum_us" not in field) == 1
    assert all("|scripted|completed|" in field for field in model_calls)
    usage = (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
    assert usage.output_tokens > 0
    tokens = [kept.get(f"model_tokens_total|scripted|{kind}", 0) for kind in ("input", "output")]
    assert tokens == [usage.input_tokens, usage.output_tokens]
    assert not [field for field in kept if field.startswith(MODEL_COST.name)], "the model has no price"


async def test_what_a_model_call_cost_is_counted_as_it_is_stored(
    stores: Stores, publisher: SessionEventPublisher, model_url: str
) -> None:
    metrics.admit_models(["scripted"])
    # A token read costs 1,250 billionths of a dollar, one written 10,000.
    registry = ModelRegistry({"scripted": Model(name="scripted", input_usd=1.25, output_usd=10)})
    model = ModelService(settings_for(model_url))
    executor = AgentExecutor(model, registry=registry)
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(stores.steps, executor, publisher, RecordingSender(), watch)
    posted = await stores.turn(script(tokens=5))
    try:
        await bridge.run_step(posted.turn.id, 1)
    finally:
        await model.aclose()
    usage = (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
    nano_usd = metrics.take()["model_cost_nanousd_total|scripted"]
    assert nano_usd == 1_250 * usage.input_tokens + 10_000 * usage.output_tokens
    assert usage.cost_usd == nano_usd / 1_000_000_000


async def test_of_two_attempts_at_once_the_answer_counts_once(bridge: SessionAgentBridge, stores: Stores) -> None:
    posted = await stores.turn(script(tokens=40, token_ms=5))
    await asyncio.gather(*(bridge.run_step(posted.turn.id, 1) for _ in range(2)))
    assert counted("message_count_total") == {"assistant": 1}


async def test_a_model_that_fails_is_timed_under_its_code(bridge: SessionAgentBridge, stores: Stores) -> None:
    metrics.admit_models(["scripted"])
    posted = await stores.turn(script(key=new_id(), fail=[{"status": 500}] * 2))
    await bridge.run_step(posted.turn.id, 1)
    assert counted("llm_response_time_seconds") == {"scripted|LLM_ERROR": 1}


async def test_a_tool_call_asked_for_again_counts_once(stores: Stores, publisher: SessionEventPublisher) -> None:
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(), watch)
    proposal = call()
    await stores.proposed(proposal)
    await asyncio.gather(*(handler.handle_tool_call(proposal.id) for _ in range(2)))
    await handler.handle_tool_call(proposal.id)
    kept = metrics.take()
    assert (kept["tool_call_count_total|calculate|completed"], kept["message_count_total|tool"]) == (1, 1)


async def test_a_call_of_no_tool_is_counted_as_other_and_timed_nowhere(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(), watch)
    proposal = call("invented", argument_error="There is no tool named 'invented'.")
    await stores.proposed(proposal)
    await handler.handle_tool_call(proposal.id)
    kept = metrics.take()
    assert kept["tool_call_count_total|other|failed"] == 1
    assert not [field for field in kept if field.startswith(TOOL_EXECUTION_TIME.name)]


# For all processes. ------------------------------------------------------------------------------


async def test_processes_add_up_and_each_reads_the_sum(redis: Redis) -> None:
    first, second = MetricsCollector(), MetricsCollector()
    one, two = (SharedMetrics(collector, RedisMetrics(redis, patient(redis))) for collector in (first, second))
    first.count(SESSION_CREATED)
    second.count(SESSION_CREATED)
    second.observe(TOOL_EXECUTION_TIME, 0.25, "calculate")
    await two.flush()
    expected = {
        "session_created_total": 2,
        "tool_execution_time_seconds|calculate|0.25": 1,
        "tool_execution_time_seconds|calculate|sum_us": 250_000,
    }
    assert await one.totals() == expected
    assert await two.totals() == expected


async def test_tokens_and_costs_of_all_processes_are_one_sum_in_dollars_for_whoever_is_asked(redis: Redis) -> None:
    collectors = [MetricsCollector(), MetricsCollector()]
    processes = [SharedMetrics(collector, RedisMetrics(redis, patient(redis))) for collector in collectors]
    for collector in collectors:
        collector.admit_models(["summed"])
        for _ in range(3):
            collector.model_used("summed", Usage(input_tokens=10, output_tokens=1, cost_usd=0.1))
    for process in processes:
        await process.flush()
    for process in processes:
        text = render(await process.totals(), None, "")[0].decode()
        lines = [line for line in text.splitlines() if "summed" in line]
        # Six times a tenth, which as fractions of two is less than 0.6.
        assert lines == [
            'model_tokens_total{kind="input",model="summed"} 60.0',
            'model_tokens_total{kind="output",model="summed"} 6.0',
            'model_cost_usd_total{model="summed"} 0.6',
        ]


async def test_a_flush_sent_twice_adds_once(redis: Redis) -> None:
    store = RedisMetrics(redis, patient(redis))
    before = (await store.totals()).get("session_created_total", 0)
    for writer, flush in (("a", 1), ("a", 1), ("b", 1), ("a", 2), ("a", 2)):
        await store.add(writer, flush, {"session_created_total": 1})
    assert (await store.totals())["session_created_total"] == before + 3


async def test_gauges_are_what_the_database_holds(stores: Stores) -> None:
    gauges = PostgresGauges(stores.pool)
    before = await gauges.read()
    proposal = call("http_request", {}, needs_approval=True)
    await stores.proposed(proposal)
    await stores.request_approval(proposal)
    session = await stores.session()
    await stores.move(session.id, SessionStatus.ACTIVE)
    after = await gauges.read()
    assert after.pending_approvals == before.pending_approvals + 1
    assert after.active_sessions == before.active_sessions + 2  # the one just moved, and the turn's own
    await stores.move(session.id, SessionStatus.ENDED)
    assert (await gauges.read()).active_sessions == after.active_sessions - 1


async def test_gauges_are_counted_over_indexes(stores: Stores) -> None:
    async with stores.pool.transaction() as connection:
        await connection.execute(b"SET LOCAL enable_seqscan = off")
        plan = await connection.execute(b"EXPLAIN " + load_queries("metrics")["gauges"])
        text = " ".join(str(row["QUERY PLAN"]) for row in await plan.fetchall())
    assert "sessions_active" in text
    assert "approvals_pending" in text
    assert "audit_outbox_waiting" in text
