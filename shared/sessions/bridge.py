"""SessionAgentBridge: one model step of a turn, from the stored conversation to the stored answer.

Invariant: a step is stored once, under (turn_id, step). Run again after a crash it returns what is stored and calls
nobody; run again before it was stored it streams as a higher attempt, and only the newest attempt may store.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from shared import tracing
from shared.errors import AppError, ErrorCode, ModelFailed
from shared.ids import new_id
from shared.sessions.cancellation import CancelWatch, TurnCancelled
from shared.sessions.containment import sources_read
from shared.sessions.context import estimate_tokens
from shared.sessions.events import Event, EventType, FrameType, SessionEventPublisher, frame
from shared.sessions.executor import AgentExecutor
from shared.sessions.llm import ModelEnd, ModelText
from shared.sessions.metrics import metrics
from shared.sessions.models import MessageRole, MessageStatus, TurnError, Usage
from shared.sessions.proposals import Standing, propose
from shared.sessions.realtime import RealtimeSender, StreamWriter
from shared.sessions.records import (
    ProposedCall,
    StepClosed,
    StepOutcome,
    StepResult,
    StepStart,
    StoredCall,
    StoredStep,
)
from shared.sessions.repository import StepRepository
from shared.sessions.retry import model_delay_s
from shared.sessions.tools.registry import find_tool

log = logging.getLogger(__name__)

ANSWER_SECONDS = 540.0
"""The longest answer. Below `functionTimeout` of host.json, at which the host ends the activity: it would be begun
again, paid for again and never stored."""
MAX_ATTEMPTS = 20
"""Of one step, tries and restarts together: what cuts it each time is not cured by another."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step came to, and the last events to send."""

    outcome: StepOutcome
    calls: list[tuple[str, bool]]
    """(tool call id, needs approval), in order."""
    messages: list[bytes]
    """Encoded SignalR messages for the caller's output binding."""
    delay_s: float = 0.0
    code: ErrorCode | None = None
    detail: str = ""


class SessionAgentBridge:
    """Connects a session to its agent for one step at a time."""

    def __init__(
        self,
        steps: StepRepository,
        executor: AgentExecutor,
        publisher: SessionEventPublisher,
        sender: RealtimeSender,
        watch: CancelWatch,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._steps = steps
        self._executor = executor
        self._publisher = publisher
        self._sender = sender
        self._watch = watch
        self._answer_seconds = answer_seconds

    async def run_step(self, turn_id: str, step: int, *, tries: int) -> StepReport:
        """Run the model step `step` (from 1). tries: how often it has been tried, this time included.

        Raises Transient(DATABASE_ERROR) when the database is away; a model's failure is an outcome, not an exception.
        """
        started = await self._steps.begin_step(turn_id, step, message_id=new_id(), now=datetime.now(UTC))
        if isinstance(started, StepClosed):
            return StepReport(StepOutcome.CANCELLED, [], [])
        if isinstance(started, StoredStep):
            return await self._restate(turn_id, started)
        tracing.join_turn(turn_id, started.target.session_id, started.plan)
        return await self._stream(started, tries)

    async def _restate(self, turn_id: str, stored: StoredStep) -> StepReport:
        """A step on record is sent whole once more: whoever stored it was cut before the durable engine knew."""
        message_id = stored.message_id
        events = [frame(FrameType.MESSAGE_START, turn_id, message_id, message_id=message_id, attempt=stored.attempt)]
        if stored.content:
            events.append(frame(FrameType.CONTENT_DELTA, turn_id, message_id, index=0, text=stored.content))
        events += [_called(turn_id, message_id, call) for call in stored.calls]
        reason = "tool_calls" if stored.calls else "stop"
        if stored.status is not MessageStatus.COMPLETED:
            reason = stored.status.value
        events += _ended(turn_id, message_id, stored.status, reason, None)
        messages = await self._publisher.publish(stored.target, events)
        calls = [(call.id, call.needs_approval) for call in stored.calls]
        if stored.status is MessageStatus.CANCELLED:
            return StepReport(StepOutcome.CANCELLED, [], messages)
        if stored.status is MessageStatus.FAILED:
            # A step stored by a version that did not keep the reason has none.
            error = stored.error or TurnError(code=ErrorCode.LLM_ERROR, detail="The model failed.")
            return StepReport(StepOutcome.FAILED, [], messages, code=ErrorCode(error.code), detail=error.detail)
        return StepReport(StepOutcome.TOOL_CALLS if calls else StepOutcome.FINAL, calls, messages)

    async def _stream(self, start: StepStart, tries: int) -> StepReport:
        writer = StreamWriter(
            self._publisher, self._sender, start.target, turn_id=start.turn_id, message_id=start.message_id
        )
        if start.attempt == 1:
            if start.step == 1:
                writer.add(Event(EventType.STREAM_STARTED, {}, start.turn_id))
            writer.add(_created(start))
        writer.add(
            frame(
                FrameType.MESSAGE_START,
                start.turn_id,
                start.message_id,
                message_id=start.message_id,
                attempt=start.attempt,
            )
        )
        if start.attempt > MAX_ATTEMPTS:
            log.error("model step %s/%d was cut %d times", start.turn_id, start.step, MAX_ATTEMPTS)
            return await self._close(
                start,
                writer,
                "",
                MessageStatus.FAILED,
                StepOutcome.FAILED,
                Usage(),
                ErrorCode.LLM_ERROR,
                f"The answer was begun {MAX_ATTEMPTS} times and never came to its end.",
            )
        tools = [tool for name in start.plan.tools if (tool := find_tool(name)) is not None]
        texts: list[str] = []
        end: ModelEnd | None = None
        failure: AppError | None = None
        cancelled = timed_out = False
        try:
            async with self._watch.guard(start.turn_id), asyncio.timeout(self._answer_seconds):
                with tracing.model_call(start.plan.model, start.target.session_id) as span:
                    async for event in await self._executor.execute(start, tools, stream=True):
                        if isinstance(event, ModelText):
                            texts.append(event.text)
                            writer.text(event.text)
                        else:
                            end = event
                            usage = event.usage
                            tracing.answered(span, event.finish_reason, usage.input_tokens, usage.output_tokens)
        except TurnCancelled:
            cancelled = True
        except asyncio.CancelledError:
            await writer.finish()
            raise
        except TimeoutError:
            timed_out = True
            # Asked again it would be as long, and cost the same: what came is kept, and counted.
            failure = ModelFailed(
                ErrorCode.LLM_TIMEOUT, f"The answer was not complete after {self._answer_seconds:g} seconds."
            )
        except AppError as exc:
            failure = exc
        content = "".join(texts)
        if cancelled:
            usage = _usage_of_cut(start, content)
            return await self._close(start, writer, content, MessageStatus.CANCELLED, StepOutcome.CANCELLED, usage)
        if failure is not None:
            # A model that refused has read nothing.
            usage = _usage_of_cut(start, content) if content or timed_out else Usage()
            return await self._failed(start, writer, content, failure, tries, usage)
        assert end is not None  # the stream ended without an exception
        sources = sources_read(start.context)
        standing = Standing(start.granted_tools, start.declined_digests, sources, start.context)
        calls = [propose(call, index, start.plan, standing) for index, call in enumerate(end.tool_calls)]
        if calls and start.step >= start.plan.max_steps:
            detail = f"No answer within {start.plan.max_steps} steps."
            return await self._close(
                start,
                writer,
                content,
                MessageStatus.FAILED,
                StepOutcome.FAILED,
                end.usage,
                ErrorCode.TOKEN_LIMIT,
                detail,
            )
        result = StepResult(
            message_id=start.message_id,
            attempt=start.attempt,
            content=content,
            status=MessageStatus.COMPLETED,
            calls=calls,
            usage=end.usage,
            tokens=_step_tokens(content, end),
            sources=sources,
        )
        if not await self._steps.save_step(result):
            return await self._overtaken(writer)
        metrics.message_stored(MessageRole.ASSISTANT)
        writer.add(*(_called(start.turn_id, start.message_id, call) for call in calls))
        writer.add(*_ended(start.turn_id, start.message_id, MessageStatus.COMPLETED, end.finish_reason, end.usage))
        return StepReport(
            StepOutcome.TOOL_CALLS if calls else StepOutcome.FINAL,
            [(call.id, call.needs_approval) for call in calls],
            await writer.finish(),
        )

    async def _failed(
        self, start: StepStart, writer: StreamWriter, content: str, failure: AppError, tries: int, usage: Usage
    ) -> StepReport:
        log.warning("model step %s/%d failed on try %d: %s", start.turn_id, start.step, tries, failure)
        if failure.retryable:
            delay_s = model_delay_s(tries, failure.retry_after_s)
            if delay_s is not None:
                return StepReport(StepOutcome.RETRY, [], await writer.finish(), delay_s=delay_s)
        return await self._close(
            start, writer, content, MessageStatus.FAILED, StepOutcome.FAILED, usage, failure.code, failure.safe_message
        )

    async def _close(
        self,
        start: StepStart,
        writer: StreamWriter,
        content: str,
        status: MessageStatus,
        outcome: StepOutcome,
        usage: Usage,
        code: ErrorCode | None = None,
        detail: str = "",
    ) -> StepReport:
        """Keep what had arrived of an answer that will not be completed."""
        error = None if code is None else TurnError(code=code, detail=detail)
        saved = await self._steps.save_step(
            StepResult(
                message_id=start.message_id,
                attempt=start.attempt,
                content=content,
                status=status,
                calls=[],
                usage=usage,
                tokens=estimate_tokens(content),
                error=error,
                sources=sources_read(start.context),
            )
        )
        if not saved:
            return await self._overtaken(writer)
        metrics.message_stored(MessageRole.ASSISTANT)
        writer.add(*_ended(start.turn_id, start.message_id, status, status.value, usage))
        return StepReport(outcome, [], await writer.finish(), code=code, detail=detail)

    async def _overtaken(self, writer: StreamWriter) -> StepReport:
        """Another attempt of this step stored first, or is still running: look again in a moment."""
        return StepReport(StepOutcome.RETRY, [], await writer.finish(), delay_s=1.0)


def _usage_of_cut(start: StepStart, content: str) -> Usage:
    """What an answer without an end used, estimated: its model was asked, and so has read everything."""
    read = sum(message.tokens for message in start.context) + estimate_tokens(start.plan.instructions)
    return Usage(
        input_tokens=min(read, start.plan.max_context_tokens), output_tokens=estimate_tokens(content) if content else 0
    )


def _step_tokens(content: str, end: ModelEnd) -> int:
    written = content + "".join(call.name + call.arguments for call in end.tool_calls)
    return estimate_tokens(written)


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
    return frame(FrameType.TOOL_CALL, turn_id, message_id, id=call.id, name=call.name, arguments=call.arguments)


def _ended(
    turn_id: str, message_id: str, status: MessageStatus, finish_reason: str, usage: Usage | None
) -> list[Event]:
    return [
        frame(
            FrameType.MESSAGE_END,
            turn_id,
            message_id,
            message_id=message_id,
            finish_reason=finish_reason,
            usage=None if usage is None else usage.model_dump(),
        ),
        Event(
            EventType.MESSAGE_UPDATED,
            {"id": message_id, "role": MessageRole.ASSISTANT, "status": status},
            turn_id,
            message_id,
        ),
    ]
