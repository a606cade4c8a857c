"""A door through which nothing passes: for whoever only waits until a turn ends, or waits for people."""

from __future__ import annotations

from collections.abc import Sequence

from shared.sessions.models import JsonObject


class Silent:
    """Implements `Door`."""

    def begin(self) -> Sequence[JsonObject]:
        return ()

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        return ()

    def waiting(self) -> Sequence[JsonObject]:
        return ()

    def cut(self) -> Sequence[JsonObject]:
        return ()

    def encode(self, part: JsonObject) -> bytes:
        raise AssertionError("there is no part")

    @property
    def heartbeat(self) -> bytes:
        return b""

    @property
    def closing(self) -> bytes:
        return b""
