"""How a tool call ended: what the model reads of it, and what clients read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from shared.errors import ErrorCode, ToolFailed
from shared.sessions.agents.handing_over import Handovers
from shared.sessions.approvals.containment import DECIDED_ARGUMENTS
from shared.sessions.models import JsonObject, ToolCallStatus, TurnStatus
from shared.sessions.records.children import Child
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.subagents.answers import why_no_answer
from shared.sessions.tools.output import ToolOutput
from shared.sessions.tools.running.masking import Mask

CANCELLED = "The turn was cancelled before this call ran."
CANCELLED_ASKING = "The turn was cancelled while this call waited for an answer."
_CHANGED = (
    "A person approved this call with changed arguments. It ran with decided_arguments, not with the ones you wrote."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's end. content: the JSON the model reads; result: what clients read."""

    status: ToolCallStatus
    content: JsonObject
    result: Any
    code: ErrorCode | None = None
    noted: JsonObject = field(default_factory=dict)
    """What its audit line adds; then there is one, whoever allowed the call."""
    sources: frozenset[str] | None = None
    """Of an agent's answer: of what its model had read."""
    takeover: TurnPlan | None = None
    """With which another agent goes on."""


class Nothing(Enum):
    """Why nothing was done for a call."""

    HELD = "held"  # its session is suspended, or the lane full
    STORED = "stored"  # what became of it, perhaps by another process


def failed(code: ErrorCode, message: str) -> Outcome:
    return Outcome(
        ToolCallStatus.FAILED, {"status": "failed", "error": message}, {"error": message, "code": code}, code
    )


def rejected(code: ErrorCode, content: JsonObject) -> Outcome:
    return Outcome(ToolCallStatus.REJECTED, content, {**content, "code": code}, code)


def posted(answer: JsonObject, mask: Mask) -> Outcome:
    """The outcome that was posted with the call's token."""
    if "error" in answer:
        return failed(ErrorCode.TOOL_EXECUTION_FAILED, mask.text(answer["error"]))
    content = mask.text(answer["content"])
    data = mask.json(answer["data"])
    return Outcome(ToolCallStatus.COMPLETED, {"status": "completed", "untrusted_output": content}, data)


def answered(child: Child | None, mask: Mask) -> Outcome:
    """The outcome of an agent's turn. None: there is none."""
    told = {} if child is None else child.named()
    sources = None if child is None else child.sources
    if child is None or child.status is not TurnStatus.COMPLETED:
        without = failed(ErrorCode.TOOL_EXECUTION_FAILED, mask.text(why_no_answer(child)))
        return replace(without, result={**without.result, **told}, sources=sources)
    answer = ToolOutput(mask.text(child.content), mask.json(child.output))
    content = {"status": "completed", "untrusted_output": answer.content}
    data = {**told, "content": answer.content, "output": answer.data}
    return Outcome(ToolCallStatus.COMPLETED, content, data, sources=sources)


async def handed_over(call: ToolExecution, arguments: JsonObject, handovers: Handovers) -> Outcome:
    """Another agent goes on: the result of the call is the first that its model reads of that."""
    successor = call.plan.handovers[call.name]
    try:
        plan = await handovers.plan(call, successor)
    except ToolFailed as exc:
        return failed(exc.code, exc.safe_message)
    now = f"You are {successor.name} from here on: the conversation was handed over to you. Go on with it."
    content: JsonObject = {"status": "completed", "handed_over": now}
    if note := arguments.get("note"):
        content["untrusted_note"] = note
    result = {"agent_id": plan.agent_id, "agent_version": plan.agent_version, "name": successor.name}
    noted: JsonObject = {"handed_over_to": plan.agent_id, "agent_version": plan.agent_version}
    return Outcome(ToolCallStatus.COMPLETED, content, result, noted=noted, sources=frozenset(), takeover=plan)


def as_decided(outcome: Outcome, call: ToolExecution) -> Outcome:
    """The outcome of a call that has begun, which says so where a person had changed its arguments.

    The model is told what ran, since the conversation that it reads has the arguments that it wrote itself. That stands
    before the output, which may be cut.
    """
    if call.decided_arguments is None:
        return outcome
    status, *rest = outcome.content.items()
    changed = {"approved_with_changes": _CHANGED, DECIDED_ARGUMENTS: call.decided_arguments}
    return replace(outcome, content=dict([status, *changed.items(), *rest]))
