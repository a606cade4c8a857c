"""What a turn's plan takes from the agent, from the session and from the message; and what an agent may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import Conflict, ErrorCode, InvalidInput, NotFound
from shared.principal import Principal, Role
from shared.sessions.agents.agent import (
    DEFAULT_AGENT,
    Agent,
    AgentSource,
    AgentSourceKind,
    NewAgent,
    effective_config,
    plan_turn,
)
from shared.sessions.agents.catalog import AgentCatalog, agent_etag
from shared.sessions.models import ApprovalMode, Concurrency, SessionConfig
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment
from shared.sessions.records.pages import Page, decode_cursor
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import all_tools

ADMIN = Principal("ada", frozenset({Role.USER, Role.ADMIN}))
USER = Principal("uma", frozenset({Role.USER}))
BODY = NewAgent(name="Clerk", instructions="File things.")


class Kept:
    """`AgentRepository` in a list; `rivals` come in before a version is added."""

    def __init__(self, *rivals: Agent) -> None:
        self.versions: list[Agent] = []
        self.rivals = list(rivals)

    async def newest(self, agent_id: str) -> Agent | None:
        found = [agent for agent in self.versions if agent.id == agent_id]
        return max(found, key=lambda agent: agent.version, default=None)

    async def version(self, agent_id: str, version: int) -> Agent | None:
        return next((agent for agent in self.versions if (agent.id, agent.version) == (agent_id, version)), None)

    async def list_newest(self, *, after: str, page: Page) -> list[Agent]:
        ids = sorted({agent.id for agent in self.versions if agent.id > after})[: page.limit + 1]
        return [agent for agent_id in ids if (agent := await self.newest(agent_id)) is not None]

    async def last_from_files(self, agent_ids: Sequence[str]) -> Mapping[str, AgentSource]:
        found = [agent for agent in self.versions if agent.source.kind is AgentSourceKind.FILE]
        return {agent.id: agent.source for agent in found if agent.id in agent_ids}

    async def add(self, agent: Agent) -> bool:
        if self.rivals:
            self.versions.append(self.rivals.pop(0))
        if await self.version(agent.id, agent.version) is not None:
            return False
        self.versions.append(agent)
        return True


def agent(**fields: Any) -> Agent:
    return Agent(**{"id": "clerk", "version": 1, "name": "Clerk", "instructions": "File things."} | fields)


def plan_of(of: Agent, config: SessionConfig, mode: ApprovalMode | None = None) -> TurnPlan:
    return plan_turn(of, effective_config(of, config), model="app-model", approval_mode=mode)


def test_what_a_session_sets_wins_over_its_agent_and_the_rest_is_the_agents() -> None:
    defaults = SessionConfig(max_steps=3, temperature=0.5, concurrency=Concurrency.ENQUEUE)
    found = effective_config(agent(defaults=defaults), SessionConfig(max_steps=5))

    assert (found.max_steps, found.temperature, found.concurrency) == (5, 0.5, Concurrency.ENQUEUE)
    assert found.tool_timeout_seconds == SessionConfig().tool_timeout_seconds


def test_a_setting_that_was_sent_as_the_default_still_wins() -> None:
    # 8 is the app's default too; the session asked for it all the same.
    found = effective_config(agent(defaults=SessionConfig(max_steps=3)), SessionConfig(max_steps=8))

    assert found.max_steps == 8


@pytest.mark.parametrize(
    ("session_model", "default_model", "agent_model", "wanted"),
    [
        ("session", "default", "agent", "session"),
        (None, "default", "agent", "default"),
        (None, None, "agent", "agent"),
        (None, None, None, "app-model"),
    ],
)
def test_the_nearest_model_is_called(
    session_model: str | None, default_model: str | None, agent_model: str | None, wanted: str
) -> None:
    defaults = SessionConfig(model=default_model) if default_model else SessionConfig()
    config = SessionConfig(model=session_model) if session_model else SessionConfig()

    assert plan_of(agent(model=agent_model, defaults=defaults), config).model == wanted


def test_the_messages_own_approval_mode_comes_first() -> None:
    of = agent(defaults=SessionConfig(approval_mode=ApprovalMode.MANUAL))

    assert plan_of(of, SessionConfig()).approval_mode is ApprovalMode.MANUAL
    assert plan_of(of, SessionConfig(), ApprovalMode.AUTO).approval_mode is ApprovalMode.AUTO


def test_a_plan_names_its_version_and_offers_only_tools_that_are_there() -> None:
    policies = {"calculate": ApprovalPolicy(required=True)}
    of = agent(version=4, tools=["calculate", "gone"], policies=policies, vision=True)
    found = plan_of(of, SessionConfig())

    assert (found.agent_id, found.agent_version, found.tools) == ("clerk", 4, ["calculate"])
    assert (found.policy_of("calculate").required, found.vision) == (True, True)
    assert plan_of(agent(), SessionConfig()).tools == [tool.name for tool in all_tools()]


def test_a_plan_stored_before_agents_were_data_can_still_be_read() -> None:
    stored = plan_of(DEFAULT_AGENT, SessionConfig()).model_dump(mode="json")
    for name in ("agent_id", "agent_version", "policies", "vision", "max_session_tokens"):
        del stored[name]
    for name in ("model_api", "model_context_tokens", "reasoning_effort", "output_schema", "compact_at"):
        del stored[name]
    for name in ("max_turn_cost_usd", "max_session_cost_usd", "containment", "traceparent", "correlation_id"):
        del stored[name]

    assert TurnPlan.model_validate(stored).agent_version is None


def test_a_plan_of_newer_code_can_be_read_by_older() -> None:
    stored = plan_of(DEFAULT_AGENT, SessionConfig()).model_dump(mode="json")

    assert TurnPlan.model_validate(stored | {"from_the_future": 1}).max_steps == 8


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (BODY.model_copy(update={"tools": ["calculate", "telepathy"]}), "tools.1"),
        (BODY.model_copy(update={"policies": {"telepathy": ApprovalPolicy()}}), "policies.telepathy"),
        (
            BODY.model_copy(update={"defaults": SessionConfig(expires_after_seconds=60)}),
            "defaults.expires_after_seconds",
        ),
    ],
)
async def test_what_an_agent_cannot_be_is_refused_by_name(body: NewAgent, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await AgentCatalog(Kept()).put("clerk", body, ADMIN, if_match=None)

    assert [error["field"] for error in refused.value.errors] == [field]


async def test_only_an_admin_writes() -> None:
    kept = Kept()
    with pytest.raises(NotFound):
        await AgentCatalog(kept).put("clerk", BODY, USER, if_match=None)

    assert kept.versions == []


async def test_each_change_is_a_version_and_the_same_again_is_none() -> None:
    catalog = AgentCatalog(kept := Kept())

    first, is_new = await catalog.put("clerk", BODY, ADMIN, if_match=None)
    again, again_new = await catalog.put("clerk", BODY, ADMIN, if_match=agent_etag(first))
    changed = BODY.model_copy(update={"defaults": SessionConfig(max_steps=8)})  # set, though to the app's default
    second, _ = await catalog.put("clerk", changed, ADMIN, if_match=agent_etag(first))

    assert (is_new, again_new, again) == (True, False, first)
    assert (second.version, len(kept.versions), second.created_by) == (2, 2, "ada")
    assert await catalog.get("clerk", 1) == first


async def test_who_frees_an_agent_of_the_rule_of_two_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    free = BODY.model_copy(update={"containment": Containment.OFF})

    made, _ = await AgentCatalog(Kept()).put("clerk", free, ADMIN, if_match=None)
    await AgentCatalog(Kept()).put("clerk", BODY, ADMIN, if_match=None)

    assert plan_of(made, SessionConfig()).containment is Containment.OFF
    assert caplog.messages == ["agent clerk version 1, by ada, is free of the rule of two"]


async def test_a_stale_if_match_is_a_conflict() -> None:
    catalog = AgentCatalog(Kept())
    first, _ = await catalog.put("clerk", BODY, ADMIN, if_match=None)
    await catalog.put("clerk", BODY.model_copy(update={"name": "Scribe"}), ADMIN, if_match="*")

    with pytest.raises(Conflict):
        await catalog.put("clerk", BODY, ADMIN, if_match=agent_etag(first))
    with pytest.raises(Conflict):
        await catalog.put("nobody-yet", BODY, ADMIN, if_match="*")


async def test_who_loses_a_race_makes_the_next_version() -> None:
    kept = Kept(agent(name="Rival"))
    made, is_new = await AgentCatalog(kept).put("clerk", BODY, ADMIN, if_match=None)

    assert (made.version, is_new) == (2, False)


async def test_who_loses_a_race_under_if_match_is_told() -> None:
    kept = Kept()
    catalog = AgentCatalog(kept)
    first, _ = await catalog.put("clerk", BODY, ADMIN, if_match=None)
    kept.rivals.append(agent(version=2, name="Rival"))

    with pytest.raises(Conflict):
        await catalog.put("clerk", BODY.model_copy(update={"name": "Late"}), ADMIN, if_match=agent_etag(first))


async def test_the_agent_that_ships_is_listed_in_its_place_until_an_admin_replaces_it() -> None:
    catalog = AgentCatalog(Kept())
    for name in ("aaa", "zzz"):
        await catalog.put(name, BODY, ADMIN, if_match=None)

    seen: list[str] = []
    page = Page(limit=1)
    while True:
        found, cursor = await catalog.list_for(page)
        seen += [item.id for item in found]
        if cursor is None:
            break
        page = Page(limit=1, after=decode_cursor(cursor, int))
    assert seen == ["aaa", "assistant", "zzz"]

    replaced, is_new = await catalog.put("assistant", BODY, ADMIN, if_match=agent_etag(DEFAULT_AGENT))
    assert (replaced.version, is_new) == (2, False)
    assert await catalog.get("assistant") == replaced
    assert await catalog.get("assistant", 1) == DEFAULT_AGENT
    assert len((await catalog.list_for(Page()))[0]) == 3


async def test_an_agent_that_is_not_there_cannot_be_named() -> None:
    catalog = AgentCatalog(Kept())
    await catalog.check(None)
    await catalog.check("assistant")

    with pytest.raises(InvalidInput) as refused:
        await catalog.check("nobody")
    assert refused.value.code is ErrorCode.VALIDATION_ERROR
    with pytest.raises(NotFound):
        await catalog.get("nobody")


def test_a_tool_named_twice_is_offered_once() -> None:
    assert NewAgent(name="n", instructions="i", tools=["calculate", "calculate"]).tools == ["calculate"]


@pytest.mark.parametrize("instructions", ["", " \n", "a\x00b", "x" * 32_001])
def test_an_agent_needs_instructions_that_say_something(instructions: str) -> None:
    with pytest.raises(ValidationError):
        NewAgent(name="n", instructions=instructions)


async def test_what_is_shown_can_be_sent_back_and_says_the_same() -> None:
    catalog = AgentCatalog(Kept())
    body = NewAgent(
        name="n",
        instructions="i",
        policies={"calculate": ApprovalPolicy(quorum=2)},
        defaults=SessionConfig(max_steps=8),
    )
    made, _ = await catalog.put("clerk", body, ADMIN, if_match=None)
    set_by_us = {*Agent.model_fields, *Agent.model_computed_fields} - {*NewAgent.model_fields}
    assert set_by_us == {"id", "version", "created_at", "created_by", "source", "missing_tools", "mcp_pins"}
    shown = made.model_dump(mode="json", exclude=set_by_us)

    again, _ = await catalog.put("clerk", NewAgent.model_validate(shown), ADMIN, if_match=None)

    assert shown["defaults"] == {"max_steps": 8}
    assert again == made
