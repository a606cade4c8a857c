"""What is counted under which labels, what the decorators time, how flushes are repeated, and the text of it all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from shared import tracing
from shared.adapters.telemetry.prometheus import render
from shared.errors import ErrorCode, Transient
from shared.sessions import metrics as module
from shared.sessions.measuring.catalogue import (
    LLM_RESPONSE_TIME,
    MESSAGE_COUNT,
    MODEL_COST,
    MODEL_TOKENS,
    SESSION_CREATED,
    TOOL_EXECUTION_TIME,
    Gauges,
    Totals,
)
from shared.sessions.measuring.sharing import MetricsUnavailable, SharedMetrics
from shared.sessions.metrics import MetricsCollector, track_time, track_tool_time
from shared.sessions.models import MessageRole, ToolCallStatus, Usage
from shared.sessions.tools.registry import find_tool

THE_SEVEN = {
    "session_created_total",
    "message_count_total",
    "tool_call_count_total",
    "llm_response_time_seconds",
    "tool_execution_time_seconds",
    "active_sessions_count",
    "pending_approvals_count",
}
GAUGES = {"active_sessions", "pending_approvals"}
OF_AUDIT = {"audit_outbox_lines", "audit_outbox_age_seconds"}
OF_MODELS = {"model_tokens_total", "model_cost_usd_total"}


@pytest.fixture
def collector() -> MetricsCollector:
    made = MetricsCollector()
    made.admit_models(["gpt"])
    return made


def counted(collector: MetricsCollector, prefix: str) -> dict[str, int]:
    """Fields that begin so, without the sums, whose values are measured times."""
    return {
        field: value
        for field, value in collector.take().items()
        if field.startswith(prefix) and not field.endswith("sum_us")
    }


def series(collector: MetricsCollector, prefix: str) -> dict[str, int]:
    """Observations per label set, whatever bucket they fell into."""
    found: dict[str, int] = {}
    for field, value in counted(collector, prefix).items():
        labels = field.removeprefix(f"{prefix}|").rpartition("|")[0]
        found[labels] = found.get(labels, 0) + value
    return found


# Counting. ---------------------------------------------------------------------------------------


def test_counts_add_up_under_their_labels(collector: MetricsCollector) -> None:
    collector.session_created()
    for role in (MessageRole.USER, MessageRole.USER, MessageRole.ASSISTANT):
        collector.message_stored(role)
    collector.tool_call_ended("calculate", ToolCallStatus.FAILED)
    assert collector.take() == {
        "session_created_total": 1,
        "message_count_total|user": 2,
        "message_count_total|assistant": 1,
        "tool_call_count_total|calculate|failed": 1,
    }
    assert collector.is_empty


def test_a_name_that_nobody_registered_is_other(collector: MetricsCollector) -> None:
    for number in range(50):
        collector.tool_call_ended(f"invented_{number}", ToolCallStatus.FAILED)
        collector.observe(LLM_RESPONSE_TIME, 0.2, f"model-{number}", "completed")
    assert collector.take() == {
        "tool_call_count_total|other|failed": 50,
        "llm_response_time_seconds|other|completed|0.25": 50,
        "llm_response_time_seconds|other|completed|sum_us": 50 * 200_000,
    }


def test_series_of_a_metric_have_a_hard_cap(collector: MetricsCollector) -> None:
    known = [f"model-{number}" for number in range(module.MAX_SERIES + 50)]
    collector.admit_models(known)
    for _ in range(2):
        for name in known:
            collector.observe(LLM_RESPONSE_TIME, 1.0, name, "completed")
    found = series(collector, LLM_RESPONSE_TIME.name)
    assert len(found) == module.MAX_SERIES + 1
    assert (found["model-0|completed"], found["other|other"]) == (2, 100)


def test_a_separator_in_a_model_name_cannot_make_another_label(collector: MetricsCollector) -> None:
    collector.admit_models(["a|b"])
    collector.observe(LLM_RESPONSE_TIME, 1.0, "a|b", "completed")
    assert series(collector, LLM_RESPONSE_TIME.name) == {"a_b|completed": 1}


def test_what_a_model_used_is_counted_by_kind_and_its_cost_to_a_billionth(collector: MetricsCollector) -> None:
    used = Usage(input_tokens=100, output_tokens=10, cached_input_tokens=60, reasoning_tokens=4, cost_usd=0.000_123_4)
    for usage in (used, used, Usage(output_tokens=1)):
        collector.model_used("gpt", usage)
    assert collector.take() == {
        "model_tokens_total|gpt|input": 200,
        "model_tokens_total|gpt|output": 21,
        "model_tokens_total|gpt|cached_input": 120,
        "model_tokens_total|gpt|reasoning": 8,
        "model_cost_nanousd_total|gpt": 246_800,
    }


def test_what_unknown_models_used_is_of_one(collector: MetricsCollector) -> None:
    for number in range(50):
        collector.model_used(f"model-{number}", Usage(input_tokens=2, cost_usd=0.5))
    assert collector.take() == {"model_tokens_total|other|input": 100, "model_cost_nanousd_total|other": 25_000_000_000}


def test_series_of_what_models_used_have_a_hard_cap_and_lose_nothing(collector: MetricsCollector) -> None:
    known = [f"model-{number}" for number in range(module.MAX_SERIES + 50)]
    collector.admit_models(known)
    for name in known:
        collector.model_used(name, Usage(input_tokens=1, output_tokens=1, cost_usd=1e-9))
    kept = collector.take()
    for metric, total in ((MODEL_TOKENS, 2 * len(known)), (MODEL_COST, len(known))):
        own = {field: value for field, value in kept.items() if field.startswith(metric.name)}
        assert (len(own), sum(own.values())) == (module.MAX_SERIES + 1, total)


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (60.0, "60.0"), (60.1, "+Inf")]
)
def test_a_bucket_includes_its_bound(collector: MetricsCollector, seconds: float, bound: str) -> None:
    collector.observe(TOOL_EXECUTION_TIME, seconds, "calculate")
    assert counted(collector, TOOL_EXECUTION_TIME.name) == {f"tool_execution_time_seconds|calculate|{bound}": 1}


# Timing. -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (None, "completed"),
        (Transient(ErrorCode.LLM_TIMEOUT, "silent"), "LLM_TIMEOUT"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "INTERNAL_ERROR"),
    ],
)
async def test_a_call_is_timed_however_it_ends(
    collector: MetricsCollector, raised: BaseException | None, outcome: str
) -> None:
    @track_time("llm_response", labels=lambda model: (model,), collector=collector)
    async def call_llm(model: str) -> str:
        if raised is not None:
            raise raised
        return f"answer of {model}"

    if raised is None:
        assert await call_llm("gpt") == "answer of gpt"
    else:
        with pytest.raises(type(raised)):
            await call_llm("gpt")
    assert series(collector, LLM_RESPONSE_TIME.name) == {f"gpt|{outcome}": 1}


async def test_the_decorator_needs_no_labels(collector: MetricsCollector) -> None:
    @track_time("llm_response", collector=collector)
    async def call_llm() -> int:
        return 7

    assert await call_llm() == 7
    assert series(collector, LLM_RESPONSE_TIME.name) == {"other|completed": 1}


class Stream:
    """An async iterator that tells whether it was closed."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.closed = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed = True


def timed_stream(collector: MetricsCollector, stream: Stream) -> AsyncIterator[Any]:
    @track_time("llm_response", labels=lambda: ("gpt",), collector=collector)
    def stream_llm() -> AsyncIterator[Any]:
        return stream

    return stream_llm()


async def test_a_stream_is_timed_to_its_end(collector: MetricsCollector) -> None:
    stream = Stream(["a", "b"])
    items = timed_stream(collector, stream)
    assert await anext(items) == "a"
    assert collector.is_empty
    assert [item async for item in items] == ["b"]
    assert (series(collector, LLM_RESPONSE_TIME.name), stream.closed) == ({"gpt|completed": 1}, True)


async def test_a_stream_that_breaks_is_timed_under_its_error(collector: MetricsCollector) -> None:
    stream = Stream(["a", Transient(ErrorCode.LLM_ERROR, "broke off")])
    with pytest.raises(Transient):
        _ = [item async for item in timed_stream(collector, stream)]
    assert (series(collector, LLM_RESPONSE_TIME.name), stream.closed) == ({"gpt|LLM_ERROR": 1}, True)


async def test_a_reader_that_leaves_a_stream_closes_it_and_counts_as_cancelled(collector: MetricsCollector) -> None:
    stream = Stream(["a", "b"])
    items: Any = timed_stream(collector, stream)
    async with aclosing(items):
        assert await anext(items) == "a"
    assert (series(collector, LLM_RESPONSE_TIME.name), stream.closed) == ({"gpt|cancelled": 1}, True)


async def test_a_tool_is_timed_by_its_name() -> None:
    @track_tool_time
    async def execute_tool(tool: Any, value: int) -> int:
        return value + 1

    module.metrics.take()
    tool = find_tool("calculate")
    assert tool is not None
    assert await execute_tool(tool, 1) == 2
    assert series(module.metrics, TOOL_EXECUTION_TIME.name) == {"calculate": 1}


# Sharing. ----------------------------------------------------------------------------------------


class Store:
    """A store that can be away, and that can lose its answers."""

    def __init__(self) -> None:
        self.kept: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.away = False
        self.loses_answers = False

    async def add(self, writer: str, flush: int, deltas: Totals) -> None:
        if self.away:
            raise MetricsUnavailable("away")
        if self.last.get(writer) != flush:
            self.last[writer] = flush
            for field, value in deltas.items():
                self.kept[field] = self.kept.get(field, 0) + value
        if self.loses_answers:
            raise MetricsUnavailable("answer lost")

    async def totals(self) -> dict[str, int]:
        return dict(self.kept)


async def test_what_was_counted_while_the_store_was_away_arrives_once_it_is_back(collector: MetricsCollector) -> None:
    store = Store()
    shared = SharedMetrics(collector, store)
    store.away = True
    for _ in range(3):
        collector.count(SESSION_CREATED)
        with pytest.raises(MetricsUnavailable):
            await shared.flush()
    store.away = False
    assert await shared.totals() == {"session_created_total": 3}


async def test_a_flush_whose_answer_was_lost_counts_once(collector: MetricsCollector) -> None:
    store = Store()
    shared = SharedMetrics(collector, store)
    collector.count(SESSION_CREATED)
    store.loses_answers = True
    for _ in range(2):
        with pytest.raises(MetricsUnavailable):
            await shared.flush()
    store.loses_answers = False
    collector.count(SESSION_CREATED)
    assert await shared.totals() == {"session_created_total": 2}


async def test_counts_travel_by_themselves_and_nothing_runs_when_there_are_none(collector: MetricsCollector) -> None:
    store = Store()
    shared = SharedMetrics(collector, store, interval_s=0.001)
    collector.on_change = shared.wake
    for expected in (1, 2):
        collector.count(SESSION_CREATED)
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "metrics"]
        await asyncio.wait_for(task, 10)
        assert store.kept == {"session_created_total": expected}


async def test_bringing_counts_is_no_part_of_the_request_that_counted(collector: MetricsCollector) -> None:
    seen: list[str | None] = []

    class Watching(Store):
        async def add(self, writer: str, flush: int, deltas: Totals) -> None:
            seen.append(tracing.correlation_id())

    collector.on_change = SharedMetrics(collector, Watching(), interval_s=0.001).wake
    with tracing.request("POST", "/x", {}, "corr-1"):
        collector.count(SESSION_CREATED)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "metrics"]
    await asyncio.wait_for(task, 10)
    assert seen == [None]


async def test_the_last_counts_leave_when_the_loop_closes(collector: MetricsCollector) -> None:
    store = Store()
    collector.on_change = SharedMetrics(collector, store, interval_s=3_600).wake
    collector.count(SESSION_CREATED)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "metrics"]
    await asyncio.sleep(0)  # it begins to wait
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), store.kept) == (True, {"session_created_total": 1})


# Showing. ----------------------------------------------------------------------------------------


def parsed(text: str) -> dict[str, float]:
    """`name{label="value"}` to value, of what a scraper reads."""
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_text_has_the_seven_and_those_of_models_by_name(collector: MetricsCollector) -> None:
    collector.tool_call_ended("calculate", ToolCallStatus.COMPLETED)
    for seconds in (0.02, 0.02, 0.3, 100.0):
        collector.observe(TOOL_EXECUTION_TIME, seconds, "calculate")
    collector.observe(LLM_RESPONSE_TIME, 2.0, "gpt", "completed")
    body, content_type = render(collector.take(), Gauges(3, 1, 2, 1.5), "")
    text = body.decode()
    assert content_type.startswith("text/plain; version=0.0.4")
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        *THE_SEVEN,
        *GAUGES,
        *OF_MODELS,
        *OF_AUDIT,
        "lane_waits_total",
        "metrics_source_up",
    }
    values = parsed(text)
    buckets = [values[f"tool_execution_time_seconds_bucket,le={le},tool=calculate"] for le in ("0.025", "0.5", "+Inf")]
    assert buckets == [2, 3, 4]
    assert values["tool_execution_time_seconds_count,tool=calculate"] == 4
    assert values["tool_execution_time_seconds_sum,tool=calculate"] == pytest.approx(100.34)
    assert values["active_sessions"] == values["active_sessions_count"] == 3
    assert values["pending_approvals"] == values["pending_approvals_count"] == 1
    assert (values["audit_outbox_lines"], values["audit_outbox_age_seconds"]) == (2, 1.5)
    # Shown from zero, so that the first one is an increase.
    assert (values["session_created_total"], values["message_count_total,role=user"]) == (0, 0)


_NOT_BASE = re.compile(r"(nano|micro|milli|kilo|mega|giga)(seconds|bytes|grams|meters)|minutes|hours|days|weeks|bits")
_ABBREVIATED = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"}
_TYPES = {"counter", "gauge", "histogram", "summary"}


def lint(text: str) -> list[str]:
    """What `promtool check metrics` says of a text.

    Source: `prometheus/testutil/promlint/validations` of client_golang.
    """
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    problems: list[str] = []
    for name, kind in kinds.items():
        words, is_typed = name.split("_"), kind != "untyped"
        labels = set(re.findall(r"[{,](\w+)=", "".join(re.findall(rf"^{name}\S*", text, re.MULTILINE))))
        found = {
            "no help text": name not in helped,
            "a name that is not one": not re.fullmatch(r"[a-z][a-z0-9_]*", name),
            "a label that is not one": not all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in labels),
            "a unit that is no base unit": any(map(_NOT_BASE.fullmatch, words)),
            "an abbreviated unit": bool(_ABBREVIATED & set(words[1:])),
            "a type in its name": bool(_TYPES & set(words[1:])),
            "a counter without _total": kind == "counter" and words[-1] != "total",
            "_total of no counter": is_typed and kind != "counter" and words[-1] == "total",
            "a histogram's suffix": is_typed and kind != "histogram" and words[-1] in {"bucket", "count", "sum"},
            "a histogram's label": is_typed and kind != "histogram" and bool(labels & {"le", "quantile"}),
        }
        problems += [f"{name}: {problem}" for problem, is_so in found.items() if is_so]
    return problems


def test_promtool_has_nothing_to_say(collector: MetricsCollector) -> None:
    collector.tool_call_ended("calculate", ToolCallStatus.COMPLETED)
    collector.observe(TOOL_EXECUTION_TIME, 0.02, "calculate")
    collector.observe(LLM_RESPONSE_TIME, 2.0, "gpt", "completed")
    collector.model_used("gpt", Usage(input_tokens=1, cost_usd=0.25))
    text = render(collector.take(), Gauges(3, 1, 2, 1.5), "")[0].decode()
    assert "active_sessions gauge" in text
    assert lint(text) == []
    assert lint(text.replace("active_sessions_count untyped", "active_sessions_count gauge")) == [
        "active_sessions_count: a histogram's suffix"
    ]


def test_tokens_are_shown_by_kind_and_costs_in_dollars(collector: MetricsCollector) -> None:
    usage = Usage(
        input_tokens=1_000_000, output_tokens=3, cached_input_tokens=7, reasoning_tokens=2, cost_usd=2.500_000_001
    )
    collector.model_used("gpt", usage)
    collector.model_used("nameless", Usage(input_tokens=5))
    text = render(collector.take(), None, "")[0].decode()
    values = {name: value for name, value in parsed(text).items() if name.startswith("model_")}
    assert values == {
        "model_tokens_total,kind=input,model=gpt": 1_000_000,
        "model_tokens_total,kind=output,model=gpt": 3,
        "model_tokens_total,kind=cached_input,model=gpt": 7,
        "model_tokens_total,kind=reasoning,model=gpt": 2,
        "model_tokens_total,kind=input,model=other": 5,
        # A model without a price has no cost rather than none to pay.
        "model_cost_usd_total,model=gpt": 2.500_000_001,
    }
    (told,) = [line for line in text.splitlines() if line.startswith("# HELP model_cost_usd_total")]
    assert "US dollars" in told
    assert "nanousd" not in text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=9;escaping=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, application/OpenMetrics-Text;q=0.5", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        # What the library itself would trip over, or promise without keeping it.
        ("application/openmetrics-text;version=abc", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=99", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (";,;version=\u00e9,", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_any_accept_header_is_answered_in_a_form_that_is_kept(accept: str, kind: str) -> None:
    assert render({}, Gauges(0, 0, 0, 0), accept)[1] == kind


def test_openmetrics_is_given_to_who_asks_for_it(collector: MetricsCollector) -> None:
    collector.message_stored(MessageRole.USER)
    collector.model_used("gpt", Usage(input_tokens=1, cost_usd=0.25))
    body, content_type = render(
        collector.take(), Gauges(0, 0, 0, 0), "application/openmetrics-text;version=1.0.0,text/plain"
    )
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(body.decode())}
    assert {"session_created", "message_count", "active_sessions_count"} <= families.keys()
    samples = {tuple(sample.labels.values()): sample.value for sample in families["message_count"].samples}
    assert samples == {("user",): 1, ("assistant",): 0, ("tool",): 0}
    costs = [(sample.name, sample.labels, sample.value) for sample in families["model_cost_usd"].samples]
    assert costs == [("model_cost_usd_total", {"model": "gpt"}, 0.25)]


def test_what_cannot_be_read_is_left_out_and_said() -> None:
    without_redis = parsed(render(None, Gauges(3, 1, 0, 0), "")[0].decode())
    assert without_redis == {
        "active_sessions": 3,
        "active_sessions_count": 3,
        "pending_approvals": 1,
        "pending_approvals_count": 1,
        "audit_outbox_lines": 0,
        "audit_outbox_age_seconds": 0,
        "metrics_source_up,source=redis": 0,
        "metrics_source_up,source=postgres": 1,
    }
    without_postgres = parsed(render({}, None, "")[0].decode())
    assert "active_sessions_count" not in without_postgres
    assert without_postgres["metrics_source_up,source=postgres"] == 0


def test_fields_of_another_version_are_not_shown_as_ours() -> None:
    totals = {"message_count_total|user|new": 5, "gone_total": 1, f"{MESSAGE_COUNT.name}|user": 2}
    values = parsed(render(totals, None, "")[0].decode())
    assert values["message_count_total,role=user"] == 2
    assert not any("gone" in name for name in values)


def test_values_stay_in_place_when_the_buckets_change() -> None:
    totals = {"tool_execution_time_seconds|calculate|0.3": 4, "tool_execution_time_seconds|calculate|0.5": 1}
    values = parsed(render(totals, None, "")[0].decode())
    bounds = ("0.25", "0.3", "0.5", "+Inf")
    assert [values[f"tool_execution_time_seconds_bucket,le={le},tool=calculate"] for le in bounds] == [0, 4, 5, 5]
