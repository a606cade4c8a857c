"""What a workflow is written with, beside `azure.durable_functions`.

    bp = df.Blueprint()

    @bp.orchestration_trigger(context_name="context")
    @workflow(arguments=ShipOrder)
    def ship_order(context):
        \"\"\"Pack an order and send it.\"\"\"  # what the model reads
        yield progress(context, "packing", 0.5)
        return (yield context.call_activity("pack", context.get_input()))

    @bp.activity_trigger(input_name="order")
    def pack(order: dict) -> str: ...

`docs/workflows.md` says all of it.
"""

from __future__ import annotations

from typing import Any

from shared.durable.messages import TellProgressInput, WorkflowCaller
from shared.durable.names import TELL_PROGRESS
from shared.errors import ToolFailed
from shared.sessions.tools.base import ToolApproval, ToolArguments, ToolRisk
from shared.sessions.tools.kinds.workflows import MAX_PROGRESS_CHARS, workflow

__all__ = [
    "ToolApproval",
    "ToolArguments",
    "ToolFailed",
    "ToolRisk",
    "WorkflowCaller",
    "caller_of",
    "progress",
    "workflow",
]


def caller_of(context: Any) -> WorkflowCaller:
    """For whom a workflow runs. Take the user from here, never from the arguments, which a model wrote."""
    found = context.caller
    assert isinstance(found, WorkflowCaller)
    return found


def progress(context: Any, text: str, fraction: float | None = None) -> Any:
    """A task to be yielded: it tells the people of the session how far the workflow is, and fails nothing.

    text: cut to 200 characters. fraction: from 0 to 1. Raises ValueError for another one.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of a progress is from 0 to 1, not {fraction}")
    told = TellProgressInput(tool_call_id=context.tool_call_id, text=text[:MAX_PROGRESS_CHARS], fraction=fraction)
    return context.call_activity(TELL_PROGRESS, told.dump())
