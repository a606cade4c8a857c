"""What a door is: a pure mapping of a turn's events to the parts of one wire.

Invariant: a door does no I/O and reads no clock: the same events make the same parts. It gets a turn's events from the
turn's beginning and in order, also when its client has had some of them: the reader leaves out what those made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.sessions.models import JsonObject


class Door(Protocol):
    """One wire, for one stream of one turn. Parts are JSON objects, in the wire's own names."""

    def begin(self) -> Sequence[JsonObject]:
        """What is said first, whatever the client has had already."""
        ...

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        """What an event of the turn makes; nothing, of an event that the wire does not show.

        envelope: `Envelope` as JSON. Of events made from stored messages it has no `seq`. `tool_call.pending` may come
        several times for one approval. An answer that begins again (`message_start` of a message that has not ended)
        replaces what came of it. The turn's last event is `stream.ended`.

        Events `tool_call.*` of a subagent's call that people are asked about come as the turn's own do, with the
        subagent (`subagent`) and the call of the turn below which it stands (`through`); a door has not heard of such
        a call before. Frames of subagents come, too, and say nothing to a door.
        """
        ...

    def waiting(self) -> Sequence[JsonObject]:
        """The stream ends here, and the turn does not: all calls that are left wait for people."""
        ...

    def cut(self) -> Sequence[JsonObject]:
        """The stream ends here, and the turn does not: it has been open for as long as one may."""
        ...

    def encode(self, part: JsonObject) -> bytes:
        """A part as bytes of the wire."""
        ...

    @property
    def heartbeat(self) -> bytes:
        """Sent when nothing happens for a while."""
        ...

    @property
    def closing(self) -> bytes:
        """The last bytes of a stream that ends in order."""
        ...
