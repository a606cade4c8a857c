"""Health: alive, and ready with each dependency by name."""

from __future__ import annotations

from typing import Annotated

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel, Field

from activities import durable_client
from shared.health import Check, HealthAnswer, HealthStatus
from triggers.http import Call, Operation, endpoint, ok

bp = df.Blueprint()

_FRESH = {"Cache-Control": "no-store"}


class Alive(BaseModel):
    """The process answers."""

    status: str


class Ready(BaseModel):
    """Whether a turn would work, and what answers.

    Without `postgres`, `model` or `durable` no turn works; without one of the others something beside turns is missing.
    """

    status: HealthStatus
    dependencies: Annotated[
        dict[str, HealthAnswer],
        Field(
            description="`postgres`, `model` (its client; the model is not asked), `durable` (where turns stand),"
            " `redis`, `storage` (the audit trail), `blobs` (files), `signalr` (live delivery)"
        ),
    ]


@endpoint(
    bp,
    Operation("GET", "/api/v1/health/live", "health_live", "Alive", "Operations", 200, returns=Alive, public=True),
)
async def health_live(call: Call, _: None) -> Response:
    """200 while the process can answer at all."""
    return ok(Alive(status="ok"), headers=_FRESH)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/health/ready",
        "health_ready",
        "Ready for a turn",
        "Operations",
        200,
        returns=Ready,
        public=True,
        also={503: "Not ready: `dependencies` says why"},
    ),
    durable=True,
)
async def health_ready(call: Call, _: None) -> Response:
    """200 when a turn would work. Asked anew each time, within seconds; callers at once share one round."""
    durable = Check("durable", lambda: durable_client.ping(call.durable), needed=True)
    health = await call.services.health.look(durable)
    ready = health.status is not HealthStatus.UNAVAILABLE
    return ok(Ready(status=health.status, dependencies=dict(health.answers)), 200 if ready else 503, _FRESH)
