"""The JWTs of SignalR: HS256 over the access key's UTF-8 bytes.

Invariant: a token is valid for exactly one audience. A client token names the hub's client address, a
REST token the address of its one call, so that a client's token can never send.
Source: Azure SignalR Service, "Data plane REST API", section on authentication via AccessKey.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jwt

LIFETIME_S = 3600
USER_CLAIM = "asrs.s.uid"
_RESERVED = frozenset({"aud", "exp", "iat", "nbf"})
_RESERVED_PREFIX = "asrs.u."


class TokenRefused(Exception):
    """The token is missing, malformed, expired, forged, or meant for something else."""


def sign(key: str, *, audience: str, user_id: str | None = None, claims: Mapping[str, Any] | None = None) -> str:
    """A token for `audience`, valid for an hour from now.

    claims: extra claims for the client; one with a reserved name gets a prefix.
    """
    now = int(time.time())
    payload: dict[str, Any] = {
        (_RESERVED_PREFIX + name if name in _RESERVED else name): value for name, value in (claims or {}).items()
    }
    payload |= {"aud": audience, "iat": now, "nbf": now, "exp": now + LIFETIME_S}
    if user_id is not None:
        payload[USER_CLAIM] = user_id
    return jwt.encode(payload, key, algorithm="HS256")


def verify(token: str | None, *, keys: Sequence[str], audiences: Collection[str]) -> Mapping[str, Any]:
    """The claims of a token signed with one of `keys` for one of `audiences`. Raises TokenRefused."""
    if not token:
        raise TokenRefused("no access token")
    failure: Exception | None = None
    for key in keys:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                audience=audiences,
                leeway=5,
                # Only `exp` and `aud` protect; hand-made tokens may lack the other claims.
                options={"require": ["exp", "aud"], "verify_iat": False},
            )
        except jwt.InvalidSignatureError as exc:
            failure = exc
        except jwt.PyJWTError as exc:
            raise TokenRefused(str(exc)) from exc
    raise TokenRefused("the signature does not match the access key") from failure


def user_id_of(claims: Mapping[str, Any]) -> str | None:
    """The user id in a client token; hand-made tokens use `nameid` or `sub`."""
    for name in (USER_CLAIM, "nameid", "sub"):
        value = claims.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def unverified_claims(id_token: str, names: Collection[str]) -> dict[str, Any]:
    """The claims called `names` of an identity token.

    The signature is not checked: in Azure the platform has done that before the function runs.
    Raises ValueError when the text is not a JWT.
    """
    try:
        claims = jwt.decode(id_token, options={"verify_signature": False})
    except jwt.PyJWTError as exc:
        raise ValueError(f"idToken is not a JWT: {exc}") from exc
    return {name: value for name, value in claims.items() if name in names}
