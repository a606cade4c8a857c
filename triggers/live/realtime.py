"""SignalR: negotiation, and who is in which group."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import azure.durable_functions as df
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response
from pydantic import BaseModel, Field

from activities.binding import change_group, send, sends_events
from shared.adapters.azure.signalr import HUB, user_of_connection
from shared.composition.services import services
from shared.errors import AppError, ErrorCode, NotAuthenticated
from shared.rights import Action
from shared.sessions.live.groups import day_memberships, group_action, role_memberships
from shared.sessions.models import SessionPresence, Subscription
from triggers.http.endpoints import (
    OPERATIONS,
    Call,
    Operation,
    caller_of,
    endpoint,
    ok,
    problem,
    raw_json,
    request_id,
)
from triggers.http.headers import say_use

bp = df.Blueprint()


class ConnectionInfo(BaseModel):
    """Where and how to connect, in the shape that the standard SignalR client expects."""

    url: str
    accessToken: str


class Unsubscribed(BaseModel):
    """The session whose group the caller left."""

    session_id: str
    connection_id: str | None


class Subscribed(Unsubscribed):
    """The session whose group the caller joined."""

    is_joined: bool = Field(
        description="Every event sent after this answer arrives. False: SignalR does not know the connection or was not"
        " reached; subscribe again"
    )


NEGOTIATE = Operation(
    "POST",
    "/api/v1/realtime/negotiate",
    "negotiate",
    "Connect to SignalR",
    "Realtime",
    200,
    operation_id="negotiate_connection",
    returns=ConnectionInfo,
)
OPERATIONS.append(NEGOTIATE)


@bp.route(route="api/v1/realtime/negotiate", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@bp.generic_input_binding(
    arg_name="connection",
    type="signalRConnectionInfo",
    hub_name=HUB,
    # In Azure a caller can put another value here: expressions read a JSON body before the headers. So whoever gets
    # the connection is compared with the user of its token.
    user_id="{headers.x-ms-client-principal-id}",
    connection_string_setting="AzureSignalRConnectionString",
)
@sends_events(bp)
async def negotiate(req: Request, connection: str, events: func.Out[str]) -> Response:
    """Connection info for the standard client. The caller joins the groups of their roles at once and leaves those of
    former roles. A membership lasts until the end of tomorrow (UTC); clients that stay connected negotiate again."""
    correlation_id = request_id(req)
    limits: Mapping[str, str] = {}
    try:
        principal = caller_of(req, services().settings)
        admission = await services().limiter.admit(principal.user_id)
        limits = admission.headers
        admission.check()
        if principal.user_id != user_of_connection(connection):
            raise NotAuthenticated("The connection would belong to another user.")
    except AppError as exc:
        refused = problem(exc, correlation_id, doing=f"{NEGOTIATE.method} {NEGOTIATE.path}")
        refused.headers.update(limits)
        return say_use(refused, services().settings.public_base_url)
    now = datetime.now(UTC)
    memberships = dict(role_memberships(principal.roles, now))
    # Before the answer, which outputs follow: who is connected hears of the next approval.
    today = [group for group, is_member in day_memberships(principal.roles, now) if is_member]
    added = await asyncio.gather(
        *(change_group(group_action("add", group, user_id=principal.user_id)) for group in today)
    )
    done = {group for group, is_done in zip(today, added, strict=True) if is_done}
    send(
        events,
        [
            group_action("add" if is_member else "remove", group, user_id=principal.user_id)
            for group, is_member in memberships.items()
            if group not in done
        ],
    )
    info = Response(connection, media_type="application/json", headers={"x-correlation-id": correlation_id, **limits})
    return say_use(info, services().settings.public_base_url)


def _membership_of(verb: str, preposition: str, summary: str, returns: type[BaseModel]) -> Operation:
    return Operation(
        "POST",
        f"/api/v1/sessions/{{session_id}}/{verb}",
        verb,
        summary,
        "Realtime",
        200,
        operation_id=f"{verb}_{preposition}_session",
        actions=(Action.READ,),
        body=Subscription,
        returns=returns,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
        body_required=False,
    )


@endpoint(bp, _membership_of("subscribe", "to", "See a session's events live", Subscribed), sends=True)
async def subscribe(call: Call, body: Subscription) -> Response:
    """For one connection or all connections of the caller, as long as the caller may read the session. Events may
    arrive in another order than that of their `seq`, and twice: order them, and read a hole from the events' replay."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    connection_id = body.connection_id or None
    joining = await call.services.subscriptions.subscribe(session_id, connection_id, call.principal, change_group)
    call.events = list(joining.left)
    return raw_json({"session_id": session_id, "connection_id": body.connection_id, "is_joined": joining.is_joined})


@endpoint(bp, _membership_of("unsubscribe", "from", "Stop seeing a session's events", Unsubscribed), sends=True)
async def unsubscribe(call: Call, body: Subscription) -> Response:
    """The counterpart of subscribe."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    connection_id = body.connection_id or None
    call.events = await call.services.subscriptions.unsubscribe(session_id, connection_id, call.principal, change_group)
    return raw_json({"session_id": session_id, "connection_id": body.connection_id})


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions/{session_id}/presence",
        "announce_presence",
        "Say that one has a session open, and see who else has",
        "Realtime",
        200,
        actions=(Action.READ,),
        returns=SessionPresence,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def announce_presence(call: Call, _: None) -> Response:
    """For a page that shows the session, every `again_s` seconds for as long as it does. Only people of the session are
    named, and nobody for longer than a minute after their last page was closed. In a session that is not shared nothing
    is kept."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return ok(await call.services.here.announce(session_id, call.principal))
