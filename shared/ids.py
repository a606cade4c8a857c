"""Identifiers: UUIDv7 text, so that ids sort by creation and index well.

Python 3.13 has no uuid7 of its own; `uuid_utils` (Rust) makes one in under a microsecond.
"""

from __future__ import annotations

import re
from datetime import datetime

from uuid_utils import uuid7

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def new_id() -> str:
    """A fresh id, 36 characters, sortable by creation within one process."""
    return str(uuid7())


def first_id_at(at: datetime) -> str:
    """What every id made after then is greater than. at: aware UTC; ids know milliseconds."""
    made = f"{int(at.timestamp() * 1000) + 1:012x}"
    return f"{made[:8]}-{made[8:]}-0000-0000-000000000000"


def is_valid_id(text: str) -> bool:
    """Whether `text` can be an id of ours at all: 1-64 of letters, digits, `_`, `.`, `-`.

    Guards every store key and durable instance id that is built from a path segment.
    """
    return _CLIENT_ID.fullmatch(text) is not None
