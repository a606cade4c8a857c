"""The tools of the MCP server: each agent is one, and four go with what agents do.

Invariant: a tool does what the caller may do by the main routes, with the caller's own rights, and nothing else. The
annotations say so for clients that ask a person first: asking an agent and deciding are not read-only.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from shared.sessions.agents.agent import Agent
from shared.sessions.approvals.models import Approval
from shared.sessions.models import (
    MAX_CONTENT_CHARS,
    ApprovalStatus,
    Decision,
    JsonObject,
    Turn,
    TurnStatus,
    Value,
    WaitKind,
)

MAX_WAIT_S = 50
"""Below the minute after which clients of the protocol give up."""
WAIT_S = 25
_ASK = "ask_"


class Ask(Value):
    message: str = Field(min_length=1, max_length=MAX_CONTENT_CHARS, description="What to say to the agent")
    conversation: str | None = Field(
        None,
        min_length=1,
        max_length=255,
        description="The conversation that goes on, as an earlier answer named it, or a name of your own; absent: a"
        " new one",
    )
    wait_seconds: int = Field(WAIT_S, ge=0, le=MAX_WAIT_S, description="How long to wait for the answer")


class GetAnswer(Value):
    task: str = Field(min_length=1, max_length=160, description="As `ask_...` named it")
    wait_seconds: int = Field(WAIT_S, ge=0, le=MAX_WAIT_S, description="How long to wait for the answer")


class CancelTask(Value):
    task: str = Field(min_length=1, max_length=160, description="As `ask_...` named it")


class ListApprovals(Value):
    status: ApprovalStatus = ApprovalStatus.PENDING
    limit: int = Field(20, ge=1, le=50)


class DecideApproval(Value):
    approval_id: str = Field(min_length=1, max_length=64)
    decision: Decision
    comment: str | None = Field(None, max_length=2_000)


FIXED: dict[str, tuple[type[Value], str, str, JsonObject]] = {
    "get_answer": (
        GetAnswer,
        "Get an answer",
        "The answer of an agent to a question that was asked before, or how far it is.",
        {"readOnlyHint": True},
    ),
    "cancel_task": (
        CancelTask,
        "Stop an agent",
        "Stop an agent that works on a question. What it has done stays done.",
        {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": True},
    ),
    "list_approvals": (
        ListApprovals,
        "List approvals",
        "Tool calls of agents that wait for a person, as far as the caller may decide them. Newest first.",
        {"readOnlyHint": True},
    ),
    "decide_approval": (
        DecideApproval,
        "Decide an approval",
        "Approve or reject a tool call of an agent, in the name of the caller. Ask the person first, with the exact"
        " arguments: an approved call runs.",
        {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True},
    ),
}
"""By name: arguments, title, description, annotations."""


def agent_of(tool: str) -> str | None:
    """The agent that a tool asks; None for a tool that asks none."""
    return tool.removeprefix(_ASK) if tool.startswith(_ASK) and tool != _ASK else None


def agent_tool(agent: Agent) -> JsonObject:
    about = "Ask the agent {name}. It may call tools of its own, and some of its calls wait for a person's approval:"
    return _tool(
        _ASK + agent.id,
        Ask,
        agent.name,
        about.format(name=agent.name) + " then the answer says which, and names a task for `get_answer`.",
        {"readOnlyHint": False, "destructiveHint": True, "openWorldHint": True},
    )


def fixed_tools() -> list[JsonObject]:
    return [_tool(name, *fields) for name, fields in FIXED.items()]


def _tool(name: str, arguments: type[Value], title: str, description: str, annotations: JsonObject) -> JsonObject:
    return {
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": arguments.model_json_schema(),
        "annotations": {"title": title, **annotations},
    }


class WrongArguments(Exception):
    """Says by name what is wrong."""


def read_arguments[Arguments: Value](kind: type[Arguments], given: object) -> Arguments:
    """Raises WrongArguments."""
    try:
        # As JSON: enumerations and numbers are told apart as in a body.
        return TypeAdapter(kind).validate_json(orjson.dumps({} if given is None else given), strict=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        told = (f"{'.'.join(str(part) for part in error['loc']) or 'arguments'}: {error['msg']}" for error in errors)
        raise WrongArguments("; ".join(list(told)[:20])) from None


# What they give. -------------------------------------------------------------------------------


def answered(turn: Turn, task: str, answer: str | None, waiting: Sequence[Approval]) -> JsonObject:
    """The result of asking, now or later. answer: the text of the newest one."""
    told = {
        "status": turn.status.value,
        "task": task,
        "conversation": turn.session_id,
        "answer": answer if turn.status.is_terminal else None,
        "approvals": [shown(approval) for approval in waiting],
    }
    if turn.status is TurnStatus.COMPLETED:
        return result(answer or "", told)
    if turn.status is TurnStatus.FAILED:
        why = "The turn failed." if turn.error is None else f"{turn.error.code}: {turn.error.detail}"
        return result(why, told, is_error=True)
    if turn.status is TurnStatus.CANCELLED:
        return result("It was stopped.", told, is_error=True)
    later = f"Call get_answer with the task {task} to get the answer."
    asked = [wait for wait in turn.waits if wait.kind is WaitKind.INPUT]
    if asked:
        told["waits"] = [wait.model_dump(mode="json") for wait in asked]
        words = " ".join(question.message for wait in asked for question in wait.questions)
        return result(
            f"It waits for an answer of {asked[0].asked_of}, in the conversation itself: {words} {later}", told
        )
    if waiting:
        names = ", ".join(f"{_named(approval)} ({approval.id})" for approval in waiting)
        return result(f"It waits until a person approves or rejects: {names}. {later}", told)
    return result(f"The agent is still working. {later}", told)


def shown(approval: Approval) -> JsonObject:
    fields = {"id", "tool", "arguments", "status", "requested_by", "requested_at", "expires_at", "reason", "session_id"}
    return approval.model_dump(mode="json", include={*fields, "agent_id", "asked_through"})


def _named(approval: Approval) -> str:
    """The tool, and the subagent that calls it."""
    return f"{approval.tool} of {approval.agent_id}" if approval.asked_through else approval.tool


def result(text: str, structured: JsonObject | None = None, *, is_error: bool = False) -> JsonObject:
    told: JsonObject = {"content": [{"type": "text", "text": text}], "isError": is_error}
    return told if structured is None else {**told, "structuredContent": structured}
