"""ToolCallHandler: runs an allowed tool call at most once, and tells the model how it ended.

Invariant: a finished result is returned, never computed again. A tool that is not idempotent and was found begun but
not ended is not run again: the call fails with an honest "outcome unknown".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import orjson

from shared import tracing
from shared.errors import AppError, ErrorCode, Transient
from shared.ids import new_id
from shared.lanes import UNLIMITED, Lane, Place
from shared.sessions.approvals.containment import DECIDED_ARGUMENTS
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import is_granted
from shared.sessions.approvals.needed import requires_approval
from shared.sessions.audit import notes
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, FrameType, SessionEventPublisher, frame
from shared.sessions.metrics import metrics, track_tool_time
from shared.sessions.models import ApprovalStatus, JsonObject, MessageRole, ToolCallStatus
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.tool_calls import CallStart, ToolCallResult, ToolExecution
from shared.sessions.repository import ToolCallRepository
from shared.sessions.tools.registry import (
    MAX_ERROR_CHARS,
    InvalidToolArguments,
    Tool,
    ToolArguments,
    ToolContext,
    ToolOutput,
    ToolServices,
    find_tool,
    validate_arguments,
)
from shared.sessions.turns.cancellation import CancelWatch, TurnCancelled
from shared.sessions.turns.keeping import RETRY_S, Keeper

log = logging.getLogger(__name__)

GRACE_S = 3.0
"""A process that has a result stores it within a second of the database's return."""
_BACK_IN_S = 75.0
"""Within this a call that was held is asked for again (`held_delay_s`)."""
_BEGIN_TRIES = 10
_CANCELLED = "The turn was cancelled before this call ran."
_CHANGED = (
    "A person approved this call with changed arguments. It ran with decided_arguments, not with the ones you wrote."
)


@dataclass(frozen=True, slots=True)
class ToolReport:
    """How a call ended. pending: nobody has decided yet, nothing was done."""

    status: ToolCallStatus
    pending: bool
    messages: list[bytes]
    approval_id: str | None = None
    """The approval that is over with it."""
    is_held: bool = False
    """Its session is suspended or the lane full, nothing was done."""
    is_repeated: bool = False
    """It had ended before; the messages are sent again."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A call's end. content: the JSON the model reads; result: what clients read."""

    status: ToolCallStatus
    content: JsonObject
    result: Any
    code: ErrorCode | None = None


class _Nothing(Enum):
    """Why nothing was done for a call."""

    HELD = "held"  # its session is suspended, or the lane full
    ENDED = "ended"  # another process has stored how it ended


class ToolCallHandler:
    """Executes tool calls whose approval, if they need one, is on record."""

    def __init__(
        self,
        tool_calls: ToolCallRepository,
        publisher: SessionEventPublisher,
        services: ToolServices,
        watch: CancelWatch,
        keeper: Keeper | None = None,
        *,
        grace_s: float = GRACE_S,
        retry_s: float = RETRY_S,
        lane: Lane | None = None,
    ) -> None:
        self._tool_calls = tool_calls
        self._publisher = publisher
        self._services = services
        self._watch = watch
        self._keeper = keeper or Keeper()
        self._grace_s = grace_s
        self._retry_s = retry_s
        self._lane = lane or Lane("tool calls", UNLIMITED)
        self._starts: dict[str, str] = {}
        """Ids of starts, by call, that the database did not confirm."""

    async def handle_tool_call(self, tool_call_id: str, *, deadline_passed: bool = False) -> ToolReport:
        """Bring a call to its end, whatever that is.

        deadline_passed: the wait for its approval is over; a decision that was just in time still counts.
        Raises Transient(DATABASE_ERROR), NotFound.
        """
        await self._keeper.wait(tool_call_id)
        call = await self._tool_calls.tool_execution(tool_call_id)
        tracing.join_turn(call.turn_id, call.session_id, call.plan)
        if call.ended_at is not None:
            if call.needs_approval:
                await self._tool_calls.mark_approval_delivered(tool_call_id, now=datetime.now(UTC))
            return await self._again(call)
        if call.needs_approval and deadline_passed and call.approval_status is ApprovalStatus.PENDING:
            await self._tool_calls.time_out_approval(tool_call_id, _timed_out(call), now=datetime.now(UTC))
            call = await self._tool_calls.tool_execution(tool_call_id)
        if call.needs_approval and call.approval_status is ApprovalStatus.PENDING and not call.cancelled:
            return ToolReport(call.status, True, [])
        outcome = await self._outcome(call)
        if outcome is _Nothing.HELD:
            return ToolReport(call.status, False, await self._tell_late(call), is_held=True)
        if outcome is _Nothing.ENDED:
            return await self._again(await self._tool_calls.tool_execution(tool_call_id))
        report = await self._store(call, outcome)
        if call.needs_approval:
            # After the result: until that is stored, nothing that may fail stands between it and the keeper.
            await self._tool_calls.mark_approval_delivered(tool_call_id, now=datetime.now(UTC))
        return report

    async def _outcome(self, call: ToolExecution) -> _Outcome | _Nothing:
        refusal = _refusal(call)
        if refusal is not None:
            self._lane.give_up(call.tool_call_id)
            return refusal
        tool = find_tool(call.name)
        if tool is None:
            return _failed(ErrorCode.TOOL_NOT_FOUND, f"There is no tool named {call.name!r}.")
        arguments = call.arguments if call.decided_arguments is None else call.decided_arguments
        if call.needs_approval and call.arguments_digest != arguments_digest(call.name, arguments):
            # What was approved and what would run must be the same bytes, or nothing runs.
            return _failed(ErrorCode.APPROVAL_REJECTED, "The approved arguments do not match this call.")
        if call.is_held:
            return _Nothing.HELD  # before anything is written of it; who suspends from here on is found below
        place = self._lane.enter(call.tool_call_id, Place(call.requested_by), back_in_s=_BACK_IN_S)
        if place is None:
            metrics.lane_was_full("tools")
            return _Nothing.HELD
        with place:
            return await self._allowed(tool, arguments, call)

    async def _allowed(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> _Outcome | _Nothing:
        """What becomes of a call that may run, and has a place."""
        started = _note(call, "tool_call.started", {"arguments_digest": arguments_digest(call.name, arguments)})
        start = await self._begin(call.tool_call_id, started)
        if start is CallStart.HELD:
            return _Nothing.HELD
        if start is CallStart.CANCELLED:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED)
        if start is CallStart.BEFORE and not tool.idempotent:
            # Whoever ran it may live, and store its result just now.
            await asyncio.sleep(self._grace_s)
            if (await self._tool_calls.tool_execution(call.tool_call_id)).ended_at is not None:
                return _Nothing.ENDED
            outcome = _failed(
                ErrorCode.TOOL_EXECUTION_FAILED,
                "This call was interrupted while it ran; its outcome is unknown and it was not repeated.",
            )
        else:
            outcome = await self._run(tool, arguments, call)
        return outcome if call.decided_arguments is None else _with_changes(outcome, call.decided_arguments)

    async def _tell_late(self, call: ToolExecution) -> list[bytes]:
        """Tell once of a call that waits for long."""
        seconds = self._lane.late_s(call.tool_call_id)
        if seconds is None:
            return []
        said = frame(FrameType.WAITING, call.turn_id, call.message_id, lane="tools", seconds=int(seconds))
        return await self._publisher.publish(call.target, [said])

    async def _begin(self, tool_call_id: str, note: AuditNote | None) -> CallStart:
        """Mark that the tool is about to run. Said again as the same start when the answer was lost, so that a start of
        ours is told from one of somebody who may have run it."""
        # Taken out: of two who run this at once, each has a start of its own. It is kept until it is known what became
        # of it: one that was stored, and held when it was said again, is still ours.
        start_id = self._starts.pop(tool_call_id, None) or new_id()
        is_known = is_doubtful = False
        begin = self._tool_calls.begin_tool_call
        try:
            for left in reversed(range(_BEGIN_TRIES)):
                try:
                    start = await begin(tool_call_id, start_id, note, now=datetime.now(UTC))
                    if start is CallStart.BEFORE and is_doubtful:
                        # The try before may have been stored only after this statement began.
                        start = await begin(tool_call_id, start_id, note, now=datetime.now(UTC))
                except Transient:
                    if not left:
                        raise
                    is_doubtful = True
                    await asyncio.sleep(self._retry_s)
                else:
                    is_known = start is not CallStart.HELD
                    return start
        finally:
            if not is_known:
                self._starts[tool_call_id] = start_id
        raise AssertionError("the last try returns or raises")

    async def _run(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> _Outcome:
        timeout_s = min(tool.timeout_s, call.plan.tool_timeout_seconds)
        context = ToolContext(
            tool_call_id=call.tool_call_id,
            session_id=call.session_id,
            turn_id=call.turn_id,
            user_id=call.requested_by,
            now=datetime.now(UTC),
            services=self._services,
        )
        try:
            parsed = validate_arguments(tool, arguments)
            with tracing.tool_run(tool.name, call.tool_call_id, call.session_id):
                async with self._watch.guard(call.turn_id), asyncio.timeout(timeout_s):
                    output = await _execute(tool, parsed, context)
        except InvalidToolArguments as exc:
            return _failed(ErrorCode.INVALID_TOOL_ARGS, str(exc))
        except TurnCancelled:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, "The turn was cancelled while this call ran.")
        except TimeoutError:
            return _failed(ErrorCode.TOOL_TIMEOUT, f"The tool did not finish within {timeout_s:g} seconds.")
        except AppError as exc:
            return _failed(exc.code, exc.safe_message[:MAX_ERROR_CHARS])
        except Exception:
            # A tool's bug must not cost the turn; the model is told that it failed, the operator is told why.
            log.exception("tool %s failed in call %s", tool.name, call.tool_call_id)
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, "The tool failed unexpectedly.")
        content = {"status": "completed", "untrusted_output": output.content}
        return _Outcome(ToolCallStatus.COMPLETED, content, output.data)

    async def _store(self, call: ToolExecution, outcome: _Outcome) -> ToolReport:
        content = orjson.dumps(outcome.content).decode().replace("\\u0000", "\\ufffd")
        message_id = new_id()
        result = ToolCallResult(
            call.tool_call_id,
            outcome.status,
            result=outcome.result,
            error_code=outcome.code,
            message_id=message_id,
            content=content,
            tokens=estimate_tokens(content),
            ended_at=datetime.now(UTC),
        )
        ended = _note(call, "tool_call.ended", {"status": outcome.status, "code": outcome.code})
        if not await self._keeper.store(call.tool_call_id, lambda: self._tool_calls.save_tool_result(result, ended)):
            stands = await self._tool_calls.tool_execution(call.tool_call_id)
            if stands.result_message_id != message_id:
                # Another attempt runs beside this one and has it; it says so itself.
                return ToolReport(stands.status, False, [], call.approval_id)
        metrics.tool_call_ended(call.name, outcome.status)
        metrics.message_stored(MessageRole.TOOL)
        return ToolReport(outcome.status, False, await self._announce(call, outcome, message_id), call.approval_id)

    async def _again(self, call: ToolExecution) -> ToolReport:
        """A call on record is said again: whoever stored it may have been cut before it could say so."""
        code = ErrorCode(call.error_code) if call.error_code else None
        outcome = _Outcome(call.status, {}, call.result, code)
        if call.result_message_id is None:
            # Closed with its turn, whose own end tells of it.
            return ToolReport(call.status, False, [], call.approval_id, is_repeated=True)
        messages = await self._announce(call, outcome, call.result_message_id)
        return ToolReport(call.status, False, messages, call.approval_id, is_repeated=True)

    async def _announce(self, call: ToolExecution, outcome: _Outcome, message_id: str) -> list[bytes]:
        data: JsonObject = {
            "tool_call": {
                "id": call.tool_call_id,
                "message_id": call.message_id,
                "name": call.name,
                "status": outcome.status,
                "result": outcome.result,
            }
        }
        if outcome.code is not None:
            data["code"] = outcome.code
        events = []
        if outcome.status is ToolCallStatus.COMPLETED:
            events.append(Event(EventType.TOOL_CALL_COMPLETED, data, call.turn_id, call.message_id))
        elif outcome.status is ToolCallStatus.FAILED:
            events.append(Event(EventType.TOOL_CALL_FAILED, data, call.turn_id, call.message_id))
        elif call.approval_status is ApprovalStatus.TIMED_OUT:
            # A person's rejection was announced when it was made; a timeout is nobody's request.
            events.append(Event(EventType.TOOL_CALL_REJECTED, data, call.turn_id, call.message_id))
        created = {"id": message_id, "role": "tool", "status": "completed", "tool_call_id": call.tool_call_id}
        events.append(Event(EventType.MESSAGE_CREATED, created, call.turn_id, message_id))
        return await self._publisher.publish(call.target, events)


def _note(call: ToolExecution, action: str, details: JsonObject) -> AuditNote | None:
    return notes.of_call(call, action, details, by_grant=_by_grant(call))


def _timed_out(call: ToolExecution) -> Callable[[ApprovalStatus], list[AuditNote]]:
    """By what its policy makes of it that nobody decided."""

    def told(status: ApprovalStatus) -> list[AuditNote]:
        note = _note(call, "approval.timed_out", {"outcome": status})
        return [] if note is None else [note]

    return told


@track_tool_time
async def _execute(tool: Tool, arguments: ToolArguments, context: ToolContext) -> ToolOutput:
    return await tool.run(arguments, context)


def _refusal(call: ToolExecution) -> _Outcome | None:
    """Why a call does not run at all."""
    if call.declined:
        content: JsonObject = {
            "status": "rejected",
            "error": "Exactly this was declined before; nobody is asked again.",
        }
        return _rejected(ErrorCode.APPROVAL_REJECTED, content)
    if call.approval_status is ApprovalStatus.REJECTED:
        content = {"status": "rejected", "by": call.decided_by, "error": f"Rejected by {call.decided_by}."}
        if call.comment:
            content["comment"] = call.comment
        return _rejected(ErrorCode.APPROVAL_REJECTED, content)
    if call.approval_status is ApprovalStatus.TIMED_OUT:
        content = {"status": "timed_out", "error": "Nobody approved it in time, so it was not run."}
        return _rejected(ErrorCode.APPROVAL_TIMEOUT, content)
    if call.cancelled or call.approval_status is ApprovalStatus.CANCELLED:
        return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED)
    if call.argument_error is not None:
        known = find_tool(call.name) is not None and call.name in call.plan.tools
        return _failed(ErrorCode.INVALID_TOOL_ARGS if known else ErrorCode.TOOL_NOT_FOUND, call.argument_error)
    if call.needs_approval and call.approval_status is not ApprovalStatus.APPROVED:
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    if _takes_a_person(call) and (call.approval_status is not ApprovalStatus.APPROVED or call.decided_by is None):
        # Whatever marked it as needing nobody, or said yes for those who did not answer.
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs a person's approval, and it does not have one.")
    if _by_grant(call) and not is_granted(call.name, call.plan, call.requested_by, call.granted_tools):
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    return None


def _takes_a_person(call: ToolExecution) -> bool:
    """Whether the rule of two holds for it."""
    return call.contained and call.plan.containment is not Containment.OFF


def _by_grant(call: ToolExecution) -> bool:
    """Whether it waited for nobody only because the tool was approved for the rest of the session."""
    tool = find_tool(call.name)
    return not call.needs_approval and tool is not None and requires_approval(tool, call.plan)


def _with_changes(outcome: _Outcome, arguments: JsonObject) -> _Outcome:
    """Tell the model what ran, since the conversation that it reads has the arguments that it wrote itself.

    It stands before the output, which may be cut.
    """
    status, *rest = outcome.content.items()
    changed = {"approved_with_changes": _CHANGED, DECIDED_ARGUMENTS: arguments}
    return replace(outcome, content=dict([status, *changed.items(), *rest]))


def _rejected(code: ErrorCode, content: JsonObject) -> _Outcome:
    return _Outcome(ToolCallStatus.REJECTED, content, {**content, "code": code}, code)


def _failed(code: ErrorCode, message: str) -> _Outcome:
    return _Outcome(
        ToolCallStatus.FAILED, {"status": "failed", "error": message}, {"error": message, "code": code}, code
    )
