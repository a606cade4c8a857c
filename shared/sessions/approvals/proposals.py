"""Checks a model's tool call and applies the approval policy, before the call is stored or run.

Invariant: whatever a model writes can be stored, and a call that cannot run never waits for approval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from shared.ids import new_id
from shared.sessions.approvals.choices import FetchCount
from shared.sessions.approvals.containment import have_met, is_contained
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import is_granted
from shared.sessions.approvals.needed import requires_approval
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS, ModelToolCall
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import ContextMessage, ProposedCall
from shared.sessions.tools.kinds.handovers import NOT_ALONE
from shared.sessions.tools.of_plan import tool_of
from shared.sessions.tools.registry import (
    InvalidToolArguments,
    Tool,
    fetched_address,
    validate_arguments,
)

_MAX_NAME_CHARS = 64
"""The chat-completions limit of a function name; a model may still write a longer one."""

_MAX_DEPTH = 64
"""Far below the JSON encoder's limit (254), since arguments are nested inside events and rows."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the session when a model wrote its calls."""

    requested_by: str = ""
    """The user that the turn runs for."""
    granted_tools: frozenset[str] = frozenset()
    """Grants of tools approved for the rest of the session (`approvals/grants.py`)."""
    declined_digests: frozenset[str] = frozenset()
    """Digests of calls that were declined earlier in the turn."""
    sources: frozenset[str] = frozenset()
    """The sources of `context`."""
    context: Sequence[ContextMessage] = ()
    """What the model had read, newest first."""
    spent_bits: float = 0.0
    """What the fetches of the turn's earlier steps were charged (`approvals/choices.py`)."""


NOTHING_STANDS = Standing()


_NOT_HANDED_OVER: dict[str, Any] = {"argument_error": NOT_ALONE, "needs_approval": False}


def propose_all(calls: Sequence[ModelToolCall], plan: TurnPlan, standing: Standing) -> list[ProposedCall]:
    """All calls of one answer, in its order: each fetch is charged before the next is looked at."""
    fetches = FetchCount(standing.context, standing.spent_bits)
    # No call runs under two agents.
    proposed = [propose(call, index, plan, standing, fetches) for index, call in enumerate(calls)]
    if len(calls) == 1:
        return proposed
    return [replace(one, **_NOT_HANDED_OVER) if one.name in plan.handovers else one for one in proposed]


def propose(
    call: ModelToolCall,
    index: int,
    plan: TurnPlan,
    standing: Standing = NOTHING_STANDS,
    fetches: FetchCount | None = None,
) -> ProposedCall:
    """Check a model's call and decide whether it needs approval. A call that cannot run never does.

    fetches: of the turn so far; None: no other call of this answer fetches.
    """
    arguments: dict[str, object] = {}
    error: str | None = None
    tool = tool_of(call.name, plan) if call.name in plan.tools else None
    try:
        parsed = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        error = "The arguments are not valid JSON."
    else:
        if not isinstance(parsed, dict) or "\\u0000" in call.arguments:
            error = "The arguments must be a JSON object without U+0000."
        elif _is_deeper(parsed, _MAX_DEPTH):
            error = "The arguments are nested too deeply."
        else:
            arguments = parsed
    if call.left_out_chars:
        error = (
            f"The arguments are longer than {MAX_ARGUMENT_CHARS} characters, the most that a call may have, so it did"
            " not run and they were not kept. Write less, or make several calls."
        )
    if call.is_cut:
        error = "The call was cut at the output limit: make it again, shorter."
    if tool is None:
        error = f"There is no tool named {call.name[:_MAX_NAME_CHARS]!r}."
    elif error is None:
        try:
            validate_arguments(tool, arguments)
        except InvalidToolArguments as exc:
            error = str(exc)
    contained = declined = needs_approval = False
    choice_bits = 0.0
    if tool is not None and error is None:
        fetches = fetches or FetchCount(standing.context, standing.spent_bits)
        contained, choice_bits = _contained(tool, arguments, plan, standing.sources, fetches)
        supervised = contained and plan.containment is not Containment.OFF
        force = in_force(plan.policy_of(tool.name), tool, arguments)
        is_allowed = is_granted(tool, arguments, plan, force, standing.requested_by, standing.granted_tools)
        by_policy = requires_approval(tool, plan, force) and not is_allowed
        # A rejection is final for the turn: the model must not ask again until an approver gives in.
        digest = arguments_digest(tool.name, arguments, plan.definition_of(tool.name))
        declined = digest in standing.declined_digests
        needs_approval = (supervised or by_policy) and not declined
    return ProposedCall(
        id=new_id(),
        ordinal=index,
        provider_call_id=call.id,
        name=call.name[:_MAX_NAME_CHARS],
        arguments=arguments,
        argument_error=error,
        needs_approval=needs_approval,
        contained=contained,
        declined=declined,
        choice_bits=choice_bits,
        is_client=call.name in plan.client_tools,
    )


def _contained(
    tool: Tool, arguments: dict[str, object], plan: TurnPlan, sources: frozenset[str], fetches: FetchCount
) -> tuple[bool, float]:
    """Whether the rule of two applies to a call, and the bits that its choice of an address tells."""
    contained = is_contained(tool, arguments, plan, sources, fetches.known)
    address = fetched_address(tool, arguments)
    if address is None:
        return contained, 0.0
    bits = fetches.bits(address) if not contained and have_met(sources) else 0.0
    contained = contained or not fetches.fits(bits)
    fetches.add(address, 0.0 if contained else bits)
    return contained, bits


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)
