"""The approval floor of an agent, over every way to make a turn: nobody but an admin loosens it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.adapters.postgres.features.features import PostgresTemplates
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.approvals.grants import grant_of
from shared.sessions.approvals.proposals import Standing, propose
from shared.sessions.events import SessionEventPublisher
from shared.sessions.features.models import NewTemplate
from shared.sessions.features.templates import TemplateService
from shared.sessions.life.branches import BranchService
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import (
    ApprovalMode,
    Concurrency,
    NewMessage,
    NewSession,
    Regeneration,
    SessionConfig,
    SessionPatch,
)
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.plan import TurnPlan
from shared.sessions.service import SessionService
from tests.integration.branches.branching import Conversation
from tests.integration.domain import OWNER, WRITER, Stores, Uncached, session_lifecycle, session_service, turn_planner

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ADMIN = Principal("ada", frozenset({Role.USER, Role.ADMIN}))
ANN, WILL = (Principal(name, frozenset({Role.USER})) for name in (OWNER, WRITER))
AUTO = ApprovalMode.AUTO
POLICY = {"required": False, "allow_for_session": True}
"""As open as can be: only the floor makes its calls wait."""
SEND = {"method": "POST", "url": "http://example.test/", "body": "{}"}


@dataclass
class House:
    """A session of an agent whose floor for `http_request` is `manual`."""

    stores: Stores
    service: SessionService
    branches: BranchService
    lifecycle: SessionLifecycle
    templates: TemplateService
    agent_id: str
    session_id: str

    async def say(self, session_id: str | None = None, who: Principal = ANN, **fields: Any) -> str:
        body = NewMessage(content="send it", **fields)
        posted = await self.service.post_message(session_id or self.session_id, body, who, idempotency_key=None)
        return posted.result.turn.id

    async def answered(self, session_id: str | None = None) -> str:
        """A turn that has ended; its message."""
        turn_id = await self.say(session_id)
        await self.stores.answer(turn_id)
        await self.stores.finish(turn_id)
        return (await self.stores.turns.get_turn(session_id or self.session_id, turn_id)).message_id

    async def plan(self, turn_id: str) -> TurnPlan:
        row = await self.stores.value(b"SELECT plan FROM turns WHERE id = %(id)s", id=turn_id)
        return TurnPlan.model_validate(row)


async def _message(house: House) -> str:
    return await house.say(approval_mode=AUTO)


async def _patched(house: House) -> str:
    patch = SessionPatch(config=SessionConfig(approval_mode=AUTO))
    await house.lifecycle.patch(house.session_id, patch, ANN, if_match=None)
    return await house.say()


async def _participant(house: House) -> str:
    await house.stores.share(house.session_id, WRITER, "write")
    return await house.say(who=WILL, approval_mode=AUTO)


async def _enqueued(house: House) -> str:
    await house.say()
    return await house.say(approval_mode=AUTO, concurrency=Concurrency.ENQUEUE)


async def _interrupting(house: House) -> str:
    await house.say()
    return await house.say(approval_mode=AUTO, concurrency=Concurrency.INTERRUPT)


async def _regenerated(house: House) -> str:
    message_id = await house.answered()
    body = Regeneration(approval_mode=AUTO)
    posted = await house.branches.regenerate(house.session_id, message_id, body, ANN, idempotency_key=None)
    return posted.result.turn.id


async def _from_template(house: House) -> str:
    template = NewTemplate(
        name=f"open-{new_id()[-8:]}", agent_id=house.agent_id, config=SessionConfig(approval_mode=AUTO)
    )
    made = await house.templates.create(template, ANN)
    session, _, _ = await house.service.create(NewSession(template=made.id), ANN, idempotency_key=None)
    return await house.say(session.id)


async def _forked(house: House) -> str:
    await house.answered()
    fork = await Conversation(house.stores, house.session_id).fork()
    patch = SessionPatch(config=SessionConfig(approval_mode=AUTO))
    await house.lifecycle.patch(fork.id, patch, ANN, if_match=None)
    return await house.say(fork.id, approval_mode=AUTO)


async def _recovered(house: House) -> str:
    talk = Conversation(house.stores, house.session_id)
    patch = SessionPatch(config=SessionConfig(approval_mode=AUTO))
    await house.lifecycle.patch(house.session_id, patch, ANN, if_match=None)
    await house.answered()
    checkpoint = await talk.checkpoint()
    await house.answered()
    await talk.recover(checkpoint.id)
    return await house.say(approval_mode=AUTO)


async def _granted_before(house: House) -> str:
    """A grant of the version before, which had no such floor, under the same policy."""
    grant = grant_of("http_request", ApprovalPolicy(**POLICY), house.agent_id, 1, OWNER)
    await house.stores.sql(
        b"UPDATE sessions SET granted_tools = ARRAY[%(grant)s] WHERE id = %(id)s", grant=grant, id=house.session_id
    )
    return await house.say(approval_mode=AUTO)


WAYS: list[Callable[[House], Awaitable[str]]] = [
    _message,
    _patched,
    _participant,
    _enqueued,
    _interrupting,
    _regenerated,
    _from_template,
    _forked,
    _recovered,
    _granted_before,
]


@pytest.fixture
async def house(stores: Stores, publisher: SessionEventPublisher) -> House:
    catalog = AgentCatalog(PostgresAgents(stores.pool))
    service, agent_id = session_service(stores, publisher), new_id()
    for floor in ("auto", "manual"):
        body = {"name": "Payer", "instructions": "Pay.", "policies": {"http_request": POLICY}}
        agent = NewAgent.model_validate(body | {"approval_floor": {"http_request": floor}})
        await catalog.put(agent_id, agent, ADMIN, if_match=None)
    wanted = NewSession(agent_id=agent_id, config=SessionConfig(approval_mode=AUTO))
    session, _, _ = await service.create(wanted, ANN, idempotency_key=None)
    branches = BranchService(
        stores.sessions, PostgresBranches(stores.pool), publisher, turn_planner(stores), Uncached()
    )
    templates = TemplateService(PostgresTemplates(stores.pool), catalog)
    lifecycle = session_lifecycle(stores, publisher)
    return House(stores, service, branches, lifecycle, templates, agent_id, session.id)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.removeprefix("_"))
async def test_no_way_to_make_a_turn_gets_below_the_floor(house: House, way: Callable[[House], Awaitable[str]]) -> None:
    turn_id = await way(house)

    plan = await house.plan(turn_id)
    stored = await house.stores.value(b"SELECT granted_tools FROM sessions WHERE id = %(id)s", id=house.session_id)
    standing = Standing(requested_by=OWNER, granted_tools=frozenset(stored))
    call = ModelToolCall("c", "http_request", orjson.dumps(SEND).decode())
    assert plan.agent_version == 2
    assert propose(call, 0, plan, standing).needs_approval
    # Without the floor it would have run: nothing else makes it wait.
    free = plan.model_copy(update={"approval_floor": {"http_request": AUTO}})
    assert not propose(call, 0, free, Standing(requested_by=OWNER)).needs_approval
