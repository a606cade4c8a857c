"""Spans through the OpenTelemetry SDK. Imported only where an exporter is configured. Implements `Tracer` and `Span`.

Invariant: a slow or unavailable receiver of spans does not affect the app. Spans are sent in batches by a separate
thread, and are dropped when its queue is full.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind as SdkKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import AppError
from shared.sessions.turns.cancellation import TurnCancelled
from shared.settings import Settings
from shared.tracing import Attribute, Attributes, SpanKind

EXPORT_TIMEOUT_S = 5.0
_KINDS = {SpanKind.SERVER: SdkKind.SERVER, SpanKind.CLIENT: SdkKind.CLIENT, SpanKind.INTERNAL: SdkKind.INTERNAL}
_W3C = TraceContextTextMapPropagator()


def batching_tracer(settings: Settings, exporter: SpanExporter, *, is_away: Callable[[], bool]) -> SdkTracer:
    """A tracer that sends spans in batches, and the remaining ones when the process ends.

    is_away: whether the last batch could not be sent.
    """
    tracer = SdkTracer(settings, BatchSpanProcessor(exporter))

    def leave() -> None:
        # Do not wait for a receiver that was just unavailable.
        if is_away():
            exporter.shutdown()
        tracer.shutdown()

    atexit.register(leave)
    return tracer


class SdkTracer:
    """`Tracer` over the SDK, with its own provider; the global one is left to other code in the process.

    The SDK reads all other options from its standard variables: OTEL_TRACES_SAMPLER, OTEL_BSP_..., and so on.
    """

    def __init__(self, settings: Settings, processor: SpanProcessor) -> None:
        self._ids = _Ids()
        self.provider = TracerProvider(resource=_resource(settings), id_generator=self._ids, shutdown_on_exit=False)
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer("parley")
        self._model = _model_attributes(settings)

    def span(self, name: str, kind: SpanKind, attributes: Attributes) -> _Span:
        return _Span(self._tracer.start_span(name, kind=_KINDS[kind], attributes=dict(attributes)))

    def request_span(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> _Span:
        caller = _W3C.extract({key: headers[key] for key in ("traceparent", "tracestate") if key in headers}, Context())
        return _Span(self._tracer.start_span(name, caller, SdkKind.SERVER, dict(attributes)))

    def activity_span(self, name: str, traceparent: str, turn_id: str, attributes: Attributes, began_ns: int) -> _Span:
        request = trace.get_current_span(_context_of(traceparent)).get_span_context()
        turn = SpanContext(request.trace_id, _turn_span_id(turn_id), is_remote=True, trace_flags=request.trace_flags)
        parent = set_span_in_context(NonRecordingSpan(turn), Context())
        return _Span(
            self._tracer.start_span(name, parent, SdkKind.INTERNAL, dict(attributes), start_time=began_ns or None)
        )

    def turn_span(
        self,
        name: str,
        traceparent: str,
        turn_id: str,
        attributes: Attributes,
        *,
        began: datetime,
        ended: datetime,
        error_type: str | None,
    ) -> None:
        self._ids.next_span_id = _turn_span_id(turn_id)
        span = self._tracer.start_span(
            name, _context_of(traceparent), SdkKind.INTERNAL, dict(attributes), start_time=_nanoseconds(began)
        )
        if error_type is not None:
            _fail(span, error_type)
        span.end(_nanoseconds(ended))

    def model_attributes(self) -> Attributes:
        return self._model

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return carrier.get("traceparent")

    def shutdown(self) -> None:
        """Send the remaining spans."""
        self.provider.shutdown()


class _Span:
    """`Span` over the SDK's span; it is the current span while it is open."""

    def __init__(self, span: SdkSpan) -> None:
        self._span = span

    def __enter__(self) -> Self:
        self._token = context.attach(set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            _fail(self._span, _error_type(exc))
        self._span.end()
        context.detach(self._token)

    def set(self, name: str, value: Attribute) -> None:
        self._span.set_attribute(name, value)

    def fail(self, error_type: str) -> None:
        _fail(self._span, error_type)


class _Ids(RandomIdGenerator):
    """Random ids, except for a span whose id was fixed before it was created, because its children needed it."""

    next_span_id = 0

    def generate_span_id(self) -> int:
        chosen, self.next_span_id = self.next_span_id, 0
        return chosen or super().generate_span_id()


def _fail(span: SdkSpan, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    # Without a description: an exception's text may contain user content.
    span.set_status(Status(StatusCode.ERROR))


def _error_type(exc: BaseException) -> str:
    if isinstance(exc, AppError):
        return exc.code.value
    if isinstance(exc, (asyncio.CancelledError, TurnCancelled)):
        return "cancelled"
    return "timeout" if isinstance(exc, TimeoutError) else type(exc).__qualname__


def _turn_span_id(turn_id: str) -> int:
    return int.from_bytes(sha256(turn_id.encode()).digest()[:8])


def _context_of(traceparent: str) -> Context:
    return _W3C.extract({"traceparent": traceparent}, Context())


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1_000


def _resource(settings: Settings) -> Resource:
    attributes: dict[str, Attribute] = {"service.name": settings.otel_service_name}
    if settings.website_site_name:
        attributes |= {
            "cloud.provider": "azure",
            "cloud.platform": "azure.functions",
            "faas.name": settings.website_site_name,
            "faas.instance": settings.website_instance_id,
            "service.instance.id": settings.website_instance_id,
            "cloud.region": settings.region_name,
        }
    return Resource.create({name: value for name, value in attributes.items() if value != ""})


def _model_attributes(settings: Settings) -> Attributes:
    endpoint = urlsplit(settings.azure_openai_endpoint or settings.openai_base_url or "")
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    provider = "azure.ai.openai" if settings.azure_openai_endpoint else "openai"
    return {"gen_ai.provider.name": provider, "server.address": endpoint.hostname or "", "server.port": port}
