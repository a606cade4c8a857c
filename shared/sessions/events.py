"""The session's event log: 19 event types, numbered densely per session, sent to whoever may see them.

Invariant: an event has its number before anyone sees it, numbers of a session only grow, and no number is given
twice. Redis assigns them; should it lose the counter, numbering goes on above everything it could have assigned
(the session row in PostgreSQL holds a ceiling it may not pass without asking), so a client sees a hole, asks for
what it missed, and is told the truth: `gap`.

Invariant: nobody sees a session's events for having seen an earlier session of the same id: its log and its group are
named after its `feed`, which no two sessions share.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from shared.errors import NotFound, Transient
from shared.sessions.models import (
    FinishReason,
    JsonObject,
    TurnStatus,
    Usage,
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
_TELL_AGAIN_S = 1.0
"""How often a log that was away is asked to take note of numbers that were given without it."""
_CALLER_KEPT_S, _CALLERS_KEPT = 1.0, 1_000
"""How long it is known who called a subagent whose text is streamed, and of how many."""

SUBAGENT_MARK = "sub-"
"""The incarnations of subagents' sessions begin with it, and those of no others: clients choose ids, and nobody chooses
incarnations."""

CLIENT_METHOD = "event"
"""The one method that SignalR clients listen to; its one argument is the envelope."""


class EventType(StrEnum):
    SESSION_CREATED = "session.created"
    SESSION_ACTIVATED = "session.activated"
    SESSION_SUSPENDED = "session.suspended"
    SESSION_ENDED = "session.ended"
    SESSION_HANDED_OVER = "session.handed_over"
    MESSAGE_CREATED = "message.created"
    MESSAGE_UPDATED = "message.updated"
    TOOL_CALL_PENDING = "tool_call.pending"
    TOOL_CALL_APPROVED = "tool_call.approved"
    TOOL_CALL_REJECTED = "tool_call.rejected"
    TOOL_CALL_PROGRESS = "tool_call.progress"
    TOOL_CALL_WAITING = "tool_call.waiting"
    TOOL_CALL_ANSWERED = "tool_call.answered"
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
    SUBAGENT = "subagent"  # an event of the session of an agent that a call of this turn asked, or of one below it
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
    made_at: datetime | None = None
    """Aware UTC, of a session that may have had no event: `may_seed` holds if the log has forgotten nothing since.
    None: not asked."""
    epoch: str | None = None
    """Of the log, in which the floor was raised above all numbers: `may_seed` holds in this one. None: it was not."""
    incarnation: str | None = None
    subscribed_ms: int | None = None
    """When the newest of the connections that are on record joined the session's group, in ms since 1970; 0: none is on
    record; None: not read."""

    @property
    def feed(self) -> str:
        return feed_name(self.session_id, self.incarnation)

    @property
    def is_of_subagent(self) -> bool:
        return self.incarnation is not None and self.incarnation.startswith(SUBAGENT_MARK)


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Part of a session's log."""

    items: list[tuple[int, bytes]]
    """(seq, body), ascending."""
    last_seq: int | None
    """The newest number assigned; None when the log has lost it."""
    is_cut: bool = False
    """It ends where its bytes reached READ_BYTES, before the limit and the end of the log."""


@dataclass(frozen=True, slots=True)
class Appended:
    """A batch that was numbered and kept, and who may be listening."""

    first: int
    """The number of its first event."""
    presence: int | None = None
    """The session's mark of `live/presence.py`: above 0 somebody may be in its SignalR group, else nobody is; None: not
    known."""
    is_followed: bool = True
    """An event stream of the session may be open."""


class SeqLeaseNeeded(Exception):
    """The log may not assign more numbers: `lost` when it has no counter, or an older one than it had; else the ceiling
    is reached. epoch: the log's own, which a raised floor is for."""

    def __init__(self, *, lost: bool, epoch: str | None = None) -> None:
        super().__init__("lost" if lost else "exhausted")
        self.lost = lost
        self.epoch = epoch


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

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        """Number, keep and announce `bodies`, atomically and in order. Without any: announce that the numbers up to the
        floor were given.

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

    def follow(self, feed: str, *, reads: bool = True) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        """Live events from now on. Yields None first, once listening, and again after any interruption:
        then the caller reads what it may have missed. reads: somebody watches, and wants them soon. Raises
        EventLogUnavailable."""
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


@dataclass(frozen=True, slots=True)
class Caller:
    """The call that a subagent's session answers. named: the subagent, for clients."""

    target: EventTarget
    turn_id: str
    named: JsonObject


class Callers(Protocol):
    async def caller_of(self, session_id: str) -> Caller | None:
        """None: its turn is over, or it is gone. Raises Transient."""
        ...


_TOLD_ABOVE = frozenset(set(EventType) - {EventType.STREAM_STARTED})


def told_above(caller: Caller, event: Event) -> Event | None:
    """An event of a subagent's turn as a frame of the turn that called it; None where it says nothing of the turn.

    What is told of one below it stays as it is: nothing is nested.
    """
    if event.turn_id is None or event.type not in _TOLD_ABOVE:
        return None
    said = event.data.get("frame")
    if event.type is EventType.STREAM_CHUNK and said is not None and said["type"] == FrameType.SUBAGENT:
        return Event(EventType.STREAM_CHUNK, event.data, caller.turn_id, at=event.at)
    told: JsonObject = {"type": event.type, "data": event.data}
    if event.message_id is not None:
        told["message_id"] = event.message_id
    fields = {"type": FrameType.SUBAGENT, "subagent": {**caller.named, "turn_id": event.turn_id}, "told": told}
    return Event(EventType.STREAM_CHUNK, {"frame": fields}, caller.turn_id, at=event.at)


class Looks(Protocol):
    """The part of `live/presence.py` that a publisher needs."""

    def look(self, target: EventTarget, mark: int) -> None:
        """Find out, beside the caller, whether anybody is still in the session's group; it has this mark."""
        ...


class Receiver(NamedTuple):
    """An address of SignalR. kind: as its field is called in a message of the output binding."""

    kind: Literal["groupName", "userId", "connectionId"]
    name: str


class Addresses(Protocol):
    """The part of `live/audience.py` that a publisher needs."""

    async def receivers(
        self, target: EventTarget, groups: Sequence[str], users: Sequence[str], *, is_heard: bool
    ) -> list[Receiver]:
        """Such that each connection that is to hear of it gets one copy."""
        ...


class Told(NamedTuple):
    """Events that were numbered and kept."""

    messages: list[bytes]
    """Encoded SignalR messages that carry them, in order; none where nobody would receive them."""
    is_read: bool
    """Somebody may be watching the session live."""


class SessionEventPublisher:
    """Numbers events and makes the SignalR messages that carry them.

    Sending is the caller's: through its own output binding when it returns, or through the relay when it
    must go out before (`live/realtime.py`).
    """

    def __init__(
        self,
        log: EventLog,
        leases: SequenceLeases,
        presence: Looks | None = None,
        audience: Addresses | None = None,
        *,
        callers: Callers | None = None,
        tell_again_s: float = _TELL_AGAIN_S,
        caller_kept_s: float = _CALLER_KEPT_S,
    ) -> None:
        """presence: without it, a session's group gets everything. audience: without it, who is addressed as several
        gets several copies. callers: of subagents, whose events are told in their session, too; None: nobody's are."""
        self._log = log
        self._callers = callers
        self._caller_kept_s = caller_kept_s
        self._kept_callers: dict[str, tuple[float, Caller]] = {}
        """Until when (monotonic), and whom, by the subagent's session."""
        self._leases = leases
        self._presence = presence
        self._audience = audience
        # Feeds numbered without Redis by this process: a caller that read its row before that must not
        # let a recovered Redis continue below those numbers. Grows only while Redis is down.
        self._moved: dict[str, EventTarget] = {}
        # Those of them of which the log has not heard since.
        self._untold: set[str] = set()
        self._telling: asyncio.Task[None] | None = None
        self._tell_again_s = tell_again_s

    async def publish(
        self,
        target: EventTarget,
        events: Sequence[Event],
        *,
        also_to: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> list[bytes]:
        """`tell`, for callers who have the messages sent once they have done their work."""
        return (await self.tell(target, events, also_to=also_to, users=users)).messages

    async def tell(
        self,
        target: EventTarget,
        events: Sequence[Event],
        *,
        also_to: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> Told:
        """Number and keep `events`, and make one SignalR message per event and receiver.

        also_to, users: further groups, and single people by user id, who see these events (approvers). The session's
        own group is left out where nobody is in it.
        Never fails because Redis is down: numbers then come from PostgreSQL and replay has a hole.
        """
        bodies = [event.body(target.session_id) for event in events]
        appended = await self._number(target, bodies)
        receivers = await self._receivers(target, also_to, users, is_heard=self._is_heard(target, appended))
        is_read = appended.is_followed or bool(receivers)
        messages = _messages(target, appended.first, bodies, receivers) if receivers else []
        if self._callers is None or not target.is_of_subagent:
            return Told(messages, is_read)
        above = await self._tell_above(self._callers, target, events)
        return Told([*messages, *above.messages], is_read or above.is_read)

    async def _tell_above(self, callers: Callers, target: EventTarget, events: Sequence[Event]) -> Told:
        """The same in the session of the call. Never fails: what is not told there can be read in its own session."""
        try:
            caller = await self._caller(callers, target.session_id, events)
            if caller is None:
                return Told([], False)
            frames = [told for event in events if (told := told_above(caller, event)) is not None]
            return await self.tell(caller.target, frames) if frames else Told([], False)
        except (NotFound, Transient) as exc:
            log.warning("events of the subagent's session %s are not told above: %s", target.session_id, exc)
            return Told([], False)

    async def _caller(self, callers: Callers, session_id: str, events: Sequence[Event]) -> Caller | None:
        """Read anew for everything but text that is being streamed, which has ten events a second."""
        until_s, kept = self._kept_callers.get(session_id, (0.0, None))
        if (
            kept is not None
            and time.monotonic() < until_s
            and all(one.type is EventType.STREAM_CHUNK for one in events)
        ):
            return kept
        caller = await callers.caller_of(session_id)
        if caller is None:
            self._kept_callers.pop(session_id, None)
        else:
            if len(self._kept_callers) >= _CALLERS_KEPT:
                self._kept_callers.clear()
            self._kept_callers[session_id] = (time.monotonic() + self._caller_kept_s, caller)
        return caller

    async def _receivers(
        self, target: EventTarget, groups: Sequence[str], users: Sequence[str], *, is_heard: bool
    ) -> list[Receiver]:
        if self._audience is not None and (groups or users):
            return await self._audience.receivers(target, groups, users, is_heard=is_heard)
        session = [session_group(target.feed)] if is_heard else []
        return [
            *(Receiver("groupName", group) for group in (*session, *groups)),
            *(Receiver("userId", user) for user in users),
        ]

    def _is_heard(self, target: EventTarget, appended: Appended) -> bool:
        """Whether anybody may be in the session's group."""
        if self._presence is None or appended.presence is None:
            return True
        if appended.presence <= 0:
            return False
        self._presence.look(target, appended.presence)
        return True

    async def streamed(self, feed: str, message_id: str) -> Streamed:
        """What was told of an answer's last attempt, as far as the log still has it. Raises EventLogUnavailable."""
        texts: dict[str, list[str]] = {FrameType.CONTENT_DELTA: [], FrameType.REASONING_DELTA: []}
        named = b'"message_id":"%b"' % message_id.encode()
        before: int | None = None
        while page := await self._log.read_back(feed, before, _BACK):
            for _, body in page:
                if named not in body:
                    continue
                told = orjson.loads(b"{" + body)
                if told["type"] != EventType.STREAM_CHUNK or told.get("message_id") != message_id:
                    continue
                said = told["data"]["frame"]
                if said["type"] == FrameType.MESSAGE_START:
                    return _streamed(texts)
                if said["type"] in texts:
                    texts[said["type"]].append(said["text"])
            before = page[-1][0]
        return _streamed(texts)

    async def forget(self, feed: str) -> None:
        """Of an erased session. Raises EventLogUnavailable."""
        await self._log.erase(feed)

    async def _number(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        moved = self._moved.get(target.feed)
        if moved is not None and moved.seq_floor > target.seq_floor:
            target = moved
        try:
            appended = await self._append(target, bodies)
        except (EventLogUnavailable, SeqLeaseNeeded):
            moved = await self._leases.allocate(replace(target, subscribed_ms=None), len(bodies))
            if len(self._moved) >= _MOVED_LIMIT:
                oldest = next(iter(self._moved))
                del self._moved[oldest]
                self._untold.discard(oldest)
            self._moved[target.feed] = moved
            self._untold.add(target.feed)
            if self._telling is None:
                # In an empty context: it concerns all sessions, not the one whose event was the first.
                self._telling = asyncio.create_task(self._tell_of_holes(), context=Context())
            return Appended(moved.seq_floor - len(bodies) + 1)
        self._untold.discard(target.feed)
        return appended

    async def _append(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        try:
            return await self._log.append(target, bodies)
        except SeqLeaseNeeded as needed:
            # What Redis has lost it may have known better than whoever read the database before.
            leased = await self._leases.lease(replace(target, subscribed_ms=None), lost=needed.lost)
            return await self._log.append(replace(leased, epoch=needed.epoch), bodies)

    async def _tell_of_holes(self) -> None:
        """Move the log above the numbers that it was not told of, once it can be reached: who reads it then sees the
        hole, though no event may come for long."""
        try:
            while self._untold:
                await asyncio.sleep(self._tell_again_s)
                for feed in list(self._untold):
                    moved = self._moved.get(feed)
                    if moved is None:
                        continue  # too many came after it
                    try:
                        await self._append(moved, [])
                    except (EventLogUnavailable, SeqLeaseNeeded, Transient):
                        break  # it is asked again
                    except NotFound:
                        pass  # the session was deleted
                    if self._moved.get(feed) is moved:
                        self._untold.discard(feed)
        finally:
            self._telling = None


def _messages(target: EventTarget, first: int, bodies: Sequence[bytes], receivers: Sequence[Receiver]) -> list[bytes]:
    addresses = [b'"%b":%b' % (receiver.kind.encode(), orjson.dumps(receiver.name)) for receiver in receivers]
    messages: list[bytes] = []
    for seq, body in enumerate(bodies, first):
        argument = envelope(seq, body)
        if len(argument) > MOST_LIVE_BYTES:
            # Refused, it would fail its function again and again. Clients see a hole in the numbers, and read it.
            log.info("event %d of session %s is too large for SignalR: %d bytes", seq, target.session_id, len(argument))
            continue
        messages.extend(
            b'{"target":"%b",%b,"arguments":[%b]}' % (CLIENT_METHOD.encode(), address, argument)
            for address in addresses
        )
    return messages


def ended_event(
    turn_id: str, status: TurnStatus, usage: Usage, steps: int, finish_reason: FinishReason | None = None
) -> Event:
    """`stream.ended`: the last event of a turn. finish_reason: of its last answer."""
    return Event(EventType.STREAM_ENDED, turn_end(status, usage, steps, finish_reason), turn_id)


def closed_turn_events(turn_ids: list[str]) -> list[Event]:
    """Turns that were cancelled before they began end without having streamed."""
    return [ended_event(turn_id, TurnStatus.CANCELLED, Usage(), 0) for turn_id in turn_ids]
