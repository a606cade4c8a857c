"""Agents in PostgreSQL, and the version that a turn keeps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.features.features import PostgresTemplates
from shared.errors import AppError, ErrorCode, InvalidInput
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, NewAgent
from shared.sessions.agents.catalog import AgentCatalog, agent_etag
from shared.sessions.features.models import NewTemplate
from shared.sessions.features.templates import TemplateService
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.models import NewMessage, NewSession, SessionConfig, SessionPatch
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.pages import Page
from shared.sessions.service import SessionService
from tests.integration.domain import Stores

pytestmark = pytest.mark.integration

ADMIN = Principal("ada", frozenset({Role.USER, Role.ADMIN}))


@pytest.fixture
def catalog(stores: Stores) -> AgentCatalog:
    return AgentCatalog(PostgresAgents(stores.pool))


def clerk(**fields: object) -> NewAgent:
    return NewAgent.model_validate({"name": "Clerk", "instructions": "File things."} | fields)


async def test_an_agent_comes_back_as_it_was_written(catalog: AgentCatalog) -> None:
    body = clerk(
        description="Files",
        model="big",
        tools=["calculate"],
        policies={"calculate": {"required": True, "quorum": 2}},
        defaults={"max_steps": 3},
        vision=True,
    )
    agent_id = new_id()
    made, _ = await catalog.put(agent_id, body, ADMIN, if_match=None)

    found = await catalog.get(agent_id)

    assert found == made
    assert found.defaults.model_fields_set == {"max_steps"}
    # Read back it is the same content still: saying it again makes no version.
    assert (await catalog.put(agent_id, body, ADMIN, if_match=None))[0].version == 1
    assert found in (await catalog.list_for(Page(limit=200)))[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "big", "model_api": "responses", "model_context_tokens": 8_192, "compact_at": 0.5},
        {"model": "big", "model_api": "chat", "compact_at": 1.0},
        {"compact_at": None},
        {},
    ],
    ids=["all", "some", "never", "nothing"],
)
async def test_what_an_agent_says_of_its_model_comes_back_and_is_in_the_plans_of_its_turns(
    stores: Stores, service: SessionService, catalog: AgentCatalog, fields: dict[str, Any]
) -> None:
    agent_id = new_id()
    body = clerk(**fields)
    made, _ = await catalog.put(agent_id, body, ADMIN, if_match=None)
    session, _, _ = await service.create(NewSession(agent_id=agent_id), ADMIN, idempotency_key=None)

    found = await catalog.get(agent_id)
    plan = await _plan(stores, service, session.id)

    assert found == made
    compact_at = fields.get("compact_at", 0.8)
    assert (found.model_api, found.model_context_tokens, found.compact_at) == (
        fields.get("model_api"),
        fields.get("model_context_tokens"),
        compact_at,
    )
    assert (plan.get("model_api"), plan.get("model_context_tokens"), plan.get("compact_at")) == (
        fields.get("model_api"),
        fields.get("model_context_tokens"),
        compact_at,
    )
    if "model_context_tokens" in fields:
        assert plan["max_context_tokens"] < fields["model_context_tokens"], "room for an answer is left"
    # Said again it makes no version; something else of it does.
    assert (await catalog.put(agent_id, body, ADMIN, if_match=None))[0].version == 1
    other = clerk(**fields | {"compact_at": 0.25})
    assert (await catalog.put(agent_id, other, ADMIN, if_match=None))[0].version == 2


async def test_what_an_agent_says_of_its_model_is_not_about_one_that_the_session_chose(
    stores: Stores, service: SessionService, catalog: AgentCatalog
) -> None:
    agent_id = new_id()
    await catalog.put(
        agent_id, clerk(model="big", model_api="responses", model_context_tokens=8_192), ADMIN, if_match=None
    )
    body = NewSession(agent_id=agent_id, config=SessionConfig(model="small"))
    session, _, _ = await service.create(body, ADMIN, idempotency_key=None)

    plan = await _plan(stores, service, session.id)

    assert (plan["model"], plan.get("model_api"), plan.get("model_context_tokens")) == ("small", None, None)


async def test_of_many_writers_at_once_each_makes_a_version_of_its_own(catalog: AgentCatalog) -> None:
    agent_id = new_id()
    made = await asyncio.gather(
        *(catalog.put(agent_id, clerk(name=f"Clerk {number}"), ADMIN, if_match=None) for number in range(5))
    )

    assert sorted(agent.version for agent, _ in made) == [1, 2, 3, 4, 5]
    assert [is_new for _, is_new in made].count(True) == 1


async def test_a_turn_keeps_the_version_it_was_posted_under(
    stores: Stores, service: SessionService, catalog: AgentCatalog
) -> None:
    agent_id = new_id()
    await catalog.put(agent_id, clerk(policies={"calculate": {"required": True}}), ADMIN, if_match=None)
    session, _, _ = await service.create(
        NewSession(agent_id=agent_id, config=SessionConfig(max_steps=5)), ADMIN, idempotency_key=None
    )
    posted = await service.post_message(session.id, NewMessage(content="file it"), ADMIN, idempotency_key=None)
    await catalog.put(agent_id, clerk(instructions="Shred things.", defaults={"max_steps": 1}), ADMIN, if_match=None)

    plan = (await stores.started(posted.result.turn.id)).plan
    await stores.finish(posted.result.turn.id)
    later = await service.post_message(session.id, NewMessage(content="and this"), ADMIN, idempotency_key=None)
    later_plan = (await stores.started(later.result.turn.id)).plan

    assert (plan.agent_version, plan.instructions, plan.max_steps) == (1, "File things.", 5)
    assert plan.policies == {"calculate": ApprovalPolicy(required=True)}
    # What the session set itself stands above the agent's default, in the new version too.
    assert (later_plan.agent_version, later_plan.instructions, later_plan.max_steps) == (2, "Shred things.", 5)


async def test_the_agents_defaults_hold_where_the_session_set_nothing(
    stores: Stores, service: SessionService, catalog: AgentCatalog
) -> None:
    agent_id = new_id()
    await catalog.put(agent_id, clerk(defaults={"max_steps": 2, "max_session_tokens": 500}), ADMIN, if_match=None)
    session, _, _ = await service.create(NewSession(agent_id=agent_id), ADMIN, idempotency_key=None)
    posted = await service.post_message(session.id, NewMessage(content="hello"), ADMIN, idempotency_key=None)

    plan = (await stores.started(posted.result.turn.id)).plan

    assert (plan.max_steps, plan.max_session_tokens) == (2, 500)
    assert (await service.get(session.id, ADMIN)).session.config.model_fields_set == set()


async def test_of_writers_at_once_who_read_the_same_version_one_wins(catalog: AgentCatalog) -> None:
    agent_id = new_id()
    first, _ = await catalog.put(agent_id, clerk(), ADMIN, if_match=None)

    outcomes = await asyncio.gather(
        *(catalog.put(agent_id, clerk(name=f"C{n}"), ADMIN, if_match=agent_etag(first)) for n in range(4)),
        return_exceptions=True,
    )

    lost = [outcome.code for outcome in outcomes if isinstance(outcome, AppError)]
    assert lost == [ErrorCode.CONFLICT] * 3
    assert (await catalog.get(agent_id)).version == 2


async def test_pages_sort_by_code_point_whatever_the_database_does(catalog: AgentCatalog) -> None:
    tail = new_id()
    ids = [f"{head}-{tail}" for head in ("B", "a", "a.b", "a_b", "z")]
    for agent_id in ids:
        await catalog.put(agent_id, clerk(), ADMIN, if_match=None)

    found: list[str] = []
    after = None
    while True:
        items, cursor = await catalog.list_for(Page(limit=2, after=after))
        found += [agent.id for agent in items]
        if cursor is None:
            break
        after = (0, items[-1].id)

    assert found == sorted(set(found))
    assert {*ids, DEFAULT_AGENT.id} <= set(found)


async def _plan(stores: Stores, service: SessionService, session_id: str) -> dict[str, Any]:
    """Of a turn that is posted now and ended at once."""
    posted = await service.post_message(session_id, NewMessage(content="hello"), ADMIN, idempotency_key=None)
    turn_id = posted.result.turn.id
    plan: dict[str, Any] = await stores.value(b"SELECT plan FROM turns WHERE id = %(id)s", id=turn_id)
    await stores.started(turn_id)
    await stores.finish(turn_id)
    return plan


async def test_setting_what_a_session_shows_already_takes_it_from_the_agent(
    stores: Stores, service: SessionService, catalog: AgentCatalog, lifecycle: SessionLifecycle
) -> None:
    agent_id = new_id()
    await catalog.put(agent_id, clerk(defaults={"max_steps": 3, "temperature": 1}), ADMIN, if_match=None)
    session, _, _ = await service.create(NewSession(agent_id=agent_id), ADMIN, idempotency_key=None)

    patch = SessionPatch.model_validate({"config": {"max_steps": session.config.max_steps, "temperature": None}})
    await lifecycle.patch(session.id, patch, ADMIN, if_match=None)
    plan = await _plan(stores, service, session.id)

    assert (plan["max_steps"], plan["temperature"]) == (8, None)


async def test_a_session_changes_its_agent_between_turns(
    stores: Stores, service: SessionService, catalog: AgentCatalog, lifecycle: SessionLifecycle
) -> None:
    agent_id = new_id()
    await catalog.put(agent_id, clerk(), ADMIN, if_match=None)
    session, _, _ = await service.create(NewSession(), ADMIN, idempotency_key=None)

    for wanted, answers in ((agent_id, agent_id), (None, DEFAULT_AGENT.id)):
        changed = await lifecycle.patch(session.id, SessionPatch(agent_id=wanted), ADMIN, if_match=None)
        assert changed.session.agent_id == wanted
        assert (await _plan(stores, service, session.id))["agent_id"] == answers


async def test_an_agent_that_is_not_there_is_refused_wherever_it_is_named(
    stores: Stores, service: SessionService, catalog: AgentCatalog, lifecycle: SessionLifecycle
) -> None:
    templates = TemplateService(PostgresTemplates(stores.pool), catalog)
    session, _, _ = await service.create(NewSession(), ADMIN, idempotency_key=None)
    nobody = new_id()

    for attempt in (
        service.create(NewSession(agent_id=nobody), ADMIN, idempotency_key=None),
        lifecycle.patch(session.id, SessionPatch(agent_id=nobody), ADMIN, if_match=None),
        templates.create(NewTemplate(name=f"t {nobody}", agent_id=nobody), ADMIN),
    ):
        with pytest.raises(InvalidInput) as caught:
            await attempt
        assert caught.value.errors == ({"field": "agent_id", "message": "unknown agent"},)

    await catalog.put(nobody, clerk(), ADMIN, if_match=None)
    made = await templates.create(NewTemplate(name=f"t {nobody}", agent_id=nobody), ADMIN)
    assert made.agent_id == nobody


class _PolicyOfOlderCode(BaseModel):
    """As code from before rules reads a policy of an agents row: it leaves out what it does not know."""

    model_config = ConfigDict(extra="ignore")

    required: bool | None = None
    quorum: int = 1


async def test_code_that_knows_no_rules_cannot_read_a_policy_that_has_some(
    stores: Stores, catalog: AgentCatalog
) -> None:
    agent_id = new_id()
    rule = {"name": "Large", "when": {"argument": "expression", "matches": "[0-9]{4}"}, "then": {"quorum": 2}}
    policies = {"calculate": {"required": False, "quorum": 1, "rules": [rule]}, "fetch_url": {"required": True}}
    body = clerk(policies=policies)

    made, _ = await catalog.put(agent_id, body, ADMIN, if_match=None)

    row = await stores.value(b"SELECT policies FROM agents WHERE id = %(id)s", id=agent_id)
    assert _PolicyOfOlderCode.model_validate(row["fetch_url"]).required
    with pytest.raises(ValidationError):
        _PolicyOfOlderCode.model_validate(row["calculate"])
    found = await catalog.get(agent_id)
    assert found == made
    assert found.policies == body.policies
    assert (await catalog.put(agent_id, body, ADMIN, if_match=None))[0].version == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"quorum": 2, "veto": True},
        {"rules": [{"name": "r", "when": {"argument": "a", "gt": 1, "unless": 2}}]},
        {"rules": [{"name": "r", "when": {"argument": "a", "gt": 1}, "then": {"veto": True}}]},
        {"rules": [{"name": "r", "when": {"most_of": [{"argument": "a", "gt": 1}]}}]},
    ],
    ids=str,
)
def test_a_policy_of_newer_code_is_read_as_a_whole_or_not_at_all(policy: dict[str, Any]) -> None:
    stored = {"id": "a", "version": 1, "name": "A", "instructions": "Act.", "later": 1}
    assert Agent.of_store(stored).id == "a"
    with pytest.raises(ValidationError):
        Agent.of_store(stored | {"policies": {"calculate": policy}})
