"""One turn: the model answers and its tool calls run (some after an approval), until an answer has no tool calls.

    call_model -> no tool calls? -> the turn is closed; if it is not: finish_turn
        ^      -> tool calls, all side by side:  needs approval -> approval (sub-orchestration)
        |                                        otherwise      -> execute_tool
        +--------------------------------------- all ended
        +---- an answer, and a message that joined the turn while it was written

Deterministic: it uses only its input, the clock of its context and results of yielded tasks. A crash between any two
yields only costs time, since every activity is idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import azure.durable_functions as df

from orchestrators.durable import (
    Steps,
    all_of,
    any_of,
    call_activity,
    parallel_activity,
    sub_orchestration,
    wait,
)
from shared.durable.messages import (
    ApprovalInput,
    CallModelInput,
    CallModelResult,
    ExecuteToolInput,
    ExecuteToolResult,
    FinishTurnInput,
    WaitInput,
    explain_failure,
    is_lost,
)
from shared.durable.names import (
    APPROVAL,
    CALL_MODEL,
    CANCEL_EVENT,
    EXECUTE_TOOL,
    FINISH_TURN,
    TURN,
    WAIT,
    call_instance,
)
from shared.sessions.models import TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.turns.retry import held_delay_s

bp = df.Blueprint()

LOST = "lost"
"""Output of an orchestration that leaves its turn open."""


class _CallLost(Exception):
    """A tool call's orchestration ended without having done its work: its worker died, or somebody terminated it."""


@bp.orchestration_trigger(context_name="context", orchestration=TURN)
def turn(context: df.DurableOrchestrationContext) -> Steps[str]:
    """Run one turn to its end. The instance id is the turn id; there is no other input."""
    turn_id: str = context.instance_id
    try:
        ending = yield from _converse(context, turn_id)
    except _CallLost:
        # The turn goes on from what is stored: the sweep starts it again.
        return LOST
    except Exception as exc:
        # Retries are exhausted. The turn must still end, or its session could never go on.
        code, detail = explain_failure(str(exc))
        ending = FinishTurnInput(turn_id=turn_id, status=TurnStatus.FAILED, code=code, detail=detail)
    if ending is None:
        return TurnStatus.COMPLETED
    yield from call_activity(context, FINISH_TURN, ending.dump())
    return ending.status


def _converse(context: df.DurableOrchestrationContext, turn_id: str) -> Steps[FinishTurnInput | None]:
    """Model steps and tool calls until the turn is over. How it is to be finished; None: its last answer closed it.

    The `call_model` activity enforces the step limit.
    """
    step = 0
    while True:
        step += 1
        result = yield from _model_step(context, turn_id, step)
        match result.outcome:
            case StepOutcome.FINAL if result.closed:
                return None
            case StepOutcome.FINAL:
                return FinishTurnInput(turn_id=turn_id, status=TurnStatus.COMPLETED)
            case StepOutcome.TOOL_CALLS:
                yield from _tool_calls(context, turn_id, result.calls)
            case StepOutcome.JOINED:
                continue  # the next step reads what joined
            case StepOutcome.CANCELLED:
                return FinishTurnInput(turn_id=turn_id, status=TurnStatus.CANCELLED)
            case _:
                return FinishTurnInput(
                    turn_id=turn_id, status=TurnStatus.FAILED, code=result.code, detail=result.detail
                )


def _model_step(context: df.DurableOrchestrationContext, turn_id: str, step: int) -> Steps[CallModelResult]:
    """One answer of the model. A model that is busy or down is called again after a durable timer."""
    request = CallModelInput(turn_id=turn_id, step=step, tries=1)
    looks = 0
    while True:
        result = CallModelResult.load((yield from call_activity(context, CALL_MODEL, request.dump())))
        if result.outcome is not StepOutcome.RETRY:
            return result
        if result.is_queued:
            since = request.waits_since or context.current_utc_datetime
            changes = {"waits_since": since, "looks": request.looks + 1, "is_told": result.is_told}
            request = request.model_copy(update=changes)
            yield from _pause(context, result.delay_s)
        elif result.held:
            looks += 1
            yield from _pause(context, held_delay_s(looks))
        else:
            # It had a place: should it wait for one again, it waits anew.
            request = CallModelInput(
                turn_id=turn_id,
                step=step,
                tries=request.tries + 1,
                spent_s=result.spent_s,
                spent_tokens=result.spent_tokens,
            )
            yield from _pause(context, result.delay_s)


def _pause(context: df.DurableOrchestrationContext, seconds: float) -> Steps[None]:
    """A cancel ends the pause early; what comes next then finds the turn cancelled."""
    yield from wait(context, CANCEL_EVENT, context.current_utc_datetime + timedelta(seconds=seconds))


def _tool_calls(
    context: df.DurableOrchestrationContext, turn_id: str, calls: Sequence[tuple[str, bool]]
) -> Steps[None]:
    """All calls of a step side by side. Those that were held are asked for again, however long an approval takes; those
    that wait for an answer get an orchestration of their own."""
    tasks = [_tool_call(context, turn_id, *call) for call in calls]
    yield any_of(context, tasks)  # so that all of them begin
    held = [(call_id, task) for (call_id, needs_approval), task in zip(calls, tasks, strict=True) if not needs_approval]
    looks = 0
    waiting: list[tuple[str, str]] = []
    while held:
        ended = yield all_of(context, [task for _, task in held])
        results = [(call_id, ExecuteToolResult.load(result)) for (call_id, _), result in zip(held, ended, strict=True)]
        waiting += [(call_id, result.wait_id) for call_id, result in results if result.wait_id is not None]
        again = [call_id for call_id, result in results if result.held and result.wait_id is None]
        if not again:
            break
        looks += 1
        yield from _pause(context, held_delay_s(looks))
        held = [(call_id, _tool_call(context, turn_id, call_id, False)) for call_id in again]
    # Both end with a status, and wait for the session and for a place themselves.
    approvals = [task for (_, needs_approval), task in zip(calls, tasks, strict=True) if needs_approval]
    waits = [_waiting(context, turn_id, call_id, wait_id) for call_id, wait_id in waiting]
    if not (approvals or waits):
        return
    try:
        yield all_of(context, [*approvals, *waits])
    except Exception as exc:
        if is_lost(str(exc)):
            raise _CallLost from exc
        raise


def _waiting(context: df.DurableOrchestrationContext, turn_id: str, tool_call_id: str, wait_id: str) -> Any:
    request = WaitInput(tool_call_id=tool_call_id, told_wait=wait_id)
    return sub_orchestration(context, WAIT, request.dump(), instance_id=call_instance(turn_id, tool_call_id))


def _tool_call(context: df.DurableOrchestrationContext, turn_id: str, tool_call_id: str, needs_approval: bool) -> Any:
    if needs_approval:
        return sub_orchestration(
            context,
            APPROVAL,
            ApprovalInput(tool_call_id=tool_call_id).dump(),
            instance_id=call_instance(turn_id, tool_call_id),
        )
    return parallel_activity(context, EXECUTE_TOOL, ExecuteToolInput(tool_call_id=tool_call_id).dump())
