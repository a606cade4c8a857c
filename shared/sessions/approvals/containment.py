"""The rule of two: which tool calls need approval because of what the model has read. Pure functions.

A conversation that holds untrusted input (A) and can reach private data (B) has no external side effects (C) without
approval: the untrusted input may be a prompt injection. Source: Meta, "Agents Rule of Two" (2025-10-31), after Simon
Willison's "lethal trifecta"; docs/decisions/0015-the-rule-of-two.md gives the alternatives.

Invariant: an answer inherits the sources of everything its model has read, so along a branch, into a fork and over any
number of turns, sources only grow. A call is judged by what its model had read when it wrote the call; messages that
are stored later do not change that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from shared.sessions.models import JsonObject
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment, TimeoutAction
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import ContextMessage
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.tools.registry import (
    READS,
    InvalidToolArguments,
    Tool,
    ToolRisk,
    fetched_address,
    find_tool,
    validate_arguments,
)

FILES = "attached files"
PEOPLE = "other people"
PAYLOADS = "data from outside"
CLIENT = "the user’s client"
PRIVATE_DATA = "private data"
"""Sources that are not tools. They contain a space, which tool names never do. The last is of no conversation: it
stands for any other when a policy is tested (`rehearsal.py`)."""

_RISKS = {
    FILES: READS,
    PEOPLE: frozenset({ToolRisk.READS_UNTRUSTED}),
    PAYLOADS: READS,
    CLIENT: READS,
    PRIVATE_DATA: frozenset({ToolRisk.READS_PRIVATE}),
}

# Prefixes of the results that `tool_handler.py` writes for calls that did not run, or failed.
_DECLINED = ('{"status":"rejected"', '{"status":"timed_out"')
_FAILED = '{"status":"failed"'
_NOT_A_TOOL = '{"status":"failed","error":"There is no tool named '
DECIDED_ARGUMENTS = "decided_arguments"
"""The field of a result that tells what a call ran with when a person changed its arguments."""


def sources_read(context: Sequence[ContextMessage]) -> frozenset[str]:
    """The sources of a context that matter for the rule: tools that read, CLIENT, FILES, PAYLOADS and PEOPLE.

    context: newest first.
    """
    found: set[str] = set()
    for message in context:
        if message.sources:
            found.update(message.sources)
        elif message.note is not None:
            found.add(FILES)
        if message.authors:
            found.add(PEOPLE)
    # The answers of agents tell what their models had read; other results are what their tools read.
    named = [message for message in context if message.role != "tool" or message.sources is None]
    found.update(name for name, _ in tool_results(named) if risks_of(name) & READS)
    return frozenset(found)


def sources_of_step(context: Sequence[ContextMessage], plan: TurnPlan) -> frozenset[str]:
    """The sources of all that the model of a step reads: its context, newest first, and the schema of its answer."""
    return sources_read(context) | ({PEOPLE} if plan.schema_by_other else set())


def authors_read(context: Sequence[ContextMessage], user_id: str) -> frozenset[str | None]:
    """Whose words a context holds; None for an author who is not known. user_id: the user that the turn runs for."""
    found: set[str | None] = set()
    for message in context:
        if message.authors is not None:
            found.update(message.authors)
        elif message.role != "tool":
            found.add(user_id)
    return frozenset(found)


def untrusted(sources: Iterable[str]) -> list[str]:
    """The sources of untrusted input."""
    return sorted(source for source in sources if ToolRisk.READS_UNTRUSTED in risks_of(source))


def private(sources: Iterable[str], plan: TurnPlan) -> list[str]:
    """The sources of private data: those read already, and those that a tool of the plan could read."""
    return sorted(name for name in {*sources, *plan.tools} if ToolRisk.READS_PRIVATE in risks_of(name))


def is_contained(
    tool: Tool,
    arguments: Mapping[str, Any],
    plan: TurnPlan,
    sources: frozenset[str],
    known: Container[str],
) -> bool:
    """Whether A, B and C all hold for a call.

    sources: of what its model had read. known: the addresses in it that a user or a page wrote (`choices.py`). The
    model cannot have put data into one of these, so fetching it is C only by what the choice among them tells.
    """
    return (
        ToolRisk.ACTS_OUTWARD in tool.risks
        and bool(untrusted(sources))
        and bool(private(sources, plan))
        and fetched_address(tool, arguments) not in known
    )


def have_met(sources: Iterable[str]) -> bool:
    """Whether both untrusted input and private data were read, not merely in reach."""
    risks = [risks_of(source) for source in sources]
    return all(any(risk in told for told in risks) for risk in READS)


def supervised(policy: ApprovalPolicy) -> ApprovalPolicy:
    """The policy for a contained call: a person approves each one, so a timeout rejects and grants do not apply."""
    return policy.model_copy(update={"on_timeout": TimeoutAction.REJECT, "allow_for_session": False})


def why_contained(call: ToolExecution) -> JsonObject:
    """What the trail tells of why a call waits; nothing when the rule of two does not hold for it."""
    if not call.contained or call.plan.containment is Containment.OFF:
        return {}
    why: JsonObject = {
        "rule_of_two": {"untrusted": untrusted(call.sources), "private": private(call.sources, call.plan)}
    }
    if call.choice_bits > 0:
        why["choice_bits"] = round(call.choice_bits, 1)
    return why


def reason(sources: Iterable[str], plan: TurnPlan, *, is_choice: bool = False) -> str:
    """Why a contained call waits, for the approver. is_choice: others wrote its address, and the model chose it."""
    sources = list(sources)
    if is_choice:
        return (
            f"Rule of two: the model has read untrusted input ({', '.join(untrusted(sources))}) and private data "
            f"({', '.join(private(sources, plan))}). Others wrote this address, but choosing it among many, or again, "
            "can tell its server something private. This turn may make no more such choices without a person."
        )
    return (
        f"Rule of two: the model has read untrusted input ({', '.join(untrusted(sources))}), it can reach private data "
        f"({', '.join(private(sources, plan))}), and this call has an external side effect. The untrusted input may "
        "have caused it."
    )


def risks_of(source: str) -> frozenset[ToolRisk]:
    """What reading a source risks; of a tool that is gone, the worst."""
    known = _RISKS.get(source)
    if known is not None:
        return known
    tool = find_tool(source)
    # The tool was removed, but its results may still be in the conversation: assume the worst.
    return READS if tool is None else tool.risks


def written_outside(context: Sequence[ContextMessage]) -> Iterator[str]:
    """User messages, and what was read from addresses that others wrote. Not results of tools that send what the model
    composes: a server may send that back."""
    yield from (message.content for message in context if message.role == "user")
    for name, text in tool_results(context):
        tool = find_tool(name)
        sends = tool is None or (ToolRisk.ACTS_OUTWARD in tool.risks and tool.outward_unless_quoted is None)
        if risks_of(name) & READS == {ToolRisk.READS_UNTRUSTED} and not sends:
            yield _output_of(text)


def _output_of(result: str) -> str:
    """The result without changed arguments: a person approved them for one call, and the model may have written most of
    them."""
    if f'"{DECIDED_ARGUMENTS}"' not in result:
        return result
    told = orjson.loads(result)
    told.pop(DECIDED_ARGUMENTS, None)
    return orjson.dumps(told).decode()


def tool_results(context: Sequence[ContextMessage]) -> Iterator[tuple[str, str]]:
    """(tool name, result), oldest first; CLIENT for a tool that a message declared. Skips results that no tool wrote:
    of declined calls, invalid arguments and made-up names."""
    calls: dict[str | None, list[JsonObject]] = {}
    for message in reversed(context):
        if message.role == "assistant":
            calls = {}
            for call in message.calls or ():
                # A model may use the same id for two calls of one answer; each result then counts for both.
                calls.setdefault(call["id"], []).append(call)
        elif message.role == "tool" and not message.content.startswith(_DECLINED):
            for call in calls.get(message.tool_call_id, ()):
                if not message.content.startswith(_FAILED) or _may_have_run(call, message.content):
                    yield CLIENT if call.get("is_client") else call["name"], message.content


def written_calls(message: ContextMessage) -> Iterator[tuple[Tool, JsonObject]]:
    """The calls of an answer that could run, with their arguments."""
    for call in message.calls or ():
        tool = None if call.get("is_client") else find_tool(call["name"])
        if tool is not None and _fits(tool, call["arguments"]):
            yield tool, call["arguments"]


def _may_have_run(call: JsonObject, result: str) -> bool:
    """Whether a failed result may hold words of its tool, which may have been removed since."""
    tool = None if call.get("is_client") else find_tool(call["name"])
    return not result.startswith(_NOT_A_TOOL) if tool is None else _fits(tool, call["arguments"])


def _fits(tool: Tool, arguments: JsonObject) -> bool:
    try:
        validate_arguments(tool, arguments)
    except InvalidToolArguments:
        return False
    return True
