"""Spans to Application Insights: over TLS, with a token of the app's identity, to nobody else, and late.

In a process of its own, as the app: it reads its settings, opens spans, and ends.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.support.client import eventually
from tests.e2e.support.otlp import running_collector
from tests.integration.platform.entra import Identity, certificate, identity, serving
from tests.support.least_settings import LEAST_SETTINGS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

__all__ = ["identity"]

KEY = "0f3a4b5c-1111-2222-3333-444455556666"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

APP = f"""
import sys
from shared import tracing
from shared.composition.services import tracer_of
from shared.settings import load_settings

settings = load_settings()
assert "InstrumentationKey" not in repr(settings)
tracing.trace_with(tracer_of(settings))
with tracing.request("POST", "/api/v1/sessions/{{id}}/messages", {{"traceparent": "{PARENT}"}}, "corr-1") as span:
    span.set("http.response.status_code", 202)
    with tracing.tool_run("calculate", "call-1", "session-1"):
        pass
print([name for name in sys.modules if name.startswith(("azure.monitor", "azure.identity"))], flush=True)
sys.stdin.read()
with tracing.tool_run("current_time", "call-2", "session-1"):
    pass
"""
"""Its last span is open when it is told to end."""


@dataclass
class Ingestion:
    """Application Insights' endpoint."""

    status: int = 200
    requests: list[tuple[str, str]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        items = json.loads(text)
        # The exporter keeps the slash that connection strings end with, and adds its own.
        path = request.path.replace("//", "/")
        self.requests.append((f"{request.method} {path}", request.headers["Authorization"]))
        self.items += items
        if self.status != 200:
            return web.json_response({"errors": []}, status=self.status)
        return web.json_response({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []})


async def _run(folder: Path, ingestion: Ingestion, until: Callable[[], Awaitable[object]], **settings: str) -> str:
    """The app's output; it must end well. until: when it is told to end."""
    trusted, context = certificate(folder)
    async with serving(ingestion.take, tls=context) as url:
        environment = os.environ | {
            "REQUESTS_CA_BUNDLE": str(trusted),
            "APPLICATIONINSIGHTS_CONNECTION_STRING": f"InstrumentationKey={KEY};IngestionEndpoint={url}/",
            "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
            "APPLICATIONINSIGHTS_SDKSTATS_DISABLED": "true",
            "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED": "true",
            **LEAST_SETTINGS,
            "OTEL_SERVICE_NAME": "parley-test",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            APP,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await eventually(until, "the first spans")
        output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    assert not errors, errors.decode()
    return output.decode()


async def test_spans_arrive_with_a_token_for_azure_monitor_and_no_request_waits_for_the_exporter(
    identity: Identity, tmp_path: Path
) -> None:
    ingestion = Ingestion()

    async def arrived() -> object:
        return ingestion.requests

    imported = await _run(tmp_path, ingestion, until=arrived)

    assert imported.strip() == "[]", "not before something is to be sent"
    assert identity.asked == ["https://monitor.azure.com/"]
    assert ingestion.requests == [("POST /v2.1/track", f"Bearer {identity.given[0]}")] * 2, "one more as it ended"
    spans = {item["data"]["baseData"]["name"]: item for item in ingestion.items if "Metric" not in item["name"]}
    route = "POST /api/v1/sessions/{id}/messages"
    assert set(spans) == {route, "execute_tool calculate", "execute_tool current_time"}
    request, tool = spans[route], spans["execute_tool calculate"]
    assert {item["iKey"] for item in ingestion.items} == {KEY}
    data = request["data"]["baseData"]
    assert (data["responseCode"], data["success"]) == ("202", True)
    # By this the alerts tell our requests from the host's.
    assert data["properties"]["parley.correlation_id"] == "corr-1"
    assert request["tags"]["ai.operation.id"] == PARENT.split("-")[1]
    assert request["tags"]["ai.operation.parentId"] == PARENT.split("-")[2]
    assert request["tags"]["ai.cloud.role"] == "parley-test"
    assert tool["tags"]["ai.operation.parentId"] == data["id"]
    assert tool["data"]["baseData"]["properties"]["gen_ai.tool.call.id"] == "call-1"


async def test_a_collector_of_ones_own_goes_before_it(identity: Identity, tmp_path: Path) -> None:
    ingestion = Ingestion()

    with running_collector() as collector:

        async def arrived() -> object:
            return collector.spans

        await _run(tmp_path, ingestion, until=arrived, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)

    assert len({span.name for span in collector.spans}) == 3
    assert (ingestion.requests, identity.asked) == ([], [])
