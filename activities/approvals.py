"""request_approval, give_notice and notify_approvers: ask people for a decision, and remind them."""

from __future__ import annotations

import logging

import azure.durable_functions as df
import azure.functions as func

from activities.binding import deliver, sends_events
from activities.durable_client import start_notification
from shared import tracing
from shared.composition.services import services
from shared.durable.messages import GiveNoticeInput, NotifyApproversInput, RequestApprovalInput, RequestApprovalResult
from shared.durable.names import GIVE_NOTICE, NOTIFY_APPROVERS, REQUEST_APPROVAL
from shared.sessions.records.approval_policy import NoticeKind

bp = df.Blueprint()

log = logging.getLogger(__name__)


@bp.activity_trigger(input_name="payload", activity=REQUEST_APPROVAL)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(REQUEST_APPROVAL)
async def request_approval(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> object:
    """Open the approval of a tool call, tell those who may decide, start the webhook if one is configured, and queue
    the cards."""
    request = RequestApprovalInput.load(payload)
    asked = await services().approvals.request(request.tool_call_id, instance_id=request.instance_id)
    if asked is None:
        return RequestApprovalResult().dump()
    await deliver(events, asked.messages, is_repeat=request.again > 0)
    await tell_receiver(client, asked.approval_id, NoticeKind.REQUESTED)
    await services().cards.queue(asked.approval_id, NoticeKind.REQUESTED, 0)
    schedule = asked.schedule
    return RequestApprovalResult(
        approval_id=asked.approval_id,
        expires_at=schedule.expires_at,
        decided=asked.is_decided,
        remind_at=schedule.remind_at,
        remind_every_s=int(schedule.remind_every.total_seconds()),
        reminded=schedule.reminded,
        escalate_at=schedule.escalate_at,
    ).dump()


@bp.activity_trigger(input_name="payload", activity=GIVE_NOTICE)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(GIVE_NOTICE)
async def give_notice(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> None:
    """Remind those who may decide, or tell those it escalates to. Does nothing once the approval is decided."""
    notice = GiveNoticeInput.load(payload)
    try:
        messages = await services().approvals.give_notice(notice.approval_id, notice.kind, notice.number)
        if messages is None:
            return
        # A binding that fails would have it given again.
        await deliver(events, messages, is_repeat=True)
        await tell_receiver(client, notice.approval_id, notice.kind, notice.number)
        await services().cards.queue(notice.approval_id, notice.kind, notice.number)
    except Exception:
        # Logged here, since the orchestrator goes on without the notice.
        log.exception("%s of approval %s could not be given", notice.kind, notice.approval_id)
        raise


@bp.activity_trigger(input_name="payload", activity=NOTIFY_APPROVERS)
@tracing.activity(NOTIFY_APPROVERS)
async def notify_approvers(payload: object) -> None:
    """Send the signed webhook. Raises while the receiver does not accept it; the orchestrator retries."""
    request = NotifyApproversInput.load(payload)
    await services().notifier.notify(request.approval_id, request.kind, request.number)


async def tell_receiver(
    client: df.DurableOrchestrationClient, approval_id: str, kind: NoticeKind, number: int = 0
) -> None:
    """Start a webhook if a receiver is configured. Idempotent."""
    if services().settings.approval_webhook_url:
        await start_notification(client, approval_id, kind, number)


async def tell_decision(client: df.DurableOrchestrationClient, approval_id: str) -> None:
    """Start the webhook of a decision. Never raises: the decision takes effect even if no receiver hears of it."""
    try:
        await tell_receiver(client, approval_id, NoticeKind.DECIDED)
    except Exception:
        log.exception("the decision of approval %s could not be told", approval_id)
