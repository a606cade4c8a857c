"""AgentTrials: a session with a version of an agent that is not the newest, or is not stored yet.

Invariant: only admins begin one and post to one (`posting/planner.py`), since an older version may allow what a newer
one forbids, and a draft is as good as a version.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, Self

from pydantic import Field, model_validator

from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.agents.agent import Agent, NewAgent
from shared.sessions.agents.catalog import DRAFT, AgentCatalog
from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.metrics import metrics
from shared.sessions.models import Session, SessionConfig, SessionStatus, Value
from shared.sessions.records.idempotency import Idempotency, idempotency
from shared.sessions.records.sessions import SessionRecord

LIFETIME_SECONDS = 86_400
"""Of a trial that says nothing else."""
TAG = "trial"


class NewTrial(Value):
    """Body of `POST /agents/{agent_id}/trials`."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="null, and no `draft`: the newest")
    draft: NewAgent | None = Field(None, description="Try this instead, as if it were the next version")
    name: str | None = Field(None, max_length=200, description="Of the session")
    config: SessionConfig = Field(SessionConfig(), description="Of the session; it expires after a day by default")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.version is not None and self.draft is not None:
            raise ValueError("name a version or send a draft")
        return self


class TrialRepository(Protocol):
    async def create_trial(
        self, session: Session, owner_id: str, draft: Agent | None, *, idempotency: Idempotency | None
    ) -> tuple[SessionRecord, bool]:
        """Store a session, with the draft of its agent if it tries one; the flag is False when an earlier request with
        the same key made it."""
        ...


class AgentTrials:
    """Checks in its method that the caller is an admin."""

    def __init__(self, trials: TrialRepository, agents: AgentCatalog, publisher: SessionEventPublisher) -> None:
        self._trials = trials
        self._agents = agents
        self._publisher = publisher

    async def begin(
        self, agent_id: str, body: NewTrial, principal: Principal, *, idempotency_key: str | None
    ) -> tuple[Session, list[bytes]]:
        """Raises NotFound, InvalidInput, Conflict, ToolFailed."""
        claim = idempotency(principal, f"POST /agents/{agent_id}/trials", idempotency_key, body)
        agent = await self._agents.of_trial(agent_id, body.version, body.draft, principal)
        config = body.config
        if "expires_after_seconds" not in config.model_fields_set:
            config = config.model_copy(update={"expires_after_seconds": LIFETIME_SECONDS})
        now = datetime.now(UTC)
        session = Session(
            id=new_id(),
            name=body.name,
            status=SessionStatus.CREATED,
            agent_id=agent_id,
            agent_version=agent.version,
            config=config,
            tags=[TAG],
            metadata={},
            created_at=now,
            updated_at=now,
        )
        draft = agent if agent.version == DRAFT else None
        record, created = await self._trials.create_trial(session, principal.user_id, draft, idempotency=claim)
        if not created:
            return record.session, []
        metrics.session_created()
        event = Event(EventType.SESSION_CREATED, {"session": record.session.model_dump(mode="json")})
        target = replace(record.target, may_seed=True, subscribed_ms=0)
        return record.session, await self._publisher.publish(target, [event])
