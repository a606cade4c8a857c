"""request_approval and notify_approvers: putting a question to people."""

from __future__ import annotations

import azure.durable_functions as df
import azure.functions as func

from activities.binding import send, sends_events
from activities.durable_client import start_notification
from shared import tracing
from shared.durable_messages import NotifyApproversInput, RequestApprovalInput, RequestApprovalResult
from shared.durable_names import NOTIFY_APPROVERS, REQUEST_APPROVAL
from shared.services import services

bp = df.Blueprint()


@bp.activity_trigger(input_name="payload", activity=REQUEST_APPROVAL)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(REQUEST_APPROVAL)
async def request_approval(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> object:
    """Open the approval of a tool call, tell who may decide, and start the webhook where one is set."""
    request = RequestApprovalInput.load(payload)
    asked = await services().approvals.request(request.tool_call_id, instance_id=request.instance_id)
    if asked is None:
        return RequestApprovalResult().dump()
    send(events, asked.messages)
    if services().settings.approval_webhook_url:
        await start_notification(client, asked.approval_id)
    return RequestApprovalResult(approval_id=asked.approval_id, expires_at=asked.expires_at).dump()


@bp.activity_trigger(input_name="payload", activity=NOTIFY_APPROVERS)
async def notify_approvers(payload: object) -> None:
    """Send the signed webhook. Raises while the receiver does not take it; the orchestrator tries again."""
    await services().notifier.notify(NotifyApproversInput.load(payload).approval_id)
