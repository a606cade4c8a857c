"""CORS according to `Host.CORS` and `Host.CORSCredentials` in local.settings.json.

Preflights are answered here, before any function sees them; starlette's middleware does the rest.
Invariant: without configured origins no CORS header is ever sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

# Core Tools and App Service allow these for every configured origin.
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


def with_cors(app: ASGIApp, origins: Sequence[str], *, credentials: bool) -> ASGIApp:
    """Wrap `app`; returns it unchanged when no origin is configured."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=_METHODS,
        allow_headers=["*"],
        allow_credentials=credentials,
    )
