"""A session as one caller may see it, with its fields that are not on the wire: owner, leases, holds, usage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import orjson

from shared.errors import ErrorCode, InvalidInput
from shared.rights import Access, Action, require
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    JsonObject,
    Session,
)


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as one caller may see it."""

    session: Session
    owner_id: str
    access: Access
    target: EventTarget
    last_branch: int = 0
    """Branches are numbered from 0 to this."""
    used_tokens: int = 0
    """By all its turns, open ones included."""
    used_cost_usd: Decimal = Decimal(0)

    def require(self, action: Action) -> None:
        """Raises NotFound when the caller may not do it."""
        require(self.access, action)

    @property
    def active_branch(self) -> int:
        return self.session.active_branch


@dataclass(frozen=True, slots=True)
class DayUsed:
    """Usage of a user's turns on one day (UTC)."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a session's orchestrations are suspended, and whether they have been told."""

    is_held: bool
    version: int
    """Increases with each change."""
    is_settled: bool
    """The orchestrations have been told of this version, and were seen to follow it."""
    instances: list[str]
    """Ids of all instances that may have to be told; some may have ended."""
    told_at: datetime | None = None
    """When they were last told of this version."""


MAX_METADATA_BYTES = 16 * 1024


def check_metadata(metadata: JsonObject) -> None:
    """Raises InvalidInput when it is too large."""
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            f"metadata can hold at most {MAX_METADATA_BYTES} bytes of JSON.",
            errors=[{"field": "metadata", "message": "too large"}],
        )
