"""Health: alive, and ready with each dependency by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel

from triggers.http import Call, Operation, endpoint, ok

bp = df.Blueprint()

_PROBE_SECONDS = 3.0


class Alive(BaseModel):
    """The process answers."""

    status: str


class Ready(BaseModel):
    """`ok` or what is wrong, per dependency. Redis may be away without making the service unready."""

    status: str
    dependencies: dict[str, str]


@endpoint(
    bp,
    Operation("GET", "/api/v1/health/live", "health_live", "Alive", "Operations", 200, returns=Alive, public=True),
)
async def health_live(call: Call, _: None) -> Response:
    """200 while the process can answer at all."""
    return ok(Alive(status="ok"))


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
)
async def health_ready(call: Call, _: None) -> Response:
    """200 when a turn would work: database and model client; Redis, storage and durable backend are named too."""
    everything = call.services
    names = ["postgres", "redis", "storage", "model"]
    results = await asyncio.gather(
        _probe(everything.pool.ping()),
        _probe(everything.event_log.ping()),
        _probe(everything.audit_lines.ping()),
        # No time limit: it asks nobody, but on a cold instance it loads the client, which takes as long as it takes.
        _probe(everything.model.warm_up(), limit_s=None),
    )
    dependencies = dict(zip(names, results, strict=True))
    ready = dependencies["postgres"] == dependencies["model"] == "ok"
    degraded = ready and any(result != "ok" for result in results)
    status = "degraded" if degraded else "ok" if ready else "unavailable"
    return ok(Ready(status=status, dependencies=dependencies), 200 if ready else 503)


async def _probe(check: Awaitable[object], *, limit_s: float | None = _PROBE_SECONDS) -> str:
    try:
        await asyncio.wait_for(check, limit_s)
    except TimeoutError:
        return "no answer"
    except Exception as exc:
        # Whatever a driver raises means the same here; only its kind is shown, never its text.
        return f"unavailable ({type(exc).__name__})"
    return "ok"
