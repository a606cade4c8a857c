"""HTTP/1 as Azure's server reads and writes it, where uvicorn differs.

- A request target that is a whole URL names its host twice. uvicorn keeps only the path, so the name would be seen by
  nobody: it is added to the headers, unless `Host` says the same (RFC 9112, 3.2.2).
- A `#` in a target is part of the path.
- A request line over 8 KB is 414; headers over 32 KB or over 100 of them are 431; what is not HTTP is 400. None of
  these answers has a body.
- A caller that takes nothing is cut: uvicorn waits for it for ever, and so does the connection after its response was
  given up. Kestrel has a least rate, too (`MinResponseDataRate`).

Source: Kestrel's `KestrelServerLimits`, and requests recorded on Azure Functions host 4.1037.
"""

from __future__ import annotations

import asyncio
import http

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TAKES_NOTHING_S = 90.0
"""A connection of which not a byte was taken for so long is cut."""
MAX_REQUEST_LINE_BYTES = 8 * 1024
MAX_HEADERS_BYTES = 32 * 1024
MAX_HEADERS = 100
_AROUND_TARGET_BYTES = len(" HTTP/1.1\r\n") + 1
_AROUND_HEADER_BYTES = len(": \r\n")


class LocalProtocol(HttpToolsProtocol):
    """One connection of a caller."""

    takes_nothing_s = TAKES_NOTHING_S
    _stuck: asyncio.TimerHandle | None = None
    _size = 0
    _is_refused = False

    def on_message_begin(self) -> None:
        self._size = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        method = self.parser.get_method()
        if len(method) + len(self.url) + _AROUND_TARGET_BYTES > MAX_REQUEST_LINE_BYTES:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value) + _AROUND_HEADER_BYTES
        if self._size > MAX_HEADERS_BYTES or len(self.headers) >= MAX_HEADERS:
            self._refuse(431)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_refused:
            return
        if b"#" in self.url:
            self.url = self.url.replace(b"#", b"%23")
        scheme, found, rest = self.url.partition(b"://")
        if found and b"/" not in scheme:
            end = min((at for at in map(rest.find, (b"/", b"?")) if at >= 0), default=len(rest))
            named = (b"host", rest[:end])
            if named not in self.headers:
                self.headers.append(named)
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_looking()

    def handle_websocket_upgrade(self) -> None:
        self._stop_looking()  # another protocol has the connection from here on
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_looking()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self._stuck = self.loop.call_later(self.takes_nothing_s, self._cut_if_stuck, waiting)

    def _cut_if_stuck(self, waited: int) -> None:
        if self.transport.get_write_buffer_size() < waited:
            self._look_again()
        else:
            self.transport.abort()

    def _stop_looking(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _refuse(self, status: int) -> None:
        """Answer without a body and close the connection."""
        if self._is_refused:
            return
        self._is_refused = True
        phrase = http.HTTPStatus(status).phrase
        self.transport.write(f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        self.transport.close()
