"""The secrets of webhooks: derived from a secret of the deployment and a random salt, and stored nowhere.

Invariant: who reads the database can sign nothing. A secret is shown once, by the answer that makes it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.signing import derive_secret, webhook_text

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class SecretMark:
    """What is stored of a secret. digest: SHA-256 of it, hex: tells whether what was derived is what was shown."""

    salt: str
    digest: str


@dataclass(frozen=True, slots=True)
class WebhookSecrets:
    """keys: derived from the deployment's secrets, the newest first; webhooks of older ones keep their secrets."""

    keys: Sequence[bytes] = field(repr=False)

    def new(self) -> tuple[str, SecretMark]:
        """A secret as Standard Webhooks write one, and its mark."""
        salt = secrets.token_hex(_SALT_BYTES)
        secret = derive_secret(self.keys[0], salt)
        return webhook_text(secret), SecretMark(salt, _digest(secret))

    def of(self, mark: SecretMark) -> str | None:
        """The secret of a mark; None when the deployment's secret that it came from is gone."""
        for key in self.keys:
            secret = derive_secret(key, mark.salt)
            if hmac.compare_digest(_digest(secret), mark.digest):
                return webhook_text(secret)
        return None


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()
