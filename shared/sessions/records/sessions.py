"""A session as one caller may see it, and what a store knows of it beside the wire: owner, leases, holds, usage."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import orjson

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    JsonObject,
    Session,
)

type Access = Literal["owner", "write", "read"]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as one caller may see it."""

    session: Session
    owner_id: str
    access: Access
    target: EventTarget
    last_branch: int = 0
    """It has the branches 0 to this one."""
    used_tokens: int = 0
    """By its turns, open ones among them."""
    used_cost_usd: Decimal = Decimal(0)

    @property
    def may_write(self) -> bool:
        return self.access != "read"

    @property
    def active_branch(self) -> int:
        return self.session.active_branch


@dataclass(frozen=True, slots=True)
class DayUsed:
    """What a user's turns have used on one day (UTC)."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a session holds its orchestrations, and whether they were told so."""

    is_held: bool
    version: int
    """Rises with each change."""
    is_settled: bool
    """They were told of this version."""
    instances: list[str]
    """All that may have to be told; some have ended."""


MAX_METADATA_BYTES = 16 * 1024


def check_metadata(metadata: JsonObject) -> None:
    """Raises InvalidInput when it is too large."""
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            f"metadata may hold {MAX_METADATA_BYTES} bytes of JSON.",
            errors=[{"field": "metadata", "message": "too large"}],
        )
