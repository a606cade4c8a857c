"""Wire models: an approval, and the body of a decision."""

from __future__ import annotations

from datetime import datetime

from pydantic import (
    Field,
)

from shared.sessions.models import ApprovalStatus, Decision, JsonObject, SentJson, Value
from shared.sessions.records.approval_policy import ApprovalPolicy, Requirement
from shared.sessions.records.approvals import Vote

GRANT = "later calls of this tool in the session, by this version of the agent, in turns of the same user"
"""What an approval for the rest of the session holds for (`approvals/grants.py`)."""


class RequirementProgress(Requirement):
    """A requirement of an approval, and how far it is met."""

    approvals: int = Field(description="How many of them approve the same arguments so far")


class ServersTool(Value):
    """A tool of an MCP server as its turn pins it. What the server says shows invisible characters as escapes."""

    server: str = Field(description="Its name in the agent")
    url: str
    tool: str = Field(description="The tool's name at the server")
    digest: str = Field(
        description="SHA-256 of the pinned definition, hex; a call runs only while the server says the same"
    )
    title: str | None
    description: str
    annotations: JsonObject = Field(description="Hints of the server. Nothing follows from them")


class Approval(Value):
    id: str
    tool_call_id: str
    session_id: str
    turn_id: str
    tool: str
    arguments: JsonObject
    decided_arguments: JsonObject | None = Field(None, description="Approved instead of `arguments`")
    status: ApprovalStatus
    requested_by: str = Field(description="The user that its turn runs for")
    agent_id: str | None = Field(None, description="The agent that makes the call; null: unknown, in old approvals")
    agent_version: int | None = None
    asked_through: list[str] = Field(
        [], description="For a subagent: the agents above it that called one another, the one that a person asked first"
    )
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None = Field(None, description="null after a timeout: the policy decided")
    decided_at: datetime | None = None
    comment: str | None = None
    policy: ApprovalPolicy = Field(description="As it was when the approval was requested, with the rules that held")
    quorum: int = Field(description="How many people have to approve the same arguments; the largest of `requirements`")
    requirements: list[RequirementProgress] = Field(
        [],
        description="All have to be met: one for each rule that held; missing in events from before there were rules",
    )
    votes: list[Vote] = Field(description="In the order they were cast")
    for_session: bool = Field(False, description=f"It also approves {GRANT}")
    reason: str | None = Field(
        None,
        description="Set when the rule of two, a rule of the policy, or the agent's approval floor against the mode"
        " requires approval",
    )
    definition: ServersTool | None = Field(None, description="Set for tools of MCP servers")


class NewDecision(Value):
    """Body of `POST /approvals/{approval_id}/decision`."""

    decision: Decision
    arguments: SentJson | None = Field(None, description="Approve with these arguments instead")
    comment: str | None = Field(None, max_length=2_000)
    for_session: bool = Field(False, description=f"Also approve {GRANT}; if the policy permits")
