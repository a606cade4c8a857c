"""The wire contract as a judge: answers against the OpenAPI document, events and frames against schemas of their own.

The OpenAPI document is generated from the code, so it cannot tell whether the code keeps the contract's promises
about events; those schemas are written out here, from the contract, and are closed: an unknown field fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema_rs
import orjson

type Json = dict[str, Any]

_DOCUMENT = "urn:parley:openapi"
_PROBLEM = "application/problem+json"
_KEPT = frozenset({"/api/v1/openapi.json", "/api/v1/attachments/{attachment_id}/content"})
"""Where JSON may be kept and checked again: it is the same for everyone, or a file that never changes."""


def _object(required: Json, optional: Json | None = None) -> Json:
    """A closed object schema."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


_TEXT: Json = {"type": "string"}
_ID: Json = {"type": "string", "minLength": 1, "maxLength": 64}
_INSTANT: Json = {"type": "string", "format": "date-time", "pattern": "Z$"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_COST: Json = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]}
_TOKENS = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")
_USAGE: Json = _object({**dict.fromkeys(_TOKENS, _COUNT), "cost_usd": _COST})
_REASONS = ("stop", "tool_calls", "length", "content_filter", "refusal", "cancelled")
_REASON: Json = {"enum": [*_REASONS, None]}
_CODE: Json = {"type": "string", "pattern": "^[A-Z_]+$"}
_ANY_OBJECT: Json = {"type": "object"}
_TURN_END: Json = {"enum": ["completed", "failed", "cancelled"]}

FRAMES: Mapping[str, Json] = {
    "message_start": {"message_id": _ID, "attempt": {"type": "integer", "minimum": 1}},
    "content_delta": {"index": _COUNT, "text": {"type": "string", "minLength": 1}},
    "reasoning_delta": {"index": _COUNT, "text": {"type": "string", "minLength": 1}},
    "tool_call": {"id": _ID, "name": _TEXT, "arguments": _ANY_OBJECT},
    "message_end": {
        "message_id": _ID,
        # An answer that failed on its way has no reason.
        "finish_reason": {"enum": [*_REASONS, "failed"]},
        "usage": {"anyOf": [_USAGE, {"type": "null"}]},
    },
    "waiting": {"lane": {"enum": ["model", "tools"]}, "seconds": _COUNT},
    "subagent": {
        "subagent": _object(
            {"tool_call_id": _ID, "agent_id": _ID, "session_id": _ID, "turn_id": _ID}, {"background": {"const": True}}
        ),
        "told": _object({"type": _TEXT, "data": {"type": "object"}}, {"message_id": _ID}),
    },
    "error": {"code": _CODE, "detail": _TEXT},
}
"""Fields of a frame beside its `type`."""

MORE: Mapping[str, Json] = {"tool_call": {"is_client": {"const": True}}}
"""Of these, fields that some have."""

_FRAME: Json = {
    "oneOf": [_object({"type": {"const": kind}, **fields}, MORE.get(kind)) for kind, fields in FRAMES.items()]
}
_SESSION: Json = _object({"session": {"$ref": f"{_DOCUMENT}#/components/schemas/Session"}})
_APPROVAL: Json = _object({"approval": {"$ref": f"{_DOCUMENT}#/components/schemas/Approval"}, "tool_call_id": _ID})
_WAIT: Json = _object({"wait": {"$ref": f"{_DOCUMENT}#/components/schemas/ToolWait"}})
_CALL_ENDED: Json = _object(
    {"tool_call": _object({"id": _ID, "message_id": _ID, "name": _TEXT, "status": _TEXT, "result": {}})},
    {"code": _CODE},
)
_CALL_PROGRESS: Json = _object(
    {
        "tool_call": _object({"id": _ID, "message_id": _ID, "name": _TEXT}),
        "text": {"type": "string", "maxLength": 200},
        "fraction": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "null"}]},
    }
)
_MESSAGE: Json = {
    "type": "object",
    "required": ["id", "role", "status"],
    "properties": {
        "id": _ID,
        "role": {"enum": ["user", "assistant", "system", "tool"]},
        "status": {"enum": ["streaming", "completed", "cancelled", "failed"]},
        "author": _TEXT,
        "finish_reason": _REASON,
        "left_out": {"const": "content_filter"},
        "joined": {"const": True},
        "joined_after": _ID,
        "from_subagent": _object(
            {
                "tool_call_id": _ID,
                "agent_id": _ID,
                "session_id": _ID,
                "turn_id": _ID,
                "status": {"enum": ["completed", "failed", "cancelled"]},
                "content": _TEXT,
            },
            {"output": {}},
        ),
        "output": _ANY_OBJECT,
    },
}
_LEFT_OUT: Json = _object(
    {"id": _ID, "role": {"enum": ["user", "tool"]}, "left_out": {"enum": ["content_filter", None]}}
)

EVENTS: Mapping[str, Json] = {
    "session.created": _SESSION,
    # With the number when it was a branch that became active.
    "session.activated": _object(_SESSION["properties"], {"active_branch": _COUNT}),
    "session.suspended": _SESSION,
    "session.ended": _SESSION,
    "session.handed_over": _object(
        {
            "tool_call_id": _ID,
            "from_agent_id": {"anyOf": [_ID, {"type": "null"}]},
            "agent_id": _ID,
            "agent_version": _COUNT,
            "for_session": {"type": "boolean"},
        }
    ),
    "message.created": _MESSAGE,
    "message.updated": {"anyOf": [_MESSAGE, _LEFT_OUT]},
    "tool_call.pending": _APPROVAL,
    "tool_call.approved": _APPROVAL,
    "tool_call.rejected": {"anyOf": [_APPROVAL, _CALL_ENDED]},
    "tool_call.progress": _CALL_PROGRESS,
    "tool_call.waiting": _WAIT,
    "tool_call.answered": _WAIT,
    "tool_call.completed": _CALL_ENDED,
    "tool_call.failed": _CALL_ENDED,
    "stream.started": _object({}),
    "stream.chunk": _object({"frame": _FRAME}),
    "stream.ended": _object({"status": _TURN_END, "usage": _USAGE, "steps": _COUNT, "finish_reason": _REASON}),
    "error.occurred": _object({"code": _CODE, "detail": _TEXT}),
}
"""`data` of the 19 event types."""


class WireContract:
    """Checks what a server says. document: its own OpenAPI document."""

    def __init__(self, document: Json, *, is_older: bool = False) -> None:
        """is_older: of an app that does not say of every answer how it may be used."""
        self.document = document
        self._is_older = is_older
        self.seen: set[tuple[str, str, int]] = set()
        """(method, path, status) of every checked answer."""
        self._registry = jsonschema_rs.Registry([(_DOCUMENT, document)], draft=jsonschema_rs.Draft202012)
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", re.escape(path).replace(r"\{", "{").replace(r"\}", "}"))), path)
            for path in document["paths"]
        ]

    def operation(self, method: str, url_path: str) -> tuple[str, Json]:
        """The path template and operation of a request."""
        for pattern, path in sorted(self._paths, key=lambda found: found[1].count("{")):
            if pattern.fullmatch(url_path) and method.lower() in self.document["paths"][path]:
                return path, self.document["paths"][path][method.lower()]
        raise AssertionError(f"{method} {url_path} is not in the document")

    def check(self, response: httpx.Response) -> None:
        """An answer: its status is declared, its type and body are as declared, its headers are there."""
        request = response.request
        path, operation = self.operation(request.method, request.url.raw_path.decode().partition("?")[0])
        self.seen.add((request.method, path, response.status_code))
        where = f"{request.method} {request.url.path} -> {response.status_code}"
        declared = operation["responses"].get(str(response.status_code))
        assert declared is not None, f"{where} is not declared: {response.text[:500]}"
        assert response.headers.get("x-correlation-id"), f"{where} has no correlation id"
        if not self._is_older:
            self._check_use(where, path, response)
        self._check_headers(where, response, declared)
        if "content" not in declared:
            assert response.content == b"", f"{where} has a body"
            return
        media_type = response.headers.get("content-type", "").partition(";")[0]
        assert media_type in declared["content"], f"{where} is {media_type}"
        is_file = declared["content"][media_type]["schema"].get("format") == "binary"
        if media_type in {"application/json", _PROBLEM} and not is_file:
            body = orjson.loads(response.content)
            self._validate(f"{path} {request.method} {response.status_code} {media_type}", where, body, declared)
            if media_type == _PROBLEM:
                self._check_problem(where, response, body)

    def check_envelope(self, envelope: Json) -> None:
        """One event: the envelope and, by its type, its data."""
        kind = str(envelope.get("type"))
        assert kind in EVENTS, f"unknown event type {kind}"
        required = {"seq": {"type": "integer", "minimum": 1}, "type": _TEXT, "session_id": _ID, "at": _INSTANT}
        schema = _object({**required, "data": EVENTS[kind]}, {"turn_id": _ID, "message_id": _ID})
        self._compiled(f"event {kind}", schema).validate(envelope)
        if not self._is_older:
            self.validate_body("Envelope", envelope)

    def check_frame_event(self, kind: str, data: Json) -> None:
        """One event of a turn's stream: the frame's fields beside the envelope, or alone when from the store."""
        assert kind != "error", "an EventSource tells of its own failures under that name"
        if not self._is_older:
            assert data["event"] == kind
            self.validate_body("TurnStreamEvent", data)
        data = {name: value for name, value in data.items() if name != "event"}
        if kind == "end":
            self._compiled("end", EVENTS["stream.ended"]).validate(data)
            return
        if kind in EVENTS and kind != "error.occurred":
            if "seq" in data:
                self.check_envelope(data)
            else:
                self._compiled(f"stored {kind}", _object({"data": EVENTS[kind]})).validate(data)
            return
        fields = FRAMES["error" if kind == "error.occurred" else kind]
        frame = {name: data[name] for name in fields if name in data}
        self._compiled(f"frame {kind}", _object(dict(fields))).validate(frame)
        if "data" in data:
            names = ("seq", "type", "session_id", "turn_id", "message_id", "at", "data")
            self.check_envelope({name: data[name] for name in names if name in data})

    def validate_body(self, name: str, value: Any) -> None:
        """A value against one of the document's models."""
        self._compiled(f"model {name}", {"$ref": f"{_DOCUMENT}#/components/schemas/{name}"}).validate(value)

    def _validate(self, key: str, where: str, body: Any, declared: Json) -> None:
        pointer = key.rpartition(" ")[2]
        schema = _absolute(declared["content"][pointer]["schema"])
        error = next(self._compiled(key, schema).iter_errors(body), None)
        assert error is None, f"{where}: {error.message} at {error.instance_path} in {body}"

    def _check_headers(self, where: str, response: httpx.Response, declared: Json) -> None:
        """What is declared is sent, unless it may be missing; and what tells a client how to go on is declared."""
        if self._is_older:
            return
        known = self.document["components"]["headers"]
        headers = {
            name: known[header["$ref"].rpartition("/")[2]] for name, header in declared.get("headers", {}).items()
        }
        missing = [name for name, header in headers.items() if header["required"] and name not in response.headers]
        assert missing == [], f"{where} declares {missing}"
        told = {name.lower() for name in headers}
        silent = [name for name in known if name in response.headers and name.lower() not in told]
        assert silent == [], f"{where} sends {silent} and does not declare it"
        for name, header in headers.items():
            if name in response.headers:
                value: Any = response.headers[name]
                value = int(value) if header["schema"].get("type") == "integer" else value
                self._compiled(f"header {name}", header["schema"]).validate(value)

    def _check_use(self, where: str, path: str, response: httpx.Response) -> None:
        """What a browser and a cache may do with an answer: never guess its type, never keep a caller's JSON."""
        assert response.headers.get("x-content-type-options") == "nosniff", where
        stored = response.headers.get("cache-control")
        is_json = response.headers.get("content-type", "").partition(";")[0] in {"application/json", _PROBLEM}
        if is_json and path not in _KEPT:
            assert stored == "no-store", f"{where} may be stored: {stored!r}"
        else:
            assert stored, f"{where} says nothing about being stored"

    def _check_problem(self, where: str, response: httpx.Response, body: Json) -> None:
        assert body["status"] == response.status_code, where
        assert body["correlation_id"] == response.headers["x-correlation-id"], where
        if response.status_code in {429, 503}:
            assert int(response.headers["retry-after"]) >= 1, f"{where} does not say when to come back"

    def _compiled(self, key: str, schema: Json) -> jsonschema_rs.Draft202012Validator:
        """Compiled, since every answer and event of the end-to-end tests is checked: in Python that took a tenth of
        their processor time."""
        if key not in self._validators:
            self._validators[key] = jsonschema_rs.Draft202012Validator(
                schema, registry=self._registry, validate_formats=True
            )
        return self._validators[key]


def _absolute(schema: Any) -> Any:
    """The schema with references that name the document."""
    if isinstance(schema, dict):
        return {name: f"{_DOCUMENT}{value}" if name == "$ref" else _absolute(value) for name, value in schema.items()}
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema
