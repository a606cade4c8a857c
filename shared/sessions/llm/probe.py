"""Whether the default model answers, asked with a request that costs next to nothing, at most once in ten minutes.

The request offers a tool, since most of what is wrong with a deployment shows only then: a model that takes tools over
another API, a server that was started without its tool flag.
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
"""How long a refusal counts; the operator who mends it waits no longer."""
PASSING_SECONDS = 5.0
"""The same of what may pass by itself."""

MAX_TOKENS = 16
"""The least that every API takes. Whether the answer is cut by it does not matter."""

_PING = orjson.dumps(
    {
        "name": "ping",
        "description": "Does nothing.",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }
)


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of asking. took_s: to the beginning of the answer."""

    model: str
    api: ModelApi
    took_s: float
    error: AppError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.model} does not answer ({self.api} API): {self.error.safe_message}"
        return f"{self.model} answers ({self.api} API, {self.took_s * 1000:.0f} ms)"


class ModelProbe:
    """Of the app's default model. One event loop."""

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
        """warm_up: what takes its time once per process and is not the model's fault. told_window: asks the server what
        the model reads, once the model has answered."""
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
        """The last answer, as long as it counts, or a new one. Who gives up waiting leaves the question asked."""
        if self._last is not None and self._clock() < self._good_until:
            return self._last
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(self._over)
        return await asyncio.shield(self._asking)

    async def check(self) -> None:
        """Raises what is wrong: Transient when it may pass, ModelFailed when it will not."""
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
                await anext(events)  # the rest would cost, and say nothing more
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
