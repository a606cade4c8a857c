"""SignalR's hub protocols: what both have in common, the handshake, and `json`, version 1.

A message of the JSON protocol is text that ends with the record separator. `messagepack.py` has the other protocol.
Invariant: encoded messages can be concatenated into one frame, and their length is their size in bytes (JSON is ASCII).
Source: ASP.NET Core, "SignalR Hub Protocol" (HubProtocol.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

SEPARATOR = "\x1e"
HANDSHAKE_OK = "{}" + SEPARATOR

INVOCATION, COMPLETION, STREAM_INVOCATION, PING, CLOSE = 1, 3, 4, 6, 7
CALLS = frozenset({INVOCATION, STREAM_INVOCATION})

type Frame = str | bytes
"""Encoded messages: text of the JSON protocol, bytes of the MessagePack protocol."""


class ProtocolError(Exception):
    """The client broke the protocol; the text is shown to it."""


class ClientMessage(NamedTuple):
    """As much of a client's message as this service looks at."""

    kind: int
    target: object
    """The method that a call names; None in other messages."""
    arguments: object = ()
    invocation_id: str = ""
    """Of a call that expects an answer."""


class HubProtocol(Protocol):
    """How messages are written."""

    name: str
    is_binary: bool
    ping: Frame

    def invocation(self, target: str, arguments: Sequence[Any]) -> Frame:
        """A call of a client method without a result. Raises ValueError when the arguments cannot be written."""
        ...

    def completion(self, invocation_id: str, result: Any, error: str | None) -> Frame:
        """The answer to a client's call. Raises ValueError as `invocation` does."""
        ...

    def close(self, error: str | None, *, allow_reconnect: bool) -> Frame: ...

    def join(self, messages: Sequence[Frame]) -> Frame:
        """One frame of messages of this protocol."""
        ...

    def read(self, data: bytes) -> list[ClientMessage]:
        """The messages of one frame. Raises ProtocolError."""
        ...


class JsonProtocol:
    """See `HubProtocol`."""

    name = "json"
    is_binary = False
    ping: Frame = '{"type":6}' + SEPARATOR

    def invocation(self, target: str, arguments: Sequence[Any]) -> Frame:
        """Raises ValueError for NaN and infinities."""
        return _encode({"type": INVOCATION, "target": target, "arguments": arguments})

    def completion(self, invocation_id: str, result: Any, error: str | None) -> Frame:
        outcome = {"result": result} if error is None else {"error": error}
        return _encode({"type": COMPLETION, "invocationId": invocation_id, **outcome})

    def close(self, error: str | None, *, allow_reconnect: bool) -> Frame:
        message: dict[str, Any] = {"type": CLOSE}
        if error is not None:
            message["error"] = error
        if allow_reconnect:
            message["allowReconnect"] = True
        return _encode(message)

    def join(self, messages: Sequence[Frame]) -> Frame:
        return "".join(cast("Sequence[str]", messages))

    def read(self, data: bytes) -> list[ClientMessage]:
        if not data:
            return []
        text = _text(data)
        if not text.endswith(SEPARATOR):
            raise ProtocolError("a message must end with the record separator 0x1E")
        messages = []
        for record in text[:-1].split(SEPARATOR):
            message = _decode(record, what="message")
            kind = message.get("type")
            if not isinstance(kind, int):
                raise ProtocolError("a message must have a numeric type")
            if kind in CALLS:
                called = message.get("target"), message.get("arguments"), str(message.get("invocationId") or "")
                messages.append(ClientMessage(kind, *called))
            else:
                messages.append(ClientMessage(kind, None))
        return messages


JSON = JsonProtocol()


def encode_handshake_error(error: str) -> str:
    return _encode({"error": error})


def read_handshake(data: bytes, protocols: Sequence[HubProtocol]) -> tuple[HubProtocol, bytes]:
    """The protocol that the client's first record asks for, and what follows the record.

    Raises ProtocolError when that is none of `protocols`.
    """
    record, separator, rest = data.partition(SEPARATOR.encode())
    if not separator:
        raise ProtocolError("the handshake request must end with the record separator 0x1E")
    request = _decode(_text(record), what="handshake request")
    name, version = request.get("protocol"), request.get("version")
    protocol = next((one for one in protocols if one.name == name), None)
    if protocol is None:
        names = " and ".join(one.name for one in protocols)
        raise ProtocolError(f"the protocol {name!r} is not supported here; {names} can be used")
    if version != 1:
        raise ProtocolError(f"version {version!r} of the {name} protocol is not supported; 1 is")
    return protocol, rest


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ProtocolError("the frame is not UTF-8 text") from exc


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
