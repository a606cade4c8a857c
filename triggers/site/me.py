"""The caller as the service sees them, so that a console can show what they may do."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import Field

from shared.sessions.models import Value
from triggers.http.endpoints import Call, Operation, endpoint, ok

bp = df.Blueprint()


class Me(Value):
    """The caller. For display: each request is authorised on its own, never from this."""

    user_id: str
    roles: list[str] = Field(description="Sorted by name, an organisation's too; everyone signed in is a `user`")


@endpoint(
    bp,
    Operation("GET", "/api/v1/me", "get_me", "Who is calling", "Operations", 200, returns=Me),
)
async def get_me(call: Call, _: None) -> Response:
    """Needed since the platform's own `/.auth/me` requires its token store and answers no other origin."""
    me = Me(user_id=call.principal.user_id, roles=sorted(call.principal.roles))
    return ok(me, headers={"Cache-Control": "no-store"})
