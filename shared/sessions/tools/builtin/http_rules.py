"""Rules for a tool's HTTP request that hold for any host.

They are checked when the model's arguments are validated, so that nobody has to approve a request that would be refused
anyway. The fetcher checks them again just before sending.

Invariant: one parser (yarl) parses the URL for checking, display and connection, so no two steps can disagree about its
host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from yarl import URL

MAX_URL_CHARS = 2_048
MAX_HEADERS = 32
MAX_HEADER_CHARS = 4_096

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_FORBIDDEN = frozenset(
    {
        # The connection belongs to the client (RFC 9110 section 7.6.1, 9112).
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
        "accept-encoding",
        # Identity and idempotency are set by the system.
        "idempotency-key",
        "traceparent",
        "tracestate",
        "cookie",
        "cookie2",
        "forwarded",
        # Metadata and identity services require these as proof that no web page made the request.
        "metadata",
        "metadata-flavor",
        "x-identity-header",
        "x-aws-ec2-metadata-token",
        "x-aws-ec2-metadata-token-ttl-seconds",
    }
)
_FORBIDDEN_PREFIXES = ("proxy-", "sec-", "x-forwarded-", "x-ms-client-principal")


def parse_url(text: str) -> URL:
    """The URL to request, without its fragment. Raises ValueError with a message for the model."""
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"the URL is longer than {MAX_URL_CHARS} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("the URL holds spaces, backslashes or control characters; escape them")
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError:
        raise ValueError("that is not a URL") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("only http and https URLs are allowed")
    if not host or not port:
        raise ValueError("the URL has no host")
    # In the text too: yarl drops an empty user name, and "@" before the path has no other use.
    if url.user is not None or url.password is not None or "@" in re.split(r"[/?#]", text.partition("://")[2])[0]:
        raise ValueError("the URL must not hold credentials")
    return url.with_fragment(None)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ValueError with a message for the model, naming the header."""
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"more than {MAX_HEADERS} headers")
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name) or len(name) > 128:
            raise ValueError(f"{name[:40]!r} is not a header name")
        if lower in _FORBIDDEN or lower.startswith(_FORBIDDEN_PREFIXES):
            raise ValueError(f"the header {name!r} is set by the system and cannot be chosen")
        if lower in seen:
            raise ValueError(f"the header {name!r} is given twice")
        if len(value) > MAX_HEADER_CHARS or not _VALUE.fullmatch(value):
            raise ValueError(f"the value of {name!r} is too long or holds characters that headers cannot carry")
        seen.add(lower)
