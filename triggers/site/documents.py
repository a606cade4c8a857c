"""The API's description: as an OpenAPI document, and as an HTML page."""

from __future__ import annotations

from typing import Any

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.principal import AuthMode
from triggers.http.endpoints import Call, Operation, endpoint, raw_json
from triggers.http.html import content_security_policy
from triggers.http.openapi.document import document
from triggers.site.docs_page import SCRIPT, STYLE, page

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/openapi.json",
        "openapi",
        "This document",
        "Operations",
        200,
        operation_id="get_openapi_document",
        returns=dict[str, Any],
        public=True,
    ),
)
async def openapi(call: Call, _: None) -> Response:
    """Generated from the models that validate requests, so it cannot drift."""
    return raw_json(document(), headers={"Cache-Control": "no-cache"})


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/docs",
        "docs",
        "This API as a page",
        "Operations",
        200,
        operation_id="show_docs",
        media_type="text/html",
        public=True,
    ),
)
async def docs(call: Call, _: None) -> Response:
    """Rendered on the server; loads nothing and works offline. Requests can be tried from it."""
    takes_dev_user = call.services.settings.auth_mode is AuthMode.DEV
    return Response(
        page(document(), takes_dev_user=takes_dev_user),
        media_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": content_security_policy(STYLE, script=SCRIPT),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
