"""`encrypted_content`: the reasoning that a client stores for a stateless server.

Invariant: `unseal` only accepts texts made by `seal`; a changed text, id or call is detected.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

import orjson

_KEY = b"devhost.model: not a secret, it only tells a changed text from the true one"
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class Sealed:
    item_id: str
    text: str
    call_ids: tuple[str, ...]
    """The calls that the reasoning led to."""


def seal(content: Sealed) -> str:
    """The text for `encrypted_content`. It is signed, not encrypted, since a demo has no secrets."""
    body = orjson.dumps([content.item_id, content.text, content.call_ids])
    return base64.urlsafe_b64encode(_mac(body) + body).decode()


def unseal(text: str) -> Sealed | None:
    """The sealed content; None when `seal` did not make this text."""
    try:
        data = base64.b64decode(text, b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    body = data[_MAC_BYTES:]
    if not hmac.compare_digest(data[:_MAC_BYTES], _mac(body)):
        return None
    item_id, said, call_ids = orjson.loads(body)
    return Sealed(item_id, said, tuple(call_ids))


def _mac(body: bytes) -> bytes:
    return hmac.digest(_KEY, body, hashlib.sha256)[:_MAC_BYTES]
