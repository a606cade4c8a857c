"""Whether a message may join the turn that runs, instead of beginning one of its own. Pure functions.

Invariant: a turn keeps what it began with, its user, agent, rights and limits; a message that asks for anything else,
or for more care than the turn takes, begins its own turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.records.plan import TurnPlan

MAX_JOINED = 32
"""Messages that join one turn."""


@dataclass(frozen=True, slots=True)
class OpenToJoin:
    """The turn that runs, before its next step. messages: that have joined it; tokens: of all that was said to it."""

    turn_id: str
    requested_by: str
    plan: TurnPlan
    steps: int
    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Joining:
    """A message that wants to join. plan: of the turn that it would begin."""

    user_id: str
    plan: TurnPlan
    tokens: int


def may_join(message: Joining, turn: OpenToJoin) -> bool:
    """A message of somebody else begins its own turn: a turn acts with the rights of its user."""
    asked, has = message.plan, turn.plan
    return (
        message.user_id == turn.requested_by
        and asked.agent_id == has.agent_id
        # What an unattended message says is never said with a person's roles.
        and set(has.roles) <= set(asked.roles)
        and has.approval_mode.stricter(asked.approval_mode) is has.approval_mode
        and asked.output_schema in (None, has.output_schema)
        and all(has.client_tools.get(name) == tool for name, tool in asked.client_tools.items())
        and turn.steps < has.max_steps
        and turn.messages < MAX_JOINED
        # Half of the window is left for what the turn has done, since models read all that was said to it.
        and turn.tokens + message.tokens <= has.max_context_tokens // 2
    )
