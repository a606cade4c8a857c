"""Approvals and votes as store rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import (
    Field,
)

from shared.sessions.events import EventTarget
from shared.sessions.models import ApprovalStatus, Decision, JsonObject, Value
from shared.sessions.records.policy import DEFAULT_POLICY, ApprovalPolicy


class Vote(Value):
    """What one person said of an approval; the newest counts."""

    by: str
    decision: Decision
    at: datetime
    comment: str | None = None
    arguments: JsonObject | None = Field(None, description="What this person would allow instead of `arguments`")
    for_session: bool = False


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """An approval as a store row."""

    id: str
    tool_call_id: str
    session_id: str
    turn_id: str
    tool: str
    arguments: JsonObject
    arguments_digest: str
    decided_arguments: JsonObject | None
    status: ApprovalStatus
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    comment: str | None
    instance_id: str
    target: EventTarget
    policy: ApprovalPolicy = DEFAULT_POLICY
    votes: tuple[Vote, ...] = ()
    """In the order they were cast."""
    for_session: bool = False
    reason: str | None = None
    """Why it waits whatever mode, policy and grants say."""
    owner_id: str | None = None
    participates: bool = False
    traceparent: str | None = None
    """Of the request that began its turn, as is `correlation_id`."""
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """What a person says of an approval, as the store takes it."""

    decision: Decision
    user_id: str
    digest: str
    """Of the arguments it is about."""
    arguments: JsonObject | None = None
    """Only when they are not those that were asked for."""
    comment: str | None = None
    for_session: bool = False
    grant: str = ""
    """What that leaves in the session, as `approvals.rules.grant_of` says it."""


class VoteEffect(StrEnum):
    """What a vote did."""

    DECIDED = "decided"  # it was the one that was missing
    COUNTED = "counted"  # more are needed
    NOTHING = "nothing"  # the same was said before, or the approval takes no votes any more
