"""Headers of every answer: how a browser may use it, and that browsers come back over https only."""

from __future__ import annotations

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
