"""Exports spans to Application Insights with the app's identity. Imported only if that is configured.

Implements no port: makes an exporter for `SdkTracer`.

Invariant: neither indexing nor a request waits for the exporter. Microsoft's exporter takes longer to import than the
rest of the app, so the sending thread imports it with the first batch. A process that ends before that loses its spans,
since Python cannot import it during shutdown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from shared.adapters.azure.entra import blocking_credential
from shared.adapters.telemetry.sdk_traces import EXPORT_TIMEOUT_S, SdkTracer, batching_tracer
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

log = logging.getLogger(__name__)

_RETRIES = 1


def insights_tracer(settings: Settings, credential: Callable[[], TokenCredential] = blocking_credential) -> SdkTracer:
    """A tracer that exports to the connection string's Application Insights."""
    connection = settings.applicationinsights_connection_string or ""
    exporter = LateExporter(lambda: _exporter(connection, credential(), tracer.provider))
    tracer = batching_tracer(settings, exporter, is_away=lambda: exporter.is_away)
    return tracer


class LateExporter(SpanExporter):
    """An exporter that is created with the first batch, by the sending thread."""

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._made: SpanExporter | None = None
        self._is_over = False
        self.is_away = True
        """True until the exporter is created, and after a batch that could not be sent."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._is_over:
            return SpanExportResult.FAILURE
        if self._made is None:
            try:
                self._made = self._make()
            except Exception:
                # Creating the exporter would fail again with every batch, so it is not retried.
                log.exception("spans cannot be sent to Application Insights")
                self._is_over = True
                return SpanExportResult.FAILURE
            self.is_away = False
        result = self._made.export(spans)
        self.is_away = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        self._is_over = True
        if self._made is not None:
            self._made.shutdown()


def _exporter(connection: str, credential: TokenCredential, provider: TracerProvider) -> SpanExporter:
    from azure.core.pipeline.policies import SansIOHTTPPolicy
    from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

    # One line per batch, here and in the client's own log, would dominate the app's log.
    logging.getLogger("azure.monitor.opentelemetry.exporter").setLevel(logging.WARNING)
    return AzureMonitorTraceExporter(
        connection_string=connection,
        credential=credential,
        # Otherwise it uses the global provider, which is not ours.
        tracer_provider=provider,
        # Spans that cannot be sent are dropped, as everywhere here: an instance's disk does not outlive it.
        disable_offline_storage=True,
        timeout=EXPORT_TIMEOUT_S,
        retry_total=_RETRIES,
        http_logging_policy=SansIOHTTPPolicy(),
    )
