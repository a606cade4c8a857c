"""AgentExecutor: one model call, whole or streaming, behind `LLMServiceProtocol`.

A request that the model refuses as too long is made shorter and sent again, as long as nothing was answered.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, Protocol, overload

from shared.errors import ErrorCode, ModelFailed
from shared.sessions.context.compaction import Compactor
from shared.sessions.limits.budgets import NO_DAILY_LIMITS, DailyLimits, Reservation, Wanted
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import (
    ContextOverflow,
    ImageReader,
    LLMServiceProtocol,
    ModelAnswer,
    ModelEnd,
    ModelEvent,
    ModelRequest,
    ModelText,
)
from shared.sessions.llm.registry import ModelApi, ModelRegistry
from shared.sessions.llm.windows import Windows
from shared.sessions.metrics import track_time
from shared.sessions.model_requests.allowance import Allowance
from shared.sessions.model_requests.correction import Correction
from shared.sessions.model_requests.request import RequestBuilder
from shared.sessions.model_requests.used import used
from shared.sessions.models import Usage
from shared.sessions.records.steps import StepStart
from shared.sessions.tools.registry import Tool

log = logging.getLogger(__name__)


class Reservations(Protocol):
    async def reserve(self, start: StepStart, wanted: Wanted, limits: DailyLimits, *, now: datetime) -> Reservation:
        """What the step reserves of its user's day instead of what it had; nothing where others leave too little."""
        ...


_MAX_FITS = 5
"""Tries to fit a conversation into a window that the server tells only by refusing."""


def _model_of(_: AgentExecutor, request: ModelRequest) -> tuple[str]:
    return (request.model,)


class AgentExecutor:
    """Runs a started step: `model_requests/` says what is asked."""

    def __init__(
        self,
        llm: LLMServiceProtocol,
        *,
        images: ImageReader | None = None,
        limits: DailyLimits = NO_DAILY_LIMITS,
        registry: ModelRegistry | None = None,
        api_of: Callable[[str], ModelApi] = lambda _: ModelApi.CHAT,
        windows: Windows | None = None,
        compactor: Compactor | None = None,
        reservations: Reservations | None = None,
    ) -> None:
        """images: for agents that see; None: nobody does. api_of: for models whose agent does not say. compactor: None:
        what does not fit is left out. reservations: for steps that reserve a part of the user's day."""
        self.limits = limits
        self._reservations = reservations
        self._llm = llm
        self._registry = registry or ModelRegistry()
        self._windows = windows or Windows()
        self._compactor = compactor
        self._allowance = Allowance(self._registry, self._windows, limits)
        self._requests = RequestBuilder(self._allowance, self._registry, images=images, api_of=api_of)

    @overload
    async def execute(
        self, start: StepStart, tools: Sequence[Tool], *, stream: Literal[True], correction: Correction | None = None
    ) -> AsyncGenerator[ModelEvent]: ...

    @overload
    async def execute(
        self,
        start: StepStart,
        tools: Sequence[Tool],
        *,
        stream: Literal[False] = False,
        correction: Correction | None = None,
    ) -> ModelAnswer: ...

    async def execute(
        self,
        start: StepStart,
        tools: Sequence[Tool],
        *,
        stream: bool = False,
        correction: Correction | None = None,
    ) -> AsyncGenerator[ModelEvent] | ModelAnswer:
        """Ask the model for the step's answer: whole, or as it comes. Its end always says what was used.

        Raises BudgetExceeded when the step must not begin, and as `LLMServiceProtocol.stream`, then or on the way.
        """
        events = self._answer(start, tools, correction)
        return events if stream else await _whole(events)

    async def request(
        self, start: StepStart, tools: Sequence[Tool], correction: Correction | None = None
    ) -> ModelRequest:
        """What the model is asked. Raises as `RequestBuilder.build`."""
        return (await self._requests.build(start, tools, correction))[0]

    def priced(self, model: str, usage: Usage) -> Usage:
        """With what it costs, where that is known."""
        return self._registry.find(model).priced(usage)

    async def _answer(
        self, start: StepStart, tools: Sequence[Tool], correction: Correction | None
    ) -> AsyncGenerator[ModelEvent]:
        """The answer's events; a conversation that turns out too long is made shorter and sent again at once."""
        model = start.plan.model
        self._allowance.writes(start)  # refused before anything is paid for
        before: tuple[int, int] | None = None
        for _ in range(_MAX_FITS):
            if self._compactor is not None:
                start = await self._compactor.compact(
                    start,
                    room=self._requests.room(start, tools),
                    api=self._requests.api(start.plan),
                    allowance=self._allowance.writes,
                    reserve=self._reserve,
                )
            request, asked = await self._requests.build(start, tools, correction)
            reserving = await self._reserve(start, asked)
            if reserving is not start:
                start = reserving
                request, asked = await self._requests.build(start, tools, correction)
            written = 0
            try:
                async with aclosing(self._events(request)) as events:
                    async for event in events:
                        if isinstance(event, ModelEnd):
                            yield self._end(event, request, asked, written)
                        else:
                            written += len(event.text.encode())
                            yield event
                return
            except ContextOverflow as overflow:
                most = request.max_output_tokens or 0
                if not overflow.is_lasting and not written and _has_files(request):
                    # It may be about the bytes of the body: once more without what has most of them.
                    start = replace(start, plan=start.plan.model_copy(update={"vision": False}))
                    continue
                window = self._windows.learn(
                    model,
                    overflow,
                    asked_tokens=asked,
                    answer_tokens=most,
                    session_id=start.target.session_id,
                )
                is_shorter = before is None or asked < before[0] or most < before[1]
                if window is None or written or not is_shorter:
                    raise
                log.warning("model %s: its window is taken for %d tokens", model, window.limit_tokens)
                before = asked, most
        raise ModelFailed(
            ErrorCode.TOKEN_LIMIT, "What is asked is longer than the model can read. Send a shorter message."
        )

    async def _reserve(self, start: StepStart, reads: int) -> StepStart:
        """The same step, or with a larger reservation for a call that reads about so much.

        Raises Transient (RATE_LIMITED) when others have reserved it, BudgetExceeded, ModelFailed.
        """
        wanted = self._allowance.wanted(start, reads=reads)
        if wanted is None or self._reservations is None:
            return start
        reservation = await self._reservations.reserve(start, wanted, self.limits, now=datetime.now(UTC))
        start = replace(start, reservation=reservation)
        self._allowance.writes(start, reads=reads)  # raises where nothing was given
        return start

    def _end(self, end: ModelEnd, request: ModelRequest, asked: int, written: int) -> ModelEnd:
        """With what was used, and what it costs."""
        written += sum(len(call.name) + len(call.arguments.encode()) + call.left_out_chars for call in end.tool_calls)
        usage = used(end.usage, model=request.model, asked=asked, written=written, most=request.max_output_tokens)
        return ModelEnd(
            end.finish_reason,
            self.priced(request.model, usage),
            end.tool_calls,
            end.kept,
            response_id=end.response_id,
            response_model=end.response_model,
        )

    @track_time("llm_response", labels=_model_of)
    def _events(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        return self._llm.stream(request)


def _has_files(request: ModelRequest) -> bool:
    return any(isinstance(said, UserSaid) and said.images for said in request.conversation)


async def _whole(events: AsyncIterator[ModelEvent]) -> ModelAnswer:
    texts: list[str] = []
    answer: ModelAnswer | None = None
    async for event in events:
        if isinstance(event, ModelText):
            texts.append(event.text)
        elif isinstance(event, ModelEnd):
            answer = ModelAnswer("".join(texts), event)
    assert answer is not None  # a model stream ends with ModelEnd
    return answer
