"""Metrics for a Prometheus server: any instance answers for the whole deployment."""

from __future__ import annotations

import asyncio
import logging

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode, NotFound, Transient
from shared.principal import Role
from shared.sessions.measuring.catalogue import Gauges
from shared.sessions.measuring.sharing import MetricsUnavailable
from triggers.http.endpoints import Call, Operation, endpoint

bp = df.Blueprint()

log = logging.getLogger("parley.metrics")


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/metrics",
        "metrics",
        "Counters, histograms and gauges of the whole deployment",
        "Operations",
        200,
        operation_id="get_metrics",
        media_type="text/plain",
        also_as=("application/openmetrics-text",),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def metrics(call: Call, _: None) -> Response:
    """For callers with the role admin. Metrics of an unavailable store are left out; its `metrics_source_up` is 0."""
    if Role.ADMIN not in call.principal.roles:
        # The contract answers 404 to callers without access, and has no closer code than this.
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "Metrics are for callers with the role admin.")
    # Imported here, since only this route needs it and a cold start waits for imports.
    from shared.adapters.telemetry.prometheus import render

    totals, gauges = await asyncio.gather(_totals(call), _gauges(call))
    body, content_type = render(totals, gauges, call.request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


async def _totals(call: Call) -> dict[str, int] | None:
    try:
        return await call.services.metrics.totals()
    except MetricsUnavailable as exc:
        log.warning("metrics without counters: %s", exc)
        return None


async def _gauges(call: Call) -> Gauges | None:
    try:
        return await call.services.gauges.read()
    except Transient as exc:
        log.warning("metrics without gauges: %s", exc)
        return None
