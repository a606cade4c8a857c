"""The Content-Security-Policy of our HTML pages: one inline style, allowed by its hash, and nothing else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256


def content_security_policy(style: str, *, forms: bool = False) -> str:
    """A policy that allows only this `<style>` and loads nothing. forms: the page may post to its own origin."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    form_action = "'self'" if forms else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action {form_action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
