"""SessionRecoveryManager: checkpoints of a session, and recovery to one of them.

A checkpoint marks a place between two turns of a branch. It holds the session's state there: name, configuration, tags,
metadata, agent, status. One is stored automatically before every turn; users create more on demand. Recovery loses
nothing: messages after the checkpoint stay in their branch.

Invariant: recovery follows the state machine. An ended session stays ended, and a status is restored only by a legal
transition.

Not here: events that a connection missed. They are stored and replayed by number (`events.py`, `streaming.py`); a
client that is told of a gap reads the stored messages, which are always complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import Field

from shared.errors import InvalidState
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.cache import SessionChanges, SessionReader
from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.life.branches import branch_activated
from shared.sessions.models import JsonObject, Session, SessionConfig, SessionStatus, Value
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.records.sessions import SessionRecord

KEPT_CHECKPOINTS = 100
"""Most automatic checkpoints, and most on demand, of one session. The oldest are deleted first."""
KEPT_FOR = timedelta(days=90)
"""Retention of automatic checkpoints."""
KEPT_ON_DEMAND_FOR = timedelta(days=365)
"""Retention of checkpoints on demand."""
LOOKED_BACK = timedelta(hours=3)
"""The sweep for surplus checkpoints looks at sessions with a turn in this time. It runs every hour."""


class NewCheckpoint(Value):
    """Body of `POST /sessions/{id}/checkpoints`."""

    label: str | None = Field(None, max_length=200)


class Recovery(Value):
    """Body of `POST /sessions/{id}/recover`."""

    checkpoint_id: str = Field(min_length=1, max_length=64)


class CheckpointState(Value):
    """The state of the session at the checkpoint."""

    name: str | None
    status: SessionStatus
    agent_id: str | None
    config: SessionConfig
    tags: list[str]
    metadata: JsonObject


class Checkpoint(Value):
    id: str
    session_id: str
    automatic: bool = Field(description="Taken before a turn, not on demand")
    label: str | None
    branch: int
    before_turn_id: str | None = Field(description="The turn it was taken before; null for one on demand")
    state: CheckpointState
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Recovered:
    """A session before and after recovery; equal when there was nothing to recover."""

    before: Session
    record: SessionRecord


class CheckpointRepository(Protocol):
    async def create(
        self, checkpoint_id: str, session_id: str, user_id: str, label: str | None, *, now: datetime
    ) -> Checkpoint:
        """Store a checkpoint at the end of the active branch, after its open turns.

        Raises NotFound, InvalidState, Gone.
        """
        ...

    async def list_for(self, session_id: str, page: Page) -> list[Checkpoint]:
        """Newest first, one more than `page.limit` when there are more, or CutRows."""
        ...

    async def recover(self, session_id: str, user_id: str, checkpoint_id: str, *, now: datetime) -> Recovered:
        """Bring the session back to a checkpoint.

        Raises NotFound (SESSION_NOT_FOUND, MESSAGE_NOT_FOUND), InvalidState, Gone, Conflict (a turn is open).
        """
        ...

    async def forget(self, *, before: datetime, on_demand_before: datetime, since: datetime, kept: int) -> int:
        """Delete automatic checkpoints made before `before`, and those on demand made before `on_demand_before`.

        In sessions with a checkpoint made after `since`, also all automatic ones but the newest `kept`. Returns how
        many were deleted.
        """
        ...


class SessionRecoveryManager:
    """Checks access in every method that takes a principal."""

    def __init__(
        self,
        sessions: SessionReader,
        checkpoints: CheckpointRepository,
        publisher: SessionEventPublisher,
        changes: SessionChanges,
    ) -> None:
        """changes: the cache to invalidate when the active branch changes."""
        self._sessions = sessions
        self._checkpoints = checkpoints
        self._publisher = publisher
        self._changes = changes

    async def create_checkpoint(self, session_id: str, principal: Principal, *, label: str | None = None) -> Checkpoint:
        """Create one on demand; if a turn is open, it is placed after it. Raises NotFound, InvalidState, Gone."""
        return await self._checkpoints.create(new_id(), session_id, principal.user_id, label, now=datetime.now(UTC))

    async def list_checkpoints(
        self, session_id: str, principal: Principal, page: Page
    ) -> tuple[list[Checkpoint], str | None]:
        """Newest first, and the next cursor. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        found = await self._checkpoints.list_for(session_id, page)
        return page.cut(found, lambda checkpoint: (checkpoint.created_at, checkpoint.id))

    async def recover_from_checkpoint(
        self, session_id: str, checkpoint_id: str, principal: Principal
    ) -> tuple[Session, list[bytes]]:
        """Restore the session's state at the checkpoint and continue the conversation from there. Idempotent.

        Clients receive `session.activated` with the now active branch, and `session.suspended` if that is the restored
        status. Raises NotFound, InvalidState, Gone, Conflict.
        """
        now = datetime.now(UTC)
        async with self._changes.changing(session_id):
            recovered = await self._checkpoints.recover(session_id, principal.user_id, checkpoint_id, now=now)
        session = recovered.record.session
        if session == recovered.before:
            return session, []
        events = [branch_activated(session)]
        if session.status is SessionStatus.SUSPENDED and recovered.before.status is not SessionStatus.SUSPENDED:
            events.append(Event(EventType.SESSION_SUSPENDED, {"session": session.model_dump(mode="json")}))
        return session, await self._publisher.publish(recovered.record.target, events)

    async def forget_checkpoints(self, *, now: datetime) -> int:
        """Delete expired and surplus checkpoints; returns how many."""
        return await self._checkpoints.forget(
            before=now - KEPT_FOR,
            on_demand_before=now - KEPT_ON_DEMAND_FOR,
            since=now - LOOKED_BACK,
            kept=KEPT_CHECKPOINTS,
        )


def refuse_recovery(session: Session, now: datetime) -> None:
    """An ended or expired session is read-only. Raises InvalidState, Gone."""
    refuse_expired(session, now)
    if session.status is SessionStatus.ENDED:
        raise InvalidState("A session that is ENDED does not change.")


def recovered_state(session: Session, state: CheckpointState) -> Session:
    """The session with the checkpoint's state; its status only if the transition is legal."""
    arrows = {(SessionStatus.ACTIVE, SessionStatus.SUSPENDED), (SessionStatus.SUSPENDED, SessionStatus.ACTIVE)}
    reachable = (session.status, state.status) in arrows
    return session.model_copy(
        update={
            "name": state.name,
            "status": state.status if reachable else session.status,
            "agent_id": state.agent_id,
            "agent_version": session.agent_version if state.agent_id == session.agent_id else None,
            "config": state.config,
            "tags": state.tags,
            "metadata": state.metadata,
        }
    )
