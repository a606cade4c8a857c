"""Health: liveness, and readiness with each dependency by name.

Invariant: strangers learn whether a turn would work, and nothing else: what is away may be what limits or watches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel, Field

from activities import durable_client
from shared.errors import NotAuthenticated
from shared.health import Check, Health, HealthAnswer, HealthStatus
from shared.principal import Role
from triggers.http.endpoints import Call, Operation, caller_of, endpoint, ok

bp = df.Blueprint()

_FRESH = {"Cache-Control": "no-store"}


_FOR_EVERYBODY = frozenset({HealthAnswer.OK, HealthAnswer.BUSY})
"""What a signed-in caller reads of a dependency besides that it is unavailable."""


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

    Turns need `postgres`, `model` and `durable`. Without one of the others, turns work but some other feature does not:
    that is `degraded`, which callers who are not signed in read as `ok`.
    """

    status: HealthStatus
    model: Annotated[ModelReady | None, Field(description="For admins; else null")]
    problems: list[str] = Field(
        [],
        description="For admins, else empty: what is wrong with the files of the app's agents and tools, one line each,"
        " such as `agents/tools/refund.py:12: NameError: ...`. They are left out; all else works",
    )
    dependencies: Annotated[
        dict[str, HealthAnswer],
        Field(
            description="For callers who are signed in, else empty; only admins read more than `ok`, `busy` and"
            " `unavailable`."
            " `postgres`, `model` (probed once in ten minutes, with a request of a few tokens), `durable`"
            " (running turns), `redis`, `storage` (the audit trail), `audit` (its lines"
            " reach the storage within minutes), `blobs` (files), `signalr` (live delivery);"
            " `model_lane`, `tool_lane`: `busy` while answers or tool calls wait for a place on this instance;"
            " `tool_threads`: `busy` while half of its threads for tools are blocked"
        ),
    ]


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/health/live",
        "health_live",
        "Alive",
        "Operations",
        200,
        operation_id="check_liveness",
        returns=Alive,
        public=True,
    ),
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
        operation_id="check_readiness",
        returns=Ready,
        public=True,
        also={503: "Not ready: `dependencies` says why to callers who are signed in"},
    ),
    durable=True,
)
async def health_ready(call: Call, _: None) -> Response:
    """200 when a turn would work, for everybody. Checked within seconds; the answer is a second old at most."""
    durable = Check("durable", lambda: durable_client.ping(call.durable), needed=True)
    health = await call.services.health.look(durable)
    ready = health.status is not HealthStatus.UNAVAILABLE
    return ok(await _told(call, health), 200 if ready else 503, _FRESH)


async def _told(call: Call, health: Health) -> Ready:
    """What the caller may know of it."""
    try:
        caller = caller_of(call.request, call.services.settings)
    except NotAuthenticated:
        works = health.status is not HealthStatus.UNAVAILABLE
        return Ready(status=HealthStatus.OK if works else health.status, model=None, dependencies={})
    if Role.ADMIN in caller.roles:
        model = await _model(call, health.answers)
        problems = [str(each) for each in call.services.agents.files.problems]
        return Ready(status=health.status, model=model, dependencies=dict(health.answers), problems=problems)
    coarse = {
        name: answer if answer in _FOR_EVERYBODY else HealthAnswer.UNAVAILABLE
        for name, answer in health.answers.items()
    }
    return Ready(status=health.status, model=None, dependencies=coarse)


async def _model(call: Call, answers: Mapping[str, HealthAnswer]) -> ModelReady:
    """The details of the model's probe."""
    if answers["model"] is HealthAnswer.NO_ANSWER:
        text = f"{call.services.settings.model_name} has not answered yet"
        return ModelReady(answers=False, may_pass=True, text=text)
    found = await call.services.model_probe.look()
    may_pass = found.error is not None and found.error.retryable
    return ModelReady(answers=found.error is None, may_pass=may_pass, text=str(found))
