"""What a step asks of the model, whole and streaming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import tracing
from shared.adapters.telemetry.sdk_traces import SdkTracer
from shared.errors import BudgetExceeded, ErrorCode, ModelFailed, Transient
from shared.sessions.agents.agent import DEFAULT_AGENT
from shared.sessions.context.window import estimate_tokens
from shared.sessions.executor import AgentExecutor
from shared.sessions.limits.budgets import DailyLimits, MoneySpent, TokensUsed
from shared.sessions.llm.conversation import AssistantSaid, ModelToolCall, UserSaid
from shared.sessions.llm.protocol import (
    ModelAnswer,
    ModelEnd,
    ModelEvent,
    ModelReasoning,
    ModelText,
)
from shared.sessions.llm.registry import Model, ModelApi, ModelRegistry
from shared.sessions.model_requests.correction import Correction
from shared.sessions.model_requests.request import UNTRUSTED_NOTE
from shared.sessions.models import FinishReason, MessageStatus, Usage
from shared.sessions.records.steps import ContextMessage
from shared.sessions.tools.registry import all_tools
from shared.settings import Settings
from tests.support.least_settings import LEAST_SETTINGS
from tests.unit.turns.asking import END, PRICED, Told, Windowed, long_start, start

TOOLS = list(all_tools())


async def test_the_agents_instructions_come_first_and_say_what_tools_results_are() -> None:
    request = await AgentExecutor(Told()).request(start(), TOOLS)

    assert request.instructions == f"{DEFAULT_AGENT.instructions}\n\n{UNTRUSTED_NOTE}"
    assert request.conversation == [UserSaid("What is 6 * 7?")]
    assert (request.model, list(request.tools)) == ("m", [tool.function_schema_json for tool in TOOLS])


async def test_results_are_called_data_also_where_nothing_can_be_called_any_more() -> None:
    plain = start()
    called = [{"id": "c", "name": "fetch_url", "arguments": {}}]
    done = MessageStatus.COMPLETED
    read = [
        ContextMessage("tool", "{}", 9, 1, 1, done, "c"),
        ContextMessage("assistant", "", 9, 1, 1, done, calls=called),
        *plain.context,
    ]

    for context, note in ((read, f"\n\n{UNTRUSTED_NOTE}"), (plain.context, "")):
        request = await AgentExecutor(Told()).request(replace(plain, context=context), [])
        assert request.instructions == DEFAULT_AGENT.instructions + note


async def test_the_last_step_offers_no_tools_so_that_the_turn_ends_with_an_answer() -> None:
    assert list((await AgentExecutor(Told()).request(start(step=3, max_steps=3), TOOLS)).tools) == []


@pytest.mark.parametrize(
    ("agents", "settings", "asked"),
    [("responses", ModelApi.CHAT, ModelApi.RESPONSES), (None, ModelApi.RESPONSES, ModelApi.RESPONSES)],
)
async def test_a_model_is_asked_over_the_api_its_agent_names_else_as_the_settings_say(
    agents: str | None, settings: ModelApi, asked: ModelApi
) -> None:
    begun = start()
    begun = replace(begun, plan=begun.plan.model_copy(update={"model_api": agents}))

    request = await AgentExecutor(Told(), api_of=lambda model: settings if model == "m" else ModelApi.CHAT).request(
        begun, []
    )

    assert request.api is asked


async def test_what_the_plan_says_of_the_answer_is_asked_for() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    begun = start(temperature=0.5, max_output_tokens=77, reasoning_effort="low", output_schema=schema)

    request = await AgentExecutor(Told()).request(begun, [])

    assert (request.temperature, request.max_output_tokens, request.reasoning_effort) == (0.5, 77, "low")
    assert request.output_schema == schema


@pytest.mark.parametrize(("model", "reasons"), [("gpt-5.4", True), ("gpt-4o", False), ("somebody's", None)])
async def test_whether_a_model_reasons_is_told_as_far_as_it_is_known(model: str, reasons: bool | None) -> None:
    begun = start(model=model)

    assert (await AgentExecutor(Told()).request(begun, [])).reasons is reasons


@pytest.fixture
def tracer() -> Iterator[SdkTracer]:
    values: dict[str, Any] = dict(LEAST_SETTINGS)
    tracer = SdkTracer(Settings(**values), SimpleSpanProcessor(InMemorySpanExporter()))
    tracing.trace_with(tracer)
    yield tracer
    tracing.trace_with(None)


async def test_a_request_carries_the_span_it_is_made_in(tracer: SdkTracer) -> None:
    with tracing.model_call("m", "s"):
        current = tracing.traceparent()
        request = await AgentExecutor(Told()).request(start(), [])

    assert current is not None
    assert request.traceparent == current


# Budgets. ----------------------------------------------------------------------------------------


async def test_an_answer_may_be_no_longer_than_the_tightest_budget_leaves() -> None:
    executor = AgentExecutor(Told(), limits=DailyLimits(100_000))

    async def most(**given: Any) -> int | None:
        return (await executor.request(start(**given), [])).max_output_tokens

    assert await most() is not None  # the day's budget is one
    assert await most(max_output_tokens=50, max_turn_tokens=90_000) == 50
    reads = estimate_tokens(DEFAULT_AGENT.instructions) + 9
    assert await most(max_turn_tokens=1_000, used=TokensUsed(turn=400)) == 600 - reads


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"max_turn_tokens": 10, "used": TokensUsed(turn=10)}, ErrorCode.TOKEN_LIMIT),
        ({"session_budget": 10, "used": TokensUsed(session=10)}, ErrorCode.TOKEN_LIMIT),
        ({"used": TokensUsed(user_day=100)}, ErrorCode.RATE_LIMITED),
    ],
)
async def test_a_step_beyond_a_budget_is_not_asked(given: dict[str, Any], code: ErrorCode) -> None:
    llm = Told([END])
    executor = AgentExecutor(llm, limits=DailyLimits(100))
    with pytest.raises(BudgetExceeded) as refused:
        await executor.request(start(**given), [])
    with pytest.raises(BudgetExceeded):
        await executor.execute(start(**given), [])

    assert refused.value.code is code
    assert llm.asked == []


async def test_money_left_bounds_the_answer_too() -> None:
    begun = start()
    begun = replace(
        begun,
        plan=begun.plan.model_copy(update={"max_turn_cost_usd": 0.01}),
        spent=MoneySpent(turn=Decimal("0.004")),
    )

    request = await AgentExecutor(Told(), registry=PRICED).request(begun, [])

    # 0.006 dollars are left; what is read costs 1 dollar a million, what is written 10.
    reads = estimate_tokens(DEFAULT_AGENT.instructions) + 9
    assert request.max_output_tokens == (6_000 - reads) // 10


@pytest.mark.parametrize("limits", [DailyLimits(daily_cost_usd=1), DailyLimits()], ids=["the day's", "the turn's"])
async def test_a_budget_in_money_refuses_a_model_without_a_price(limits: DailyLimits) -> None:
    begun, llm = start(), Told([END])
    if limits.daily_cost_usd is None:
        begun = replace(begun, plan=begun.plan.model_copy(update={"max_turn_cost_usd": 1.0}))

    with pytest.raises(ModelFailed, match="MODELS") as refused:
        await AgentExecutor(llm, limits=limits).execute(begun, [])

    assert refused.value.code is ErrorCode.TOKEN_LIMIT
    assert llm.asked == []


@pytest.mark.parametrize(
    ("known", "most"),
    [
        (Model(name="m", max_output_tokens=500), 500),
        (Model(name="m"), None),
    ],
)
async def test_a_budget_asks_for_no_more_than_the_model_writes(known: Model, most: int | None) -> None:
    executor = AgentExecutor(Told(), registry=ModelRegistry({"m": known}))

    found = (await executor.request(start(max_turn_tokens=1_000_000), [])).max_output_tokens

    reads = estimate_tokens(DEFAULT_AGENT.instructions) + 9
    assert found == (most or 1_000_000 - reads)
    assert (await executor.request(start(), [])).max_output_tokens is None, "without a budget the server decides"


async def test_a_budget_asks_for_no_more_than_the_window_holds_beside_what_is_read() -> None:
    begun = start(max_turn_tokens=1_000_000)
    begun = replace(begun, plan=begun.plan.model_copy(update={"model_context_tokens": 4_096}))

    request = await AgentExecutor(Told()).request(begun, [])

    assert request.max_output_tokens == 4_096 - estimate_tokens(DEFAULT_AGENT.instructions) - 9


# Answers. ----------------------------------------------------------------------------------------


async def test_the_whole_answer_is_what_the_stream_says() -> None:
    llm = Told([ModelReasoning("hm"), ModelText("forty-"), ModelText("two"), END])
    executor = AgentExecutor(llm)

    events = [event async for event in await executor.execute(start(), [], stream=True)]
    answer = await executor.execute(start(), [])

    assert events == [ModelReasoning("hm"), ModelText("forty-"), ModelText("two"), END]
    assert answer == ModelAnswer("forty-two", END)
    assert llm.asked[0] == llm.asked[1]


async def test_a_failing_model_fails_both_ways() -> None:
    executor = AgentExecutor(Told([ModelText("forty-"), Transient(ErrorCode.LLM_ERROR, "The model is away.")]))

    with pytest.raises(Transient):
        await executor.execute(start(), [])
    events = await executor.execute(start(), [], stream=True)
    assert await anext(events) == ModelText("forty-")  # what had arrived is not taken back
    with pytest.raises(Transient):
        await anext(events)


async def test_what_was_used_is_estimated_where_the_server_does_not_say() -> None:
    call = ModelToolCall("c", "calculate", "{}")
    said: list[ModelEvent | Exception] = [
        ModelReasoning("abc"),
        ModelText("defghi"),
        ModelEnd(FinishReason.TOOL_CALLS, None, [call], kept=[{"a": 1}]),
    ]

    answer = await AgentExecutor(Told(said), registry=PRICED).execute(start(), [])

    reads = estimate_tokens(DEFAULT_AGENT.instructions) + 9
    # 3 + 6 bytes, 9 of the name and 2 of the arguments: 20 bytes are 7 tokens of 3.
    cost = (reads * 1 + 7 * 10) / 1_000_000
    assert answer.end.usage == Usage(input_tokens=reads, output_tokens=7, cost_usd=cost)
    assert (answer.end.tool_calls, answer.end.kept) == ([call], [{"a": 1}])


async def test_an_answer_says_what_it_cost_where_the_price_is_known() -> None:
    usage = Usage(input_tokens=1_000, output_tokens=10, cached_input_tokens=900, reasoning_tokens=4)
    end = ModelEnd(FinishReason.STOP, usage, response_id="r", response_model="m-1")
    llm = Told([ModelText("x"), end])

    priced = (await AgentExecutor(llm, registry=PRICED).execute(start(), [])).end
    unpriced = (await AgentExecutor(llm).execute(start(), [])).end

    # 100 * 1 + 900 * 0.1 + 10 * 10 millionths
    assert priced.usage == usage.model_copy(update={"cost_usd": 0.00029})
    assert (priced.response_id, priced.response_model) == ("r", "m-1")
    assert unpriced == end


async def test_a_correction_shows_the_answer_and_what_was_wrong_with_it() -> None:
    begun = start(output_schema={"type": "object"})
    correction = Correction("[1]", "The answer is not a JSON object.")

    request = await AgentExecutor(Told()).request(begun, [], correction)

    *_, answer, words = request.conversation
    assert answer == AssistantSaid("[1]")
    assert isinstance(words, UserSaid)
    assert correction.error in words.text
    assert request.conversation[0] == UserSaid("What is 6 * 7?")


async def test_a_correction_takes_the_place_of_older_messages() -> None:
    begun = long_start(20, max_context_tokens=2_000)
    correction = Correction("y" * 3_000, "No.")
    llm = Windowed(2_000)

    plain = await AgentExecutor(llm).execute(begun, [])
    corrected = [e async for e in await AgentExecutor(llm).execute(begun, [], stream=True, correction=correction)]

    assert (plain.content, corrected[-1]) == ("fits", END)
    first, second = llm.asked
    assert second.conversation[-2] == AssistantSaid(correction.answer)
    assert len(second.conversation) < len(first.conversation)


async def test_the_schema_of_an_answer_counts_as_read() -> None:
    schema = {"type": "object", "description": "d" * 3_000}
    plain = await AgentExecutor(Told()).request(long_start(20, max_context_tokens=2_000), [])
    held = await AgentExecutor(Told()).request(long_start(20, max_context_tokens=2_000, output_schema=schema), [])

    # A thousand tokens of schema are the room of some ten messages of a hundred.
    assert 8 <= len(plain.conversation) - len(held.conversation) <= 11
