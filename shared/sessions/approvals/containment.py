"""The rule of two: which calls a model does not make alone, by what it had read when it made them. Pure functions.

A conversation that holds what others wrote (A) and has private data within its reach (B) does not act outward (C)
without a person: what others wrote may have told the model to. Source: Meta, "Agents Rule of Two" (2025-10-31), after
Simon Willison's "lethal trifecta"; docs/decisions/0015-the-rule-of-two.md says what was weighed.

Invariant: an answer is written from everything its model read, so it carries the sources of all of that on: along a
branch, into a fork, over any number of turns, they only grow. A call counts by what its model had read when it wrote
it; nothing that is stored later had a part in it, so nothing can change in between either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from shared.sessions.models import JsonObject
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.policy import ApprovalPolicy, TimeoutAction
from shared.sessions.records.steps import ContextMessage
from shared.sessions.tools.registry import (
    READS,
    InvalidToolArguments,
    Tool,
    ToolRisk,
    find_tool,
    validate_arguments,
)

FILES = "attached files"
PEOPLE = "other people"
"""Sources beside tools. With a space, as no tool's name has."""

_RISKS = {FILES: READS, PEOPLE: frozenset({ToolRisk.READS_UNTRUSTED})}

# Up to what ends an address in text, Markdown, HTML or JSON.
_ADDRESS = re.compile(r"https?://[^\s\"'<>\\`{|}^]+", re.IGNORECASE)
_PUNCTUATION = ".,;:!?)]*_"

# How the results begin that `tool_handler.py` writes for calls that did not run, or did not do so.
_DECLINED = ('{"status":"rejected"', '{"status":"timed_out"')
_FAILED = '{"status":"failed"'


def sources_read(context: Sequence[ContextMessage]) -> frozenset[str]:
    """Where that which a model reads comes from, as far as it matters: tools, and the two above.

    context: newest first.
    """
    found: set[str] = set()
    for message in context:
        found.update(message.sources or ())
        if message.note is not None:
            found.add(FILES)
        if message.by_other:
            found.add(PEOPLE)
    found.update(tool.name for tool, _ in _results(context) if tool.risks & READS)
    return frozenset(found)


def untrusted(sources: Iterable[str]) -> list[str]:
    """Those that hold what others wrote."""
    return sorted(source for source in sources if ToolRisk.READS_UNTRUSTED in _risks_of(source))


def private(sources: Iterable[str], plan: TurnPlan) -> list[str]:
    """What private data stands in the conversation, or is a call away."""
    return sorted(name for name in {*sources, *plan.tools} if ToolRisk.READS_PRIVATE in _risks_of(name))


def is_contained(
    tool: Tool,
    arguments: Mapping[str, Any],
    plan: TurnPlan,
    sources: frozenset[str],
    context: Sequence[ContextMessage],
) -> bool:
    """Whether all three come together in a call. context: what its model had read, newest first; sources: of that."""
    return (
        ToolRisk.ACTS_OUTWARD in tool.risks
        and bool(untrusted(sources))
        and bool(private(sources, plan))
        and not _is_quoted(tool, arguments, context)
    )


def supervised(policy: ApprovalPolicy) -> ApprovalPolicy:
    """The policy of a contained call: each takes a person, so silence is no yes and a yes is for one call."""
    return policy.model_copy(update={"on_timeout": TimeoutAction.REJECT, "allow_for_session": False})


def reason(sources: Iterable[str], plan: TurnPlan) -> str:
    """Why a contained call waits, for whoever decides it."""
    sources = list(sources)
    return (
        f"Rule of two: the model has read what others wrote ({', '.join(untrusted(sources))}), private data is in its "
        f"reach ({', '.join(private(sources, plan))}), and this call acts outward. What it read may have told it to."
    )


def _risks_of(source: str) -> frozenset[ToolRisk]:
    known = _RISKS.get(source)
    if known is not None:
        return known
    tool = find_tool(source)
    # What a tool that is gone has said still stands in the conversation.
    return READS if tool is None else tool.risks


def _is_quoted(tool: Tool, arguments: Mapping[str, Any], context: Sequence[ContextMessage]) -> bool:
    """Whether a call only follows an address that a user or a page outside wrote, letter by letter.

    Such an address was there before the model knew anything to put into it. Not so in an answer, in a file or in the
    history, where the model can have put it: from there it does not count.
    """
    address = arguments.get(tool.outward_unless_quoted) if tool.outward_unless_quoted is not None else None
    if not isinstance(address, str):
        return False
    bare = address.partition("#")[0].rstrip("/")
    return any(
        bare in text and any(_same(found, bare) for found in _ADDRESS.findall(text))
        for text in _written_outside(context)
    )


def _same(found: str, bare: str) -> bool:
    found = found.partition("#")[0]
    return bare in {found.rstrip("/"), found.rstrip(_PUNCTUATION).rstrip("/")}


def _written_outside(context: Sequence[ContextMessage]) -> Iterator[str]:
    """The users' messages, and the results of tools that read outside and nothing else."""
    yield from (message.content for message in context if message.role == "user")
    yield from (text for tool, text in _results(context) if tool.risks & READS == {ToolRisk.READS_UNTRUSTED})


def _results(context: Sequence[ContextMessage]) -> Iterator[tuple[Tool, str]]:
    """What tools said, oldest first. Left out is what only we or an approver said: of a call that was declined, or
    whose arguments were wrong."""
    calls: dict[str | None, list[JsonObject]] = {}
    for message in reversed(context):
        if message.role == "assistant":
            calls = {}
            for call in message.calls or ():
                # A model may give two calls of one answer the same id; then each result counts for both.
                calls.setdefault(call["id"], []).append(call)
        elif message.role == "tool" and not message.content.startswith(_DECLINED):
            for call in calls.get(message.tool_call_id, ()):
                tool = find_tool(call["name"])
                if tool is not None and (not message.content.startswith(_FAILED) or _fits(tool, call["arguments"])):
                    yield tool, message.content


def _fits(tool: Tool, arguments: JsonObject) -> bool:
    try:
        validate_arguments(tool, arguments)
    except InvalidToolArguments:
        return False
    return True
