"""The Content-Security-Policy of our HTML pages: one inline style and at most one script, allowed by their hashes."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256


def content_security_policy(style: str, *, script: str | None = None, forms: bool = False) -> str:
    """A policy that allows only this `<style>` and loads nothing. script: allowed, too, and may send requests to the
    page's own origin; forms: the page may post to it."""
    scripts = "" if script is None else f" script-src '{_hash(script)}'; connect-src 'self';"
    form_action = "'self'" if forms else "'none'"
    return (
        f"default-src 'none'; style-src '{_hash(style)}';{scripts} form-action {form_action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
