"""Who is calling. Decided once at the edge, from headers that the mode allows us to believe."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import orjson
from pydantic import AfterValidator

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
    """The roles that mean something here. Those of an organisation, such as `finance`, are names in policies only."""

    USER = "user"  # everyone who is signed in
    APPROVER = "approver"  # decides approvals, where a policy names no other role
    ADMIN = "admin"  # operates the deployment


MAX_ROLES = 64
"""Of one caller, in alphabetical order; a role too many is one that they do not have."""
_ROLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_BUILT_IN = frozenset(role.value for role in Role)


def _role_name(name: str) -> str:
    if _ROLE_NAME.fullmatch(name) is None:
        raise ValueError("must be a role name: a letter, then up to 63 letters, digits, dots, dashes or underscores")
    if name not in _BUILT_IN and name.lower() in _BUILT_IN:
        raise ValueError(f"reads like the role {name.lower()} and would be another one: role names are case-sensitive")
    return name


type RoleName = Annotated[str, AfterValidator(_role_name)]
"""A role as a policy names it: one of `Role`, or one of the organisation's (the value of an app role in Entra)."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in caller."""

    user_id: str
    roles: frozenset[str]
    """Always with `Role.USER`."""


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
    return Principal(name, _role_names(roles.split(",")))


def _claims(encoded: str) -> list[tuple[str, str]]:
    """(type, value) of the platform's `X-MS-CLIENT-PRINCIPAL`, base64 JSON with short claim keys."""
    try:
        document = orjson.loads(base64.b64decode(encoded, validate=True))
        if document["auth_typ"] != "aad":
            raise NotAuthenticated
        return [(str(claim["typ"]), str(claim["val"])) for claim in document["claims"]]
    except (binascii.Error, ValueError, KeyError, TypeError) as exc:
        raise NotAuthenticated from exc


def _roles(claims: list[tuple[str, str]]) -> frozenset[str]:
    # App roles arrive as "roles", or under the long name WS-Federation gave them.
    return _role_names([value for kind, value in claims if kind == "roles" or kind.endswith("/claims/role")])


def _role_names(given: Collection[str]) -> frozenset[str]:
    """What no policy can name is no role."""
    names = {name.strip() for name in given}
    built_in = names & _BUILT_IN
    others = sorted(name for name in names if _ROLE_NAME.fullmatch(name) and name.lower() not in _BUILT_IN)
    return frozenset({Role.USER.value, *built_in, *others[: MAX_ROLES - len(_BUILT_IN)]})
