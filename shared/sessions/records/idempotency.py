"""The claim of an `Idempotency-Key`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import BaseModel

from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's `Idempotency-Key`, with the hash of the request it belongs to."""

    user_id: str
    scope: str
    key: str
    request_hash: str


def idempotency(principal: Principal, scope: str, key: str | None, body: BaseModel) -> Idempotency | None:
    """The claim of an `Idempotency-Key`, or None without one. Raises InvalidInput for an invalid key."""
    if key is None:
        return None
    if not 1 <= len(key) <= 255 or not key.isprintable():
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            "Idempotency-Key must have 1 to 255 printable characters.",
            errors=[{"field": "Idempotency-Key", "message": "1 to 255 printable characters"}],
        )
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    return Idempotency(principal.user_id, scope, key, digest)
