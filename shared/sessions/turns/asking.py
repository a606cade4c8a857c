"""Asking the model for one step's answer, and asking again where that is called for: without what the provider's filter
refused, and once more where an answer does not fit its schema.

Invariant: what a model used is counted, by its answer when that is stored, else here; only what a process that was
killed had begun is not. What goes wrong is in the answer; only a cancelled activity raises.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared import tracing
from shared.errors import AppError, ErrorCode
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, FrameType, frame
from shared.sessions.executor import AgentExecutor
from shared.sessions.live.realtime import StreamWriter
from shared.sessions.llm.protocol import ModelEnd, ModelReasoning, ModelText, PromptFiltered
from shared.sessions.metrics import metrics
from shared.sessions.model_requests.correction import Correction
from shared.sessions.models import Usage
from shared.sessions.records.steps import StepClosed, StepHeld, StepStart, StoredStep
from shared.sessions.repository import StepRepository
from shared.sessions.tools.of_plan import tools_of
from shared.sessions.turns.answer import Answer
from shared.sessions.turns.cancellation import CancelWatch, TurnCancelled
from shared.sessions.turns.patience import Patience, Spent

log = logging.getLogger(__name__)

type Found = tuple[StepStart, Answer] | StoredStep | StepClosed | StepHeld
"""The answer and the attempt it belongs to; or what became of the step meanwhile."""


class ModelAsker:
    """Streams answers to whoever watches a turn."""

    def __init__(
        self, steps: StepRepository, executor: AgentExecutor, watch: CancelWatch, *, patience: Patience
    ) -> None:
        self._steps = steps
        self._executor = executor
        self._watch = watch
        self._patience = patience

    async def begin(self, turn_id: str, step: int, message_id: str) -> StepStart | StoredStep | StepClosed | StepHeld:
        """An attempt of a step. message_id: for its answer, if it has none yet."""
        now = datetime.now(UTC)
        quiet_until = now + timedelta(seconds=self._patience.total_s)
        return await self._steps.begin_step(
            turn_id, step, message_id=message_id, now=now, quiet_until=quiet_until, limits=self._executor.limits
        )

    async def answer(self, start: StepStart, writer: StreamWriter, spent: Spent) -> Found:
        """The step's answer, complete, cut, cancelled or failed. spent: by the tries before."""
        deadline = asyncio.get_running_loop().time() + self._patience.left_s(spent)
        found = await self._unfiltered(start, writer, deadline)
        if not isinstance(found, tuple):
            return found
        start, answer = found
        error = answer.check(start.plan.output_schema)
        if error is None:
            return found
        await self.count(start, answer.usage)
        again = await self._begin_again(start, writer)
        if not isinstance(again, StepStart):
            return again
        corrected = await self._ask(again, writer, deadline, Correction(answer.content, error))
        error = corrected.check(start.plan.output_schema)
        if error is not None:
            corrected.fail(ErrorCode.LLM_ERROR, f"The model's answer does not fit the output_schema: {error}")
        return again, corrected

    async def count(self, start: StepStart, usage: Usage) -> None:
        """What an attempt used that is not stored."""
        if usage.input_tokens or usage.output_tokens:
            await self._steps.add_usage(start.turn_id, usage, now=datetime.now(UTC))
            metrics.model_used(start.plan.model, usage)

    async def _unfiltered(self, start: StepStart, writer: StreamWriter, deadline: float) -> Found:
        """An answer to as much as the provider's filter lets through.

        What is new is what it refuses: results of tools, or the question. Where it is neither, the turn is asked
        without what came before it, which may have been let through once and be refused now.
        """
        answer = await self._ask(start, writer, deadline)
        if not isinstance(answer.failure, PromptFiltered):
            return start, answer
        if _has_new_results(start):
            await self._leave_out(start, writer)
            again = await self._begin_again(start, writer)
            if not isinstance(again, StepStart):
                return again
            start = again
            answer = await self._ask(start, writer, deadline)
            if not isinstance(answer.failure, PromptFiltered):
                return start, answer
        alone = _without_earlier_turns(start)
        if len(alone.context) < len(start.context):
            answer = await self._ask(alone, writer, deadline)
            if not isinstance(answer.failure, PromptFiltered):
                log.warning("turn %s: the filter refused what came before it; it is left out", start.turn_id)
                await self._steps.leave_out_before(start.turn_id, start.attempt)
                return alone, answer
        await self._leave_out(start, writer)
        return start, answer

    async def _ask(
        self, start: StepStart, writer: StreamWriter, deadline: float, correction: Correction | None = None
    ) -> Answer:
        """Stream one answer."""
        answer = Answer()
        plan = start.plan
        # Who is corrected has to answer: some servers hold an answer to its schema only where no tool is offered.
        tools = tools_of(plan) if correction is None else []
        is_asked = False
        try:
            async with self._watch.guard(start.turn_id), asyncio.timeout_at(deadline):
                await asyncio.sleep(0)  # a deadline that has passed, or a cancel, ends it before anything is asked
                with tracing.model_call(plan.model, start.target.session_id) as span:
                    began = time.monotonic()
                    is_asked = True
                    async for event in await self._executor.execute(start, tools, stream=True, correction=correction):
                        if not answer.has_begun:
                            tracing.first_chunk(span, time.monotonic() - began)
                        answer.take(event)
                        if isinstance(event, ModelText):
                            writer.text(event.text)
                        elif isinstance(event, ModelReasoning):
                            writer.text(event.text, FrameType.REASONING_DELTA)
                        else:
                            _traced(span, event)
        except TurnCancelled:
            answer.is_cancelled = True
        except asyncio.CancelledError:
            await writer.finish()
            raise
        except TimeoutError:
            # Asked again it would be as long, and cost the same: what came is kept, and counted.
            answer.fail(ErrorCode.LLM_TIMEOUT, f"The answer was not complete after {self._patience.total_s:g} seconds.")
        except AppError as exc:
            answer.failure = exc
            is_asked = answer.has_begun  # a model that refused has read nothing; any other has read everything
        if answer.end is None and is_asked:
            answer.usage = self._executor.priced(plan.model, _usage_of_cut(start, answer))
        return answer

    async def _leave_out(self, start: StepStart, writer: StreamWriter) -> None:
        """Mark what the provider's filter refused, and tell who watches."""
        marked = await self._steps.leave_out(start.turn_id, start.step, start.attempt)
        for message_id, role in marked:
            data = {"id": message_id, "role": role, "left_out": "content_filter"}
            writer.add(Event(EventType.MESSAGE_UPDATED, data, start.turn_id, message_id))

    async def _begin_again(
        self, start: StepStart, writer: StreamWriter
    ) -> StepStart | StoredStep | StepClosed | StepHeld:
        """Another attempt of the step, in this activity: clients drop what they have of the one before."""
        again = await self.begin(start.turn_id, start.step, start.message_id)
        if isinstance(again, StepStart):
            writer.restart(attempt_started(again))
        return again


def attempt_started(start: StepStart) -> Event:
    """`message_start`: what comes from here on replaces what came under a lower attempt."""
    message_id = start.message_id
    return frame(FrameType.MESSAGE_START, start.turn_id, message_id, message_id=message_id, attempt=start.attempt)


def _has_new_results(start: StepStart) -> bool:
    """Results of the step before and messages that joined after it, which the model has not read yet and the filter has
    not refused."""
    return any(
        (message.role == "tool" or message.is_joined) and message.step == start.step - 1 and message.left_out is None
        for message in start.context[: _place_of_question(start)]
    )


def _without_earlier_turns(start: StepStart) -> StepStart:
    """From the question on."""
    return replace(start, context=start.context[: _place_of_question(start) + 1])


def _place_of_question(start: StepStart) -> int:
    """In the context, newest first."""
    places = (place for place, message in enumerate(start.context) if message.role == "user" and not message.is_joined)
    return next(places, len(start.context))


def _usage_of_cut(start: StepStart, answer: Answer) -> Usage:
    """What an answer without an end used, estimated."""
    read = sum(message.tokens for message in start.context) + estimate_tokens(start.plan.instructions)
    written = answer.content + (answer.reasoning or "")
    return Usage(
        input_tokens=min(read, start.plan.max_context_tokens), output_tokens=estimate_tokens(written) if written else 0
    )


def _traced(span: tracing.Span, end: ModelEnd) -> None:
    usage = end.usage or Usage()
    tracing.answered(
        span,
        end.finish_reason,
        tracing.UsedTokens(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens),
        response_id=end.response_id,
        response_model=end.response_model,
    )
