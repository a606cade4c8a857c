"""Sessions that try a version of an agent, or a draft: which version answers, who may, and what becomes of copies."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.branches.forks import PostgresForks
from shared.errors import AppError, ErrorCode
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.catalog import DRAFT, AgentCatalog
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.forks import ForkService, NewFork
from shared.sessions.life.trials import LIFETIME_SECONDS, AgentTrials, NewTrial
from shared.sessions.models import NewSession, Session, SessionConfig, SessionPatch
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.plan import TurnPlan
from tests.integration.branches.branching import Conversation
from tests.integration.domain import (
    OWNER,
    WRITER,
    Stores,
    session_lifecycle,
    session_service,
    turn_planner,
)

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER, Role.ADMIN}))
WILL = Principal(WRITER, frozenset({Role.USER, Role.APPROVER}))
OTHER_ADMIN = Principal(WRITER, frozenset({Role.USER, Role.ADMIN}))


@dataclass(frozen=True)
class Trials:
    stores: Stores
    publisher: SessionEventPublisher
    catalog: AgentCatalog

    @property
    def service(self) -> AgentTrials:
        return AgentTrials(self.stores.sessions, self.catalog, self.publisher)

    async def versions(self, *instructions: str) -> str:
        agent_id = f"agent-{new_id()}"
        for text in instructions:
            await self.catalog.put(agent_id, _agent(text), ANN, if_match=None)
        return agent_id

    async def begin(self, agent_id: str, key: str | None = None, principal: Principal = ANN, **body: Any) -> Session:
        session, _ = await self.service.begin(agent_id, NewTrial(**body), principal, idempotency_key=key)
        return session

    async def plan(self, session_id: str, principal: Principal = ANN) -> TurnPlan:
        posting = await turn_planner(self.stores).plan(session_id, principal, None, now=datetime.now(UTC))
        return posting.plan


@pytest.fixture
def trials(stores: Stores, publisher: SessionEventPublisher) -> Trials:
    return Trials(stores, publisher, AgentCatalog(PostgresAgents(stores.pool)))


def _agent(instructions: str, **more: Any) -> NewAgent:
    return NewAgent(name="Tried", instructions=instructions, **more)


async def _refused(attempt: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(AppError) as caught:
        await attempt
    return caught.value.code


async def test_a_trial_is_answered_by_its_version_and_other_sessions_by_the_newest(trials: Trials) -> None:
    agent_id = await trials.versions("first", "second")
    old, newest = await trials.begin(agent_id, version=1), await trials.begin(agent_id)
    assert (old.agent_version, newest.agent_version, old.tags) == (1, 2, ["trial"])
    assert old.config.expires_after_seconds == LIFETIME_SECONDS
    plain, _, _ = await session_service(trials.stores, trials.publisher).create(
        NewSession(agent_id=agent_id), ANN, idempotency_key=None
    )
    await trials.catalog.put(agent_id, _agent("third"), ANN, if_match=None)
    found = [await trials.plan(session.id) for session in (old, newest, plain)]
    assert [(plan.agent_version, plan.instructions) for plan in found] == [(1, "first"), (2, "second"), (3, "third")]


async def test_the_agent_that_ships_can_be_tried_beside_what_an_admin_made_of_it(trials: Trials) -> None:
    session = await trials.begin("assistant", version=1)
    assert (await trials.plan(session.id)).agent_version == 1
    assert await _refused(trials.begin("assistant", version=10_000)) is ErrorCode.SESSION_NOT_FOUND


async def test_a_draft_answers_with_all_it_says_and_is_no_version(trials: Trials) -> None:
    agent_id = await trials.versions("stored")
    policy = ApprovalPolicy.model_validate(
        {"quorum": 2, "rules": [{"name": "Large", "when": {"argument": "n", "gt": 5}}]}
    )
    schema = {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "string"}}}
    draft = _agent(
        "draft",
        tools=["calculate"],
        policies={"calculate": policy},
        defaults=SessionConfig(max_steps=3, output_schema=schema),
    )
    session = await trials.begin(agent_id, draft=draft, config=SessionConfig(max_output_tokens=77))
    assert session.agent_version == DRAFT
    plan = await trials.plan(session.id)
    assert (plan.agent_id, plan.agent_version, plan.instructions, plan.tools) == (agent_id, 0, "draft", ["calculate"])
    assert (plan.max_steps, plan.max_output_tokens, plan.policies) == (3, 77, {"calculate": policy})
    assert list((plan.output_schema or {})["properties"]) == ["z", "a"]
    assert (await trials.catalog.get(agent_id)).instructions == "stored"
    # Of an agent that is not stored at all, too.
    assert (await trials.plan((await trials.begin("nobody-yet", draft=draft)).id)).instructions == "draft"


async def test_what_no_version_can_be_made_of_is_not_tried(trials: Trials) -> None:
    agent_id = await trials.versions("stored")
    assert await _refused(trials.begin(agent_id, draft=_agent("x", tools=["nothing"]))) is ErrorCode.VALIDATION_ERROR
    assert await _refused(trials.begin(agent_id, draft=_agent("x", agents=[agent_id]))) is ErrorCode.VALIDATION_ERROR
    assert await _refused(trials.begin("nobody-at-all")) is ErrorCode.SESSION_NOT_FOUND
    with pytest.raises(ValueError, match="name a version or send a draft"):
        NewTrial(version=1, draft=_agent("x"))


async def test_only_admins_begin_a_trial_and_post_to_one(trials: Trials) -> None:
    agent_id = await trials.versions("loose", "strict")
    assert await _refused(trials.begin(agent_id, principal=WILL, version=1)) is ErrorCode.SESSION_NOT_FOUND
    session = await trials.begin(agent_id, version=1)
    await trials.stores.share(session.id, WRITER, "write")
    assert await _refused(trials.plan(session.id, WILL)) is ErrorCode.INVALID_STATE
    assert (await trials.plan(session.id, OTHER_ADMIN)).instructions == "loose"
    # A copy of it is no way around that.
    forks = ForkService(PostgresForks(trials.stores.pool), trials.publisher)
    fork, _ = await forks.fork(session.id, NewFork(), WILL, idempotency_key=None)
    assert fork.agent_version == 1
    assert await _refused(trials.plan(fork.id, WILL)) is ErrorCode.INVALID_STATE


async def test_copies_and_recovered_sessions_go_on_with_the_draft(trials: Trials) -> None:
    agent_id = await trials.versions("stored")
    session = await trials.begin(agent_id, draft=_agent("draft"))
    talk = Conversation(trials.stores, session.id)
    kept = await talk.checkpoint()
    await trials.stores.post(session.id, "hello")
    forks = ForkService(PostgresForks(trials.stores.pool), trials.publisher)
    fork, _ = await forks.fork(session.id, NewFork(checkpoint_id=kept.id), ANN, idempotency_key=None)
    assert (await trials.plan(fork.id)).instructions == "draft"

    other = await trials.begin(agent_id, draft=_agent("another draft"))
    there = Conversation(trials.stores, other.id)
    kept = await there.checkpoint()
    await session_lifecycle(trials.stores, trials.publisher).patch(
        other.id, SessionPatch(name="renamed"), ANN, if_match=None
    )
    assert (await there.recover(kept.id)).agent_version == DRAFT
    assert (await trials.plan(other.id)).instructions == "another draft"


async def test_with_another_agent_it_is_a_session_like_any_other(trials: Trials) -> None:
    agent_id = await trials.versions("stored")
    session = await trials.begin(agent_id, draft=_agent("draft"))
    changed = await session_lifecycle(trials.stores, trials.publisher).patch(
        session.id, SessionPatch(agent_id=agent_id), ANN, if_match=None
    )
    assert changed.session.agent_version is None
    assert (await trials.plan(session.id)).instructions == "stored"


async def test_the_same_request_begins_one_trial(trials: Trials) -> None:
    agent_id = await trials.versions("stored")
    first = await trials.begin(agent_id, "key-1", version=1)
    assert (await trials.begin(agent_id, "key-1", version=1)).id == first.id
    assert await _refused(trials.begin(agent_id, "key-1", draft=_agent("x"))) is ErrorCode.CONFLICT
