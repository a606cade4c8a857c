"""A stream given literally by a script and sent unchanged: any server's format, valid or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from devhost.model.errors import Json, RequestRefused


class PlayedAnswer:
    """stream: the raw text of the body, or one entry per event; a text entry is sent as it is ("[DONE]").

    An event that is an object with a `type` gets an `event:` line, as in the Responses API.
    """

    def __init__(self, stream: str | Sequence[Json]) -> None:
        self._units = [stream.encode()] if isinstance(stream, str) else [_event(entry) for entry in stream]

    @property
    def completion_tokens(self) -> int:
        return len(self._units)

    def body(self) -> bytes:
        raise RequestRefused(
            "Bad script: 'stream' answers only a request with \"stream\": true.", param="stream", code="bad_script"
        )

    def head(self) -> bytes:
        return b""

    def units(self) -> list[bytes]:
        return self._units

    def tail(self) -> bytes:
        return b""

    def error_event(self, sent: int, error: RequestRefused) -> bytes:
        return b"data: " + error.body() + b"\n\n"


def _event(entry: Json) -> bytes:
    if isinstance(entry, str):
        return b"data: " + entry.encode() + b"\n\n"
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    name = b"event: " + kind.encode() + b"\n" if isinstance(kind, str) else b""
    return name + b"data: " + orjson.dumps(entry) + b"\n\n"
