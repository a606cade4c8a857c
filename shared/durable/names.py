"""Names that live in durable histories. Renaming one breaks every instance that is running.

Orchestrations, activities and external events in one place; the comment beside a name says where its function is.
"""

from __future__ import annotations

from typing import Final

from shared.sessions.records.approval_policy import NoticeKind

TURN: Final = "turn"  # orchestrators/turn.py; instance id = turn id
APPROVAL: Final = "approval"  # orchestrators/approval.py; instance id = call_instance(...)
WAIT: Final = "wait"  # orchestrators/waiting.py; instance id = call_instance(...)
KEEPER: Final = "keeper"  # orchestrators/keeper.py; its one instance is KEEPER_INSTANCE
NOTIFICATION: Final = "notification"  # orchestrators/notification.py; instance id = notification_instance(...)

CALL_MODEL: Final = "call_model"  # activities/model.py
REQUEST_APPROVAL: Final = "request_approval"  # activities/approvals.py
NOTIFY_APPROVERS: Final = "notify_approvers"  # activities/approvals.py
GIVE_NOTICE: Final = "give_notice"  # activities/approvals.py
EXECUTE_TOOL: Final = "execute_tool"  # activities/tools.py
FINISH_TURN: Final = "finish_turn"  # activities/turns.py
BEGIN_WORKFLOW: Final = "begin_workflow"  # activities/workflows.py
TELL_PROGRESS: Final = "tell_progress"  # activities/workflows.py
END_WORKFLOW: Final = "end_workflow"  # activities/workflows.py

KEEPER_INSTANCE: Final = "task-hub"
"""Keeps the identity of the task hub that it is in."""
KEEPER_EVENT: Final = "never"
"""What it waits for."""

CANCEL_EVENT: Final = "cancel"
"""Raised on a turn whose cancel is stored. The stored cancel decides; the event only ends a wait early."""


def approval_event(approval_id: str) -> str:
    """The external event for the decision of one approval. Each approval has its own event name.

    azure-functions-durable 1.7 lets an early event of a name satisfy every later wait for that name.
    """
    return f"approval-{approval_id}"


def answer_event(wait_id: str) -> str:
    """The external event that one wait of a tool call is over. Each has its own event name, as approvals have."""
    return f"answer-{wait_id}"


def call_instance(turn_id: str, tool_call_id: str) -> str:
    """The instance that brings one tool call to its end: its approval, or its wait for an answer."""
    return f"{turn_id}:{tool_call_id}"


_WORKFLOW_INSTANCE: Final = ":workflow"


def workflow_instance(turn_id: str, tool_call_id: str) -> str:
    """The instance of the workflow that answers a call. All that it starts has an id that begins with it."""
    return f"{call_instance(turn_id, tool_call_id)}{_WORKFLOW_INSTANCE}"


def is_workflow(instance_id: str) -> bool:
    """Whether an instance is the workflow of a call."""
    return instance_id.endswith(_WORKFLOW_INSTANCE)


def below_workflow(instance_id: str) -> str:
    """The beginning of the ids of all that a workflow has started."""
    return f"{instance_id}:"


def notification_instance(approval_id: str, kind: NoticeKind = NoticeKind.REQUESTED, number: int = 0) -> str:
    """The instance that sends one webhook of an approval. number: which reminder, from 1."""
    if kind is NoticeKind.REQUESTED:
        return f"{approval_id}:notification"
    return f"{approval_id}:{kind}-{number}" if number else f"{approval_id}:{kind}"


def notification_instances(approval_id: str, *, reminders: int) -> list[str]:
    """Every instance that may have sent a webhook of an approval."""
    once = [kind for kind in NoticeKind if kind is not NoticeKind.REMINDER]
    found = [notification_instance(approval_id, kind) for kind in once]
    return found + [notification_instance(approval_id, NoticeKind.REMINDER, n + 1) for n in range(reminders)]
