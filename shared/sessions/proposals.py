"""A model's tool call as our policy sees it, before anything of it is stored or run.

Invariant: whatever a model writes can be stored, and a call that cannot run waits for nobody.
"""

from __future__ import annotations

import orjson

from shared.ids import new_id
from shared.sessions.approval_rules import is_granted, requires_approval
from shared.sessions.llm import ModelToolCall
from shared.sessions.records import ProposedCall, TurnPlan
from shared.sessions.tools.registry import InvalidToolArguments, find_tool, validate_arguments

_MAX_NAME_CHARS = 64
"""The chat-completions limit of a function name; a model may still write anything."""

_MAX_DEPTH = 64
"""Far below what the JSON encoder takes (254), since arguments travel inside events and rows."""


def propose(
    call: ModelToolCall, index: int, plan: TurnPlan, granted_tools: frozenset[str] = frozenset()
) -> ProposedCall:
    """A model's call as our policy sees it. A call that cannot run never waits for anyone.

    granted_tools: approved for the rest of the session.
    """
    arguments: dict[str, object] = {}
    error: str | None = None
    tool = find_tool(call.name) if call.name in plan.tools else None
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
    if tool is None:
        error = f"There is no tool named {call.name[:_MAX_NAME_CHARS]!r}."
    elif error is None:
        try:
            validate_arguments(tool, arguments)
        except InvalidToolArguments as exc:
            error = str(exc)
    return ProposedCall(
        id=new_id(),
        ordinal=index,
        provider_call_id=call.id,
        name=call.name[:_MAX_NAME_CHARS],
        arguments=arguments,
        argument_error=error,
        needs_approval=error is None
        and tool is not None
        and requires_approval(tool, plan)
        and not is_granted(tool.name, plan, granted_tools),
    )


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)
