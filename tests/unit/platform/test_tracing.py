"""What tracing does when nobody traces, whom a log line belongs to, and what a span makes of an error."""

from __future__ import annotations

import ast
import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import tracing
from shared.adapters.telemetry.insights_traces import LateExporter
from shared.adapters.telemetry.sdk_traces import SdkTracer
from shared.errors import ErrorCode, Transient
from shared.sessions.turns.cancellation import TurnCancelled
from shared.settings import Settings
from tests.support.least_settings import LEAST_SETTINGS

ROOT = Path(__file__).resolve().parents[3]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Turn:
    traceparent: str | None = None
    correlation_id: str | None = None


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {**LEAST_SETTINGS, **changes}
    return Settings(**values)


# Nobody traces. ----------------------------------------------------------------------------------


def test_without_an_exporter_the_sdk_is_not_even_imported() -> None:
    """The API alone comes with the durable SDK."""
    code = (
        "import sys, shared.composition.services, shared.tracing;"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter',"
        " 'prometheus_client'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_without_a_tracer_a_turn_runs_as_if_nothing_were_there() -> None:
    @tracing.activity("call_model")
    async def call_model(payload: str) -> str:
        tracing.join_turn("turn", "session", Turn(traceparent=PARENT))
        with tracing.model_call("m", "session") as span:
            tracing.first_chunk(span, 0.25)
            tracing.answered(span, "stop", tracing.UsedTokens(1, 2), response_id="r", response_model=None)
        with tracing.tool_run("calculate", "call", "session"):
            return payload

    assert tracing.traceparent() is None
    with tracing.request("GET", "/x", {"traceparent": PARENT}, "corr") as span:
        span.set("http.response.status_code", 500)
        span.fail("500")
        assert await call_model("done") == "done"


def test_every_activity_of_a_turn_is_traced_under_its_own_name() -> None:
    traced: dict[str, list[str]] = {}
    for path in sorted((ROOT / "activities").glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
                if any(decorator.startswith("bp.activity_trigger(") for decorator in decorators):
                    traced[function.name] = [name for name in decorators if name.startswith("tracing.")]
    assert traced == {name: [f"tracing.activity({name.upper()})"] for name in traced}
    assert {"call_model", "give_notice", "notify_approvers"} <= traced.keys()


# The log. ----------------------------------------------------------------------------------------


@pytest.fixture
def correlated() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    tracing.correlate_log()
    tracing.correlate_log()  # harmless
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("correlated")
def test_a_line_of_ours_names_its_request_and_others_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    ours, other = logging.getLogger("shared.sessions.bridge"), logging.getLogger("sharedish.library")
    with tracing.request("GET", "/x", {}, "corr-1"):
        ours.warning("100 %% of %s", "it")
        other.warning("theirs")
        with tracing.request("GET", "/y", {}, "corr-2"):
            ours.warning("inner")
        ours.warning("outer again")
    ours.warning("outside")
    assert [record.getMessage() for record in caplog.records] == [
        "100 % of it [correlation id corr-1]",
        "theirs",
        "inner [correlation id corr-2]",
        "outer again [correlation id corr-1]",
        "outside",
    ]


@pytest.mark.usefixtures("correlated")
async def test_activities_side_by_side_each_log_for_their_own_turn(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("activities.tools")
    both_joined = asyncio.Barrier(2)

    @tracing.activity("execute_tool")
    async def execute_tool(number: int) -> None:
        log.warning("before %d", number)  # not known yet; and not the one of the activity before
        tracing.join_turn(f"turn-{number}", "session", Turn(correlation_id=f"corr-{number}"))
        await both_joined.wait()
        log.warning("in %d", number)

    await asyncio.gather(execute_tool(1), execute_tool(2))
    log.warning("after")
    assert sorted(record.getMessage() for record in caplog.records) == [
        "after",
        "before 1",
        "before 2",
        "in 1 [correlation id corr-1]",
        "in 2 [correlation id corr-2]",
    ]


# Spans. ------------------------------------------------------------------------------------------


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    tracing.trace_with(SdkTracer(settings(), SimpleSpanProcessor(kept)))
    yield kept
    tracing.trace_with(None)


class _Batches(SpanExporter):
    """Takes batches, or does not."""

    def __init__(self) -> None:
        self.result = SpanExportResult.SUCCESS
        self.taken = 0
        self.is_shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += 1
        return self.result

    def shutdown(self) -> None:
        self.is_shut = True


def test_an_exporter_that_is_made_late_is_made_once_and_says_how_its_last_batch_went() -> None:
    batches, made = _Batches(), 0

    def make() -> SpanExporter:
        nonlocal made
        made += 1
        return batches

    late = LateExporter(make)
    assert (late.is_away, made) == (True, 0)
    assert late.export([]) is SpanExportResult.SUCCESS
    assert not late.is_away
    batches.result = SpanExportResult.FAILURE
    assert late.export([]) is SpanExportResult.FAILURE
    assert (late.is_away, made, batches.taken) == (True, 1, 2)
    late.shutdown()
    assert late.export([]) is SpanExportResult.FAILURE
    assert (batches.taken, batches.is_shut) == (2, True)


def test_an_exporter_that_cannot_be_made_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> SpanExporter:
        raise ValueError("no such thing")

    late = LateExporter(make)
    assert [late.export([]) for _ in range(3)] == [SpanExportResult.FAILURE] * 3
    assert [record.getMessage() for record in caplog.records] == ["spans cannot be sent to Application Insights"]


def test_an_exporter_is_not_made_while_the_process_ends() -> None:
    late = LateExporter(lambda: pytest.fail("made"))
    late.shutdown()
    assert late.export([]) is SpanExportResult.FAILURE


@pytest.mark.parametrize(
    ("exc", "error_type"),
    [
        (Transient(ErrorCode.LLM_TIMEOUT, "a text with secrets"), "LLM_TIMEOUT"),
        (TimeoutError("a text with secrets"), "timeout"),
        (TurnCancelled("a text with secrets"), "cancelled"),
        (asyncio.CancelledError("a text with secrets"), "cancelled"),
        (ValueError("a text with secrets"), "ValueError"),
    ],
)
def test_an_error_becomes_its_kind_and_never_its_text(
    exporter: InMemorySpanExporter, exc: BaseException, error_type: str
) -> None:
    with pytest.raises(type(exc)), tracing.tool_run("calculate", "call", "session"):
        raise exc
    (span,) = exporter.get_finished_spans()
    assert span.attributes["error.type"] == error_type
    assert (span.status.status_code.name, span.status.description, span.events) == ("ERROR", None, ())
    assert "secrets" not in span.to_json()


async def test_the_span_of_a_turn_is_the_parent_its_activities_named_and_a_repeat_makes_the_same(
    exporter: InMemorySpanExporter,
) -> None:
    @tracing.activity("finish_turn")
    async def finish_turn() -> None:
        turn, now = Turn(traceparent=PARENT), datetime(2026, 1, 1, tzinfo=UTC)
        tracing.join_turn("turn-1", "session", turn)
        tracing.turn_ended(
            "turn-1",
            "session",
            turn,
            agent=("assistant", "3"),
            model="m",
            status="failed",
            error_code="TOKEN_LIMIT",
            usage=tracing.UsedTokens(10, 20, cached_input=4, reasoning=5),
            began=now,
            ended=now,
        )

    await finish_turn()
    await finish_turn()
    turns = [span for span in exporter.get_finished_spans() if span.name == "invoke_agent"]
    activities = [span for span in exporter.get_finished_spans() if span.name == "finish_turn"]
    assert len({span.context.span_id for span in turns}) == 1
    assert {span.parent.span_id for span in activities} == {turns[0].context.span_id}
    assert turns[0].attributes["error.type"] == "TOKEN_LIMIT"
    assert (turns[0].attributes["gen_ai.agent.id"], turns[0].attributes["gen_ai.agent.version"]) == ("assistant", "3")
    tokens = {name: value for name, value in (turns[0].attributes or {}).items() if name.startswith("gen_ai.usage.")}
    assert tokens == {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    assert f"{turns[0].parent.span_id:016x}" == PARENT.split("-")[2]
    assert len({span.context.span_id for span in activities}) == 2  # only the turn's id is chosen


def test_a_model_call_says_how_it_went_and_leaves_out_what_the_server_did_not_say(
    exporter: InMemorySpanExporter,
) -> None:
    used = tracing.UsedTokens(10, 20, cached_input=4, reasoning=5)
    with tracing.model_call("m", "session") as span:
        tracing.first_chunk(span, 0.25)
        tracing.answered(span, "length", used, response_id="resp-1", response_model="m-2026-01-01")
    with tracing.model_call("m", "session") as span:
        tracing.answered(span, "stop", tracing.UsedTokens(), response_id=None, response_model=None)

    told, untold = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    expected = {
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.id": "resp-1",
        "gen_ai.response.model": "m-2026-01-01",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    assert expected.items() <= told.items()
    assert untold["gen_ai.response.finish_reasons"] == ("stop",)
    assert not {"gen_ai.response.id", "gen_ai.response.model", "gen_ai.response.time_to_first_chunk"} & untold.keys()


def test_a_turn_that_began_untraced_stays_so(exporter: InMemorySpanExporter) -> None:
    tracing.join_turn("turn-1", "session", Turn(traceparent=PARENT))  # outside an activity: nothing to name
    assert exporter.get_finished_spans() == ()


def test_the_platform_and_the_model_endpoint_are_named() -> None:
    kept = InMemorySpanExporter()
    platform = {
        "WEBSITE_SITE_NAME": "parley-prod",
        "WEBSITE_INSTANCE_ID": "i-1",
        "REGION_NAME": "West Europe",
        "AUTH_MODE": "easyauth",
        "WEBSITE_AUTH_ENABLED": "True",
    }
    model = {"AZURE_OPENAI_ENDPOINT": "https://example.openai.azure.com", "AZURE_OPENAI_DEPLOYMENT": "gpt"}
    tracing.trace_with(SdkTracer(settings(**platform, **model), SimpleSpanProcessor(kept)))
    with tracing.model_call("gpt", "session"):
        pass
    tracing.trace_with(None)
    (span,) = kept.get_finished_spans()
    expected = {
        "gen_ai.provider.name": "azure.ai.openai",
        "server.address": "example.openai.azure.com",
        "server.port": 443,
    }
    assert span.attributes is not None
    assert expected.items() <= dict(span.attributes).items()
    named = {
        "service.name": "parley",
        "faas.name": "parley-prod",
        "faas.instance": "i-1",
        "cloud.region": "West Europe",
    }
    assert named.items() <= dict(span.resource.attributes).items()
