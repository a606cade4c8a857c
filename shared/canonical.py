"""JSON with one spelling for one value, for digests."""

from __future__ import annotations

from decimal import Decimal

import orjson


def canonical_json(value: object) -> bytes:
    """Sorted keys, no white space, whole numbers as integers.

    A jsonb column keeps a number's value and not its notation; both have one spelling here.
    """
    return orjson.dumps(_canonical(value), option=orjson.OPT_SORT_KEYS)


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        # From the shortest decimal form, which is what the database receives, not from the binary value.
        whole = int(Decimal(repr(value)))
        return whole if -(2**63) <= whole < 2**64 else value
    return value
