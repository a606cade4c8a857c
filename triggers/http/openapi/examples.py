"""Examples of requests and answers, made from their schemas with values that such fields really have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import ErrorCode
from triggers.http.openapi.schemas import REF

type Json = dict[str, Any]

_ID = "01936b2e-7d4c-7a10-9c5e-3f2a1b0c4d5e"
_AT = "2026-11-30T09:30:00Z"

_BY_NAME: Mapping[str, Any] = {
    "accessToken": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvbGdhIn0.c2lnbmF0dXJl",
    "agent_id": "assistant",
    "agents": ["researcher"],
    "approve_roles": ["approver"],
    "author": "olga",
    "color": "#0a56c2",
    "comment": "go ahead",
    "content": "What is 17 * 23?",
    "content_type": "text/csv",
    "created_by": "olga",
    "current_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "decided_by": "arno",
    "detail": "No such session.",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "description": "Arithmetic without code execution.",
    "background_agents": ["researcher"],
    "hands_over_to": ["billing"],
    "instructions": "Answer briefly.",
    "media_type": "text/csv",
    "model": "gpt-5.4",
    "next_cursor": None,
    "next": 17,
    "note": "The figure that we need",
    "owner_id": "olga",
    "path": "/amount",
    "preview": "17 * 23 = 391",
    "requested_by": "olga",
    "result": {"value": 391},
    "scope": "api://crm/.default",
    "secret": "CRM_KEY",
    "session_name": "Holidays",
    "tag": "travel",
    "tags": ["travel"],
    "text": "17 * 23 = 391",
    "title": "What is 17 * 23?",
    "tool": "http_request",
    "url": "https://parley.example/api/v1",
    "user_id": "olga",
    "who": "olga",
}
_ARGUMENTS = {"expression": "17 * 23"}


class Examples:
    """components: the document's schemas by name."""

    def __init__(self, components: Mapping[str, Json]) -> None:
        self._components = components

    def of(self, schema: Json, name: str = "", seen: tuple[str, ...] = ()) -> Any:
        """A value of the schema. name: of the field that it is for; seen: models that it is inside of."""
        if "$ref" in schema:
            model = schema["$ref"].removeprefix(REF.format(model=""))
            if model == "JsonObject":
                return dict(_ARGUMENTS) if "arguments" in name else {}
            return self.of(self._components[model], name or model.lower(), (*seen, model))
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return self.of(self._first(schema[choice], seen), name, seen)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        return self._plain(schema, name, seen)

    def problem(self, code: ErrorCode, status: int) -> Json:
        """The problem document of an error."""
        return {
            "type": "about:blank",
            "title": code.replace("_", " ").capitalize(),
            "status": status,
            "detail": "What went wrong, for people.",
            "code": str(code),
            "correlation_id": _ID,
        }

    def _first(self, choices: list[Json], seen: tuple[str, ...]) -> Json:
        """The first that does not lead into a model that it is already inside of."""
        for choice in choices:
            if choice.get("$ref", "").rpartition("/")[2] not in seen and choice != {"type": "null"}:
                return choice
        return choices[-1]

    def _plain(self, schema: Json, name: str, seen: tuple[str, ...]) -> Any:
        kinds = schema.get("type", ())
        kind = kinds if isinstance(kinds, str) else next(iter(kinds), None)
        if name in _BY_NAME and _is_of(kind, _BY_NAME[name], kinds) and "properties" not in schema:
            return _BY_NAME[name]
        match kind:
            case "object":
                return self._object(schema, name, seen)
            case "array":
                items = schema.get("items", {})
                if items.get("$ref", "").rpartition("/")[2] in seen:
                    return []
                return [self.of(items, name.removesuffix("s"), seen)]
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return False
            case "string":
                return _text(schema, name)
            case _:
                return None

    def _object(self, schema: Json, name: str, seen: tuple[str, ...]) -> Json:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        shown = {}
        for field, value in properties.items():
            # Optional parts of a request that are nested say little, and would be much.
            if field in required or ("$ref" not in str(value) and len(seen) < 3):
                shown[field] = self.of(value, field, seen)
        if not properties and isinstance(schema.get("additionalProperties"), dict):
            shown["http_request"] = self.of(schema["additionalProperties"], "", seen)
        return shown


def _is_of(kind: str | None, value: Any, kinds: Any) -> bool:
    if kind is None:
        return True
    if value is None:
        return "null" in kinds
    return {"string": str, "array": list, "integer": int, "object": dict}.get(kind, bool) is type(value)


def _number(schema: Json) -> float:
    least: float = schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else schema.get("minimum", 0)
    most: float = schema.get("maximum", 8)
    return max(least, min(8, most))


def _text(schema: Json, name: str) -> str:
    if schema.get("format") == "date-time":
        return _AT
    if schema.get("format") == "date":
        return _AT[:10]
    if name == "id" or name.endswith(("_id", "_ids", "attachment_id")):
        return _ID
    text = name.replace("_", " ") or "text"
    return text[: schema.get("maxLength", len(text))]
