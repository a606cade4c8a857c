"""The session's event log: 15 event types, numbered densely per session, sent to whoever may see them.

Invariant: an event has its number before anyone sees it, numbers of a session only grow, and no number is given
twice. Redis assigns them; should it lose the counter, numbering goes on above everything it could have assigned
(the session row in PostgreSQL holds a ceiling it may not pass without asking), so a client sees a hole, asks for
what it missed, and is told the truth: `gap`.

Invariant: nobody sees a session's events for having seen an earlier session of the same id: its log and its group are
named after its `feed`, which no two sessions share.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import orjson
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from shared.sessions.models import (
    FinishReason,
    JsonObject,
    TurnStatus,
    Usage,
    Value,
)

SEQ_LEASE = 10_000
"""How many numbers Redis may assign before it must ask PostgreSQL for more."""

log = logging.getLogger(__name__)

MOST_LIVE_BYTES = 1_000_000
"""Azure SignalR takes messages of at most 1 MB over its REST API, the frame around them included.
https://learn.microsoft.com/azure/azure-signalr/signalr-concept-messages-and-connections"""
READ_BYTES = 256 * 1024
"""Most bytes of bodies that one read of the log brings, unless it brings one event alone: what a reader holds at a
time. About a thousand events of an answer that streams."""
_BACK = 200
"""How many events are read back at once for what was streamed: an answer of 15 s."""
_MOVED_LIMIT = 10_000
"""Sessions remembered per process as numbered without Redis."""

CLIENT_METHOD = "event"
"""The one method that SignalR clients listen to; its one argument is the envelope."""


class EventType(StrEnum):
    SESSION_CREATED = "session.created"
    SESSION_ACTIVATED = "session.activated"
    SESSION_SUSPENDED = "session.suspended"
    SESSION_ENDED = "session.ended"
    MESSAGE_CREATED = "message.created"
    MESSAGE_UPDATED = "message.updated"
    TOOL_CALL_PENDING = "tool_call.pending"
    TOOL_CALL_APPROVED = "tool_call.approved"
    TOOL_CALL_REJECTED = "tool_call.rejected"
    TOOL_CALL_COMPLETED = "tool_call.completed"
    TOOL_CALL_FAILED = "tool_call.failed"
    STREAM_STARTED = "stream.started"
    STREAM_CHUNK = "stream.chunk"
    STREAM_ENDED = "stream.ended"
    ERROR_OCCURRED = "error.occurred"


class FrameType(StrEnum):
    """What `data.frame` of a `stream.chunk` is, and the SSE event names of a turn's stream."""

    MESSAGE_START = "message_start"
    CONTENT_DELTA = "content_delta"
    REASONING_DELTA = "reasoning_delta"
    TOOL_CALL = "tool_call"
    MESSAGE_END = "message_end"
    WAITING = "waiting"  # for a place: nothing has begun yet
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """One event, not yet numbered."""

    type: EventType
    data: dict[str, Any]
    turn_id: str | None = None
    message_id: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body(self, session_id: str) -> bytes:
        """The envelope's JSON without its opening brace and `seq`; `envelope` puts them in front."""
        value: dict[str, Any] = {"type": self.type, "session_id": session_id}
        if self.turn_id is not None:
            value["turn_id"] = self.turn_id
        if self.message_id is not None:
            value["message_id"] = self.message_id
        value["at"] = self.at
        value["data"] = self.data
        return orjson.dumps(value, option=orjson.OPT_UTC_Z)[1:]


def _absent_rather_than_null(schema: dict[str, Any]) -> None:
    del schema["default"]


# For the OpenAPI document and whoever reads events; here they are encoded once, as `Event.body`, and not read again.
class Envelope(Value):
    """One event: over SignalR, in the replay, and as the `data` of Server-Sent Events."""

    seq: int = Field(ge=1, description="Dense per session")
    type: EventType
    session_id: str
    turn_id: str | SkipJsonSchema[None] = Field(None, json_schema_extra=_absent_rather_than_null)
    message_id: str | SkipJsonSchema[None] = Field(None, json_schema_extra=_absent_rather_than_null)
    at: datetime
    data: JsonObject = Field(description="By type; of a `stream.chunk` the `frame`")


def turn_end(status: str, usage: Usage, steps: int, finish_reason: str | None) -> JsonObject:
    """`data` of `stream.ended`. finish_reason: of the turn's last answer."""
    return {"status": status, "usage": usage.model_dump(), "steps": steps, "finish_reason": finish_reason}


def envelope(seq: int, body: bytes) -> bytes:
    """The envelope as JSON bytes: `{"seq": 17, "type": ..., ...}`."""
    return b'{"seq":%d,%b' % (seq, body)


def frame(kind: FrameType, turn_id: str, message_id: str | None, /, **fields: Any) -> Event:
    """A `stream.chunk` whose `data.frame` is `{"type": kind, **fields}`."""
    return Event(EventType.STREAM_CHUNK, {"frame": {"type": kind, **fields}}, turn_id, message_id)


def feed_name(session_id: str, incarnation: str | None) -> str:
    """What a session's event log and group are named after. incarnation: None in sessions made before there was one."""
    return session_id if incarnation is None else f"{session_id}.{incarnation}"


def session_group(feed: str) -> str:
    """The SignalR group that sees a session's events."""
    return f"session-{feed}"


@dataclass(frozen=True, slots=True)
class EventTarget:
    """A session, and which numbers its row has leased out (see the module's invariant)."""

    session_id: str
    seq_floor: int
    seq_ceiling: int
    may_seed: bool = False
    """No number above the floor can have been given yet: a missing counter may start there."""
    incarnation: str | None = None

    @property
    def feed(self) -> str:
        return feed_name(self.session_id, self.incarnation)


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Part of a session's log."""

    items: list[tuple[int, bytes]]
    """(seq, body), ascending."""
    last_seq: int | None
    """The newest number assigned; None when the log has lost it."""
    is_cut: bool = False
    """It ends where its bytes reached READ_BYTES, before the limit and the end of the log."""


class SeqLeaseNeeded(Exception):
    """The log may not assign more numbers: `lost` when it has no counter, else the ceiling is reached."""

    def __init__(self, *, lost: bool) -> None:
        super().__init__("lost" if lost else "exhausted")
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Streamed:
    """The text of one attempt of an answer."""

    content: str = ""
    reasoning: str = ""


def _streamed(newest_first: Mapping[str, Sequence[str]]) -> Streamed:
    content, reasoning = (
        "".join(reversed(newest_first[kind])) for kind in (FrameType.CONTENT_DELTA, FrameType.REASONING_DELTA)
    )
    return Streamed(content, reasoning)


class EventLogUnavailable(Exception):
    """The log cannot be reached."""


class EventLog(Protocol):
    """Where events are numbered and kept for replay (Redis), each session's under its feed."""

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> int:
        """Number and keep `bodies`, atomically and in order; returns the first number.

        Raises SeqLeaseNeeded, EventLogUnavailable.
        """
        ...

    async def read(self, feed: str, after: int, limit: int) -> LogSlice:
        """Up to `limit` events and READ_BYTES with seq > `after`, oldest first. Raises EventLogUnavailable."""
        ...

    async def read_back(self, feed: str, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` events and READ_BYTES with seq < `before` (None: the end), newest first; none at the beginning.
        Raises EventLogUnavailable."""
        ...

    def follow(self, feed: str) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        """Live events from now on. Yields None first, once listening, and again after any interruption:
        then the caller reads what it may have missed. Raises EventLogUnavailable."""
        ...

    async def erase(self, feed: str) -> None:
        """Forget the feed's events and counter. Raises EventLogUnavailable."""
        ...


class SequenceLeases(Protocol):
    """The part of the session store that guards event numbers. Raises NotFound for a session that is gone, though
    another has its id now."""

    async def lease(self, target: EventTarget, *, lost: bool) -> EventTarget:
        """Raise the ceiling by SEQ_LEASE; `lost` also moves the floor up to the old ceiling."""
        ...

    async def allocate(self, target: EventTarget, count: int) -> EventTarget:
        """Take `count` numbers past the ceiling, without Redis; the last of them is the new floor."""
        ...


class SessionEventPublisher:
    """Numbers events and makes the SignalR messages that carry them.

    Sending is the caller's: through its own output binding when it returns, or through the relay when it
    must go out before (`live/realtime.py`).
    """

    def __init__(self, log: EventLog, leases: SequenceLeases) -> None:
        self._log = log
        self._leases = leases
        # Feeds numbered without Redis by this process: a caller that read its row before that must not
        # let a recovered Redis continue below those numbers. Grows only while Redis is down.
        self._moved: dict[str, EventTarget] = {}

    async def publish(
        self,
        target: EventTarget,
        events: Sequence[Event],
        *,
        also_to: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> list[bytes]:
        """Number `events` and return one encoded SignalR message per event and receiver, in order.

        also_to, users: further groups, and single people by user id, who see these events (approvers).
        Never fails because Redis is down: numbers then come from PostgreSQL and replay has a hole.
        """
        bodies = [event.body(target.session_id) for event in events]
        first = await self._number(target, bodies)
        receivers = [b'"groupName":' + orjson.dumps(group) for group in (session_group(target.feed), *also_to)]
        receivers += [b'"userId":' + orjson.dumps(user) for user in users]
        messages: list[bytes] = []
        for offset, body in enumerate(bodies):
            argument = envelope(first + offset, body)
            if len(argument) > MOST_LIVE_BYTES:
                # Refused, it would fail its function again and again. Clients see a hole in the numbers, and read it.
                log.info(
                    "event %d of session %s is too large for SignalR: %d bytes",
                    first + offset,
                    target.session_id,
                    len(argument),
                )
                continue
            messages.extend(
                b'{"target":"%b",%b,"arguments":[%b]}' % (CLIENT_METHOD.encode(), receiver, argument)
                for receiver in receivers
            )
        return messages

    async def streamed(self, feed: str, message_id: str) -> Streamed:
        """What was told of an answer's last attempt, as far as the log still has it."""
        texts: dict[str, list[str]] = {FrameType.CONTENT_DELTA: [], FrameType.REASONING_DELTA: []}
        named = b'"message_id":"%b"' % message_id.encode()
        before: int | None = None
        try:
            while page := await self._log.read_back(feed, before, _BACK):
                for _, body in page:
                    if named not in body:
                        continue
                    told = orjson.loads(b"{" + body)
                    if told["type"] != EventType.STREAM_CHUNK or told["message_id"] != message_id:
                        continue
                    said = told["data"]["frame"]
                    if said["type"] == FrameType.MESSAGE_START:
                        return _streamed(texts)
                    if said["type"] in texts:
                        texts[said["type"]].append(said["text"])
                before = page[-1][0]
        except EventLogUnavailable as exc:
            log.warning("what was streamed of message %s cannot be read back: %s", message_id, exc)
            return Streamed()
        return _streamed(texts)

    async def forget(self, feed: str) -> None:
        """Of an erased session. Raises EventLogUnavailable."""
        await self._log.erase(feed)

    async def _number(self, target: EventTarget, bodies: Sequence[bytes]) -> int:
        moved = self._moved.get(target.feed)
        if moved is not None and moved.seq_floor > target.seq_floor:
            target = moved
        try:
            try:
                return await self._log.append(target, bodies)
            except SeqLeaseNeeded as needed:
                leased = await self._leases.lease(target, lost=needed.lost)
                return await self._log.append(leased, bodies)
        except (EventLogUnavailable, SeqLeaseNeeded):
            moved = await self._leases.allocate(target, len(bodies))
            if len(self._moved) >= _MOVED_LIMIT:
                self._moved.pop(next(iter(self._moved)))
            self._moved[target.feed] = moved
            return moved.seq_floor - len(bodies) + 1


def ended_event(
    turn_id: str, status: TurnStatus, usage: Usage, steps: int, finish_reason: FinishReason | None = None
) -> Event:
    """`stream.ended`: the last event of a turn. finish_reason: of its last answer."""
    return Event(EventType.STREAM_ENDED, turn_end(status, usage, steps, finish_reason), turn_id)


def closed_turn_events(turn_ids: list[str]) -> list[Event]:
    """Turns that were cancelled before they began end without having streamed."""
    return [ended_event(turn_id, TurnStatus.CANCELLED, Usage(), 0) for turn_id in turn_ids]
