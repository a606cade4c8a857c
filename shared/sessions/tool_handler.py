"""ToolCallHandler: runs an allowed tool call at most once, and tells the model how it ended.

Invariant: a finished result is returned, never computed again. A tool that is not idempotent and was found begun but
not ended is not run again: the call fails with an honest "outcome unknown".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson

from shared import tracing
from shared.errors import ErrorCode, ToolFailed
from shared.ids import new_id
from shared.lanes import UNLIMITED, Lane, Place
from shared.sessions.agents.handing_over import Handovers
from shared.sessions.audit import notes
from shared.sessions.calls.beginning import CallStarts, round_of
from shared.sessions.calls.outcomes import (
    CANCELLED,
    CANCELLED_ASKING,
    Nothing,
    Outcome,
    answered,
    as_decided,
    failed,
    handed_over,
    posted,
)
from shared.sessions.calls.refusals import by_grant, digest_of, refusal
from shared.sessions.calls.telling import end_events
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import FrameType, SessionEventPublisher, frame
from shared.sessions.live.progress import ProgressWriter
from shared.sessions.live.realtime import RealtimeSender
from shared.sessions.mcp.reading import DefinitionChanged
from shared.sessions.metrics import metrics, track_tool_time
from shared.sessions.models import (
    ApprovalStatus,
    JsonObject,
    MessageRole,
    ToolCallStatus,
    ToolWait,
    WaitKind,
    WaitStatus,
)
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.children import NewChild
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.records.tool_calls import CallStart, ToolCallResult, ToolExecution
from shared.sessions.records.turns import Interruption
from shared.sessions.records.waits import WorkflowStart
from shared.sessions.repository import ToolCallRepository, WaitRepository
from shared.sessions.subagents.answers import STARTED, handle_of
from shared.sessions.subagents.service import Stopped, Subagents
from shared.sessions.tools.context import CallLink
from shared.sessions.tools.deferred import MAX_LATER_S, Completion, Deferred
from shared.sessions.tools.files import with_files
from shared.sessions.tools.of_plan import tool_of
from shared.sessions.tools.registry import (
    InvalidToolArguments,
    Tool,
    ToolArguments,
    ToolContext,
    ToolOutput,
    ToolServices,
    ready,
    validate_arguments,
)
from shared.sessions.tools.running.masking import NO_MASK, Mask
from shared.sessions.tools.running.runner import ToolRunner, run_tool
from shared.sessions.turns.cancellation import CancelWatch, TurnCancelled
from shared.sessions.turns.keeping import RETRY_S, Keeper
from shared.sessions.waits import notes as wait_notes
from shared.sessions.waits.opening import is_open, new_wait, resumed
from shared.sessions.waits.telling import waiting_event
from shared.sessions.waits.workflows import start_of
from shared.signing import CompletionTokens

log = logging.getLogger(__name__)

GRACE_S = 3.0
"""A process that has a result stores it within a second of the database's return."""
_BACK_IN_S = 75.0
"""Within this a call that was held is asked for again (`held_delay_s`)."""
_TOKEN_MARGIN_S = 3_600
"""A token outlives the longest wait, which begins when its tool has returned."""
_DONE = ToolCallStatus.COMPLETED


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
    wait: ToolWait | None = None
    """The call has begun and waits for an answer; nothing more was done."""
    start_turn_id: str | None = None
    """The turn of an agent that it called, to be started."""
    interruption: Interruption | None = None
    """Of agents that it had called and that nobody waits for any more."""
    workflow: WorkflowStart | None = None
    """A workflow that it waits for, to be started."""
    over_workflow_id: str | None = None
    """The instance of a workflow that nobody waits for any more."""


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
        sender: RealtimeSender | None = None,
        mask: Mask = NO_MASK,
        waits: WaitRepository | None = None,
        completions: CompletionTokens | None = None,
        run: ToolRunner = run_tool,
        agents: Subagents | None = None,
        handovers: Handovers | None = None,
    ) -> None:
        """sender: for the progress of calls; None: it is not told. mask: of what tools must not tell. waits: None: a
        call that wants to wait for an answer fails. completions: None: no result may come later. agents: None: nor may
        agents be called. handovers: None: nor does one hand over."""
        self._tool_calls = tool_calls
        self._publisher = publisher
        self._services = services
        self._watch = watch
        self._keeper = keeper or Keeper()
        self._grace_s = grace_s
        self._retry_s = retry_s
        self._lane = lane or Lane("tool calls", UNLIMITED)
        self._sender = sender
        self._mask = mask
        self._waits = waits
        self._completions = completions
        self._run_tool = run
        self._agents = agents
        self._handovers = handovers
        self._starts = CallStarts(tool_calls, waits, retry_s=retry_s)

    async def handle_tool_call(
        self,
        tool_call_id: str,
        *,
        deadline_passed: bool = False,
        late_wait: str | None = None,
        told_wait: str | None = None,
    ) -> ToolReport:
        """Bring a call to its end, whatever that is, or to the next thing that it waits for.

        deadline_passed: the wait for its approval is over; a decision that was just in time still counts. late_wait:
        id of a wait for an answer of which the same holds. told_wait: id of one of which everybody has been told.
        Raises Transient(DATABASE_ERROR), NotFound.
        """
        await self._keeper.wait(tool_call_id)
        await ready()
        call = await self._tool_calls.tool_execution(tool_call_id)
        tracing.join_turn(call.turn_id, call.session_id, call.plan)
        if call.ended_at is not None:
            await self._mark_delivered(call)
            return await self._with_begun(call, await self._again(call))
        if call.needs_approval and deadline_passed and call.approval_status is ApprovalStatus.PENDING:
            await self._tool_calls.time_out_approval(tool_call_id, _timed_out(call), now=datetime.now(UTC))
            call = await self._tool_calls.tool_execution(tool_call_id)
        if call.needs_approval and call.approval_status is ApprovalStatus.PENDING and not call.cancelled:
            return ToolReport(call.status, True, [])
        if self._waits is not None and call.wait is not None and call.wait.wait.id == late_wait and is_open(call):
            late = [wait_notes.timed_out(call.wait.wait)]
            await self._waits.time_out(tool_call_id, call.wait.wait.id, late, now=datetime.now(UTC))
            call = await self._tool_calls.tool_execution(tool_call_id)
        if is_open(call):
            return await self._waiting(call, told_wait)
        stopped = await self._stopped(call)
        outcome = await self._outcome(call)
        if isinstance(outcome, Deferred):
            outcome = await self._deferred(call, outcome)
        if outcome is Nothing.HELD:
            return ToolReport(call.status, False, await self._tell_late(call), is_held=True)
        if outcome is Nothing.STORED:
            return await self._stored(tool_call_id)
        report = await self._with_begun(call, await self._store(call, outcome))
        # After the result: until that is stored, nothing that may fail stands between it and the keeper.
        await self._mark_delivered(call)
        if call.wait is not None and call.wait.wait.status is not WaitStatus.ANSWERED:
            report = replace(report, over_workflow_id=call.wait.workflow_id)
        if stopped is None:
            return report
        return replace(report, interruption=stopped.interruption, messages=[*stopped.messages, *report.messages])

    async def _with_begun(self, call: ToolExecution, report: ToolReport) -> ToolReport:
        """With the agent that works in the background, if the call has begun one that has to be started."""
        pinned = call.plan.agents.get(call.name)
        if pinned is None or not pinned.background or self._agents is None or report.status is not _DONE:
            return report
        begun = await self._agents.begun(call)
        return replace(report, start_turn_id=begun.turn_id, messages=[*begun.messages, *report.messages])

    async def _stopped(self, call: ToolExecution) -> Stopped | None:
        """Stop the agent of a call that does not wait for it any more."""
        if self._agents is None or call.wait is None or call.wait.wait.kind is not WaitKind.AGENT:
            return None
        if call.wait.wait.status is WaitStatus.ANSWERED:
            return None
        return await self._agents.stop(call.tool_call_id, now=datetime.now(UTC))

    async def _mark_delivered(self, call: ToolExecution) -> None:
        """The orchestration of a call that has ended need not be told of anything any more."""
        now = datetime.now(UTC)
        if call.needs_approval:
            await self._tool_calls.mark_approval_delivered(call.tool_call_id, now=now)
        if call.wait is not None and self._waits is not None:
            await self._waits.forget(call.tool_call_id, now=now)

    async def _stored(self, tool_call_id: str) -> ToolReport:
        """A call as another process has left it. One that has neither ended nor waits is asked for again."""
        call = await self._tool_calls.tool_execution(tool_call_id)
        if call.ended_at is not None:
            return await self._again(call)
        return await self._waiting(call) if is_open(call) else ToolReport(call.status, False, [], is_held=True)

    async def _waiting(self, call: ToolExecution, told_wait: str | None = None) -> ToolReport:
        """Say what a call waits for; again by a repeat: whoever stored it may have been cut before he could."""
        assert call.wait is not None  # it is open
        wait = call.wait.wait
        if wait.kind is WaitKind.AGENT and self._agents is not None:
            begun = await self._agents.begun(call)  # its own events tell the rest
            return ToolReport(call.status, False, begun.messages, wait=wait, start_turn_id=begun.turn_id)
        events = [] if wait.id == told_wait else [waiting_event(wait, call.turn_id, call.message_id)]
        told = await self._publisher.publish(call.target, events) if events else []
        return ToolReport(call.status, False, told, wait=wait, workflow=start_of(call))

    async def _deferred(self, call: ToolExecution, deferred: Deferred) -> Outcome | Nothing:
        """Store what a call waits for from now on."""
        if self._waits is None:
            return failed(ErrorCode.TOOL_EXECUTION_FAILED, "The tool asks for an answer, and nobody can be asked here.")
        if deferred.agent is not None and deferred.agent.background:
            return await self._in_background(call, deferred.agent, deferred.input)
        rows = self._waits
        child: NewChild | None = None
        try:
            new = new_wait(call, deferred, wait_id=new_id(), now=datetime.now(UTC))
            if deferred.agent is not None:
                if self._agents is None:
                    raise ToolFailed("Agents cannot be called here.")
                child = await self._agents.child_of(call, deferred.agent, deferred.input, now=datetime.now(UTC))
        except ToolFailed as exc:
            return failed(exc.code, exc.safe_message)
        opened = [wait_notes.opened(new.wait, child)]
        if await self._keeper.store(call.tool_call_id, lambda: rows.open(new, opened, child)):
            return Nothing.STORED
        stands = await self._tool_calls.tool_execution(call.tool_call_id)
        return failed(ErrorCode.TOOL_EXECUTION_FAILED, CANCELLED_ASKING) if stands.cancelled else Nothing.STORED

    async def _in_background(self, call: ToolExecution, agent: PlannedAgent, text: str) -> Outcome:
        """Begin an agent that the call does not wait for."""
        agents = self._agents
        if agents is None:
            return failed(ErrorCode.TOOL_EXECUTION_FAILED, "Agents cannot be called here.")
        try:
            child = await agents.begin(call, agent, text, now=datetime.now(UTC))
        except ToolFailed as exc:
            return failed(exc.code, exc.safe_message)
        if child is None:
            return failed(ErrorCode.TOOL_EXECUTION_FAILED, CANCELLED)
        content: JsonObject = {"status": "started", "tool_call": call.tool_call_id, "note": STARTED}
        outcome = Outcome(ToolCallStatus.COMPLETED, content, handle_of(child), sources=frozenset())
        return as_decided(outcome, call)

    async def _outcome(self, call: ToolExecution) -> Outcome | Deferred | Nothing:
        refused = refusal(call)
        if refused is not None:
            self._lane.give_up(call.tool_call_id)
            return refused
        if call.wait is not None and call.wait.wait.kind is WaitKind.AGENT and self._agents is not None:
            return (
                Nothing.HELD
                if call.is_held
                else as_decided(answered(await self._agents.of_call(call.tool_call_id), self._mask), call)
            )
        if call.wait is not None and call.wait.wait.kind in (WaitKind.RESULT, WaitKind.CLIENT):
            # Its tool has done its part, and may be gone by now.
            return Nothing.HELD if call.is_held else as_decided(posted(call.wait.answer or {}, self._mask), call)
        tool = tool_of(call.name, call.plan)
        if tool is None:
            return failed(ErrorCode.TOOL_NOT_FOUND, f"There is no tool named {call.name!r}.")
        arguments = call.arguments if call.decided_arguments is None else call.decided_arguments
        if call.needs_approval and call.arguments_digest != digest_of(call, arguments):
            # What was approved and what would run must be the same bytes, or nothing runs.
            return failed(ErrorCode.APPROVAL_REJECTED, "The approved arguments do not match this call.")
        if call.is_held:
            return Nothing.HELD  # before anything is written of it; who suspends from here on is found below
        place = self._lane.enter(call.tool_call_id, Place(call.requested_by), back_in_s=_BACK_IN_S)
        if place is None:
            metrics.lane_was_full("tools")
            return Nothing.HELD
        with place:
            return await self._allowed(tool, arguments, call)

    def _completion(self, call: ToolExecution) -> Callable[[], Completion] | None:
        tokens, until = self._completions, datetime.now(UTC) + timedelta(seconds=MAX_LATER_S + _TOKEN_MARGIN_S)
        if tokens is None:
            return None
        call_id = call.tool_call_id
        return lambda: Completion(tokens.url(call_id), tokens.token(call_id, expires_at=until))

    async def _allowed(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> Outcome | Deferred | Nothing:
        """What becomes of a call that may run, and has a place."""
        started = _note(call, "tool_call.started", {"arguments_digest": digest_of(call, arguments)})
        start = await self._starts.begin(call, started)
        if start is CallStart.HELD:
            return Nothing.HELD
        if start is CallStart.CANCELLED:
            return failed(ErrorCode.TOOL_EXECUTION_FAILED, CANCELLED)
        if start is CallStart.BEFORE and not tool.idempotent:
            # Whoever ran it may live, and store its result just now.
            await asyncio.sleep(self._grace_s)
            stands = await self._tool_calls.tool_execution(call.tool_call_id)
            if stands.ended_at is not None or round_of(stands) != round_of(call):
                return Nothing.STORED
            unknown = "This call was interrupted while it ran; its outcome is unknown and it was not repeated."
            return as_decided(failed(ErrorCode.TOOL_EXECUTION_FAILED, unknown), call)
        outcome = await self._run(tool, arguments, call)
        return outcome if isinstance(outcome, Deferred) else as_decided(outcome, call)

    async def _tell_late(self, call: ToolExecution) -> list[bytes]:
        """Tell once of a call that waits for long."""
        seconds = self._lane.late_s(call.tool_call_id)
        if seconds is None:
            return []
        said = frame(FrameType.WAITING, call.turn_id, call.message_id, lane="tools", seconds=int(seconds))
        return await self._publisher.publish(call.target, [said])

    async def _run(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> Outcome | Deferred:
        try:
            parsed = validate_arguments(tool, arguments)
        except InvalidToolArguments as exc:
            return failed(ErrorCode.INVALID_TOOL_ARGS, str(exc))
        if tool.name in call.plan.handovers and self._handovers is not None:
            return await handed_over(call, arguments, self._handovers)
        progress = self._progress(call)
        context = ToolContext(
            tool_call_id=call.tool_call_id,
            session_id=call.session_id,
            turn_id=call.turn_id,
            user_id=call.requested_by,
            now=datetime.now(UTC),
            services=self._services,
            roles=frozenset(call.plan.roles),
            agent_id=call.plan.agent_id,
            agent_version=call.plan.agent_version,
            secrets=frozenset(tool.secrets),
            link=CallLink(None if progress is None else progress.tell),
        )
        context.link.complete = self._completion(call)
        context.link.resumed = None if call.wait is None else resumed(call.wait)
        timeout_s = min(tool.timeout_s, call.plan.tool_timeout_seconds)
        try:
            with tracing.tool_run(tool.name, call.tool_call_id, call.session_id):
                async with self._watch.guard(call.turn_id):
                    output = await _execute(tool, parsed, context, timeout_s, self._mask, self._run_tool)
        except TurnCancelled:
            return failed(ErrorCode.TOOL_EXECUTION_FAILED, "The turn was cancelled while this call ran.")
        except ToolFailed as exc:
            return replace(failed(exc.code, exc.safe_message), noted=_noted(exc))
        finally:
            if progress is not None:
                await progress.close()
        if isinstance(output, Deferred):
            return output
        output = await with_files(
            output,
            self._services.files,
            session_id=call.session_id,
            user_id=call.requested_by,
            tool_call_id=call.tool_call_id,
            retry_s=self._retry_s,
        )
        content = {"status": "completed", "untrusted_output": output.content}
        return Outcome(ToolCallStatus.COMPLETED, content, output.data)

    def _progress(self, call: ToolExecution) -> ProgressWriter | None:
        if self._sender is None:
            return None
        return ProgressWriter(
            self._publisher,
            self._sender,
            call.target,
            turn_id=call.turn_id,
            message_id=call.message_id,
            tool_call={"id": call.tool_call_id, "message_id": call.message_id, "name": call.name},
            shown=self._mask.text,
        )

    async def _store(self, call: ToolExecution, outcome: Outcome) -> ToolReport:
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
            sources=outcome.sources,
            takeover=outcome.takeover,
        )
        told: JsonObject = {"status": outcome.status, "code": outcome.code, **outcome.noted}
        ended = _note(call, "tool_call.ended", told, is_notable=bool(outcome.noted))
        if not await self._keeper.store(call.tool_call_id, lambda: self._tool_calls.save_tool_result(result, ended)):
            stands = await self._tool_calls.tool_execution(call.tool_call_id)
            if stands.result_message_id != message_id:
                # Another attempt runs beside this one and has it; it says so itself.
                return ToolReport(stands.status, False, [], call.approval_id)
        metrics.tool_call_ended(call.name, outcome.status)
        metrics.message_stored(MessageRole.TOOL)
        if outcome.takeover is not None:
            call = replace(call, plan=outcome.takeover)
        return ToolReport(outcome.status, False, await self._announce(call, outcome, message_id), call.approval_id)

    async def _again(self, call: ToolExecution) -> ToolReport:
        """A call on record is said again: whoever stored it may have been cut before it could say so."""
        code = ErrorCode(call.error_code) if call.error_code else None
        outcome = Outcome(call.status, {}, call.result, code)
        if call.result_message_id is None:
            # Closed with its turn, whose own end tells of it.
            return ToolReport(call.status, False, [], call.approval_id, is_repeated=True)
        messages = await self._announce(call, outcome, call.result_message_id)
        return ToolReport(call.status, False, messages, call.approval_id, is_repeated=True)

    async def _announce(self, call: ToolExecution, outcome: Outcome, message_id: str) -> list[bytes]:
        return await self._publisher.publish(call.target, end_events(call, outcome, message_id))


def _note(call: ToolExecution, action: str, details: JsonObject, *, is_notable: bool = False) -> AuditNote | None:
    return notes.of_call(call, action, details, by_grant=by_grant(call), is_notable=is_notable)


def _noted(exc: ToolFailed) -> JsonObject:
    changed = exc.__cause__
    if not isinstance(changed, DefinitionChanged):
        return {}
    return {"definition_pinned": changed.pin.digest, "definition_found": changed.current_digest}


def _timed_out(call: ToolExecution) -> Callable[[ApprovalStatus], list[AuditNote]]:
    """By what its policy makes of it that nobody decided."""

    def told(status: ApprovalStatus) -> list[AuditNote]:
        note = _note(call, "approval.timed_out", {"outcome": status})
        return [] if note is None else [note]

    return told


@track_tool_time
async def _execute(
    tool: Tool, arguments: ToolArguments, context: ToolContext, timeout_s: float, mask: Mask, run: ToolRunner
) -> ToolOutput | Deferred:
    return await run(tool, arguments, context, timeout_s=timeout_s, mask=mask)
