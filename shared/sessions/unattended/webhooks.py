"""Signed webhooks that fire triggers: their secrets, and the check of a signature (Standard Webhooks).

Invariant: no secret is stored. It is derived from a key of the app, the trigger's uid and a version, so rows that leak
sign nothing; and a retired key verifies nothing any more.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from standardwebhooks import Webhook, WebhookVerificationError

from shared.sessions.unattended.models import MAX_FIRING_ID_CHARS
from shared.signing import SigningKeys, derive_key, derive_secret, webhook_text

_PURPOSE = "parley/trigger"


@dataclass(frozen=True, slots=True)
class SecretState:
    """Which secrets of a trigger are good: the current version, and until a time the one before it."""

    version: int
    key_id: str
    made_at: datetime
    old_key_id: str | None = None
    old_until: datetime | None = None


class HookSecrets:
    """The secrets of triggers. keys: as in the setting APPROVAL_LINK_SECRET."""

    def __init__(self, keys: str) -> None:
        self._keys = SigningKeys.parse(keys)

    @property
    def key_id(self) -> str:
        """The key that new secrets are made with."""
        return next(iter(self._keys.secrets))

    def secret(self, uid: str, version: int, key_id: str) -> str | None:
        """`whsec_...`; None when its key is retired or gone."""
        key = self._keys.secrets.get(key_id)
        if key is None:
            return None
        return webhook_text(derive_secret(derive_key(key, _PURPOSE), f"{uid}:{version}"))

    def is_signed(
        self, uid: str, state: SecretState, body: bytes, headers: Mapping[str, str], *, now: datetime
    ) -> bool:
        """Whether a webhook is of somebody who has a secret that is good, and not older than five minutes."""
        secrets = [self.secret(uid, state.version, state.key_id)]
        if state.old_key_id is not None and state.old_until is not None and now < state.old_until:
            secrets.append(self.secret(uid, state.version - 1, state.old_key_id))
        named = {name: headers.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        if len(named["webhook-id"]) > MAX_FIRING_ID_CHARS:
            return False
        return any(_verifies(secret, body, named) for secret in secrets if secret is not None)


def _verifies(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):  # the latter for what is not even the form of a signature
        return False
    return True
