"""SignalR's MessagePack hub protocol, version 1: each message is an array behind its length.

What an app sends is JSON; its values become those of MessagePack, as in Azure.
Source: ASP.NET Core, "SignalR Hub Protocol", MessagePack encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import ormsgpack

from devhost.signalr.service.protocol import (
    CALLS,
    CLOSE,
    COMPLETION,
    INVOCATION,
    PING,
    ClientMessage,
    Frame,
    ProtocolError,
)

_LENGTH_BYTES = 5
_CALL_PARTS = 5
_FAILED, _HAS_RESULT = 1, 3
_MOST_BITS = 64


class MessagePackProtocol:
    """See `HubProtocol`."""

    name = "messagepack"
    is_binary = True
    ping: Frame = bytes([2, 0x91, PING])

    def invocation(self, target: str, arguments: Sequence[Any]) -> Frame:
        """Raises ValueError for values that are nested too deeply (1,024 levels)."""
        try:
            return _message([INVOCATION, {}, None, target, arguments, []])
        except ormsgpack.MsgpackEncodeError:
            pass  # JSON allows more than MessagePack
        try:
            return _message([INVOCATION, {}, None, _writable(target), _writable(arguments), []])
        except (ormsgpack.MsgpackEncodeError, RecursionError) as exc:
            raise ValueError("it cannot be written in MessagePack, which some receivers speak") from exc

    def completion(self, invocation_id: str, result: Any, error: str | None) -> Frame:
        kind, value = (_HAS_RESULT, result) if error is None else (_FAILED, error)
        try:
            return _message([COMPLETION, {}, invocation_id, kind, _writable(value)])
        except (ormsgpack.MsgpackEncodeError, RecursionError) as exc:
            raise ValueError("it cannot be written in MessagePack, which the caller speaks") from exc

    def close(self, error: str | None, *, allow_reconnect: bool) -> Frame:
        return _message([CLOSE, _writable(error), allow_reconnect])

    def join(self, messages: Sequence[Frame]) -> Frame:
        return b"".join(cast("Sequence[bytes]", messages))

    def read(self, data: bytes) -> list[ClientMessage]:
        messages = []
        at = 0
        while at < len(data):
            length, at = _length(data, at)
            body = data[at : at + length]
            if len(body) < length:
                raise ProtocolError("a message is shorter than its length says")
            at += length
            messages.append(_read(body))
        return messages


MESSAGEPACK = MessagePackProtocol()


def _message(parts: list[Any]) -> bytes:
    body = ormsgpack.packb(parts)
    length = len(body)
    prefix = bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + body


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length that begins at `at`, seven bits a byte and the lowest first; where the message begins."""
    length = 0
    for number, byte in enumerate(data[at : at + _LENGTH_BYTES]):
        length |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return length, at + number + 1
    raise ProtocolError("a message must begin with its length")


def _read(body: bytes) -> ClientMessage:
    try:
        message = ormsgpack.unpackb(body, option=ormsgpack.OPT_NON_STR_KEYS)
    except ormsgpack.MsgpackDecodeError as exc:
        raise ProtocolError("the message is not MessagePack") from exc
    if not isinstance(message, list) or not message or not isinstance(message[0], int):
        raise ProtocolError("a message must be an array that begins with a numeric type")
    kind = message[0]
    if kind not in CALLS:
        return ClientMessage(kind, None)
    _, _, invocation_id, target, arguments = (message + [None] * _CALL_PARTS)[:_CALL_PARTS]
    return ClientMessage(kind, target, arguments, str(invocation_id or ""))


def _writable(value: Any) -> Any:
    """`value` with what MessagePack lacks replaced: half of a surrogate pair, and integers over 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_writable(item) for item in value]
    if isinstance(value, dict):
        return {_writable(name): _writable(item) for name, item in value.items()}
    if isinstance(value, int) and not -(1 << _MOST_BITS - 1) <= value < 1 << _MOST_BITS:
        return float(value)
    return value
