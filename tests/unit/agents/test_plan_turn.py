"""What a turn's plan takes from the model it calls: what nobody else says, and never what is said of another model."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.agents.agent import Agent, KnownModels, plan_turn
from shared.sessions.llm.registry import Model, ModelRegistry
from shared.sessions.models import ReasoningEffort, SessionConfig
from shared.sessions.records.plan import TurnPlan


def agent(**fields: Any) -> Agent:
    return Agent(**{"id": "clerk", "version": 1, "name": "Clerk", "instructions": "File things."} | fields)


_OWN = {
    "known": Model(name="known", context_tokens=50_000, max_output_tokens=10_000),
    "app-model": Model(name="app-model", context_tokens=60_000),
}


def planned(of: Agent, config: SessionConfig | None = None, **known: Any) -> TurnPlan:
    """With the settings of the default model that `known` names."""
    registry = ModelRegistry(_OWN)
    return plan_turn(
        of, config or SessionConfig(), model="app-model", approval_mode=None, known=KnownModels(registry, **known)
    )


@pytest.mark.parametrize(
    ("of", "config", "known", "context", "api"),
    [
        # The registry, the setting over it, the agent over both.
        ({}, {}, {}, 60_000, None),
        ({}, {}, {"context_tokens": 9_000}, 9_000, None),
        ({"model_context_tokens": 4_000}, {}, {"context_tokens": 9_000}, 4_000, None),
        ({"model": "known", "model_context_tokens": 4_000, "model_api": "responses"}, {}, {}, 4_000, "responses"),
        # The setting is of the default model alone.
        ({"model": "known"}, {}, {"context_tokens": 9_000}, 50_000, None),
        ({"model": "unheard-of"}, {}, {"context_tokens": 9_000}, None, None),
        ({}, {"model": "known"}, {"context_tokens": 9_000}, 50_000, None),
        # What the agent says of its model is not about another that the session chose ...
        ({"model": "known", "model_context_tokens": 4_000, "model_api": "chat"}, {"model": "x"}, {}, None, None),
        (
            {"model": "known", "model_context_tokens": 4_000, "model_api": "chat"},
            {"model": "app-model"},
            {"context_tokens": 9_000},
            9_000,
            None,
        ),
        ({"model_context_tokens": 4_000, "model_api": "chat"}, {"model": "known"}, {}, 50_000, None),
        # ... and is when it chose the agent's by name.
        ({"model": "known", "model_context_tokens": 4_000, "model_api": "chat"}, {"model": "known"}, {}, 4_000, "chat"),
    ],
    ids=str,
)
def test_the_nearest_word_on_the_model_that_is_called_holds(
    of: dict[str, Any], config: dict[str, Any], known: dict[str, Any], context: int | None, api: str | None
) -> None:
    plan = planned(agent(**of), SessionConfig(**config), **known)

    assert (plan.model_context_tokens, plan.model_api) == (context, api)


@pytest.mark.parametrize(
    ("of", "wanted", "readable"),
    [
        ({"model": "unheard-of"}, 100_000, 100_000),  # nothing is known
        ({"model": "known"}, 100_000, 40_000),  # 50,000 less its longest answer of 10,000
        ({"model": "known"}, 30_000, 30_000),  # less is wanted
        ({}, 100_000, 45_000),  # 60,000 less a quarter, since nobody knows how long its answers are
        ({"model": "known", "model_context_tokens": 4_000}, 100_000, 2_000),  # half at most is kept for the answer
    ],
)
def test_a_call_reads_what_the_window_holds_beside_an_answer(of: dict[str, Any], wanted: int, readable: int) -> None:
    assert planned(agent(**of), SessionConfig(max_context_tokens=wanted)).max_context_tokens == readable


@pytest.mark.parametrize(
    ("of", "config", "effort"),
    [
        ({}, {}, ReasoningEffort.HIGH),  # the setting's, for the default model
        ({}, {"reasoning_effort": "low"}, ReasoningEffort.LOW),
        ({"model": "gpt-5.4"}, {}, None),
        ({"model": "gpt-5.4"}, {"reasoning_effort": "xhigh"}, ReasoningEffort.XHIGH),
        ({"model": "unheard-of"}, {"reasoning_effort": "max"}, ReasoningEffort.MAX),
    ],
)
def test_the_default_models_effort_is_not_anothers(
    of: dict[str, Any], config: dict[str, Any], effort: ReasoningEffort | None
) -> None:
    found = planned(agent(**of), SessionConfig(**config), reasoning_effort=ReasoningEffort.HIGH).reasoning_effort

    assert found == effort


@pytest.mark.parametrize(
    ("model", "config", "field", "word"),
    [
        ("o3", {"reasoning_effort": "none"}, "reasoning_effort", "low, medium, high"),
        ("gpt-4o", {"reasoning_effort": "low"}, "reasoning_effort", "none of them"),
        ("unheard-of", {"max_turn_cost_usd": 1}, "max_turn_cost_usd", "MODELS"),
        ("unheard-of", {"max_session_cost_usd": 1}, "max_session_cost_usd", "MODELS"),
        ("known", {"max_turn_cost_usd": 1, "max_session_cost_usd": 1}, "max_turn_cost_usd", "MODELS"),
    ],
)
def test_what_the_model_is_known_not_to_take_is_refused_by_name(
    model: str, config: dict[str, Any], field: str, word: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        planned(agent(model=model), SessionConfig(**config))

    assert refused.value.code is ErrorCode.VALIDATION_ERROR
    (error,) = refused.value.errors
    assert error["field"] == f"config.{field}"
    assert model in error["message"]
    assert word in error["message"]


def test_a_budget_in_money_is_planned_for_a_model_with_a_price() -> None:
    plan = planned(agent(model="gpt-5.4"), SessionConfig(max_turn_cost_usd=0.5, max_session_cost_usd=2))

    assert (plan.max_turn_cost_usd, plan.max_session_cost_usd) == (0.5, 2)


@pytest.mark.parametrize(("model", "temperature"), [("gpt-5.4", None), ("gpt-4o", 0.5), ("unheard-of", 0.5)])
def test_a_temperature_is_not_sent_to_a_model_that_takes_none(model: str, temperature: float | None) -> None:
    assert planned(agent(model=model), SessionConfig(temperature=0.5)).temperature == temperature


def test_the_messages_own_schema_goes_before_the_sessions() -> None:
    own, sessions = {"type": "object", "title": "own"}, {"type": "object", "title": "session"}
    config = SessionConfig(output_schema=sessions)

    def schema_of(given: dict[str, Any] | None, config: SessionConfig) -> Any:
        return plan_turn(agent(), config, model="m", approval_mode=None, output_schema=given).output_schema

    assert [schema_of(own, config), schema_of(None, config), schema_of(None, SessionConfig())] == [own, sessions, None]


@pytest.mark.parametrize("share", [0.3, None])
def test_when_older_turns_give_way_to_a_summary_is_the_agents_choice(share: float | None) -> None:
    assert planned(agent(compact_at=share)).compact_at == share
    assert planned(agent()).compact_at == 0.8


@pytest.mark.parametrize("share", [0, 1.01, -1])
def test_a_share_of_the_window_is_a_share(share: float) -> None:
    with pytest.raises(ValidationError):
        agent(compact_at=share)
