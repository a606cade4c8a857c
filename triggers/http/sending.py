"""Answers that are sent piece by piece, as fast as their client takes them.

Invariant: of an answer, the server's own buffers hold two pieces at most: the next one is handed over when the client
has taken the one before, and a client that takes none is closed. This is the app's to do: neither the worker's server
nor Azure's host bounds what an app hands over at once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Mapping

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from shared.sessions.live.open_streams import StreamBody
from shared.sessions.live.reading import Reader, TooSlow

log = logging.getLogger("parley.http")

PIECE_BYTES = 64 * 1024
"""The size at which servers stop writing (uvicorn's and asyncio's high-water mark)."""

_CLOSED = "a client that takes nothing is closed"


class PacedStream(StreamingResponse):
    """A body that is made while it is sent. first_field: of Server-Sent Events, in front of the first one."""

    def __init__(
        self,
        content: AsyncGenerator[bytes] | StreamBody,
        reader: Reader,
        *,
        status_code: int = 200,
        media_type: str,
        headers: Mapping[str, str],
        first_field: bytes = b"",
    ) -> None:
        super().__init__(content, status_code=status_code, media_type=media_type, headers=headers)
        self._content = content
        self._reader = reader
        self._first_field = first_field

    async def aclose(self) -> None:
        """Of an answer whose body is not sent."""
        await self._content.aclose()
        self._reader.close()

    async def stream_response(self, send: Send) -> None:
        reader, first_field = self._reader, self._first_field
        try:
            await reader.send(
                send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for chunk in self._content:
                if first_field and not chunk.startswith(b":"):  # a comment is no event
                    chunk, first_field = first_field + chunk, b""
                for piece in _pieces(chunk):
                    await reader.send(send, {"type": "http.response.body", "body": piece, "more_body": True})
            await reader.send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except TooSlow:
            log.info(_CLOSED)
            await self._content.aclose()
        finally:
            reader.close()

    def __del__(self) -> None:
        self._reader.close()  # also of an answer that nobody sent


class PacedAnswer(Response):
    """A body that is there as a whole."""

    def __init__(self, answer: Response, reader: Reader) -> None:
        super().__init__(status_code=answer.status_code)
        self.body = answer.body
        self.raw_headers = answer.raw_headers
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = self._reader
        try:
            await reader.send(
                send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            for piece in _pieces(bytes(self.body)):
                await reader.send(send, {"type": "http.response.body", "body": piece, "more_body": True})
            await reader.send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except TooSlow:
            log.info(_CLOSED)
        finally:
            reader.close()

    def __del__(self) -> None:
        self._reader.close()


def _pieces(chunk: bytes) -> Iterator[bytes]:
    if len(chunk) <= PIECE_BYTES:
        yield chunk
        return
    for start in range(0, len(chunk), PIECE_BYTES):
        yield chunk[start : start + PIECE_BYTES]
