"""Spans to an OTLP/HTTP collector. Imported only where one is configured.

Implements no port: makes an exporter for `SdkTracer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from shared.adapters.telemetry.sdk_traces import EXPORT_TIMEOUT_S, SdkTracer, batching_tracer
from shared.settings import Settings


def otlp_tracer(settings: Settings) -> SdkTracer:
    """A tracer that exports to the configured collector."""
    exporter = _Exporter(
        endpoint=f"{(settings.otel_exporter_otlp_endpoint or '').rstrip('/')}/v1/traces",
        headers=_headers(settings.otel_exporter_otlp_headers or ""),
        timeout=EXPORT_TIMEOUT_S,
    )
    return batching_tracer(settings, exporter, is_away=lambda: exporter.is_away)


class _Exporter(OTLPSpanExporter):
    """The SDK's exporter, which retries each batch for some seconds; records whether the last batch was sent."""

    is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self.is_away = result is not SpanExportResult.SUCCESS
        return result


def _headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, values URL-encoded, as the specification of the variable says."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}
