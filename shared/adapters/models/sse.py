"""Parses the JSON values of a streamed answer: server-sent events in any valid form, and some invalid ones.

Source: HTML standard, section 9.2.6 "Interpreting an event stream": lines end in LF, CRLF or CR, a byte order mark may
come first, and an event's data lines are joined by LF; comments and other fields are ignored here. Beyond the standard,
a line of complete JSON is an event by itself, since some servers send no empty line after an event. A body that begins
with a bracket is not a stream, but the whole answer or an error as one JSON value.

Invariant: the values do not depend on how the bytes are split. At most one event is buffered, no byte is scanned twice,
and the body's length is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from shared.adapters.models.text import decode
from shared.errors import ErrorCode, ModelFailed, Transient

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""A stream event longer than this is not a model's answer."""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A stream has about 250 bytes per token: 64 MiB are a quarter of a million tokens."""

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"
_CR = ord("\r")
"""As an integer: `in` takes ten times as long with bytes, and this is checked for every chunk of every answer."""


class EventStream:
    """The stream of one response. skip: prefixes of lines that are not decoded."""

    def __init__(self, *, skip: tuple[bytes, ...] = ()) -> None:
        self.is_done = False
        """Whether `[DONE]` has arrived."""
        self._skip = skip
        self._received = 0
        self.skipped_bytes = 0
        """Of lines that were not decoded."""
        self._are_events = False
        """False until the first significant byte has shown that the body is a stream."""
        self._is_json = False
        self._after_cr = False
        self._rest: list[bytes] = []
        """The pieces of an incomplete line, or of the beginning."""
        self._rest_bytes = 0
        self._held: list[bytes] = []
        """Data lines of an event with several."""
        self._held_bytes = 0

    def feed(self, chunk: bytes) -> Iterable[Any]:
        """The values that `chunk` completes, each read when it is asked for: those before an error are not lost.

        Raises Transient for invalid JSON, ModelFailed beyond the size limits.
        """
        self._received += len(chunk)
        if self._received > MAX_BODY_BYTES:
            raise Endless
        if not self._are_events:
            chunk = self._begun(chunk)
        if self._after_cr or _CR in chunk:
            chunk = self._with_lf(chunk)
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._rest:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest.clear()
            self._rest_bytes = 0
        if rest:
            self._hold_rest(rest)
        return self._read(lines) if lines else ()

    def end(self) -> list[Any]:
        """The values in the last bytes, also without a final line end, which many servers leave out."""
        rest = b"".join(self._rest)
        self._rest.clear()
        if self._is_json:
            return [_decoded(rest)]
        found = list(self._read([rest]))
        if self._held:
            found.append(self._joined())
        return found

    def _read(self, lines: list[bytes]) -> Iterator[Any]:
        held, skip = self._held, self._skip
        for line in lines:
            if line.startswith(b"data:"):
                if held:
                    self._hold(line)
                elif not skip or not line.startswith(skip):
                    try:
                        value = orjson.loads(line[5:])  # JSON allows a leading space
                    except orjson.JSONDecodeError:
                        yield from self._read_odd(line)
                    else:
                        yield value
                else:
                    self.skipped_bytes += len(line)
            elif held and not line:
                yield self._joined()

    def _read_odd(self, line: bytes) -> Iterator[Any]:
        """Read a line that is not JSON, or the first of an event's several lines."""
        bare = line[5:].strip()
        if bare == _DONE:
            self.is_done = True
        elif b"\\u" in bare and bare.endswith(b"}"):
            try:
                value = decode(bare)
            except ValueError:
                self._hold(line)
            else:
                yield value
        elif bare:
            self._hold(line)

    def _hold(self, line: bytes) -> None:
        self._held.append(line[5:])
        self._held_bytes += len(line)
        if self._held_bytes > MAX_EVENT_BYTES:
            raise Endless

    def _joined(self) -> Any:
        payload = b"\n".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return _decoded(payload)

    def _hold_rest(self, rest: bytes) -> None:
        self._rest.append(rest)
        self._rest_bytes += len(rest)
        if self._rest_bytes > MAX_EVENT_BYTES:
            raise Endless

    def _begun(self, chunk: bytes) -> bytes:
        """The part of the first bytes that is events, without byte order mark and white space; none if it is JSON."""
        if self._is_json:
            self._hold_rest(chunk)
            return b""
        data = b"".join((*self._rest, chunk))
        self._rest.clear()
        self._rest_bytes = 0
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold_rest(data)
            return b""
        data = data.removeprefix(_BOM).lstrip()
        if data.startswith((b"{", b"[")):
            self._is_json = True
            self._hold_rest(data)
            return b""
        self._are_events = bool(data)
        return data

    def _with_lf(self, chunk: bytes) -> bytes:
        """The chunk with all line ends as LF. An LF at its start after a CR at the last chunk's end is dropped."""
        if not chunk:
            return chunk
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def unreadable() -> Transient:
    return Transient(ErrorCode.LLM_ERROR, "The model's answer could not be read.")


def broken_off() -> Transient:
    return Transient(ErrorCode.LLM_ERROR, "The model's answer broke off.")


class Endless(ModelFailed):
    """More than an answer has."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.LLM_ERROR, "The model's answer is too long.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


def _decoded(payload: bytes) -> Any:
    try:
        return decode(payload)
    except ValueError as exc:
        raise unreadable() from exc
