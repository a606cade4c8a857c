"""Who is calling, as the service sees them: for a console that shows what its reader may do."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import Field

from shared.principal import Role
from shared.sessions.models import Value
from triggers.http.endpoints import Call, Operation, endpoint, ok

bp = df.Blueprint()


class Me(Value):
    """The caller. What they may do is decided at each request, never from this."""

    user_id: str
    roles: list[Role] = Field(description="In the order of their names; everyone signed in is a `user`")


@endpoint(
    bp,
    Operation("GET", "/api/v1/me", "get_me", "Who is calling", "Operations", 200, returns=Me),
)
async def get_me(call: Call, _: None) -> Response:
    """The platform's own page about the caller needs its token store, and says nothing to another origin."""
    me = Me(user_id=call.principal.user_id, roles=sorted(call.principal.roles))
    return ok(me, headers={"Cache-Control": "no-store"})
