"""ForkService: a session of one's own that begins with what another one holds.

Invariant: a fork is a copy, whole or not at all: what it was copied from is never changed by it, and may be erased
without it. It takes the conversation of one branch, never half a step: a model's tool calls come with their results.
Left out is what is open (the steps of a turn that has not ended) and what belongs to people (participants, bookmarks,
approvals).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pydantic import Field

from shared.errors import ErrorCode, InvalidInput
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.metrics import metrics
from shared.sessions.models import Session, Value
from shared.sessions.records.idempotency import Idempotency, idempotency
from shared.sessions.records.sessions import SessionRecord

MAX_FORKED_MESSAGES = 20_000
"""A fork is one transaction: this keeps it to a few seconds."""

_SUFFIX = " (fork)"
_MAX_NAME_CHARS = 200


class NewFork(Value):
    """Body of `POST /sessions/{id}/fork`: neither takes all there is on the active branch."""

    message_id: str | None = Field(None, min_length=1, max_length=64, description="The last message to take")
    checkpoint_id: str | None = Field(None, min_length=1, max_length=64, description="The place to copy")


@dataclass(frozen=True, slots=True)
class ForkPlace:
    """Where to fork."""

    source_id: str
    message_id: str | None
    checkpoint_id: str | None


class ForkRepository(Protocol):
    async def fork(
        self, place: ForkPlace, fork_id: str, user_id: str, *, idempotency: Idempotency | None, now: datetime
    ) -> tuple[SessionRecord, bool]:
        """Copy the session; the flag is False when an earlier request with the same key did.

        Raises NotFound (SESSION_NOT_FOUND, MESSAGE_NOT_FOUND), Conflict (a step of a turn that has not ended; a reused
        key), InvalidInput (too much to copy).
        """
        ...


class ForkService:
    """Checks access in every method."""

    def __init__(self, forks: ForkRepository, publisher: SessionEventPublisher) -> None:
        self._forks = forks
        self._publisher = publisher

    async def fork(
        self, session_id: str, body: NewFork, principal: Principal, *, idempotency_key: str | None
    ) -> tuple[Session, list[bytes]]:
        """Copy a session that the caller may read into one that they own. Raises NotFound, Conflict, InvalidInput."""
        if body.message_id is not None and body.checkpoint_id is not None:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                "A fork begins at a message or at a checkpoint, not at both.",
                errors=[{"field": "checkpoint_id", "message": "give this or message_id"}],
            )
        record, made = await self._forks.fork(
            ForkPlace(session_id, body.message_id, body.checkpoint_id),
            new_id(),
            principal.user_id,
            idempotency=idempotency(principal, f"POST /sessions/{session_id}/fork", idempotency_key, body),
            now=datetime.now(UTC),
        )
        if not made:
            return record.session, []
        metrics.session_created()
        target = replace(record.target, may_seed=True, subscribed_ms=0)
        event = Event(EventType.SESSION_CREATED, {"session": record.session.model_dump(mode="json")})
        return record.session, await self._publisher.publish(target, [event])


def fork_name(name: str | None) -> str | None:
    """What a fork is called."""
    return None if name is None else name[: _MAX_NAME_CHARS - len(_SUFFIX)] + _SUFFIX


def too_many_messages(limit: int) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"A fork takes {limit} messages at most: name an earlier message.",
        errors=[{"field": "message_id", "message": f"more than {limit} messages up to there"}],
    )
