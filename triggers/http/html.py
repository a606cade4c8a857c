"""Headers of our pages: the Content-Security-Policy, and that browsers use https only."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

HTTPS_ONLY = {"Strict-Transport-Security": f"max-age={2 * 365 * 86_400}"}
"""Two years, as the browsers' preload list asks for; without subdomains, which may be somebody else's."""


def https_only(public_base_url: str) -> dict[str, str]:
    """The header by which browsers come back over https only (RFC 6797); none on a laptop, which has only http."""
    return HTTPS_ONLY if public_base_url.startswith("https://") else {}


def content_security_policy(style: str, *, forms: bool = False) -> str:
    """A policy that allows only this `<style>`, by its hash. forms: the page may post to its own origin."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    form_action = "'self'" if forms else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action {form_action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
