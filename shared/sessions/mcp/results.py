"""What a call of a server's tool gave, read within limits: text for the model, data for programs.

Invariant: whatever a server answers, the outcome is text that says what it is, or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import JsonValue

from shared.sessions.mcp.asking import Asked, read_asked
from shared.visible import revealed

MAX_PARTS = 200
MAX_TEXT_CHARS = 64_000
"""More than a tool's result may have, so that it is the one place which says what was cut."""
_MAX_NAME_CHARS = 300


@dataclass(frozen=True, slots=True)
class McpResult:
    """text: for the model. data: what the server gave as structured content."""

    text: str
    data: JsonValue = None
    is_error: bool = False


def read_result(raw: Mapping[str, Any]) -> McpResult | Asked:
    """A result of `tools/call`. Raises ValueError, which completes "the server's answer ..."."""
    kind = raw.get("resultType", "complete")
    if kind == "input_required":
        return read_asked(raw)
    if kind != "complete":
        raise ValueError("is of a kind that is not known")
    content = raw.get("content", [])
    if not isinstance(content, list):
        raise ValueError("has content that is not a list")
    data = raw.get("structuredContent")
    parts = [_part(part) for part in content[:MAX_PARTS]]
    if len(content) > MAX_PARTS:
        parts.append(f"[{len(content) - MAX_PARTS} more parts are left out]")
    if not any(parts) and data is not None:
        parts = [orjson.dumps(data).decode()]
    return McpResult("\n\n".join(filter(None, parts))[:MAX_TEXT_CHARS], data, raw.get("isError") is True)


def _part(part: object) -> str:
    if not isinstance(part, Mapping):
        return "[a part that cannot be read]"
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind} {_named(part.get('mimeType'))}, {len(str(part.get('data', ''))) * 3 // 4} bytes, left out]"
        case "resource_link":
            about = "".join(f", {_named(part[key])}" for key in ("mimeType", "description") if part.get(key))
            return f"[link {_named(part.get('name'))}: {_named(part.get('uri'))}{about}]"
        case "resource":
            return _resource(part.get("resource"))
        case kind:
            return f"[{_named(kind)}, left out]"


def _resource(inner: object) -> str:
    if not isinstance(inner, Mapping):
        return "[a resource that cannot be read]"
    about = f"[resource {_named(inner.get('uri'))} {_named(inner.get('mimeType'))}]"
    if isinstance(inner.get("text"), str):
        return f"{about}\n{inner['text']}"
    return f"{about} {len(str(inner.get('blob', ''))) * 3 // 4} bytes, left out"


def _named(value: object) -> str:
    return revealed(" ".join(str(value or "").split()))[:_MAX_NAME_CHARS]
