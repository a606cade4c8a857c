"""Headers of answers: how a browser may use them, that browsers come back over https only, and what each is for."""

from __future__ import annotations

from typing import Any

from azurefunctions.extensions.http.fastapi import Response

HTTPS_ONLY = {"Strict-Transport-Security": f"max-age={2 * 365 * 86_400}"}
"""Two years, as the browsers' preload list asks for; without subdomains, which may be somebody else's."""


def https_only(public_base_url: str) -> dict[str, str]:
    """The header by which browsers use https only (RFC 6797); none on a laptop, which has only http."""
    return HTTPS_ONLY if public_base_url.startswith("https://") else {}


def say_use(response: Response, public_base_url: str) -> Response:
    """Add the headers of every answer to one; what it says itself about being stored stays."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    # What a caller may read today, a cache must not show tomorrow.
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.update(https_only(public_base_url))
    return response


# What the document says of them. Required ones are there whenever their answer declares them.

RETRY_AFTER = "Retry-After"
RATE_LIMITS = ("RateLimit", "RateLimit-Policy")
"""Of each answer to somebody who is signed in, where requests are limited."""

_TEXT = {"type": "string"}


def _header(description: str, *, required: bool = True, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": schema or _TEXT}


HEADERS: dict[str, dict[str, Any]] = {
    "x-correlation-id": _header("Names this request in our logs"),
    "ETag": _header("The version of what is answered, for `If-Match` and `If-None-Match`"),
    "Location": _header("Where what was made is found"),
    "Preference-Applied": _header("`wait=SECONDS`, for a request with `Prefer: wait`", required=False),
    "x-vercel-ai-ui-message-stream": _header("Version of the stream's format", const="v1"),
    "Content-Disposition": _header("The file's name, and whether a browser shows or saves it"),
    "Content-Range": _header("Which bytes these are"),
    "Accept-Ranges": _header("That byte ranges are taken: `bytes`"),
    RETRY_AFTER: _header("Seconds until a retry may succeed", type="integer", minimum=1),
    "RateLimit": _header("Requests that are left, and seconds until all are", required=False),
    "RateLimit-Policy": _header("Requests that a user may make, and in how many seconds", required=False),
}
