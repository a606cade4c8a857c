"""The digest of a call's arguments: what an approver has seen is what runs."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import orjson

from shared.sessions.models import JsonObject


def arguments_digest(tool: str, arguments: JsonObject) -> str:
    """SHA-256 over tool name and canonical JSON (sorted keys, whole numbers as integers), hex."""
    canonical = orjson.dumps([tool, _canonical(arguments)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _canonical(value: object) -> object:
    """JSON as a jsonb column returns it: the column keeps a number's value, not its notation."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        # From the shortest decimal form, which is what the database receives, not from the binary value.
        whole = int(Decimal(repr(value)))
        return whole if -(2**63) <= whole < 2**64 else value
    return value
