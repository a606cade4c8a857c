"""The digest of a call's arguments: what an approver has seen is what runs."""

from __future__ import annotations

import hashlib

from shared.canonical import canonical_json
from shared.sessions.models import JsonObject


def arguments_digest(tool: str, arguments: JsonObject, definition: str | None = None) -> str:
    """SHA-256 over tool name and canonical JSON (sorted keys, whole numbers as integers), hex.

    definition: the digest of a tool of an MCP server, so that an approval holds for its definition, too.
    """
    told = [tool, arguments] if definition is None else [tool, arguments, definition]
    return hashlib.sha256(canonical_json(told)).hexdigest()
