"""The relay: sends SignalR messages for running activities, since a binding sends only when its function returns.

Accepts only the app's own short-lived token; not part of the public contract.
"""

from __future__ import annotations

import azure.durable_functions as df
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

from activities.binding import sends_events
from shared.adapters.azure.signalr import RELAY_ROUTE
from shared.composition.services import services
from shared.errors import InvalidInput
from triggers.http.bodies import body_chunks

bp = df.Blueprint()

_MAX_BYTES = 8 * 1024 * 1024


@bp.route(route=f"api/{RELAY_ROUTE}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@sends_events(bp)
async def relay(req: Request, events: func.Out[str]) -> Response:
    """Body: a JSON array of SignalR messages, passed on unchanged."""
    if not services().relay_tokens.check(req.headers.get("authorization", "")):
        return Response(status_code=404)
    body = bytearray()
    try:
        async for chunk in body_chunks(req):
            body += chunk
            if len(body) > _MAX_BYTES:
                return Response(status_code=413)
    except InvalidInput:
        return Response(status_code=400)
    events.set(body.decode())
    return Response(status_code=204)
