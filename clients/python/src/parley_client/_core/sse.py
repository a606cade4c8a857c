"""Server-Sent Events from bytes, as the HTML standard reads them.
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

MOST_CHARS = 16 * 1024 * 1024
"""Of one event: far above what the service sends, so that a server that never ends a line fills no memory."""


@dataclass(frozen=True)
class ServerEvent:
    """One event. id: None when it brings none of its own, unlike in a browser, which shows the last one then."""

    id: str | None
    name: str
    data: str


class TooLarge(Exception):
    """An event has more than MOST_CHARS."""


class SseReader:
    """Reads one connection's bytes, in whatever pieces they come."""

    def __init__(self) -> None:
        self.retry_s: float | None = None
        """How long the server wants its readers to wait before they come back; None: it did not say."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._is_first = True
        self._ended_with_cr = False
        self._id: str | None = None
        self._name = ""
        self._data: list[str] = []
        self._chars = 0

    def read(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that this piece completes. Raises TooLarge when one is larger than MOST_CHARS."""
        text = self._decoder.decode(piece)
        if not text:
            return
        if self._is_first:
            self._is_first = False
            text = text.removeprefix("\ufeff")
        if self._ended_with_cr:
            text = text.removeprefix("\n")
        self._ended_with_cr = text.endswith("\r")
        *lines, self._rest = (self._rest + text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
        for line in lines:
            self._chars += len(line)
            event = self._take(line)
            if event is not None:
                yield event
        if self._chars + len(self._rest) > MOST_CHARS:
            raise TooLarge("The stream holds an event that is too large.")

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value[:9]) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(self._id, self._name or "message", "\n".join(self._data)) if self._data else None
        self._id, self._name, self._data, self._chars = None, "", [], 0
        return event
