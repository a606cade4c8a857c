"""An approval's webhook, retried beside the turn: a slow receiver must not delay a decision."""

from __future__ import annotations

import azure.durable_functions as df

from orchestrators.durable import Steps, call_activity
from shared.durable_messages import NotifyApproversInput
from shared.durable_names import NOTIFICATION, NOTIFY_APPROVERS

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration=NOTIFICATION)
def notification(context: df.DurableOrchestrationContext) -> Steps[None]:
    """Send until the receiver has it; gives up (and fails visibly) after the activity retry limit."""
    request = NotifyApproversInput.load(context.get_input())
    yield from call_activity(context, NOTIFY_APPROVERS, request.dump())
