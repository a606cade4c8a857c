"""MetricsCollector: what a process counts and times.

Counting takes memory only: nobody waits for it. `measuring/sharing.py` adds the counts of all processes up.
Invariant: a thing is counted where the store said that it was done *now*, never where it was tried; and a metric has a
bounded number of series whatever models, tools and callers are named.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Concatenate, Protocol

from shared.sessions.measuring.catalogue import (
    LANE_WAITS,
    MESSAGE_COUNT,
    MODEL_COST,
    MODEL_TOKENS,
    SESSION_CREATED,
    TIMED,
    TOOL_CALL_COUNT,
    Metric,
    field_names,
)
from shared.sessions.measuring.timing import Ended, outcome_of, timed
from shared.sessions.models import MessageRole, ToolCallStatus, Usage
from shared.sessions.tools.registry import find_tool

OTHER = "other"
"""The label value of everything that is not known beforehand."""

MAX_SERIES = 200
"""Label sets of one metric in one process; should the known values ever be more, the rest is counted under OTHER."""


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

    def lane_was_full(self, lane: str) -> None:
        self.count(LANE_WAITS, lane)

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
            fields = field_names(metric, bounded)
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


metrics = MetricsCollector()
"""This process's own. The one global of the domain: what a process counts is the process's, whoever counts it."""


def track_time[**Parameters, Result](
    what: str, *, labels: Callable[..., Sequence[str]] | None = None, collector: MetricsCollector = metrics
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Time a coroutine function, or a function that returns an async generator, to its end however that comes.

    what: a key of TIMED; labels: the metric's labels but `outcome`, from the call's own arguments. `outcome` is
    `completed`, `cancelled`, or the code of the error.
    """
    metric = TIMED[what]
    unknown = [OTHER for name in metric.labels if name != "outcome"]

    def begin(*args: object, **kwargs: object) -> Ended:
        values = unknown if labels is None else labels(*args, **kwargs)

        def ended(seconds: float, exc: BaseException | None) -> None:
            outcome = [outcome_of(exc)] if "outcome" in metric.labels else []
            collector.observe(metric, seconds, *values, *outcome)

        return ended

    return timed(begin)


class Named(Protocol):
    @property
    def name(self) -> str: ...


def track_tool_time[Tool: Named, **Parameters, Result](
    function: Callable[Concatenate[Tool, Parameters], Result],
) -> Callable[Concatenate[Tool, Parameters], Result]:
    """Time a coroutine function whose first argument is the tool that it runs."""
    return track_time("tool_execution", labels=lambda tool, *_, **__: (tool.name,))(function)
