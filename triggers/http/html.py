"""What our HTML pages share: inline style and nothing else, allowed by its hash."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256


def content_security_policy(style: str, *, forms: bool = False) -> str:
    """A policy under which only this `<style>` applies and nothing is loaded; forms: they may post to this origin."""
    digest = b64encode(sha256(style.encode()).digest()).decode()
    form_action = "'self'" if forms else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action {form_action};"
        " frame-ancestors 'none'; base-uri 'none'"
    )
