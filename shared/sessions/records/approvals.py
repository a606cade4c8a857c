"""Approvals and votes as store rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import (
    Field,
)

from shared.sessions.events import EventTarget
from shared.sessions.models import ApprovalStatus, Decision, JsonObject, Value
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
from shared.sessions.records.audit import AuditNote


class Vote(Value):
    """One person's vote on an approval; the newest counts."""

    by: str
    decision: Decision
    at: datetime
    comment: str | None = None
    arguments: JsonObject | None = Field(None, description="Arguments that this person approves instead")
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
    """Set when the rule of two, or the agent's approval floor against the mode, requires approval."""
    agent_id: str | None = None
    agent_version: int | None = None
    owner_id: str | None = None
    participates: bool = False
    traceparent: str | None = None
    """Of the request that posted its turn's message, like `correlation_id`."""
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewApproval:
    """An approval requested by a tool call, as input for the store."""

    id: str
    tool_call_id: str
    digest: str
    """Digest of the call's arguments (`approvals/digest.py`)."""
    instance_id: str
    """The orchestration that waits for it."""
    policy: ApprovalPolicy
    requested_at: datetime
    expires_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """A person's vote, as input for the store."""

    decision: Decision
    user_id: str
    digest: str
    """Of the arguments that the vote is about."""
    arguments: JsonObject | None = None
    """Only if they differ from the requested ones."""
    comment: str | None = None
    for_session: bool = False
    grant: str = ""
    """The grant to store in the session (`approvals/grants.py`)."""


class VoteEffect(StrEnum):
    """The effect of a vote."""

    DECIDED = "decided"  # it completed the decision
    COUNTED = "counted"  # more votes are needed
    NOTHING = "nothing"  # a repeated vote, or the approval accepts no more votes


@dataclass(frozen=True, slots=True)
class Voted:
    """A vote's effect, and the approval after it; None: it is gone."""

    effect: VoteEffect
    record: ApprovalRecord | None


type ApprovalNotes = Callable[[ApprovalRecord], Sequence[AuditNote]]
"""What the trail tells of an approval that was opened."""

type VoteNotes = Callable[[VoteEffect, ApprovalRecord], Sequence[AuditNote]]
"""What it tells of a vote that had an effect, by the approval after it."""
