"""An OTLP/HTTP collector on loopback: it takes what an exporter sends, and shows it as plain values."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the root."""
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    began_ns: int
    ended_ns: int
    failed: bool
    status_message: str
    events: int


@dataclass
class Collector:
    port: int
    spans: list[Span] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """(path, headers by lower-case name, body) of every export."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace by when they began."""
        return sorted((span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.began_ns)

    def of(self, **attributes: Any) -> list[Span]:
        """Spans with all of these attributes, their names with `__` for each dot."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return [span for span in self.spans if wanted.items() <= span.attributes.items()]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: connections break off when a host is killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers["content-length"]))
        collector = self.server.collector
        collector.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                collector.spans += [_span(span, resource) for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the requests are kept."""


def _span(span: WireSpan, resource: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        attributes=_values(span.attributes),
        resource=resource,
        began_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == Status.StatusCode.STATUS_CODE_ERROR,
        status_message=span.status.message,
        events=len(span.events),
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    server = _Server(("127.0.0.1", 0), _Handler)
    collector = server.collector = Collector(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
