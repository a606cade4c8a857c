"""An App Service Authentication emulator: adds the principal headers of Azure's front end.

Off by default. A caller names itself with `x-dev-user: NAME[;role,role]`; nothing is verified, so this is for
development only.

Invariant: with the emulator on, a caller's own `x-ms-client-principal*` headers never reach the app.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

from starlette.types import Scope

from devhost.asgi.hosts import AllowedHosts

DEFAULT_USER = "dev;approver,admin"
USER_HEADER = b"x-dev-user"
_PREFIXES = (b"x-ms-client-principal", b"x-ms-token-aad-")
_NAME_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"
_ID_CLAIM = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
_ROLE_CLAIM = "roles"

type Headers = list[tuple[bytes, bytes]]


def add_principal(scope: Scope, hosts: AllowedHosts, allowed_origins: Sequence[str] = ()) -> None:
    """Replace the principal headers of a request scope, in place.

    A page of another site can make a browser post to this machine. Such requests carry that site's Origin and get no
    principal, so the app sees an unauthenticated caller. The request's own `Host` was checked before (`hosts.py`).
    """
    given = DEFAULT_USER.encode()
    kept: Headers = []
    is_own = True
    for name, value in scope["headers"]:
        if name.startswith(_PREFIXES):
            continue
        if name == USER_HEADER:
            given = value
        elif name == b"origin":
            is_own = is_own and (value.decode("latin-1") in allowed_origins or hosts.allows_origin(value))
        kept.append((name, value))
    scope["headers"] = kept + principal_headers(given.decode("latin-1")) if is_own else kept


@lru_cache(maxsize=1024)
def principal_headers(user: str) -> Headers:
    """Headers for `NAME[;role,role]`. A percent-encoded name is decoded in the claims, as Azure sends it."""
    raw_name, _, raw_roles = user.partition(";")
    name = unquote(raw_name.strip()) or "anonymous"
    roles = [role for role in re.split(r"[,\s]+", raw_roles.strip()) if role]
    claims = [{"typ": _ID_CLAIM, "val": name}, {"typ": _NAME_CLAIM, "val": name}]
    claims += [{"typ": _ROLE_CLAIM, "val": role} for role in roles]
    principal = {"auth_typ": "aad", "claims": claims, "name_typ": _NAME_CLAIM, "role_typ": _ROLE_CLAIM}
    encoded = base64.b64encode(json.dumps(principal, separators=(",", ":")).encode())
    plain = name.encode("utf-8")
    return [
        (b"x-ms-client-principal", encoded),
        (b"x-ms-client-principal-id", plain),
        (b"x-ms-client-principal-name", plain),
        (b"x-ms-client-principal-idp", b"aad"),
    ]
