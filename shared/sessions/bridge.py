"""SessionAgentBridge: one model step of a turn, from the stored conversation to the stored answer.

Invariant: a step is stored once, under (turn_id, step), and a last answer with the end of its turn. A repeat of a
stored step returns what is stored and calls no model. A repeat of a step that was not stored streams as a higher
attempt, and only the newest attempt may store.
"""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from shared import tracing
from shared.errors import AppError, ErrorCode
from shared.ids import new_id
from shared.lanes import UNLIMITED, Lane, Place
from shared.sessions.approvals.containment import authors_read, sources_of_step
from shared.sessions.approvals.proposals import Standing, propose_all
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, FrameType, SessionEventPublisher, frame
from shared.sessions.executor import AgentExecutor
from shared.sessions.live.realtime import RealtimeSender, StreamWriter
from shared.sessions.metrics import metrics
from shared.sessions.models import FinishReason, JsonObject, MessageRole, MessageStatus, TurnError, Usage
from shared.sessions.records.steps import (
    ProposedCall,
    SavedStep,
    StepClosed,
    StepHeld,
    StepOutcome,
    StepResult,
    StepStart,
    StoredCall,
    StoredStep,
)
from shared.sessions.records.turns import BrokenAnswer, FinishedTurn
from shared.sessions.repository import StepRepository
from shared.sessions.tools.registry import ready as tools_ready
from shared.sessions.turns.answer import Answer, end_of
from shared.sessions.turns.asking import ModelAsker, attempt_started
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.ending import tell_end
from shared.sessions.turns.keeping import Keeper
from shared.sessions.turns.patience import FIRST_TRY, Patience, Spent
from shared.sessions.turns.queueing import NOT_WAITED, StepQueue, Waited, Waits
from shared.sessions.turns.retry import held_delay_s

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 20
"""Most attempts of one step, retries and restarts together. A step that fails this often would fail again."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """The outcome of a step, and the last events to send."""

    outcome: StepOutcome
    calls: list[tuple[str, bool]]
    """(tool call id, needs approval), in order."""
    messages: list[bytes]
    """Encoded SignalR messages for the caller's output binding."""
    is_held: bool = False
    """With RETRY: it began nothing, since the session is suspended or the lane full."""
    is_queued: bool = False
    """With `is_held`: the lane is full."""
    is_told: bool = False
    """Those who watch know that it waits."""
    is_repeated: bool = False
    """The step was stored before; the messages are sent again."""
    delay_s: float = 0.0
    spent: Spent | None = None
    """What all tries so far have cost, after one that failed."""
    code: ErrorCode | None = None
    detail: str = ""
    finished: FinishedTurn | None = None
    """With FINAL: the turn as this step closed it. None: it has still to be closed."""


_HELD = StepReport(StepOutcome.RETRY, [], [], is_held=True, delay_s=held_delay_s(1))


class SessionAgentBridge:
    """Connects a session to its agent for one step at a time."""

    def __init__(
        self,
        steps: StepRepository,
        executor: AgentExecutor,
        publisher: SessionEventPublisher,
        sender: RealtimeSender,
        watch: CancelWatch,
        keeper: Keeper | None = None,
        *,
        patience: Patience | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._steps = steps
        self._publisher = publisher
        self._sender = sender
        self._keeper = keeper or Keeper()
        self._patience = patience or Patience()
        self._queue = StepQueue(lane or Lane("answers", UNLIMITED), steps, publisher)
        self._asker = ModelAsker(steps, executor, watch, patience=self._patience)

    async def run_step(
        self, turn_id: str, step: int, spent: Spent = FIRST_TRY, waited: Waited = NOT_WAITED
    ) -> StepReport:
        """Run the model step `step` (from 1). spent: by its tries so far, this one included in their number.

        Raises Transient(DATABASE_ERROR) when the database is unavailable. A model's failure is an outcome, not an
        exception.
        """
        await self._keeper.wait(_kept(turn_id, step))
        await tools_ready()
        place = await self._queue.enter(turn_id, step, waited)
        if isinstance(place, Waits):
            return _queued(place)
        with place or nullcontext():
            started = await self._asker.begin(turn_id, step, new_id())
            if isinstance(started, StepHeld):
                return _HELD
            if isinstance(started, StepClosed):
                return StepReport(StepOutcome.CANCELLED, [], [])
            if isinstance(started, StoredStep):
                return await self._restate(turn_id, started)
            if place is not None:
                place.take(Place(started.requested_by, started.plan.model))
            tracing.join_turn(turn_id, started.target.session_id, started.plan)
            return await self._stream(started, spent)

    async def _restate(self, turn_id: str, stored: StoredStep) -> StepReport:
        """Send a stored step again, as a whole: the run that stored it ended before Durable Functions recorded it."""
        message_id = stored.message_id
        events = [frame(FrameType.MESSAGE_START, turn_id, message_id, message_id=message_id, attempt=stored.attempt)]
        if stored.reasoning:
            events.append(frame(FrameType.REASONING_DELTA, turn_id, message_id, index=0, text=stored.reasoning))
        if stored.content:
            events.append(frame(FrameType.CONTENT_DELTA, turn_id, message_id, index=0, text=stored.content))
        events += [_called(turn_id, message_id, call) for call in stored.calls]
        reason = end_of(stored.status, stored.finish_reason, has_calls=bool(stored.calls))
        events += _ended(turn_id, message_id, stored.status, reason, None, output=stored.output)
        messages = await self._publisher.publish(stored.target, events)
        calls = [(call.id, call.needs_approval) for call in stored.calls]
        if stored.status is MessageStatus.CANCELLED:
            return StepReport(StepOutcome.CANCELLED, [], messages, is_repeated=True)
        if stored.status is MessageStatus.FAILED:
            # A step stored by an older version has no error.
            error = stored.error or TurnError(code=ErrorCode.LLM_ERROR, detail="The model failed.")
            return StepReport(
                StepOutcome.FAILED, [], messages, is_repeated=True, code=ErrorCode(error.code), detail=error.detail
            )
        outcome = _outcome(has_calls=bool(calls), is_joined=stored.is_joined)
        return StepReport(outcome, calls, messages, is_repeated=True)

    async def _stream(self, start: StepStart, spent: Spent) -> StepReport:
        writer = StreamWriter(
            self._publisher, self._sender, start.target, turn_id=start.turn_id, message_id=start.message_id
        )
        if spent.tries == 1:
            # Also when the first try is repeated: the run before it may have crashed before it sent these events.
            if start.step == 1:
                writer.add(Event(EventType.STREAM_STARTED, {}, start.turn_id))
            writer.add(_created(start))
        writer.add(attempt_started(start))
        if start.attempt > MAX_ATTEMPTS:
            log.error("model step %s/%d was interrupted %d times", start.turn_id, start.step, MAX_ATTEMPTS)
            answer = Answer()
            answer.fail(ErrorCode.LLM_ERROR, f"The answer was started {MAX_ATTEMPTS} times and never completed.")
            return await self._close(start, writer, answer)
        began = time.monotonic()
        found = await self._asker.answer(start, writer, spent)
        if isinstance(found, StepClosed | StepHeld):
            messages = await writer.finish()
            if isinstance(found, StepHeld):
                return replace(_HELD, messages=messages)
            return StepReport(StepOutcome.CANCELLED, [], messages)
        if isinstance(found, StoredStep):
            return await self._overtaken(writer)
        start, answer = found
        if answer.is_cancelled:
            return await self._close(start, writer, answer)
        if answer.failure is not None:
            spent = replace(spent, seconds=spent.seconds + time.monotonic() - began)
            return await self._failed(start, writer, answer, answer.failure, spent)
        return await self._store(start, writer, answer)

    async def _store(self, start: StepStart, writer: StreamWriter, answer: Answer) -> StepReport:
        end = answer.end
        assert end is not None  # the stream ended without an exception
        sources = sources_of_step(start.context, start.plan)
        standing = Standing(
            start.requested_by, start.granted_tools, start.declined_digests, sources, start.context, start.spent_bits
        )
        calls = propose_all(end.tool_calls, start.plan, standing)
        if calls and start.step >= start.plan.max_steps:
            answer.fail(ErrorCode.TOKEN_LIMIT, f"No answer within {start.plan.max_steps} steps.")
            return await self._close(start, writer, answer)
        result = StepResult(
            message_id=start.message_id,
            attempt=start.attempt,
            content=answer.content,
            status=MessageStatus.COMPLETED,
            calls=calls,
            usage=answer.usage,
            tokens=answer.tokens,
            ended_at=datetime.now(UTC),
            sources=sources,
            authors=authors_read(start.context, start.requested_by),
            finish_reason=end.finish_reason,
            reasoning=answer.reasoning,
            kept=end.kept,
            output=answer.output,
        )
        left_out = _left_out_question(start)
        # A question that has to be put back is put back before the turn ends, since the next one reads it.
        saved = await self._save(start, result, is_last=not calls, closes=not left_out)
        if not saved.is_stored:
            return await self._overtaken(writer)
        if left_out:
            await self._take_in_again(start, writer)
        writer.add(*(_called(start.turn_id, start.message_id, call) for call in calls))
        writer.add(
            *_ended(
                start.turn_id,
                start.message_id,
                MessageStatus.COMPLETED,
                end.finish_reason,
                answer.usage,
                output=answer.output,
            )
        )
        if saved.finished is not None:
            writer.add(*tell_end(start.turn_id, saved.finished))
        return StepReport(
            _outcome(has_calls=bool(calls), is_joined=saved.is_joined),
            [(call.id, call.needs_approval) for call in calls],
            await writer.finish(),
            finished=saved.finished,
        )

    async def _failed(
        self, start: StepStart, writer: StreamWriter, answer: Answer, failure: AppError, spent: Spent
    ) -> StepReport:
        log.warning("model step %s/%d failed on try %d: %s", start.turn_id, start.step, spent.tries, failure)
        spent = replace(spent, tokens=spent.tokens + answer.usage.input_tokens + answer.usage.output_tokens)
        delay_s = self._patience.delay_s(spent, failure)
        if delay_s is None:
            return await self._close(start, writer, answer)
        await self._asker.count(start, answer.usage)
        said = BrokenAnswer(start.message_id, start.attempt, answer.content, answer.reasoning or "")
        await self._steps.note_pause(start.turn_id, datetime.now(UTC) + timedelta(seconds=delay_s), said)
        return StepReport(StepOutcome.RETRY, [], await writer.finish(), delay_s=delay_s, spent=spent)

    async def _close(self, start: StepStart, writer: StreamWriter, answer: Answer) -> StepReport:
        """Store the partial answer of a step that failed or was cancelled."""
        failure = answer.failure
        status = MessageStatus.CANCELLED if failure is None else MessageStatus.FAILED
        reason = FinishReason.CANCELLED if failure is None else answer.finish_reason
        result = StepResult(
            message_id=start.message_id,
            attempt=start.attempt,
            content=answer.content,
            status=status,
            calls=[],
            usage=answer.usage,
            tokens=estimate_tokens(answer.content),
            ended_at=datetime.now(UTC),
            error=None if failure is None else TurnError(code=failure.code, detail=failure.safe_message),
            sources=sources_of_step(start.context, start.plan),
            authors=authors_read(start.context, start.requested_by),
            finish_reason=reason,
            reasoning=answer.reasoning,
        )
        if not (await self._save(start, result)).is_stored:
            return await self._overtaken(writer)
        writer.add(*_ended(start.turn_id, start.message_id, status, reason, answer.usage))
        return StepReport(
            StepOutcome.CANCELLED if failure is None else StepOutcome.FAILED,
            [],
            await writer.finish(),
            code=None if failure is None else failure.code,
            detail="" if failure is None else failure.safe_message,
        )

    async def _take_in_again(self, start: StepStart, writer: StreamWriter) -> None:
        """Put a question back into the context: it was left out, was asked again, and now has an answer."""
        message_id = await self._steps.take_in(start.turn_id)
        data = {"id": message_id, "role": MessageRole.USER, "left_out": None}
        writer.add(Event(EventType.MESSAGE_UPDATED, data, start.turn_id, message_id))

    async def _save(
        self, start: StepStart, result: StepResult, *, is_last: bool = False, closes: bool = True
    ) -> SavedStep:
        """is_last: the turn ends with it, unless a message joined it meanwhile. closes: in the same transaction."""

        async def save() -> SavedStep:
            if is_last:
                return await self._steps.save_last_step(start.turn_id, result, closes=closes)
            return SavedStep(await self._steps.save_step(result))

        saved = await self._keeper.store(_kept(start.turn_id, start.step), save)
        if not saved.is_stored:
            # A save whose answer was lost is said again, and then finds its own step stored.
            saved = await self._steps.stored_by(result.message_id, result.attempt)
            if not saved.is_stored:
                # The tokens were used although the step was not stored.
                await self._asker.count(start, result.usage)
                return saved
        metrics.message_stored(MessageRole.ASSISTANT)
        metrics.model_used(start.plan.model, result.usage)
        return saved

    async def _overtaken(self, writer: StreamWriter) -> StepReport:
        """Another attempt of this step stored it first, or is still running: try again in a second."""
        return StepReport(StepOutcome.RETRY, [], await writer.finish(), delay_s=1.0)


def _queued(waits: Waits) -> StepReport:
    if waits.delay_s is None:
        detail = "Too many answers were being written for an hour. Send the message again later."
        return StepReport(StepOutcome.FAILED, [], [], code=ErrorCode.RATE_LIMITED, detail=detail)
    return StepReport(
        StepOutcome.RETRY,
        [],
        waits.messages,
        is_held=True,
        is_queued=True,
        is_told=waits.is_told,
        delay_s=waits.delay_s,
    )


def _left_out_question(start: StepStart) -> bool:
    """Whether the question of the turn was left out, and is now answered after all."""
    if start.step != 1:
        return False
    question = next((one for one in start.context if one.role == "user" and not one.is_joined), None)
    return question is not None and question.left_out is not None


def _outcome(*, has_calls: bool, is_joined: bool) -> StepOutcome:
    """Of a completed answer."""
    if has_calls:
        return StepOutcome.TOOL_CALLS
    return StepOutcome.JOINED if is_joined else StepOutcome.FINAL


def _kept(turn_id: str, step: int) -> str:
    return f"{turn_id}/{step}"


def _created(start: StepStart) -> Event:
    return Event(
        EventType.MESSAGE_CREATED,
        {
            "id": start.message_id,
            "role": MessageRole.ASSISTANT,
            "status": MessageStatus.STREAMING,
            "created_at": start.message_created_at,
        },
        start.turn_id,
        start.message_id,
    )


def _called(turn_id: str, message_id: str, call: ProposedCall | StoredCall) -> Event:
    more = {"is_client": True} if call.is_client else {}
    return frame(FrameType.TOOL_CALL, turn_id, message_id, id=call.id, name=call.name, arguments=call.arguments, **more)


def _ended(
    turn_id: str,
    message_id: str,
    status: MessageStatus,
    finish_reason: FinishReason | None,
    usage: Usage | None,
    *,
    output: JsonObject | None = None,
) -> list[Event]:
    """finish_reason: None when the answer failed before it ended. output: the answer as JSON, when a schema was set."""
    updated: JsonObject = {
        "id": message_id,
        "role": MessageRole.ASSISTANT,
        "status": status,
        "finish_reason": finish_reason,
    }
    if output is not None:
        updated["output"] = output
    return [
        frame(
            FrameType.MESSAGE_END,
            turn_id,
            message_id,
            message_id=message_id,
            finish_reason=finish_reason or status.value,
            usage=None if usage is None else usage.model_dump(),
        ),
        Event(
            EventType.MESSAGE_UPDATED,
            updated,
            turn_id,
            message_id,
        ),
    ]
