"""Who is calling. Decided once at the edge, from headers that the mode allows us to believe."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from shared.errors import NotAuthenticated

_NAME_IDENTIFIER = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
DEV_DEFAULT = "dev;approver,admin"
_USER_ID = re.compile(r"[A-Za-z0-9._@-]{1,200}")
_CLAIM = "http://schemas.microsoft.com/identity/claims/"
_ID_CLAIMS = frozenset({"oid", "sub", f"{_CLAIM}objectidentifier", _NAME_IDENTIFIER})
_TENANT_CLAIMS = frozenset({"tid", f"{_CLAIM}tenantid"})
_NAME = re.compile(r"[^\s;,\x00-\x1f]{1,200}")


class AuthMode(StrEnum):
    """Whose word is taken for who calls."""

    EASYAUTH = "easyauth"  # App Service Authentication puts the principal's headers in front
    DEV = "dev"  # the header x-dev-user; local only


class Role(StrEnum):
    USER = "user"  # everyone who is signed in
    APPROVER = "approver"  # decides approvals
    ADMIN = "admin"  # operates the deployment


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in caller."""

    user_id: str
    roles: frozenset[Role]


def principal_of(
    headers: Mapping[str, str], mode: AuthMode, *, tenant_id: str | None = None, audiences: Collection[str] = ()
) -> Principal:
    """The caller of a request; header names are lower-case. Raises NotAuthenticated.

    With easyauth the platform strips these headers from what clients send and writes its own. That it is there at all
    is checked once, at start (`Settings`); here its statement must be one, whole and agreeing with itself, by Entra,
    and of the tenant and for an audience that are expected, where any are.
    """
    if mode is AuthMode.DEV:
        return _dev_principal(headers.get("x-dev-user", DEV_DEFAULT))
    user_id = _one(headers, "x-ms-client-principal-id")
    claims = _claims(_one(headers, "x-ms-client-principal"))
    if _USER_ID.fullmatch(user_id) is None or user_id not in _values(claims, _ID_CLAIMS):
        raise NotAuthenticated
    if tenant_id and tenant_id not in _values(claims, _TENANT_CLAIMS):
        raise NotAuthenticated
    if audiences and not set(audiences) & _values(claims, {"aud"}):
        raise NotAuthenticated
    return Principal(user_id, _roles(claims))


def _one(headers: Mapping[str, str], name: str) -> str:
    """The value of a header that came once. Several are not the platform's: it replaces, it does not add."""
    values = [value for key, value in headers.items() if key == name]
    if len(values) != 1 or not values[0]:
        raise NotAuthenticated
    return values[0]


def _values(claims: list[tuple[str, str]], kinds: Collection[str]) -> set[str]:
    return {value for kind, value in claims if kind in kinds}


def _dev_principal(header: str) -> Principal:
    name, _, roles = header.partition(";")
    name = name.strip()
    if _NAME.fullmatch(name) is None:
        raise NotAuthenticated("x-dev-user must be NAME[;role,role].")
    return Principal(name, _known_roles(roles.split(",")))


def _claims(encoded: str) -> list[tuple[str, str]]:
    """(type, value) of the platform's `X-MS-CLIENT-PRINCIPAL`, base64 JSON with short claim keys."""
    try:
        document = orjson.loads(base64.b64decode(encoded, validate=True))
        if document["auth_typ"] != "aad":
            raise NotAuthenticated
        return [(str(claim["typ"]), str(claim["val"])) for claim in document["claims"]]
    except (binascii.Error, ValueError, KeyError, TypeError) as exc:
        raise NotAuthenticated from exc


def _roles(claims: list[tuple[str, str]]) -> frozenset[Role]:
    # App roles arrive as "roles", or under the long name WS-Federation gave them.
    return _known_roles([value for kind, value in claims if kind == "roles" or kind.endswith("/claims/role")])


def _known_roles(names: list[str]) -> frozenset[Role]:
    known = {role.value for role in Role}
    return frozenset({Role.USER} | {Role(name.strip()) for name in names if name.strip() in known})
