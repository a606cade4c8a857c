"""SignalR's JSON hub protocol, version 1: text messages that each end with the record separator.

Invariant: every encoded message is ASCII text that ends with the separator, so messages can be concatenated
into one WebSocket frame, and their length in characters is their size in bytes.
Source: ASP.NET Core, "SignalR Hub Protocol" (TransportProtocols.md and HubProtocol.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SEPARATOR = "\x1e"
PING = '{"type":6}' + SEPARATOR
HANDSHAKE_OK = "{}" + SEPARATOR

INVOCATION, STREAM_INVOCATION, CLOSE = 1, 4, 7


class ProtocolError(Exception):
    """The client broke the protocol; the text is shown to it."""


def encode_invocation(target: str, arguments: Sequence[Any]) -> str:
    """A call of a client method without a result. Raises ValueError for NaN and infinities."""
    return _encode({"type": INVOCATION, "target": target, "arguments": arguments})


def encode_close(error: str | None, *, allow_reconnect: bool) -> str:
    message: dict[str, Any] = {"type": CLOSE}
    if error is not None:
        message["error"] = error
    if allow_reconnect:
        message["allowReconnect"] = True
    return _encode(message)


def encode_handshake_error(error: str) -> str:
    return _encode({"error": error})


def read_handshake(text: str) -> str:
    """Check the client's first record; returns the text after it.

    Raises ProtocolError when it asks for a protocol that is not supported.
    """
    record, separator, rest = text.partition(SEPARATOR)
    if not separator:
        raise ProtocolError("the handshake request must end with the record separator 0x1E")
    request = _decode(record, what="handshake request")
    protocol, version = request.get("protocol"), request.get("version")
    if protocol == "messagepack":
        raise ProtocolError(
            "the dev host's SignalR endpoint speaks the json protocol only; messagepack is not supported"
        )
    if protocol != "json":
        raise ProtocolError(f"the protocol {protocol!r} is not supported; json is")
    if version != 1:
        raise ProtocolError(f"version {version!r} of the json protocol is not supported; 1 is")
    return rest


def read_messages(text: str) -> list[tuple[int, dict[str, Any]]]:
    """The records of one frame as (type, message). Raises ProtocolError."""
    if not text:
        return []
    if not text.endswith(SEPARATOR):
        raise ProtocolError("a message must end with the record separator 0x1E")
    messages = []
    for record in text[:-1].split(SEPARATOR):
        message = _decode(record, what="message")
        kind = message.get("type")
        if not isinstance(kind, int):
            raise ProtocolError("a message must have a numeric type")
        messages.append((kind, message))
    return messages


def _encode(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), allow_nan=False) + SEPARATOR


def _decode(record: str, *, what: str) -> dict[str, Any]:
    try:
        message = json.loads(record)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"the {what} is not JSON") from exc
    if not isinstance(message, dict):
        raise ProtocolError(f"the {what} must be a JSON object")
    return message
