"""Health: liveness, and readiness with each dependency by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel, Field

from activities import durable_client
from shared.errors import NotAuthenticated
from shared.health import Check, HealthAnswer, HealthStatus
from shared.principal import Role
from triggers.http.endpoints import Call, Operation, caller_of, endpoint, ok

bp = df.Blueprint()

_FRESH = {"Cache-Control": "no-store"}


class Alive(BaseModel):
    """The process answers."""

    status: str


class ModelReady(BaseModel):
    """The result of probing the default model."""

    answers: bool
    may_pass: bool = Field(description="A failure may pass by itself; else an operator has to act")
    text: str = Field(description="The model, its API, and the response time or the failure")


class Ready(BaseModel):
    """Whether a turn would work, and the state of each dependency.

    Turns need `postgres`, `model` and `durable`. Without one of the others, turns work but some other feature does not.
    """

    status: HealthStatus
    model: Annotated[ModelReady | None, Field(description="For admins; else null")]
    dependencies: Annotated[
        dict[str, HealthAnswer],
        Field(
            description="`postgres`, `model` (probed once in ten minutes, with a request of a few tokens), `durable`"
            " (running turns), `redis`, `storage` (the audit trail), `audit` (its lines"
            " reach the storage within minutes), `blobs` (files), `signalr` (live delivery);"
            " `model_lane`, `tool_lane`: `busy` while answers or tool calls wait for a place on this instance"
        ),
    ]


@endpoint(
    bp,
    Operation("GET", "/api/v1/health/live", "health_live", "Alive", "Operations", 200, returns=Alive, public=True),
)
async def health_live(call: Call, _: None) -> Response:
    """200 while the process can answer."""
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
    """200 when a turn would work. Checked within seconds; the answer is a second old at most."""
    durable = Check("durable", lambda: durable_client.ping(call.durable), needed=True)
    health = await call.services.health.look(durable)
    ready = health.status is not HealthStatus.UNAVAILABLE
    answers = dict(health.answers)
    found = Ready(status=health.status, model=await _model(call, answers), dependencies=answers)
    return ok(found, 200 if ready else 503, _FRESH)


async def _model(call: Call, answers: Mapping[str, HealthAnswer]) -> ModelReady | None:
    """The details of the model's probe; None for callers without the role admin."""
    try:
        caller = caller_of(call.request, call.services.settings)
    except NotAuthenticated:
        return None
    if Role.ADMIN not in caller.roles:
        return None
    if answers["model"] is HealthAnswer.NO_ANSWER:
        text = f"{call.services.settings.model_name} has not answered yet"
        return ModelReady(answers=False, may_pass=True, text=text)
    found = await call.services.model_probe.look()
    may_pass = found.error is not None and found.error.retryable
    return ModelReady(answers=found.error is None, may_pass=may_pass, text=str(found))
