"""`python -m devtools.bench.peers.program ENGINE PORT READY_FILE`: the web server of a peer.

It answers what the load generator asks: make a session, post a message, stream its turn.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from devtools.bench.peers.program.engines import engine
from devtools.bench.peers.program.watching import END, begun, said


def _json(value: object, status: int) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _main(name: str, port: str, ready_file: str) -> None:
    turns = engine(name)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await turns.open()
        Path(ready_file).write_text(str(os.getpid()))  # noqa: ASYNC240 - once, before any request
        yield

    async def create_session(_: Request) -> Response:
        return _json({"id": str(uuid.uuid4())}, 201)

    async def post_message(request: Request) -> Response:
        body, turn_id = orjson.loads(await request.body()), str(uuid.uuid4())
        await turns.start(request.path_params["session_id"], turn_id, body["content"])
        return _json({"turn": {"id": turn_id}}, 202)

    async def stream_turn(request: Request) -> Response:
        return StreamingResponse(_stream(request.path_params["turn_id"]), media_type="text/event-stream")

    async def _stream(turn_id: str) -> AsyncIterator[bytes]:
        yield begun(turn_id)
        async for text in turns.texts(turn_id):
            yield said(turn_id, text)
        yield END

    routes = [
        Route("/api/v1/sessions", create_session, methods=["POST"]),
        Route("/api/v1/sessions/{session_id}/messages", post_message, methods=["POST"]),
        Route("/api/v1/sessions/{session_id}/turns/{turn_id}/stream", stream_turn),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)


if __name__ == "__main__":
    _main(*sys.argv[1:])
