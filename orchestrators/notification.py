"""One webhook of an approval, retried for hours beside the turn, so that a slow receiver delays no decision."""

from __future__ import annotations

import azure.durable_functions as df

from orchestrators.durable import Steps, call_activity
from shared.durable.messages import NotifyApproversInput
from shared.durable.names import NOTIFICATION, NOTIFY_APPROVERS
from shared.sessions.turns.retry import notify_delay_s

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration=NOTIFICATION)
def notification(context: df.DurableOrchestrationContext) -> Steps[None]:
    """Send until the receiver accepts it. Gives up after MAX_NOTIFY_TRIES, and the instance then shows as failed."""
    request = NotifyApproversInput.load(context.get_input())
    yield from call_activity(context, NOTIFY_APPROVERS, request.dump(), delay_s=notify_delay_s)
