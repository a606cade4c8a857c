"""The definitions of the metrics, and the names of their values in the shared store.

Counting, storing and rendering all read the same definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    UNTYPED = "untyped"


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
LANE_WAITS = Metric(
    "lane_waits_total",
    Kind.COUNTER,
    "How often an answer of a model, or a tool call, found its lane full, by lane: model and tools.",
    ("lane",),
)
ACTIVE_SESSIONS = Metric("active_sessions", Kind.GAUGE, "Sessions that are ACTIVE now.")
PENDING_APPROVALS = Metric("pending_approvals", Kind.GAUGE, "Tool calls that wait for a person now.")
ACTIVE_SESSIONS_COUNT = Metric("active_sessions_count", Kind.UNTYPED, "As active_sessions.")
PENDING_APPROVALS_COUNT = Metric("pending_approvals_count", Kind.UNTYPED, "As pending_approvals.")
"""The names of the wire contract. In a name with a type Prometheus keeps `_count` to histograms and summaries, and
`promtool check metrics` objects; of what has no type it says nothing."""
AUDIT_OUTBOX_LINES = Metric("audit_outbox_lines", Kind.GAUGE, "Audit lines that the trail's storage does not have yet.")
AUDIT_OUTBOX_AGE = Metric("audit_outbox_age_seconds", Kind.GAUGE, "For how long the oldest of these lines has waited.")

COUNTED = (
    SESSION_CREATED,
    MESSAGE_COUNT,
    TOOL_CALL_COUNT,
    LLM_RESPONSE_TIME,
    TOOL_EXECUTION_TIME,
    MODEL_TOKENS,
    MODEL_COST,
    LANE_WAITS,
)
"""What is collected; the gauges are read from the database when somebody asks."""

TIMED = {"llm_response": LLM_RESPONSE_TIME, "tool_execution": TOOL_EXECUTION_TIME}
"""What `track_time` can be told to time."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so now, in the whole deployment."""

    active_sessions: int
    pending_approvals: int
    audit_outbox_lines: int
    audit_outbox_age_s: float


type Totals = Mapping[str, int]
"""Sums by field: `name|label|label` of a counter, `name|label|label|bound` and `...|sum_us` of a histogram.

A bucket's field counts what fell between its bound and the one below. Sums are whole microseconds: integers add up
exactly, in any order.
"""

SUM_FIELD = "sum_us"
INFINITE = "+Inf"


def field_names(metric: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
    """A counter's field, or a histogram's buckets and its sum."""
    series = "|".join((metric.name, *(label.replace("|", "_") for label in labels)))
    if metric.kind is Kind.COUNTER:
        return (series,)
    bounds = [repr(bound) for bound in metric.buckets]
    return tuple(f"{series}|{part}" for part in (*bounds, INFINITE, SUM_FIELD))
