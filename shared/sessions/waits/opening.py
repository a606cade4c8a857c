"""From a tool that waits to the wait that is stored, and to what its call goes on with. Pure functions."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.errors import ErrorCode, ToolFailed
from shared.sessions.models import ToolWait, WaitStatus
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.records.waits import CallWait, NewWait
from shared.sessions.tools.deferred import Deferred, Resumed

MAX_ROUNDS = 8
"""Of one call: a server that goes on asking is not answered for ever."""


def new_wait(call: ToolExecution, deferred: Deferred, *, wait_id: str, now: datetime) -> NewWait:
    """Asked of the user whose message began the turn. Raises ToolFailed."""
    number = 1 if call.wait is None else call.wait.number + 1
    if number > MAX_ROUNDS:
        raise ToolFailed(
            f"The call asked for input more than {MAX_ROUNDS} times.", code=ErrorCode.TOOL_EXECUTION_FAILED
        )
    wait = ToolWait(
        id=wait_id,
        tool_call_id=call.tool_call_id,
        tool=call.name,
        kind=deferred.kind,
        status=WaitStatus.PENDING,
        asked_by=deferred.asked_by,
        asked_of=call.requested_by,
        questions=list(deferred.questions),
        opened_at=now,
        expires_at=now + timedelta(seconds=deferred.timeout_s or call.plan.approval_timeout_seconds),
    )
    return NewWait(wait_id, call.tool_call_id, call.turn_id, number, wait, deferred.state, deferred.workflow)


def resumed(wait: CallWait) -> Resumed:
    """What the call goes on with."""
    return Resumed(wait.number, wait.state, wait.answer or {})


def is_open(call: ToolExecution) -> bool:
    """Whether the call waits, and not in vain."""
    return call.wait is not None and call.wait.wait.status is WaitStatus.PENDING and not call.cancelled
