"""ApprovalPolicy, as data: who may approve a tool call, how many approvals it needs, and what happens on timeout.

Invariant: a policy is frozen into the turn's plan when the message is posted, and into the approval when it is opened.
So changing an agent never changes a pending approval.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.principal import Role


class TimeoutAction(StrEnum):
    """The result of an approval that nobody decided in time."""

    REJECT = "reject"  # the call does not run
    APPROVE = "approve"  # the call runs, for calls that a person may stop but need not approve


class NoticeKind(StrEnum):
    """What the receiver of webhooks is told of an approval."""

    REQUESTED = "requested"  # the approval was opened
    REMINDER = "reminder"  # nobody has decided yet
    ESCALATED = "escalated"  # the escalation role may decide too
    DECIDED = "decided"  # or timed out, or cancelled


class Containment(StrEnum):
    """The rule for an agent's calls once a conversation holds untrusted input."""

    RULE_OF_TWO = "rule_of_two"  # if private data is in reach, calls with external side effects need approval
    OFF = "off"  # only mode, policies and grants apply; the audit trail says so


class ApprovalPolicy(BaseModel):
    """The approval rules for one tool's calls by one agent."""

    # The same configuration as `models.Value`, which cannot be imported here: its module imports policies.
    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool | None = Field(None, description="Whether its calls need approval; null: the tool's default")
    roles: list[Role] = Field([Role.APPROVER], max_length=3, description="Roles whose holders may decide")
    users: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=64, description="Ids of further users who may decide"
    )
    forbid_self_approval: bool = Field(False, description="The user who started the turn may not approve its calls")
    quorum: int = Field(1, ge=1, le=10, description="How many people have to approve; one can reject")
    allow_changes: bool = Field(True, description="An approver may change the arguments")
    allow_for_session: bool = Field(False, description="An approver may approve the tool for the rest of the session")
    timeout_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, description="null: the session's; at least the agent's if `on_timeout` approves"
    )
    on_timeout: TimeoutAction = TimeoutAction.REJECT
    reminder_seconds: int | None = Field(None, ge=1, le=30 * 86_400, description="Time between reminders; null: none")
    escalate_after_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, description="When `escalation_role` is notified and may decide too; null: never"
    )
    escalation_role: Role | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.roles and not self.users:
            raise ValueError("nobody could decide: name roles or users")
        if (self.escalate_after_seconds is None) != (self.escalation_role is None):
            raise ValueError("escalate_after_seconds and escalation_role go together")
        return self


DEFAULT_POLICY = ApprovalPolicy()
"""Used where an agent sets no policy."""
