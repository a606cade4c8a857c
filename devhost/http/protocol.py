"""HTTP/1 as uvicorn reads and writes it, with two things that it leaves out.

The host of a request target that is a whole URL: `GET http://name/path` names its host twice. uvicorn keeps only the
path, so the name would be seen by nobody.

An end for a caller that takes nothing: uvicorn waits for it for ever, and so does the connection after its response was
given up. Kestrel, Azure's own server, has a least rate, too (`MinResponseDataRate`).
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TAKES_NOTHING_S = 90.0
"""A connection of which not a byte was taken for so long is cut."""


class LocalProtocol(HttpToolsProtocol):
    """One connection."""

    takes_nothing_s = TAKES_NOTHING_S
    _stuck: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        """Add the host of the request target to the headers, unless `Host` says the same (RFC 9112, 3.2.2)."""
        scheme, found, rest = self.url.partition(b"://")
        if found and b"/" not in scheme:
            end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
            named = (b"host", rest[:end])
            if named not in self.headers:
                self.headers.append(named)
        super().on_headers_complete()

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
