"""ToolCallHandler: runs an allowed tool call at most once, and tells the model how it ended.

Invariant: a finished result is returned, never computed again. A tool that is not idempotent and was found begun but
not ended is not run again: the call fails with an honest "outcome unknown".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import orjson

from shared import tracing
from shared.errors import ErrorCode, ToolFailed, Transient
from shared.ids import new_id
from shared.lanes import UNLIMITED, Lane, Place
from shared.sessions.agents.handing_over import Handovers
from shared.sessions.approvals.containment import DECIDED_ARGUMENTS
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import is_granted
from shared.sessions.approvals.needed import requires_approval
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.audit import notes
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, FrameType, SessionEventPublisher, frame
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
    TurnStatus,
    WaitKind,
    WaitStatus,
)
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.children import NewChild
from shared.sessions.records.plan import HandedOver, PlannedAgent, TurnPlan
from shared.sessions.records.tool_calls import CallStart, ToolCallResult, ToolExecution
from shared.sessions.records.turns import Interruption
from shared.sessions.records.waits import WorkflowStart
from shared.sessions.repository import ToolCallRepository, WaitRepository
from shared.sessions.subagents.answers import STARTED, handle_of, why_no_answer
from shared.sessions.subagents.service import Stopped, Subagents
from shared.sessions.tools.context import CallLink
from shared.sessions.tools.deferred import MAX_LATER_S, Completion, Deferred
from shared.sessions.tools.files import with_files
from shared.sessions.tools.masking import NO_MASK, Mask
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
from shared.sessions.tools.running import ToolRunner, run_tool
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
_BEGIN_TRIES = 10
_TOKEN_MARGIN_S = 3_600
"""A token outlives the longest wait, which begins when its tool has returned."""
_DONE = ToolCallStatus.COMPLETED
_CANCELLED = "The turn was cancelled before this call ran."
_CANCELLED_ASKING = "The turn was cancelled while this call waited for an answer."
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


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A call's end. content: the JSON the model reads; result: what clients read."""

    status: ToolCallStatus
    content: JsonObject
    result: Any
    code: ErrorCode | None = None
    noted: JsonObject = field(default_factory=dict)
    """What its audit line adds; then there is one, whoever allowed the call."""
    sources: frozenset[str] | None = None
    """Of an agent's answer: of what its model had read."""
    takeover: TurnPlan | None = None
    """With which another agent goes on."""


class _Nothing(Enum):
    """Why nothing was done for a call."""

    HELD = "held"  # its session is suspended, or the lane full
    STORED = "stored"  # what became of it, perhaps by another process


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
        self._starts: dict[str, str] = {}
        """Ids of starts, by call, that the database did not confirm."""

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
        if outcome is _Nothing.HELD:
            return ToolReport(call.status, False, await self._tell_late(call), is_held=True)
        if outcome is _Nothing.STORED:
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

    async def _deferred(self, call: ToolExecution, deferred: Deferred) -> _Outcome | _Nothing:
        """Store what a call waits for from now on."""
        if self._waits is None:
            return _failed(
                ErrorCode.TOOL_EXECUTION_FAILED, "The tool asks for an answer, and nobody can be asked here."
            )
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
            return _failed(exc.code, exc.safe_message)
        opened = [wait_notes.opened(new.wait, child)]
        if await self._keeper.store(call.tool_call_id, lambda: rows.open(new, opened, child)):
            return _Nothing.STORED
        stands = await self._tool_calls.tool_execution(call.tool_call_id)
        return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED_ASKING) if stands.cancelled else _Nothing.STORED

    async def _in_background(self, call: ToolExecution, agent: PlannedAgent, text: str) -> _Outcome:
        """Begin an agent that the call does not wait for."""
        agents = self._agents
        if agents is None:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, "Agents cannot be called here.")
        try:
            child = await agents.begin(call, agent, text, now=datetime.now(UTC))
        except ToolFailed as exc:
            return _failed(exc.code, exc.safe_message)
        if child is None:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED)
        content: JsonObject = {"status": "started", "tool_call": call.tool_call_id, "note": STARTED}
        outcome = _Outcome(ToolCallStatus.COMPLETED, content, handle_of(child), sources=frozenset())
        return _as_decided(outcome, call)

    async def _outcome(self, call: ToolExecution) -> _Outcome | Deferred | _Nothing:
        refusal = _refusal(call)
        if refusal is not None:
            self._lane.give_up(call.tool_call_id)
            return refusal
        if call.wait is not None and call.wait.wait.kind is WaitKind.AGENT and self._agents is not None:
            return _Nothing.HELD if call.is_held else _as_decided(await self._answered(call, self._agents), call)
        if call.wait is not None and call.wait.wait.kind in (WaitKind.RESULT, WaitKind.CLIENT):
            # Its tool has done its part, and may be gone by now.
            return _Nothing.HELD if call.is_held else _as_decided(self._posted(call.wait.answer or {}), call)
        tool = tool_of(call.name, call.plan)
        if tool is None:
            return _failed(ErrorCode.TOOL_NOT_FOUND, f"There is no tool named {call.name!r}.")
        arguments = call.arguments if call.decided_arguments is None else call.decided_arguments
        if call.needs_approval and call.arguments_digest != _digest(call, arguments):
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

    def _posted(self, answer: JsonObject) -> _Outcome:
        """The outcome that was posted with the call's token."""
        if "error" in answer:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, self._mask.text(answer["error"]))
        content = self._mask.text(answer["content"])
        data = self._mask.json(answer["data"])
        return _Outcome(ToolCallStatus.COMPLETED, {"status": "completed", "untrusted_output": content}, data)

    async def _answered(self, call: ToolExecution, agents: Subagents) -> _Outcome:
        """The outcome of an agent's turn."""
        child = await agents.of_call(call.tool_call_id)
        told = {} if child is None else child.named()
        sources = None if child is None else child.sources
        if child is None or child.status is not TurnStatus.COMPLETED:
            failed = _failed(ErrorCode.TOOL_EXECUTION_FAILED, self._mask.text(why_no_answer(child)))
            return replace(failed, result={**failed.result, **told}, sources=sources)
        answer = ToolOutput(self._mask.text(child.content), self._mask.json(child.output))
        content = {"status": "completed", "untrusted_output": answer.content}
        data = {**told, "content": answer.content, "output": answer.data}
        return _Outcome(ToolCallStatus.COMPLETED, content, data, sources=sources)

    def _completion(self, call: ToolExecution) -> Callable[[], Completion] | None:
        tokens, until = self._completions, datetime.now(UTC) + timedelta(seconds=MAX_LATER_S + _TOKEN_MARGIN_S)
        if tokens is None:
            return None
        call_id = call.tool_call_id
        return lambda: Completion(tokens.url(call_id), tokens.token(call_id, expires_at=until))

    async def _allowed(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> _Outcome | Deferred | _Nothing:
        """What becomes of a call that may run, and has a place."""
        started = _note(call, "tool_call.started", {"arguments_digest": _digest(call, arguments)})
        start = await self._begin(call, started)
        if start is CallStart.HELD:
            return _Nothing.HELD
        if start is CallStart.CANCELLED:
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED)
        if start is CallStart.BEFORE and not tool.idempotent:
            # Whoever ran it may live, and store its result just now.
            await asyncio.sleep(self._grace_s)
            stands = await self._tool_calls.tool_execution(call.tool_call_id)
            if stands.ended_at is not None or _round(stands) != _round(call):
                return _Nothing.STORED
            unknown = "This call was interrupted while it ran; its outcome is unknown and it was not repeated."
            return _as_decided(_failed(ErrorCode.TOOL_EXECUTION_FAILED, unknown), call)
        outcome = await self._run(tool, arguments, call)
        return outcome if isinstance(outcome, Deferred) else _as_decided(outcome, call)

    async def _tell_late(self, call: ToolExecution) -> list[bytes]:
        """Tell once of a call that waits for long."""
        seconds = self._lane.late_s(call.tool_call_id)
        if seconds is None:
            return []
        said = frame(FrameType.WAITING, call.turn_id, call.message_id, lane="tools", seconds=int(seconds))
        return await self._publisher.publish(call.target, [said])

    async def _begin(self, call: ToolExecution, note: AuditNote | None) -> CallStart:
        """Mark that the tool is about to run, or to go on with an answer.

        Said again as the same start when the answer of the database was lost, so that a start of ours is told from one
        of somebody who may have run it.
        """
        # Taken out: of two who run this at once, each has a start of its own. It is kept until it is known what became
        # of it: one that was stored, and held when it was said again, is still ours.
        key = f"{call.tool_call_id}.{_round(call)}"
        start_id = self._starts.pop(key, None) or new_id()
        is_known = is_doubtful = False
        try:
            for left in reversed(range(_BEGIN_TRIES)):
                try:
                    start = await self._begin_once(call, start_id, note)
                    if start is CallStart.BEFORE and is_doubtful:
                        # The try before may have been stored only after this statement began.
                        start = await self._begin_once(call, start_id, note)
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
                self._starts[key] = start_id
        raise AssertionError("the last try returns or raises")

    async def _begin_once(self, call: ToolExecution, start_id: str, note: AuditNote | None) -> CallStart:
        now = datetime.now(UTC)
        if call.wait is None or self._waits is None:
            return await self._tool_calls.begin_tool_call(call.tool_call_id, start_id, note, now=now)
        return await self._waits.resume(call.tool_call_id, call.wait.wait.id, start_id, note, now=now)

    async def _run(self, tool: Tool, arguments: JsonObject, call: ToolExecution) -> _Outcome | Deferred:
        try:
            parsed = validate_arguments(tool, arguments)
        except InvalidToolArguments as exc:
            return _failed(ErrorCode.INVALID_TOOL_ARGS, str(exc))
        if tool.name in call.plan.handovers and self._handovers is not None:
            return await _handed_over(call, arguments, self._handovers)
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
            return _failed(ErrorCode.TOOL_EXECUTION_FAILED, "The turn was cancelled while this call ran.")
        except ToolFailed as exc:
            return replace(_failed(exc.code, exc.safe_message), noted=_noted(exc))
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
        return _Outcome(ToolCallStatus.COMPLETED, content, output.data)

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
        handed = call.plan.handed_over
        if handed is not None and handed.tool_call_id == call.tool_call_id:
            events.append(_handover_event(call, handed))
        created = {"id": message_id, "role": "tool", "status": "completed", "tool_call_id": call.tool_call_id}
        events.append(Event(EventType.MESSAGE_CREATED, created, call.turn_id, message_id))
        return await self._publisher.publish(call.target, events)


async def _handed_over(call: ToolExecution, arguments: JsonObject, handovers: Handovers) -> _Outcome:
    """Another agent goes on: the result of the call is the first that its model reads of that."""
    successor = call.plan.handovers[call.name]
    try:
        plan = await handovers.plan(call, successor)
    except ToolFailed as exc:
        return _failed(exc.code, exc.safe_message)
    now = f"You are {successor.name} from here on: the conversation was handed over to you. Go on with it."
    content: JsonObject = {"status": "completed", "handed_over": now}
    if note := arguments.get("note"):
        content["untrusted_note"] = note
    result = {"agent_id": plan.agent_id, "agent_version": plan.agent_version, "name": successor.name}
    noted: JsonObject = {"handed_over_to": plan.agent_id, "agent_version": plan.agent_version}
    return _Outcome(ToolCallStatus.COMPLETED, content, result, noted=noted, sources=frozenset(), takeover=plan)


def _handover_event(call: ToolExecution, handed: HandedOver) -> Event:
    data = {
        "tool_call_id": call.tool_call_id,
        "from_agent_id": handed.from_agent_id,
        "agent_id": call.plan.agent_id,
        "agent_version": call.plan.agent_version,
        "for_session": handed.for_session,
    }
    return Event(EventType.SESSION_HANDED_OVER, data, call.turn_id, call.message_id)


def _note(call: ToolExecution, action: str, details: JsonObject, *, is_notable: bool = False) -> AuditNote | None:
    return notes.of_call(call, action, details, by_grant=_by_grant(call), is_notable=is_notable)


def _noted(exc: ToolFailed) -> JsonObject:
    changed = exc.__cause__
    if not isinstance(changed, DefinitionChanged):
        return {}
    return {"definition_pinned": changed.pin.digest, "definition_found": changed.current_digest}


def _digest(call: ToolExecution, arguments: JsonObject) -> str:
    return arguments_digest(call.name, arguments, call.plan.definition_of(call.name))


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
        return _failed(ErrorCode.TOOL_EXECUTION_FAILED, _CANCELLED if call.wait is None else _CANCELLED_ASKING)
    if call.wait is not None and call.wait.wait.status is WaitStatus.TIMED_OUT:
        asked = call.wait.wait.kind is WaitKind.INPUT
        late = (
            "The user was asked for input and did not answer in time." if asked else "Its result did not come in time."
        )
        return _failed(ErrorCode.TOOL_TIMEOUT, late)
    if call.argument_error is not None:
        known = call.name in call.plan.tools and tool_of(call.name, call.plan) is not None
        return _failed(ErrorCode.INVALID_TOOL_ARGS if known else ErrorCode.TOOL_NOT_FOUND, call.argument_error)
    if call.needs_approval and call.approval_status is not ApprovalStatus.APPROVED:
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    if _takes_a_person(call) and (call.approval_status is not ApprovalStatus.APPROVED or call.decided_by is None):
        # Whatever marked it as needing nobody, or said yes for those who did not answer.
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs a person's approval, and it does not have one.")
    if _by_grant(call) and not _is_granted(call):
        return _failed(ErrorCode.APPROVAL_REQUIRED, "This call needs an approval that it does not have.")
    return None


def _round(call: ToolExecution) -> int:
    """How often it has waited."""
    return 0 if call.wait is None else call.wait.number


def _takes_a_person(call: ToolExecution) -> bool:
    """Whether the rule of two holds for it."""
    return call.contained and call.plan.containment is not Containment.OFF


def _by_grant(call: ToolExecution) -> bool:
    """Whether it waited for nobody only because the tool was approved for the rest of the session."""
    tool = tool_of(call.name, call.plan)
    if call.needs_approval or tool is None:
        return False
    return requires_approval(tool, call.plan, in_force(call.plan.policy_of(call.name), tool, call.arguments))


def _is_granted(call: ToolExecution) -> bool:
    tool = tool_of(call.name, call.plan)
    force = in_force(call.plan.policy_of(call.name), tool, call.arguments)
    return tool is not None and is_granted(
        tool, call.arguments, call.plan, force, call.requested_by, call.granted_tools
    )


def _as_decided(outcome: _Outcome, call: ToolExecution) -> _Outcome:
    """The outcome of a call that has begun, which says so where a person had changed its arguments."""
    return outcome if call.decided_arguments is None else _with_changes(outcome, call.decided_arguments)


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
