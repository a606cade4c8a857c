"""Who is calling. Decided once at the edge, from headers that the mode allows us to believe."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import orjson

from shared.errors import NotAuthenticated
from shared.settings import AuthMode

DEV_DEFAULT = "dev;approver,admin"
_NAME = re.compile(r"[^\s;,\x00-\x1f]{1,200}")


class Role(StrEnum):
    USER = "user"  # everyone who is signed in
    APPROVER = "approver"  # decides approvals
    ADMIN = "admin"  # operates the deployment


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in caller."""

    user_id: str
    roles: frozenset[Role]


def principal_of(headers: Mapping[str, str], mode: AuthMode) -> Principal:
    """The caller of a request; header names are lower-case. Raises NotAuthenticated."""
    if mode is AuthMode.DEV:
        return _dev_principal(headers.get("x-dev-user", DEV_DEFAULT))
    encoded = headers.get("x-ms-client-principal", "")
    user_id = headers.get("x-ms-client-principal-id", "")
    if not encoded or not user_id:
        raise NotAuthenticated
    return Principal(user_id, _roles(_claims(encoded)))


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
        return [(str(claim["typ"]), str(claim["val"])) for claim in document["claims"]]
    except (binascii.Error, ValueError, KeyError, TypeError) as exc:
        raise NotAuthenticated from exc


def _roles(claims: list[tuple[str, str]]) -> frozenset[Role]:
    # App roles arrive as "roles", or under the long name WS-Federation gave them.
    return _known_roles([value for kind, value in claims if kind == "roles" or kind.endswith("/claims/role")])


def _known_roles(names: list[str]) -> frozenset[Role]:
    known = {role.value for role in Role}
    return frozenset({Role.USER} | {Role(name.strip()) for name in names if name.strip() in known})
