"""Agents in PostgreSQL, and the version that a turn keeps."""

from __future__ import annotations

import asyncio

import pytest

from shared.adapters.postgres_agents import PostgresAgents
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agent_catalog import AgentCatalog
from shared.sessions.agents import NewAgent
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import NewMessage, NewSession, SessionConfig
from shared.sessions.pages import Page
from shared.sessions.policy import ApprovalPolicy
from shared.sessions.service import SessionService
from tests.integration.domain import Stores

pytestmark = pytest.mark.integration

ADMIN = Principal("ada", frozenset({Role.USER, Role.ADMIN}))


@pytest.fixture
def catalog(stores: Stores) -> AgentCatalog:
    return AgentCatalog(PostgresAgents(stores.pool))


@pytest.fixture
def service(stores: Stores, publisher: SessionEventPublisher, catalog: AgentCatalog) -> SessionService:
    return SessionService(stores.sessions, stores.turns, publisher, default_model="scripted", agents=catalog)


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
