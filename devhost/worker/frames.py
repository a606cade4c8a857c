"""Messages between the host and one of its workers, over a socket pair.

    host -> worker   ("call", number, what `_Worker._run` in `process.py` takes...)
                     ("drop", number)                                when the request of a call does not come
                     ("stop",)
    worker -> host   ("ready", functions, is streaming, HTTP port)   once, or
                     ("refused", text)                               when the app cannot be indexed
                     ("done", number, result, outputs)               for each call, or
                     ("failed", number, message, stack)

Each is a tuple of plain values, as `marshal` writes them, after its length in four bytes. `marshal` is the fastest
writer of such values, knows bytes, and is part of Python; both ends are this program, run by one user, and nobody else
can open the socket.

Invariant: what is sent within one turn of the event loop leaves in one write.
"""

from __future__ import annotations

import asyncio
import json
import marshal
from collections.abc import Callable
from typing import Any, cast

type Frame = tuple[Any, ...]
type Input = tuple[str, str, Any]
"""Name of a parameter, type of its datum (the worker library's), and its plain value; for `http` the parts of a
request."""
type Result = tuple[str | None, Any] | None
"""Type and plain value of what a function returned or set; for `http` the parts of a response."""

_LENGTH_BYTES = 4
_VERSION = 4
"""Of the format. Every Python 3 since 3.4 reads it, so host and worker may be of different versions."""


def encode(frame: Frame) -> bytes:
    """One message with its length. Raises ValueError when a value is not plain."""
    data = marshal.dumps(frame, _VERSION)
    return len(data).to_bytes(_LENGTH_BYTES) + data


class Decoder:
    """Takes bytes as they come and gives whole messages."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that are complete with these bytes."""
        left = self._left
        left += data
        frames: list[Frame] = []
        begin = 0
        while len(left) - begin >= _LENGTH_BYTES:
            start = begin + _LENGTH_BYTES
            end = start + int.from_bytes(left[begin:start])
            if end > len(left):
                break
            frames.append(marshal.loads(left[start:end]))  # noqa: S302  # see the module's text
            begin = end
        del left[:begin]
        return frames


class Channel(asyncio.Protocol):
    """One end of the socket pair.

    on_frame: called with each message. on_lost: called once, when the other end is gone.
    """

    def __init__(self, on_frame: Callable[[Frame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def send(self, frame: Frame) -> None:
        """Send a message with the others of this turn of the loop; dropped when the other end is gone.

        Raises ValueError when a value is not plain.
        """
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(encode(frame))

    def close(self) -> None:
        if self._transport is not None:
            self._flush()
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._transport is not None and waiting:
            self._transport.write(b"".join(waiting))


def plain(value: Any) -> Any:
    """A value of user code as one that can be sent: subclasses of text, bytes and containers become the plain types."""
    if value is None or type(value) in (str, bytes, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return json.loads(json.dumps(value))
