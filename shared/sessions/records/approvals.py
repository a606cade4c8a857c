"""Approvals and votes as store rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import (
    Field,
)

from shared.sessions.events import EventTarget
from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.models import ApprovalStatus, ClientTool, Decision, JsonObject, ToolCall, ToolCallStatus, Value
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy, Requirement
from shared.sessions.records.audit import AuditNote


class Vote(Value):
    """One person's vote on an approval; the newest counts."""

    by: str
    decision: Decision
    at: datetime
    comment: str | None = None
    arguments: JsonObject | None = Field(None, description="Arguments that this person approves instead")
    for_session: bool = False
    counts_for: list[str] | None = Field(
        None,
        description="Names of the rules that this approval counts for, empty for the policy's own requirement;"
        " null: for that one",
    )


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
    """In force for the requested arguments (`approvals/rules/in_force.py`)."""
    requirements: tuple[Requirement, ...] = ()
    """Empty: what the policy says."""
    votes: tuple[Vote, ...] = ()
    """In the order they were cast."""
    for_session: bool = False
    reason: str | None = None
    """Set when the rule of two, a rule of the policy, or the agent's approval floor against the mode requires it."""
    agent_id: str | None = None
    agent_version: int | None = None
    asked_through: tuple[str, ...] = ()
    """Of a subagent: the agents above it, the one that a person asked first."""
    owner_id: str | None = None
    participates: bool = False
    traceparent: str | None = None
    """Of the request that posted its turn's message, like `correlation_id`."""
    correlation_id: str | None = None
    pinned: PinnedTool | None = None
    """The tool as its turn's plan pins it; None for tools that are not of MCP servers."""
    client_tool: ClientTool | None = None
    """The tool as its turn's message declared it; None for tools that are not of a client."""


@dataclass(frozen=True, slots=True)
class ApprovalBelow:
    """An approval that a subagent of a turn asks for, and its call."""

    turn_id: str
    """The turn, which waits for the subagent."""
    approval: ApprovalRecord
    call: ToolCall
    above: tuple[JsonObject, ...]
    """The subagents from the turn down to the one that makes the call, each with the ids of the call that it answers,
    its agent, session and turn: as frames name them."""


@dataclass(frozen=True, slots=True)
class CutText:
    """The beginning of a text. length: characters of all of it."""

    text: str
    length: int


@dataclass(frozen=True, slots=True)
class CallBefore:
    """A call of an earlier step of the turn. address: of its MCP server."""

    name: str
    step: int
    status: ToolCallStatus
    arguments: CutText
    """JSON: what ran, if a person changed it."""
    result: CutText | None
    """JSON, or text."""
    said: CutText
    """What the answer said that made it."""
    address: str | None = None


@dataclass(frozen=True, slots=True)
class CallContext:
    """What led to a call, of its turn alone. Texts are cut at CONTEXT_CHARS."""

    session_name: str | None
    question: CutText | None
    asked_by: str | None
    asked_at: datetime | None
    files: tuple[str, ...]
    """Names of those that came with the question."""
    note: CutText | None
    """What the model read of these files, or of the data that came with it."""
    said: CutText
    reasoning: CutText | None
    sources: frozenset[str]
    """Of what its model had read, of earlier turns as well (`approvals/containment.py`)."""
    before: tuple[CallBefore, ...]
    """The newest CONTEXT_CALLS, oldest first."""
    before_count: int
    """Of all."""


CONTEXT_CHARS = 4_000
CONTEXT_CALLS = 12


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
    requirements: tuple[Requirement, ...] = ()


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
    counts_for: Sequence[str] = ("",)
    """Of `needed`, those that this person's approval counts for."""
    needed: Mapping[str, int] = field(default_factory=dict)
    """What approving these arguments takes: quorums by requirement (`demands.key_of`). A vote without any approves
    nothing."""


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
