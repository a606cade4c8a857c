"""ApprovalPolicy: who may allow a tool call, how many it takes, and what happens while nobody answers. Data, not code.

Invariant: a policy is frozen into the plan of a turn when its message is posted, and into the approval when it is
opened: changing an agent never changes what is being waited for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.principal import Role


class TimeoutAction(StrEnum):
    """What it means that nobody decided in time."""

    REJECT = "reject"  # the call does not run
    APPROVE = "approve"  # the call runs: for what may be stopped but need not be asked for


class Containment(StrEnum):
    """What an agent's calls are held to once a conversation holds what others wrote."""

    RULE_OF_TWO = "rule_of_two"  # with private data in reach, what acts outward takes a person
    OFF = "off"  # only mode, policies and grants count; the audit trail says so


class ApprovalPolicy(BaseModel):
    """How one tool's calls are allowed, for one agent."""

    # A `models.Value`, said again here: the values of that module show policies.
    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool | None = Field(None, description="Whether its calls wait for a person; null: the tool's own rule")
    roles: list[Role] = Field([Role.APPROVER], max_length=3, description="Roles whose holders may decide")
    users: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=64, description="Further people who may decide, by user id"
    )
    forbid_self_approval: bool = Field(False, description="Who asked for the turn may not allow its calls")
    quorum: int = Field(1, ge=1, le=10, description="How many different people have to approve; one may reject")
    allow_changes: bool = Field(True, description="An approver may change the arguments")
    allow_for_session: bool = Field(False, description="May be approved for the rest of the session")
    timeout_seconds: int | None = Field(None, ge=1, le=30 * 86_400, description="null: the session's")
    on_timeout: TimeoutAction = TimeoutAction.REJECT
    reminder_seconds: int | None = Field(None, ge=1, le=30 * 86_400, description="Between two reminders; null: none")
    escalate_after_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, description="When `escalation_role` is told and may decide too; null: never"
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
"""What holds where an agent says nothing."""
