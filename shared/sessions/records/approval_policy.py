"""ApprovalPolicy, as data: who may approve a tool call, how many approvals it needs, and what happens on timeout.

Its rules make that depend on the arguments: above an amount, two people of finance have to approve. A rule that holds
requires an approval; rules that hold together have to be met together. So rules only tighten, and their order means
nothing.

Invariant: a policy is frozen into the turn's plan when the message is posted, and into the approval when it is opened.
So changing an agent never changes a pending approval.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from shared.principal import Role, RoleName
from shared.sessions.records.conditions import LEFT_OUT, Argument, Closed, Condition, check_size

MAX_RULES = 16
MAX_ROLES = 16
MAX_USERS = 64
MAX_SAME = 16


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


class Channel(StrEnum):
    """How people are told of approvals beside the inbox, where the deployment has it."""

    TEAMS = "teams"
    SLACK = "slack"
    EMAIL = "email"


class ShownContext(StrEnum):
    """What those who may decide see of the turn that made the call, where they are not in its session."""

    FULL = "full"  # the question, the agent's reasons, what it did and read before
    QUESTION = "question"  # the question that the turn answers
    NONE = "none"  # only the call


class Containment(StrEnum):
    """The rule for an agent's calls once a conversation holds untrusted input."""

    RULE_OF_TWO = "rule_of_two"  # if private data is in reach, calls with external side effects need approval
    OFF = "off"  # only mode, policies and grants apply; the audit trail says so


type Roles = Annotated[list[RoleName], Field(max_length=MAX_ROLES)]
type Users = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=MAX_USERS)]
type Quorum = Annotated[int, Field(ge=1, le=10)]


class SessionGrant(Closed):
    """What an approval for the rest of the session holds for."""

    same: list[Argument] = Field(
        min_length=1, max_length=MAX_SAME, description="Only calls in which these are as in the call that was approved"
    )


class RuleEffect(Closed):
    """What a rule requires when it holds. Beside who decides, each field can only make the policy stricter."""

    required: Literal[True] = Field(True, description="The call needs an approval")
    roles: Roles = Field(
        [], **LEFT_OUT, description="Who may decide, with `users`; if both are empty, whom the policy names"
    )
    users: Users = Field([], **LEFT_OUT)
    quorum: Quorum | None = Field(
        None, **LEFT_OUT, description="How many of them have to approve; at least the policy's"
    )
    forbid_self_approval: Literal[True] | None = Field(None, **LEFT_OUT)
    allow_changes: Literal[False] | None = Field(None, **LEFT_OUT)
    allow_for_session: Literal[False] | SessionGrant | None = Field(None, **LEFT_OUT)
    timeout_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, **LEFT_OUT, description="Then the call is rejected; null: the policy's"
    )


class ApprovalRule(Closed):
    """When a call of the tool needs which approval, by its arguments."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^\S([^\x00-\x1f\x7f]*\S)?$")] = Field(
        description="For approvers and the audit trail; each rule of a policy has its own"
    )
    when: Condition = Field(description="What cannot be told of the arguments counts as true")
    then: RuleEffect = RuleEffect()


class Requirement(Closed):
    """How many of whom have to approve a call."""

    rule: str | None = Field(None, description="The rule that requires it; null: the policy")
    roles: Roles
    users: Users
    quorum: Quorum


class ApprovalPolicy(Closed):
    """The approval rules for one tool's calls by one agent."""

    required: bool | None = Field(None, description="Whether its calls need approval; null: the tool's default")
    roles: Roles = Field([Role.APPROVER.value], description="Roles whose holders may decide")
    users: Users = Field([], description="Ids of further users who may decide")
    forbid_self_approval: bool = Field(False, description="The user who started the turn may not approve its calls")
    quorum: Quorum = Field(1, description="How many people have to approve; one can reject")
    allow_changes: bool = Field(True, description="An approver may change the arguments")
    allow_for_session: bool | SessionGrant = Field(
        False, description="An approver may approve the tool for the rest of the session"
    )
    timeout_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, description="null: the session's; at least the agent's if `on_timeout` approves"
    )
    on_timeout: TimeoutAction = TimeoutAction.REJECT
    reminder_seconds: int | None = Field(None, ge=1, le=30 * 86_400, description="Time between reminders; null: none")
    escalate_after_seconds: int | None = Field(
        None, ge=1, le=30 * 86_400, description="When `escalation_role` is notified and may decide too; null: never"
    )
    escalation_role: RoleName | None = None
    channels: list[Channel] | None = Field(
        None,
        max_length=len(Channel),
        **(LEFT_OUT | {"exclude_if": lambda value: value is None}),
        description="Where people are told of it; null: everywhere that the deployment has; empty: nowhere",
    )
    context: ShownContext | None = Field(
        None,
        **LEFT_OUT,
        description="What of its turn those who decide are shown, if they are not in the session; null: `full`",
    )
    rules: list[ApprovalRule] = Field(
        [],
        max_length=MAX_RULES,
        **LEFT_OUT,
        description="What some calls require, by their arguments; in any order",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.roles and not self.users:
            raise ValueError("nobody could decide: name roles or users")
        if (self.escalate_after_seconds is None) != (self.escalation_role is None):
            raise ValueError("escalate_after_seconds and escalation_role go together")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have the same name")
        check_size([rule.when for rule in self.rules])
        # All rules may hold at once, and then all of it stands in one frozen policy.
        parts: list[ApprovalPolicy | RuleEffect] = [self, *(rule.then for rule in self.rules)]
        if len({role for part in parts for role in part.roles}) > MAX_ROLES:
            raise ValueError(f"the policy and its rules name more than {MAX_ROLES} roles")
        if len({user for part in parts for user in part.users}) > MAX_USERS:
            raise ValueError(f"the policy and its rules name more than {MAX_USERS} users")
        if len({argument for part in parts for argument in same_of(part.allow_for_session)}) > MAX_SAME:
            raise ValueError(f"the policy and its rules name more than {MAX_SAME} arguments that have to be the same")
        return self


def same_of(grants: bool | SessionGrant | None) -> list[Argument]:
    """The arguments that a grant binds; none for one that holds whatever they are."""
    return grants.same if isinstance(grants, SessionGrant) else []


def fault_of(policy: ApprovalPolicy) -> str | None:
    """Why an agent must not have this policy, though it could be carried out."""
    if Role.USER not in policy.roles and any(Role.USER in rule.then.roles for rule in policy.rules):
        # The model chooses the arguments: they must not hand to everyone what the policy keeps to some.
        return "a rule lets everyone decide (the role user), and the policy does not"
    return None


DEFAULT_POLICY = ApprovalPolicy()
"""Used where an agent sets no policy."""
