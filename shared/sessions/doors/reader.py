"""DoorReader: a turn's events through a door, from the session's numbered log; from what is stored where that has lost
them.

Invariant: a stream ends when its turn has ended, when all that is left of it waits for people (whoever decides or
answers comes back with `Told.decided` or `Told.answered`; whoever only waits, with `Told.after`), or when its reader
may no longer read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.errors import NotFound, Transient
from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.voting import public_approval
from shared.sessions.doors.below import WatchedTurn
from shared.sessions.doors.door import Door
from shared.sessions.doors.progress import call_of
from shared.sessions.doors.stored import (
    CallBelow,
    answer_events,
    asked_below,
    decided_below,
    end_events,
    outcome_event,
    pending_event,
    wait_event,
)
from shared.sessions.events import EventType, FrameType
from shared.sessions.live.open_streams import OpenStream, StreamBody, Viewer
from shared.sessions.models import ApprovalStatus, JsonObject, Message, ToolWait, Turn
from shared.sessions.records.approvals import ApprovalBelow, ApprovalRecord
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, Page
from shared.sessions.streaming import DEGRADED_POLL_SECONDS, LogLost, OpenForLong, StreamingHandler

_OF_DECISIONS = frozenset(
    {
        EventType.TOOL_CALL_APPROVED,
        EventType.TOOL_CALL_REJECTED,
        EventType.TOOL_CALL_ANSWERED,
        EventType.TOOL_CALL_COMPLETED,
        EventType.TOOL_CALL_FAILED,
    }
)
"""What comes of an approval once it is decided, or of a wait once it is answered. From the store, of the turn's own
calls only the last two or a rejection."""
_MISSED = timedelta(seconds=5)
"""How long ago a subagent must have asked for its frame to be missed."""


class SessionApprovals(Protocol):
    """The part of the approvals' store that says what waits."""

    async def list_in_session(self, session_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]: ...

    async def list_below(
        self, turn_ids: Sequence[str], status: ApprovalStatus | None = None
    ) -> list[ApprovalBelow]: ...


class TurnReader(Protocol):
    """The part of the turns' store that says what waits beside approvals."""

    async def get_turn(self, session_id: str, turn_id: str) -> Turn: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What a client has had of a turn before this stream; nothing by default."""

    after: int | None = None
    """All up to the event of this number."""
    decided: frozenset[str] = frozenset()
    """All until one of these approvals was decided: their ids. With a number too, what comes first counts."""
    answered: frozenset[str] = frozenset()
    """All until one of these calls was answered: their ids. In the same way."""
    joined: str | None = None
    """All up to the answer during which this message joined the turn."""

    @property
    def by_people(self) -> bool:
        return bool(self.decided or self.answered)


class _Filter:
    """Lets through what the client has not had."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._is_open = told.after is None and told.joined is None and not told.by_people
        self._answer: str | None = None
        self._has_joined = False

    def is_new(self, envelope: JsonObject, progress: WatchedTurn) -> bool:
        if self._is_open:
            return True
        told, seq = self._told, envelope.get("seq")
        if envelope["type"] == EventType.STREAM_ENDED:
            self._is_open = True
        elif seq is None and not told.by_people:
            self._is_open = True  # from the store: it does not say what came before the number
        elif told.after is not None and seq is not None and seq > told.after:
            self._is_open = True
        elif told.joined is not None:
            self._is_open = self._has_begun_another_answer(envelope)
        elif envelope["type"] in _OF_DECISIONS:
            self._is_open = bool(_approvals_of(envelope, progress) & told.decided) or call_of(envelope) in told.answered
        return self._is_open

    def _has_begun_another_answer(self, envelope: JsonObject) -> bool:
        """Since the message joined. One that has begun by then cannot be told from its middle on."""
        message_id = envelope.get("message_id")
        if message_id == self._told.joined:
            self._has_joined = True
        elif envelope["data"].get("frame", {}).get("type") == FrameType.MESSAGE_START:
            if self._has_joined and message_id != self._answer:
                return True
            self._answer = message_id
        return False


def _approvals_of(envelope: JsonObject, progress: WatchedTurn) -> set[str]:
    data = envelope["data"]
    if "approval" in data:
        return {data["approval"]["id"]}
    call_id = data.get("tool_call", {}).get("id")
    return {approval for approval, call in progress.approvals.items() if call == call_id}


class DoorReader:
    """Reads turns for doors. The caller has checked access, which is checked again while a stream is open."""

    def __init__(self, streaming: StreamingHandler, approvals: SessionApprovals, turns: TurnReader) -> None:
        self._streaming = streaming
        self._approvals = approvals
        self._turns = turns

    def stream(self, door: Door, turn: Turn, viewer: Viewer, told: Told | None = None) -> StreamBody:
        """A turn as a wire. Raises BudgetExceeded when the user has too many streams open."""
        return self._streaming.open(viewer, lambda stream: self._bytes(door, turn, stream, told or Told()))

    async def _bytes(self, door: Door, turn: Turn, stream: OpenStream, told: Told) -> AsyncGenerator[bytes]:
        for part in door.begin():
            yield door.encode(part)
        try:
            async with aclosing(self._parts(door, turn, stream, told)) as parts:
                async for made in parts:
                    yield door.heartbeat if made is None else door.encode(made)
        except OpenForLong:
            for part in door.cut():
                yield door.encode(part)
        if not stream.ended.done():
            yield door.closing

    async def _parts(self, door: Door, turn: Turn, stream: OpenStream, told: Told) -> AsyncGenerator[JsonObject | None]:
        progress, fresh = WatchedTurn(), _Filter(told)
        # Calls that have waited together, and do not any more: the store is asked once, for many events may follow.
        passed: set[str] | None = None

        def through(envelope: JsonObject) -> Iterator[JsonObject]:
            for one in progress.told(envelope):
                is_new = fresh.is_new(one, progress)
                made = door.event(one)
                if is_new:
                    yield from made

        try:
            # Always from the turn's beginning: what a door says of an event depends on those before it.
            async with aclosing(self._streaming.turn_events(turn, stream, None)) as events:
                async for seq, envelope in events:
                    if envelope is None:
                        yield None
                        if await self._has_missed(turn, progress):
                            raise LogLost
                    else:
                        for part in through(envelope):
                            yield part
                    if not progress.is_waiting or (envelope is not None and progress.pending == passed):
                        continue
                    if not await self._still_waits(turn, progress):
                        passed = progress.pending
                        continue
                    # What was told while it waits: votes of some of those who must agree, others who were asked.
                    if seq is None or not await self._streaming.has_more(turn, stream.viewer, seq):
                        for part in door.waiting():
                            yield part
                        return
            return
        except LogLost:
            pass
        async with aclosing(self._from_store(turn, stream, progress)) as stored:
            async for found in stored:
                if found is None:
                    yield None
                    continue
                for part in through(found):
                    yield part
        if progress.is_waiting and not progress.is_over:
            for part in door.waiting():
                yield part

    async def _still_waits(self, turn: Turn, progress: WatchedTurn) -> bool:
        """Whether all that waited at this point of the log waits now: it may be a point in the past. No while nobody
        can say."""
        try:
            pending = {approval.tool_call_id for approval in await self._asked(turn, ApprovalStatus.PENDING)}
            if not progress.pending <= pending:
                pending |= {one.call.id for one in await self._below(turn, ApprovalStatus.PENDING)}
            if not progress.pending <= pending:
                pending |= {wait.tool_call_id for wait in await self._waits(turn)}
        except Transient:
            return False
        return progress.pending <= pending

    async def _has_missed(self, turn: Turn, progress: WatchedTurn) -> bool:
        """Whether a subagent waits for people, which the log has not told: what is told in the caller's session may be
        lost there. No while nobody can say."""
        if progress.is_waiting or not progress.is_running_calls:
            return False
        try:
            asked = await self._below(turn, ApprovalStatus.PENDING)
        except Transient:
            return False
        before = datetime.now(UTC) - _MISSED
        return any(one.approval.requested_at < before and one.call.id not in progress.pending for one in asked)

    async def _waits(self, turn: Turn) -> Sequence[ToolWait]:
        """What calls of the turn wait for now, beside approvals."""
        try:
            return (await self._turns.get_turn(turn.session_id, turn.id)).waits
        except NotFound:
            return ()  # erased meanwhile, which ends the stream

    async def _asked(self, turn: Turn, status: ApprovalStatus | None = None) -> list[Approval]:
        wanted = ApprovalFilter(status=status, turn_id=turn.id)
        found = await self._approvals.list_in_session(turn.session_id, wanted, Page(limit=MAX_LIMIT))
        return [public_approval(record) for record in found]

    async def _below(self, turn: Turn, status: ApprovalStatus | None = None) -> list[CallBelow]:
        return [CallBelow.of(one) for one in await self._approvals.list_below([turn.id], status)]

    async def _from_store(
        self, turn: Turn, stream: OpenStream, progress: WatchedTurn
    ) -> AsyncGenerator[JsonObject | None]:
        """What is not told yet, once the turn has ended or waits for people; None as a heartbeat."""
        while True:
            current: Turn | None = None
            below: list[CallBelow] | None = None
            async with aclosing(self._streaming.stored_turn(turn, stream, until=_is_settled)) as stored:
                async for found in stored:
                    if isinstance(found, Message):
                        if below is None:
                            below = await self._below(turn)
                            for approval in await self._asked(turn):
                                progress.approvals[approval.id] = approval.tool_call_id
                        for envelope in _untold(found, progress, turn, below):
                            yield envelope
                    elif found is None:
                        yield None
                    else:
                        current = found
            if current is None:
                return
            if current.status.is_terminal:
                for envelope in end_events(current):
                    yield envelope
                return
            for approval in await self._asked(turn, ApprovalStatus.PENDING):
                yield pending_event(approval)
            below = await self._below(turn)
            for one in below:
                if one.approval.status is ApprovalStatus.PENDING:
                    for envelope in asked_below(one, turn):
                        yield envelope
            progress.below_is(below, turn)
            for wait in await self._waits(turn):
                yield wait_event(wait, turn)
            if progress.is_waiting:
                return
            await asyncio.sleep(DEGRADED_POLL_SECONDS)  # beside the approval, a call still runs


def _is_settled(turn: Turn) -> bool:
    return turn.status.is_terminal or turn.status.waits


def _untold(message: Message, progress: WatchedTurn, turn: Turn, below: Sequence[CallBelow]) -> Iterator[JsonObject]:
    if not progress.has_told(message.id):
        yield from answer_events(message)
    for call in message.tool_calls:
        for one in below:
            if one.through == call.id and not progress.has_closed(one.call.id):
                yield from asked_below(one, turn)
                yield from decided_below(one, turn)
        outcome = outcome_event(message, call)
        if outcome is not None and not progress.has_closed(call.id):
            yield outcome
