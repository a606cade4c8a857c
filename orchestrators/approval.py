"""One tool call that needs an approval: ask, wait (minutes or days), then do what was decided.

Ends with the tool's result, or with a refusal for the model; a rejection or a timeout is a normal outcome.
The event that ends the wait has no payload: `execute_tool` reads the decision from the store, so a forged or repeated
event at most triggers a look. During the wait, the policy's reminders and escalation are sent.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import azure.durable_functions as df

from orchestrators.durable import Steps, call_activity, listen, parallel_activity, wait_for
from orchestrators.waiting import executed
from shared.durable.messages import (
    ApprovalInput,
    ExecuteToolInput,
    ExecuteToolResult,
    GiveNoticeInput,
    RequestApprovalInput,
    RequestApprovalResult,
)
from shared.durable.names import APPROVAL, GIVE_NOTICE, REQUEST_APPROVAL, approval_event
from shared.sessions.approvals.notices import Notice, NoticeSchedule

bp = df.Blueprint()

_MAX_LOOKS = 20
"""Events without a decision that are followed up; after that only the deadline ends the wait."""


@bp.orchestration_trigger(context_name="context", orchestration=APPROVAL)
def approval(context: df.DurableOrchestrationContext) -> Steps[str]:
    """Ask, wait, act. Returns the tool call's final status."""
    tool_call_id = ApprovalInput.load(context.get_input()).tool_call_id
    ask = RequestApprovalInput(tool_call_id=tool_call_id, instance_id=context.instance_id)
    asked = RequestApprovalResult.load((yield from call_activity(context, REQUEST_APPROVAL, ask.dump())))
    if asked.approval_id is None or asked.expires_at is None:
        # The turn was cancelled before anyone was asked; `execute_tool` records that.
        result = yield from _execute(context, tool_call_id, deadline_passed=True)
        return result.status
    if asked.decided:
        result = yield from _execute(context, tool_call_id, deadline_passed=False)
        return result.status
    schedule = NoticeSchedule(
        asked.expires_at, asked.remind_at, timedelta(seconds=asked.remind_every_s), asked.escalate_at, asked.reminded
    )
    for look in range(_MAX_LOOKS + 1):
        event = approval_event(asked.approval_id) if look < _MAX_LOOKS else f"{asked.approval_id}-none"
        arrived = listen(context, event)
        in_time = False
        while not in_time:
            notice = schedule.next()
            in_time = yield from wait_for(context, arrived, schedule.expires_at if notice is None else notice.at)
            if in_time or notice is None:
                break
            yield from _give(context, asked.approval_id, notice)
            schedule = schedule.after(notice, context.current_utc_datetime)
        result = yield from _execute(context, tool_call_id, deadline_passed=not in_time)
        if not result.pending:
            break
    return result.status


def _give(context: df.DurableOrchestrationContext, approval_id: str, notice: Notice) -> Steps[Any]:
    """Remind or escalate. A notice that fails must not end the wait."""
    request = GiveNoticeInput(approval_id=approval_id, kind=notice.kind, number=notice.number)
    try:
        yield parallel_activity(context, GIVE_NOTICE, request.dump())
    except Exception:
        # The activity has logged why; the next notice tries again.
        return


def _execute(
    context: df.DurableOrchestrationContext, tool_call_id: str, *, deadline_passed: bool
) -> Steps[ExecuteToolResult]:
    return (yield from executed(context, ExecuteToolInput(tool_call_id=tool_call_id, deadline_passed=deadline_passed)))
