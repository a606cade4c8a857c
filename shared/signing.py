"""Signed tokens: approval links, and the app's own calls to its relay.

Each purpose signs with a key of its own, derived from the one secret, so that a token of one kind can never be taken
for the other. Tokens are JWTs (HS256): a maintained library checks algorithm, audience and expiry.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import datetime

import jwt

_ALGORITHM = "HS256"
_LINK_AUDIENCE = "parley/approval"
_RELAY_AUDIENCE = "parley/relay"

RELAY_TOKEN_SECONDS = 60
"""Long enough for one kept-alive connection's bursts, short enough to be worthless in a log."""


class TokenInvalid(Exception):
    """Not a token of ours, or tampered with."""


class TokenExpired(Exception):
    """Once ours, now too old."""


def derive_key(secret: str, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HMAC-SHA256 as a KDF; the secret itself signs nothing)."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


@dataclass(frozen=True)
class ApprovalLinks:
    """Makes and reads the tokens of approve links. A token says which approval, never who decides."""

    secret: str
    public_base_url: str

    def token(self, approval_id: str, *, expires_at: datetime) -> str:
        """expires_at: aware UTC, the end of the wait."""
        claims = {"aud": _LINK_AUDIENCE, "sub": approval_id, "exp": int(expires_at.timestamp())}
        return jwt.encode(claims, derive_key(self.secret, _LINK_AUDIENCE), algorithm=_ALGORITHM)

    def url(self, approval_id: str, *, expires_at: datetime) -> str:
        """The page where the approval is decided."""
        token = self.token(approval_id, expires_at=expires_at)
        return f"{self.public_base_url.rstrip('/')}/api/approve/{token}"

    def approval_id(self, token: str, *, now: datetime) -> str:
        """The approval a token names. Raises TokenExpired (genuine, but its time is over), TokenInvalid."""
        try:
            claims = jwt.decode(
                token,
                derive_key(self.secret, _LINK_AUDIENCE),
                algorithms=[_ALGORITHM],
                audience=_LINK_AUDIENCE,
                # The clock is passed in, so expiry is compared below, after the signature was found genuine.
                options={"verify_exp": False, "require": ["exp", "sub", "aud"]},
            )
            expires = int(claims["exp"])
        except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
            raise TokenInvalid from exc
        if now.timestamp() >= expires:
            raise TokenExpired
        return str(claims["sub"])


class RelayTokens:
    """The app's own signature on a call to its relay function."""

    def __init__(self, secret: str) -> None:
        self._key = derive_key(secret, _RELAY_AUDIENCE)
        self._token = ""
        self._renew_at = 0.0

    def current(self) -> str:
        """A token with at least half its life left."""
        now = time.time()
        if now >= self._renew_at:
            claims = {"aud": _RELAY_AUDIENCE, "exp": int(now) + RELAY_TOKEN_SECONDS}
            self._token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
            self._renew_at = now + RELAY_TOKEN_SECONDS / 2
        return self._token

    def check(self, authorization: str) -> bool:
        """Whether an `Authorization` header is our own `Bearer` token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], audience=_RELAY_AUDIENCE, options={"require": ["exp", "aud"]}
            )
        except jwt.InvalidTokenError:
            return False
        return True
