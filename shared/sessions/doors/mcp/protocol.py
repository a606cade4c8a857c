"""Messages of MCP over streamable HTTP, as a server without state reads them: one POST, one message, one answer.

Two eras are spoken. From 2026-07-28 on, each request says its version in its header and in its `_meta`, and names its
method and tool in headers; these have to agree. Before, a client says `initialize` first; it gets no session, since
nothing has to be remembered. Batches are not spoken: the versions that had them are not offered.

Invariant: what is refused is refused by a JSON-RPC error that says what is wrong, with the status of its era.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.sessions.models import JsonObject

MODERN = "2026-07-28"
BEFORE = ("2025-11-25", "2025-06-18")
"""Versions with `initialize`, newest first."""
VERSIONS = (MODERN, *BEFORE)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

_META = "io.modelcontextprotocol/"
_VERSION_KEY = f"{_META}protocolVersion"
_CAPABILITIES_KEY = f"{_META}clientCapabilities"
_ROUTING = ("mcp-protocol-version", "mcp-method", "mcp-name")
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""What `Mcp-Name` repeats, by method."""
_ENCODED = "=?base64?"


@dataclass(frozen=True, slots=True)
class Message:
    """A request, or a notification (without id)."""

    id: str | int | None
    method: str
    params: JsonObject
    version: str | None
    """What it is spoken in; None: an older client that has not said so."""

    @property
    def is_modern(self) -> bool:
        return self.version == MODERN


class Refused(Exception):
    """A message that is not understood. id: of the request, if it was legible."""

    def __init__(
        self, code: int, message: str, *, id: str | int | None = None, status: int = 400, data: Any = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.id = id
        self.status = status
        self.data = data

    def body(self) -> JsonObject:
        error = {"code": self.code, "message": str(self)}
        if self.data is not None:
            error["data"] = self.data
        return {"jsonrpc": "2.0", "id": self.id, "error": error}


def read_message(body: bytes, headers: Sequence[tuple[str, str]]) -> Message:
    """headers: as they came, names in lower case. Raises Refused."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(PARSE_ERROR, "The body is not JSON.") from None
    if isinstance(told, list):
        raise Refused(INVALID_REQUEST, "Batches are not spoken: send one message.")
    if not isinstance(told, dict):
        raise Refused(INVALID_REQUEST, "The body is no JSON-RPC message.")
    given = _id_of(told)
    method, params = told.get("method"), told.get("params", {})
    if told.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise Refused(INVALID_REQUEST, "The body is no JSON-RPC request or notification.", id=given)
    if not isinstance(params, dict):
        raise Refused(INVALID_PARAMS, "params must be an object.", id=given)
    routing = _routing(headers, given)
    meta = params.get("_meta", {})
    in_body = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
    version = routing.get("mcp-protocol-version") or in_body
    message = Message(given, method, params, version if isinstance(version, str) else None)
    if version is not None and version not in VERSIONS and method != "initialize":
        raise unsupported(version, given)
    if message.is_modern and given is not None:
        _check_modern(message, routing, meta)
    return message


def unsupported(version: object, given: str | int | None) -> Refused:
    data = {"supported": list(VERSIONS), "requested": version if isinstance(version, str) else None}
    return Refused(UNSUPPORTED_VERSION, "Unsupported protocol version", id=given, data=data)


def no_such_method(message: Message) -> Refused:
    text = f"There is no method {message.method[:100]!r} here."
    return Refused(METHOD_NOT_FOUND, text, id=message.id, status=404 if message.is_modern else 200)


def invalid_params(message: Message, text: str) -> Refused:
    return Refused(INVALID_PARAMS, text, id=message.id, status=400 if message.is_modern else 200)


def negotiated(params: JsonObject) -> str:
    """The version in which a client of before 2026-07-28 is answered: the one it asks for, else the newest of them,
    which it may refuse."""
    asked = params.get("protocolVersion")
    return asked if asked in BEFORE else BEFORE[0]


def result_of(message: Message, result: Mapping[str, Any], *, is_cacheable: bool = False) -> JsonObject:
    """is_cacheable: a result that says how long it holds; ours do not."""
    more: JsonObject = {"resultType": "complete"} if message.is_modern else {}
    if message.is_modern and is_cacheable:
        more |= {"ttlMs": 0, "cacheScope": "private"}
    return {"jsonrpc": "2.0", "id": message.id, "result": {**result, **more}}


def _id_of(told: JsonObject) -> str | int | None:
    """None: it is a notification. Raises Refused."""
    if "id" not in told:
        return None
    given = told["id"]
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Refused(INVALID_REQUEST, "The id of a request is text or a whole number.")
    return given


def _routing(headers: Sequence[tuple[str, str]], given: str | int | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name in _ROUTING:
            if name in found:
                raise Refused(HEADER_MISMATCH, f"The header {name} comes more than once.", id=given)
            found[name] = value
    return found


def _check_modern(message: Message, routing: Mapping[str, str], meta: object) -> None:
    if not isinstance(meta, dict):
        raise Refused(INVALID_PARAMS, "params._meta must be an object.", id=message.id)
    missing = [key for key in (_VERSION_KEY, _CAPABILITIES_KEY) if key not in meta]
    if missing:
        raise Refused(INVALID_PARAMS, f"params._meta lacks {', '.join(missing)}.", id=message.id)
    wanted = {"mcp-protocol-version": meta[_VERSION_KEY], "mcp-method": message.method}
    if message.method in _NAMED:
        wanted["mcp-name"] = message.params.get(_NAMED[message.method])
    for name, value in wanted.items():
        if _decoded(routing.get(name)) != value:
            raise Refused(HEADER_MISMATCH, f"The header {name} does not say what the body says.", id=message.id)


def _decoded(value: str | None) -> str | None:
    """A header's value; None for one that is badly encoded. Text beyond ASCII comes in base64."""
    if value is None or not (value.startswith(_ENCODED) and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[len(_ENCODED) : -2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
