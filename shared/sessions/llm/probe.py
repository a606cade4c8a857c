"""Health probe of the default model: a request with minimal cost, at most once in ten minutes while the model answers.

The request offers a tool, because most configuration errors show only then: a model that supports tools only over the
other API, or a server that was started without its tool flag.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from shared.errors import AppError
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import LLMServiceProtocol, ModelRequest
from shared.sessions.llm.registry import ModelApi, ModelRegistry
from shared.sessions.models import ReasoningEffort

GOOD_SECONDS = 600.0
BAD_SECONDS = 30.0
"""How long a permanent failure is cached: after a fix, the probe succeeds within this time."""
PASSING_SECONDS = 5.0
"""How long a transient failure is cached."""

MAX_TOKENS = 16
"""The least that every API accepts. It does not matter whether it cuts the answer."""

_PING = orjson.dumps(
    {
        "name": "ping",
        "description": "Does nothing.",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }
)


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of a probe. took_s: time to the first event of the answer."""

    model: str
    api: ModelApi
    took_s: float
    error: AppError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.model} does not answer ({self.api} API): {self.error.safe_message}"
        return f"{self.model} answers ({self.api} API, {self.took_s * 1000:.0f} ms)"


class ModelProbe:
    """Probes the app's default model. Bound to one event loop."""

    def __init__(
        self,
        llm: LLMServiceProtocol,
        *,
        model: str,
        api: ModelApi,
        registry: ModelRegistry,
        warm_up: Callable[[], Awaitable[None]],
        told_window: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """warm_up: one-time setup of the process, not counted in `took_s`. told_window: asks the server for the model's
        window; called after the model has answered."""
        self._llm = llm
        self._model = model
        self._api = api
        self._facts = registry.find(model)
        self._warm_up = warm_up
        self._told_window = told_window
        self._clock = clock
        self._asking: asyncio.Task[Probed] | None = None
        self._last: Probed | None = None
        self._good_until = 0.0

    async def look(self) -> Probed:
        """The cached result while it is valid, or a new one. Cancelling a caller does not cancel the probe."""
        if self._last is not None and self._clock() < self._good_until:
            return self._last
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._over)
        return await asyncio.shield(self._asking)

    async def check(self) -> None:
        """Raises the probe's error: Transient when another try may work, ModelFailed when not."""
        found = await self.look()
        if found.error is not None:
            raise found.error

    def _over(self, _task: asyncio.Task[Probed]) -> None:
        self._asking = None

    async def _ask(self) -> Probed:
        await self._warm_up()
        began = self._clock()
        error: AppError | None = None
        try:
            async with aclosing(self._llm.stream(self._request())) as events:
                await anext(events)  # the rest would only add cost
        except AppError as exc:
            error = exc
        now = self._clock()
        if error is None:
            await self._told_window()
        self._last = Probed(self._model, self._api, now - began, error)
        counts = GOOD_SECONDS if error is None else PASSING_SECONDS if error.retryable else BAD_SECONDS
        self._good_until = now + counts
        return self._last

    def _request(self) -> ModelRequest:
        efforts = self._facts.efforts
        return ModelRequest(
            model=self._model,
            api=self._api,
            instructions="Answer with one word.",
            conversation=[UserSaid("ping")],
            tools=(_PING,),
            max_output_tokens=MAX_TOKENS,
            reasoning_effort=min(efforts, key=list(ReasoningEffort).index).value if efforts else None,
            reasons=self._facts.reasons,
        )
