"""HTTP functions of the classic kind: `func.HttpRequest` in, `func.HttpResponse` out.

Converts an ASGI request for the worker's converter, and the result back into a response.
Invariant: the whole body is read, up to a limit, before user code runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from devhost.asgi.replies import BodyTooLarge, ClientGone, send_response

type HeaderList = list[tuple[bytes, bytes]]


def header_values(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name, repeated ones joined by a comma, as the real host passes them to the worker."""
    values: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), _header_text(raw_value)
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def query_values(scope: Scope) -> dict[str, str]:
    """Query values; empty ones are dropped and repeated ones joined by a comma."""
    values: dict[str, str] = {}
    if not scope["query_string"]:
        return values
    for name, value in parse_qsl(scope["query_string"].decode("latin-1")):
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole request body. Raises BodyTooLarge, or ClientGone when the caller disconnects."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return chunk if not chunks else b"".join([*chunks, chunk])
        chunks.append(chunk)


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; empty when it is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def request_parts(
    scope: Scope, headers: Mapping[str, str], query: Mapping[str, str], route: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    """A request as the worker gets it."""
    query_string = scope["query_string"].decode("latin-1")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    url = f"{scope['scheme']}://{headers.get('host', 'localhost')}{raw_path.decode('latin-1').partition('?')[0]}"
    return {
        "method": scope["method"],
        "url": f"{url}?{query_string}" if query_string else url,
        "headers": dict(headers),
        "query": dict(query),
        "params": dict(route),
        "body": body,
    }


async def send_result(send: Send, result: tuple[str | None, Any] | None) -> None:
    """Send the function's return value; 204 when it has no http output."""
    if result is None or result[0] is None:
        await send_response(send, 204)
    elif result[0] == "http":
        await _send_http(send, result[1])
    else:
        await _send_text(send, str(result[1]))


async def _send_http(send: Send, value: Mapping[str, Any]) -> None:
    headers: HeaderList = [
        (name.lower().encode("latin-1"), text.encode("utf-8"))
        for name, text in value["headers"]
        if name.lower() not in {"content-length", "transfer-encoding"}
    ]
    headers += [(b"set-cookie", _cookie(cookie).encode("utf-8")) for cookie in value["cookies"]]
    await send_response(send, int(value["status"]), headers, value["body"])


def _cookie(cookie: Mapping[str, Any]) -> str:
    """As ASP.NET writes one: domain and path always, lower-case names, in its order."""
    parts = [f"{cookie['name']}={cookie['value']}"]
    parts += [f"{name}={cookie[name]}" for name in ("expires", "max-age") if cookie.get(name)]
    parts += [f"{name}={cookie.get(name, '')}" for name in ("domain", "path")]
    parts += ["secure"] if cookie.get("secure") else []
    parts += [f"samesite={str(cookie['samesite']).lower()}"] if cookie.get("samesite") else []
    parts += ["httponly"] if cookie.get("httponly") else []
    return "; ".join(parts)


async def _send_text(send: Send, text: str) -> None:
    """Send a bare string. As in the real host, JSON of an object with a `body` describes a whole response."""
    content_type = b"text/plain; charset=utf-8"
    status, headers = 200, []
    try:
        parsed = json.loads(text) if text.startswith("{") else None
    except ValueError:
        parsed = None
    shape = {key.lower(): item for key, item in parsed.items()} if isinstance(parsed, dict) else {}
    if "body" in shape:
        status = _status(shape.get("statuscode", shape.get("status")))
        given = shape.get("headers") or {}
        headers = [(str(name).lower().encode(), str(item).encode()) for name, item in given.items()]
        if isinstance(shape["body"], str):
            text = shape["body"]
        else:
            text = json.dumps(shape["body"])
            content_type = b"application/json; charset=utf-8"
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", content_type))
    await send_response(send, status, headers, text.encode("utf-8"))


def _status(value: Any) -> int:
    """A status as the host reads it: 200 when it is no number."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 200


def _header_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
