"""Who may call the management API.

Two prefixes: the rpc prefix, which the SDK inside this host uses without a key, and the public webhook
prefix, whose links carry the system key. Invariant: without the key, only programs on this machine have
access. A browser does not count as one, since a web page can make it send requests to 127.0.0.1: requests
with browser headers, or with a Host that is not a loopback name (DNS rebinding), need the key as well.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from starlette.requests import Request

from devhost.asgi.hosts import is_loopback_name, name_of
from devhost.extensions.contract import HostError

_FORWARDING = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-original-host")


def system_key(data_dir: Path) -> str:
    """The extension's system key, made at the first start and stored in the data folder."""
    path = data_dir / "durabletask.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text(encoding="ascii").strip()
        if len(key) < 32:
            raise HostError(f"{path} does not hold a key; delete it to get a new one") from None
        return key
    key = secrets.token_urlsafe(40)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key)
    return key


def is_local_program(request: Request) -> bool:
    """Whether the caller is a program on this machine, not a proxy's client and not a web page."""
    headers = request.headers
    if request.client is None or not is_loopback_name(request.client.host):
        return False
    if any(name in headers for name in _FORWARDING):
        return False
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        return False
    name = name_of(headers.get("host", "").encode("latin-1"))
    return name is not None and is_loopback_name(name)


def has_key(request: Request, key: str) -> bool:
    """Whether the request carries the system key, in the header or the query."""
    given = request.headers.get("x-functions-key") or request.query_params.get("code") or ""
    return hmac.compare_digest(given.encode(), key.encode())
