"""execute_tool: bring one tool call to its end, at most once."""

from __future__ import annotations

import logging

import azure.durable_functions as df
import azure.functions as func

from activities.approvals import tell_decision
from activities.binding import deliver, sends_events
from activities.durable_client import end_workflow, interrupt, start_or_leave, start_workflow
from shared import tracing
from shared.composition.services import services
from shared.durable.messages import ExecuteToolInput, ExecuteToolResult
from shared.durable.names import EXECUTE_TOOL
from shared.errors import ErrorCode, Transient
from shared.sessions.models import ToolCallStatus

bp = df.Blueprint()

log = logging.getLogger(__name__)


@bp.activity_trigger(input_name="payload", activity=EXECUTE_TOOL)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(EXECUTE_TOOL)
async def execute_tool(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> object:
    """Run an allowed call, or record why it does not run. A tool's failure is a result, and so are a database that is
    away and a call that waits for an answer."""
    request = ExecuteToolInput.load(payload)
    try:
        report = await services().tool_calls.handle_tool_call(
            request.tool_call_id,
            deadline_passed=request.deadline_passed,
            late_wait=request.late_wait,
            told_wait=request.told_wait,
        )
    except Transient as exc:
        if exc.code is not ErrorCode.DATABASE_ERROR:
            raise
        log.warning("tool call %s waits: %s", request.tool_call_id, exc)
        return ExecuteToolResult(status=ToolCallStatus.PENDING, held=True).dump()
    await deliver(events, report.messages, is_repeat=report.is_repeated or request.again > 0)
    if report.start_turn_id is not None:
        await start_or_leave(client, report.start_turn_id)
    if report.workflow is not None:
        await start_workflow(client, report.workflow)
    if report.over_workflow_id is not None:
        await end_workflow(client, report.over_workflow_id, "nobody waits for it any more")
    if report.interruption is not None:
        await interrupt(client, report.interruption)
    if report.approval_id is not None:
        # The one who decided has usually sent this already; it is missing after a timeout or a crash.
        await tell_decision(client, report.approval_id)
    return ExecuteToolResult(
        status=report.status,
        pending=report.pending,
        held=report.is_held or report.wait is not None,
        wait_id=None if report.wait is None else report.wait.id,
        wait_until=None if report.wait is None else report.wait.expires_at,
    ).dump()
