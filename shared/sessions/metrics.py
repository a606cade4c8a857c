"""MetricsCollector: what a process counts and times, and how it becomes true for the whole deployment.

Counting is memory only: nobody waits for it. Once a second what has come together is added to a store that all
processes share, under an id per flush, so that a flush whose answer was lost and that is sent again counts once.
Invariant: a thing is counted where the store said that it was done *now*, never where it was tried; and a metric has a
bounded number of series whatever models, tools and callers are named.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, Concatenate, Protocol

from shared.errors import AppError, ErrorCode
from shared.ids import new_id
from shared.sessions.models import MessageRole, ToolCallStatus, Usage
from shared.sessions.tools.registry import find_tool

log = logging.getLogger(__name__)

OTHER = "other"
"""The label value of everything that is not known beforehand."""

MAX_SERIES = 200
"""Label sets of one metric in one process; should the known values ever be more, the rest is counted under OTHER."""

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0
"""Between two tries while the store is away; what is counted meanwhile waits in memory, summed up."""

LAST_FLUSH_SECONDS = 2.0
"""What a process that is stopping gives its last flush."""


class Kind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric as it is exposed. buckets: upper bounds in seconds, ascending, without +Inf.

    Each is made once, below; compared and hashed by identity, for counting looks it up every time.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


SESSION_CREATED = Metric("session_created_total", Kind.COUNTER, "Sessions created.")
MESSAGE_COUNT = Metric("message_count_total", Kind.COUNTER, "Messages stored, by role.", ("role",))
TOOL_CALL_COUNT = Metric(
    "tool_call_count_total", Kind.COUNTER, "Tool calls that ended, by tool and how they ended.", ("tool", "outcome")
)
LLM_RESPONSE_TIME = Metric(
    "llm_response_time_seconds",
    Kind.HISTOGRAM,
    "From asking the model to the end of its answer.",
    ("model", "outcome"),
    (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0),
)
TOOL_EXECUTION_TIME = Metric(
    "tool_execution_time_seconds",
    Kind.HISTOGRAM,
    "How long a tool ran, however it ended; without the wait for an approval.",
    ("tool",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
MODEL_TOKENS = Metric(
    "model_tokens_total",
    Kind.COUNTER,
    "Tokens of model calls, by model and kind: input and output, of which cached_input and reasoning are parts.",
    ("model", "kind"),
)
MODEL_COST = Metric(
    "model_cost_nanousd_total",
    Kind.COUNTER,
    "What model calls cost by the registry's prices, in billionths of a US dollar; models without a price are missing.",
    ("model",),
)
ACTIVE_SESSIONS = Metric("active_sessions_count", Kind.GAUGE, "Sessions that are ACTIVE now.")
PENDING_APPROVALS = Metric("pending_approvals_count", Kind.GAUGE, "Tool calls that wait for a person now.")

COUNTED = (
    SESSION_CREATED,
    MESSAGE_COUNT,
    TOOL_CALL_COUNT,
    LLM_RESPONSE_TIME,
    TOOL_EXECUTION_TIME,
    MODEL_TOKENS,
    MODEL_COST,
)
"""What is collected; the gauges are read from the database when somebody asks."""

TIMED = {"llm_response": LLM_RESPONSE_TIME, "tool_execution": TOOL_EXECUTION_TIME}
"""What `track_time` can be told to time."""

type Totals = Mapping[str, int]
"""Sums by field: `name|label|label` of a counter, `name|label|label|bound` and `...|sum_us` of a histogram.

A bucket's field counts what fell between its bound and the one below. Sums are whole microseconds: integers add up
exactly, in any order.
"""

SUM_FIELD = "sum_us"
INFINITE = "+Inf"


class MetricsUnavailable(Exception):
    """The store of the totals cannot be reached."""


class MetricsStore(Protocol):
    """Where the totals of all processes come together (Redis)."""

    async def add(self, writer: str, flush: int, deltas: Totals) -> None:
        """Add `deltas`, once per (writer, flush) however often it is asked. Raises MetricsUnavailable."""
        ...

    async def totals(self) -> dict[str, int]:
        """Every field there is. Raises MetricsUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so now, in the whole deployment."""

    active_sessions: int
    pending_approvals: int


class MetricsCollector:
    """What this process has counted since it was last taken. One event loop; not for several threads."""

    def __init__(self) -> None:
        self._deltas: dict[str, int] = {}
        self._series: dict[tuple[Metric, tuple[str, ...]], tuple[str, ...]] = {}
        self._sizes: dict[Metric, int] = {}
        self._models: frozenset[str] = frozenset()
        self.on_change: Callable[[], None] | None = None
        """Called when there is something to take where there was nothing."""

    def admit_models(self, names: Iterable[str]) -> None:
        """Models that are shown by name; sessions may ask for any, and those are OTHER."""
        self._models |= frozenset(names)

    def session_created(self) -> None:
        self.count(SESSION_CREATED)

    def message_stored(self, role: MessageRole) -> None:
        self.count(MESSAGE_COUNT, role.value)

    def tool_call_ended(self, tool: str, status: ToolCallStatus) -> None:
        self.count(TOOL_CALL_COUNT, tool, status.value)

    def model_used(self, model: str, usage: Usage) -> None:
        """What a call of a model used, once it is on record."""
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self.count(MODEL_TOKENS, model, kind, by=tokens)
        if usage.cost_usd:
            self.count(MODEL_COST, model, by=round(usage.cost_usd * 1_000_000_000))

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """So many more of a counter."""
        (field,) = self._fields(metric, labels)
        self._add(field, by)

    def observe(self, metric: Metric, seconds: float, *labels: str) -> None:
        """One value of a histogram."""
        fields = self._fields(metric, labels)
        # A bound is inclusive: what took exactly 1 s is in the bucket le="1.0".
        self._add(fields[bisect_left(metric.buckets, seconds)], 1)
        self._add(fields[-1], round(seconds * 1_000_000))

    @property
    def is_empty(self) -> bool:
        return not self._deltas

    def take(self) -> dict[str, int]:
        """What was counted since the last call; it is the caller's now."""
        taken, self._deltas = self._deltas, {}
        return taken

    def _add(self, field: str, by: int) -> None:
        if not self._deltas and self.on_change is not None:
            self.on_change()
        self._deltas[field] = self._deltas.get(field, 0) + by

    def _fields(self, metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
        known = self._series.get((metric, labels))
        if known is not None:
            return known
        bounded = tuple(self._known(name, value) for name, value in zip(metric.labels, labels, strict=True))
        fields = self._series.get((metric, bounded))
        if fields is None:
            if self._sizes.get(metric, 0) >= MAX_SERIES:
                bounded = (OTHER,) * len(labels)
            fields = _field_names(metric, bounded)
            if (metric, bounded) not in self._series:
                self._sizes[metric] = self._sizes.get(metric, 0) + 1
                self._series[metric, bounded] = fields
        return fields

    def _known(self, label: str, value: str) -> str:
        if label == "model":
            return value if value in self._models else OTHER
        if label == "tool":
            return OTHER if find_tool(value) is None else value
        return value  # a member of an enumeration of ours


def _field_names(metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
    """A counter's field, or a histogram's buckets and its sum."""
    series = "|".join((metric.name, *(label.replace("|", "_") for label in labels)))
    if metric.kind is Kind.COUNTER:
        return (series,)
    bounds = [repr(bound) for bound in metric.buckets]
    return tuple(f"{series}|{part}" for part in (*bounds, INFINITE, SUM_FIELD))


metrics = MetricsCollector()
"""This process's own. The one global of the domain: what a process counts is the process's, whoever counts it."""


# Timing. -----------------------------------------------------------------------------------------


def track_time[**Parameters, Result](
    what: str, *, labels: Callable[..., Sequence[str]] | None = None, collector: MetricsCollector = metrics
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Time a coroutine function, or a function that returns an async generator, to its end however that comes.

    what: a key of TIMED; labels: the metric's labels but `outcome`, from the call's own arguments. `outcome` is
    `completed`, `cancelled`, or the code of the error.
    """
    metric = TIMED[what]
    open_labels = [name for name in metric.labels if name != "outcome"]

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        def observe(began: float, values: Sequence[str], exc: BaseException | None) -> None:
            ended = (*values, outcome_of(exc)) if "outcome" in metric.labels else tuple(values)
            collector.observe(metric, time.monotonic() - began, *ended)

        def values_of(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Sequence[str]:
            return [OTHER] * len(open_labels) if labels is None else labels(*args, **kwargs)

        wrapped: Any
        if inspect.iscoroutinefunction(function):

            async def timed(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
                values, began = values_of(*args, **kwargs), time.monotonic()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as exc:
                    observe(began, values, exc)
                    raise
                observe(began, values, None)
                return result

            wrapped = timed
        else:

            async def iterated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> AsyncGenerator[Any]:
                values, began = values_of(*args, **kwargs), time.monotonic()
                source: Any = function(*args, **kwargs)
                try:
                    async with aclosing(source):
                        async for item in source:
                            yield item
                except BaseException as exc:  # GeneratorExit too: the reader went away
                    observe(began, values, exc)
                    raise
                observe(began, values, None)

            wrapped = iterated
        timed_function: Callable[Parameters, Result] = wraps(function)(wrapped)
        return timed_function

    return decorate


class Named(Protocol):
    @property
    def name(self) -> str: ...


def track_tool_time[Tool: Named, **Parameters, Result](
    function: Callable[Concatenate[Tool, Parameters], Result],
) -> Callable[Concatenate[Tool, Parameters], Result]:
    """Time a coroutine function whose first argument is the tool that it runs."""
    return track_time("tool_execution", labels=lambda tool, *_, **__: (tool.name,))(function)


def outcome_of(exc: BaseException | None) -> str:
    """How something ended, in few words: bounded by the error codes there are."""
    if exc is None:
        return "completed"
    if isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return exc.code.value if isinstance(exc, AppError) else ErrorCode.INTERNAL_ERROR.value


# Sharing. ----------------------------------------------------------------------------------------


class SharedMetrics:
    """Brings a collector's counts to the shared store, and reads what all processes brought.

    While nothing is counted nothing runs: the first count after a flush begins the second until the next one.
    """

    def __init__(self, collector: MetricsCollector, store: MetricsStore, *, interval_s: float = FLUSH_SECONDS) -> None:
        self._collector = collector
        self._store = store
        self._interval_s = interval_s
        self._writer = new_id()
        self._flushes = itertools.count(1)
        self._unsure: tuple[int, dict[str, int]] | None = None
        """A flush that was sent and not confirmed: it goes again as it is, under its own number."""
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is something to bring."""
        if self._task is None:
            # In a context of its own: it is no part of the request that happened to count first.
            self._task = asyncio.create_task(self._run(), name="metrics", context=Context())

    async def flush(self) -> None:
        """Bring everything counted so far. Raises MetricsUnavailable; nothing is lost then."""
        async with self._sending:
            while self._unsure is not None or not self._collector.is_empty:
                if self._unsure is None:
                    self._unsure = next(self._flushes), self._collector.take()
                await self._store.add(self._writer, *self._unsure)
                self._unsure = None

    async def totals(self) -> dict[str, int]:
        """The sums of all processes, with all of this one. Raises MetricsUnavailable."""
        await self.flush()
        return await self._store.totals()

    async def _run(self) -> None:
        delay_s, told = self._interval_s, False
        try:
            while self._unsure is not None or not self._collector.is_empty:
                await asyncio.sleep(delay_s)
                try:
                    await self.flush()
                except MetricsUnavailable as exc:
                    if not told:
                        log.warning("metrics stay in this process until their store is back: %s", exc)
                    delay_s, told = max(self._interval_s, RETRY_SECONDS), True
                else:
                    delay_s, told = self._interval_s, False
        except asyncio.CancelledError:
            # The loop is closing. What is not brought now is lost.
            try:
                async with asyncio.timeout(LAST_FLUSH_SECONDS):
                    await self.flush()
            except (MetricsUnavailable, TimeoutError) as exc:
                log.warning("the last counts of this process are lost: %s", exc)
            raise
        finally:
            self._task = None
