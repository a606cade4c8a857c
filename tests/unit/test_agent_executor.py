"""What a step asks of the model, whole and streaming."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import BudgetExceeded, ErrorCode, Transient
from shared.sessions.agents import DEFAULT_AGENT, plan_turn
from shared.sessions.budgets import TokensUsed
from shared.sessions.events import EventTarget
from shared.sessions.executor import UNTRUSTED_NOTE, AgentExecutor
from shared.sessions.llm import ModelAnswer, ModelEnd, ModelEvent, ModelRequest, ModelText
from shared.sessions.models import MessageStatus, SessionConfig, Usage
from shared.sessions.records import ContextMessage, StepStart
from shared.sessions.tools.registry import all_tools

END = ModelEnd("stop", Usage(input_tokens=7, output_tokens=2))


class Told:
    """`LLMServiceProtocol` that says what it was told to, and remembers what it was asked."""

    def __init__(self, *events: ModelEvent | Exception) -> None:
        self._events = events
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.asked.append(request)
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def warm_up(self) -> None: ...


def start(
    *, step: int = 1, used: TokensUsed | None = None, session_budget: int | None = None, **config: Any
) -> StepStart:
    said = ContextMessage("user", "What is 6 * 7?", 9, 1, 0, MessageStatus.COMPLETED)
    return StepStart(
        turn_id="t",
        step=step,
        target=EventTarget("s", 0, 100),
        requested_by="uma",
        plan=plan_turn(DEFAULT_AGENT, SessionConfig(**config), model="m", approval_mode=None),
        message_id="a",
        message_created_at=datetime(2026, 1, 1, tzinfo=UTC),
        attempt=1,
        context=[said],
        **({"used": used} if used else {}),
        max_session_tokens=session_budget,
    )


TOOLS = list(all_tools())


async def test_the_agents_instructions_come_first_and_say_what_tools_results_are() -> None:
    request = await AgentExecutor(Told()).request(start(), TOOLS)

    assert request.messages[0]["role"] == "system"
    assert request.messages[0]["content"] == f"{DEFAULT_AGENT.instructions}\n\n{UNTRUSTED_NOTE}"
    assert request.messages[1] == {"role": "user", "content": "What is 6 * 7?"}
    assert (request.model, len(request.tools)) == ("m", len(TOOLS))


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
        assert request.messages[0]["content"] == DEFAULT_AGENT.instructions + note


async def test_the_last_step_offers_no_tools_so_that_the_turn_ends_with_an_answer() -> None:
    assert (await AgentExecutor(Told()).request(start(step=3, max_steps=3), TOOLS)).tools == []


async def test_an_answer_may_be_no_longer_than_the_tightest_budget_leaves() -> None:
    executor = AgentExecutor(Told(), user_daily_tokens=100_000)

    async def most(**given: Any) -> int | None:
        return (await executor.request(start(**given), [])).max_output_tokens

    assert await most() is not None  # the day's budget is one
    assert await most(max_output_tokens=50, max_turn_tokens=90_000) == 50
    left = await most(max_turn_tokens=1_000, used=TokensUsed(turn=400))
    assert left is not None
    assert left < 600  # 1,000 less 400 spent and what it reads


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"max_turn_tokens": 10, "used": TokensUsed(turn=10)}, ErrorCode.TOKEN_LIMIT),
        ({"session_budget": 10, "used": TokensUsed(session=10)}, ErrorCode.TOKEN_LIMIT),
        ({"used": TokensUsed(user_day=100)}, ErrorCode.RATE_LIMITED),
    ],
)
async def test_a_step_beyond_a_budget_is_not_asked(given: dict[str, Any], code: ErrorCode) -> None:
    with pytest.raises(BudgetExceeded) as refused:
        await AgentExecutor(Told(), user_daily_tokens=100).request(start(**given), [])

    assert refused.value.code is code


async def test_the_whole_answer_is_what_the_stream_says() -> None:
    llm = Told(ModelText("forty-"), ModelText("two"), END)
    executor = AgentExecutor(llm)

    events = [event async for event in await executor.execute(start(), [], stream=True)]
    answer = await executor.execute(start(), [])

    assert events == [ModelText("forty-"), ModelText("two"), END]
    assert answer == ModelAnswer("forty-two", "stop", END.usage, [])
    assert llm.asked[0] == llm.asked[1]


async def test_a_failing_model_fails_both_ways() -> None:
    executor = AgentExecutor(Told(ModelText("forty-"), Transient(ErrorCode.LLM_ERROR, "The model is away.")))

    with pytest.raises(Transient):
        await executor.execute(start(), [])
    events = await executor.execute(start(), [], stream=True)
    assert await anext(events) == ModelText("forty-")  # what had arrived is not taken back
    with pytest.raises(Transient):
        await anext(events)
