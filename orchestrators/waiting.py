"""A tool call that has begun and waits for an answer: wait (minutes or days), go on, and wait again if it asks again.

The event that ends a wait has no payload: `execute_tool` reads the answer from the store. A call without an approval
waits in an orchestration of its own; one with an approval waits in that one (`approval.py`).
"""

from __future__ import annotations

from collections import Counter

import azure.durable_functions as df

from orchestrators.durable import Steps, call_activity, pause, wait
from shared.durable.messages import ExecuteToolInput, ExecuteToolResult, WaitInput
from shared.durable.names import EXECUTE_TOOL, WAIT, answer_event
from shared.sessions.turns.retry import held_delay_s

bp = df.Blueprint()

_MAX_LOOKS = 20
"""Events without an answer that are followed up; after that only the deadline ends the wait."""


@bp.orchestration_trigger(context_name="context", orchestration=WAIT)
def waiting(context: df.DurableOrchestrationContext) -> Steps[str]:
    """Look first: an answer may have come before anybody waited. Returns the tool call's final status."""
    given = WaitInput.load(context.get_input())
    request = ExecuteToolInput(tool_call_id=given.tool_call_id, told_wait=given.told_wait)
    return (yield from executed(context, request)).status


def executed(context: df.DurableOrchestrationContext, request: ExecuteToolInput) -> Steps[ExecuteToolResult]:
    """Execute a call until it has ended, or nobody has decided about it."""
    looks = 0
    events: Counter[str] = Counter()
    while True:
        result = ExecuteToolResult.load((yield from call_activity(context, EXECUTE_TOOL, request.dump())))
        if result.wait_id is not None and result.wait_until is not None:
            events[result.wait_id] += 1
            event = answer_event(result.wait_id if events[result.wait_id] <= _MAX_LOOKS else f"{result.wait_id}-none")
            in_time = yield from wait(context, event, result.wait_until)
            late = None if in_time else result.wait_id
            request = ExecuteToolInput(tool_call_id=request.tool_call_id, late_wait=late)
        elif result.held:
            looks += 1
            yield from pause(context, held_delay_s(looks))
        else:
            return result
