"""CORS according to `Host.CORS` and `Host.CORSCredentials` in local.settings.json, and to the setting that allows all
pages of this machine.

Preflights are answered here, before any function sees them; starlette's middleware does the rest.
Invariant: without configured origins, and without that setting, no CORS header is ever sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

# Core Tools and App Service allow these for every configured origin.
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


CORS_LOCAL_SETTING = "DEVHOST_CORS_LOCAL"
"""`true`: pages that this machine serves under `localhost`, a name below it or a loopback address, on any port, may
read answers, and send credentials as SignalR's client does. Other settings than these two are the platform's."""

_LOCAL = re.compile(r"https?://((?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(:\d{1,5})?")


def with_cors(app: ASGIApp, origins: Sequence[str], *, credentials: bool, local: bool = False) -> ASGIApp:
    """Wrap `app`; returns it unchanged when no origin is configured. local: allow pages of this machine, too."""
    configured = app
    if origins:
        configured = CORSMiddleware(
            app,
            allow_origins=list(origins),
            allow_methods=_METHODS,
            allow_headers=["*"],
            allow_credentials=credentials,
        )
    if not local:
        return configured
    of_machine = CORSMiddleware(
        app, allow_origin_regex=_LOCAL.pattern, allow_methods=_METHODS, allow_headers=["*"], allow_credentials=True
    )

    async def by_origin(scope: Scope, receive: Receive, send: Send) -> None:
        origin = dict(scope["headers"]).get(b"origin", b"").decode("latin-1")
        await (of_machine if _LOCAL.fullmatch(origin) else configured)(scope, receive, send)

    return by_origin
