"""Signed tokens: approval links, and the app's own calls to its relay.

Each purpose has its own signing key, derived from the one secret, so a token of one kind is never valid as the other.
Tokens are JWTs (HS256): a maintained library checks algorithm, audience and expiry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import jwt

_ALGORITHM = "HS256"
_LINK_AUDIENCE = "parley/approval"
_COMPLETION_AUDIENCE = "parley/completion"
_RELAY_AUDIENCE = "parley/relay"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")

MIN_SECRET = 32
"""Minimum length of a secret in characters: 24 random bytes in base64."""

RELAY_TOKEN_SECONDS = 60
"""Long enough for a burst of calls, short enough that a token in a log is worthless."""


class TokenInvalid(Exception):
    """The token is not ours, or was tampered with."""


class TokenExpired(Exception):
    """The token is genuine but has expired."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The secrets by id, newest first: the first signs, every one verifies.

    To rotate, add a secret in front; when every token of the old one has expired, retire the old one. A retired secret
    verifies no token; it only verifies old seals of the audit trail.
    """

    secrets: Mapping[str, str] = field(repr=False)
    retired: Mapping[str, str] = field(repr=False, default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> SigningKeys:
        """`secret`, or `id:secret,id:secret`. A secret without an id verifies tokens that name no key.
        A leading `!` marks a retired secret.

        Raises ValueError, whose text contains no secret.
        """
        secrets: dict[str, str] = {}
        retired: dict[str, str] = {}
        for part in text.split(","):
            marked = part.strip()
            key_id, colon, secret = marked.removeprefix("!").partition(":")
            if not colon:
                key_id, secret = "", key_id
            elif _KEY_ID.fullmatch(key_id) is None:
                raise ValueError("a key id is 1 to 32 letters, digits, - or _")
            if len(secret) < MIN_SECRET:
                raise ValueError(f"each secret must have at least {MIN_SECRET} characters")
            if key_id in secrets or key_id in retired:
                raise ValueError("a key id is used twice")
            (retired if marked.startswith("!") else secrets)[key_id] = secret
        if not secrets:
            raise ValueError("every key is retired: one must sign")
        return cls(secrets, retired)

    def sign(self, claims: Mapping[str, object], purpose: str) -> str:
        """A token signed with the newest key; its header names the key."""
        key_id, secret = next(iter(self.secrets.items()))
        headers = {"kid": key_id} if key_id else None
        return jwt.encode(dict(claims), derive_key(secret, purpose), algorithm=_ALGORITHM, headers=headers)

    def key_of(self, token: str, purpose: str) -> bytes:
        """The key named in the token's header. Raises jwt.InvalidTokenError when that key is unknown or retired."""
        key_id = jwt.get_unverified_header(token).get("kid", "")
        secret = self.secrets.get(key_id) if isinstance(key_id, str) else None
        if secret is None:
            raise jwt.InvalidTokenError("signed with an unknown key")
        return derive_key(secret, purpose)


def derive_key(secret: str, purpose: str) -> bytes:
    """A 32-byte key for one purpose (HMAC-SHA256 as KDF; the secret itself signs nothing)."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).digest()


def derive_secret(key: bytes, of: str) -> bytes:
    """The secret that a derived key gives to one webhook."""
    return hmac.digest(key, of.encode(), "sha256")


def webhook_text(secret: bytes) -> str:
    """As Standard Webhooks write one."""
    return f"whsec_{base64.b64encode(secret).decode()}"


@dataclass(frozen=True)
class ApprovalLinks:
    """Makes and reads the tokens of approve links. A token names the approval, never who decides."""

    secret: str
    public_base_url: str

    def token(self, approval_id: str, *, expires_at: datetime) -> str:
        """expires_at: aware UTC, the end of the wait."""
        claims = {"aud": _LINK_AUDIENCE, "sub": approval_id, "exp": int(expires_at.timestamp())}
        return SigningKeys.parse(self.secret).sign(claims, _LINK_AUDIENCE)

    def url(self, approval_id: str, *, expires_at: datetime) -> str:
        """The page where the approval is decided."""
        token = self.token(approval_id, expires_at=expires_at)
        return f"{self.public_base_url.rstrip('/')}/api/approve/{token}"

    def approval_id(self, token: str, *, now: datetime) -> str:
        """The approval a token names. Raises TokenExpired (genuine but expired), TokenInvalid."""
        return _subject(self.secret, token, _LINK_AUDIENCE, now)


def _subject(secret: str, token: str, audience: str, now: datetime) -> str:
    """What a token of that kind names. Raises TokenExpired, TokenInvalid."""
    try:
        claims = jwt.decode(
            token,
            SigningKeys.parse(secret).key_of(token, audience),
            algorithms=[_ALGORITHM],
            audience=audience,
            # The clock is passed in, so expiry is checked below, after the signature.
            options={"verify_exp": False, "require": ["exp", "sub", "aud"]},
        )
        expires = int(claims["exp"])
    except (jwt.InvalidTokenError, ValueError, TypeError) as exc:
        raise TokenInvalid from exc
    if now.timestamp() >= expires:
        raise TokenExpired
    return str(claims["sub"])


@dataclass(frozen=True)
class CompletionTokens:
    """Makes and reads the tokens with which the result of a tool call is posted. A token names the call; that it is
    used once is for the store."""

    secret: str = field(repr=False)
    public_base_url: str

    def url(self, tool_call_id: str) -> str:
        return f"{self.public_base_url.rstrip('/')}/api/v1/tool-calls/{tool_call_id}/result"

    def token(self, tool_call_id: str, *, expires_at: datetime) -> str:
        """expires_at: aware UTC, later than any wait of the call."""
        claims = {"aud": _COMPLETION_AUDIENCE, "sub": tool_call_id, "exp": int(expires_at.timestamp())}
        return SigningKeys.parse(self.secret).sign(claims, _COMPLETION_AUDIENCE)

    def check(self, token: str, tool_call_id: str, *, now: datetime) -> None:
        """Raises TokenExpired (genuine but expired), TokenInvalid (also of another call)."""
        if _subject(self.secret, token, _COMPLETION_AUDIENCE, now) != tool_call_id:
            raise TokenInvalid


class RelayTokens:
    """The app's own signature on a call to its relay function."""

    def __init__(self, secret: str) -> None:
        self._keys = SigningKeys.parse(secret)
        self._token = ""
        self._renew_at = 0.0

    def current(self) -> str:
        """A token with at least half its life left."""
        now = time.time()
        if now >= self._renew_at:
            claims = {"aud": _RELAY_AUDIENCE, "exp": int(now) + RELAY_TOKEN_SECONDS}
            self._token = self._keys.sign(claims, _RELAY_AUDIENCE)
            self._renew_at = now + RELAY_TOKEN_SECONDS / 2
        return self._token

    def check(self, authorization: str) -> bool:
        """Whether an `Authorization` header is our own `Bearer` token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            key = self._keys.key_of(token, _RELAY_AUDIENCE)
            jwt.decode(
                token, key, algorithms=[_ALGORITHM], audience=_RELAY_AUDIENCE, options={"require": ["exp", "aud"]}
            )
        except jwt.InvalidTokenError:
            return False
        return True
