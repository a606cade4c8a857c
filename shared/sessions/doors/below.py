"""A turn that is watched, with the subagents that it waits for: what of theirs a door is to hear, and whether people
alone can go on with all of it.

Invariant: of a subagent a door hears what its calls ask people, and what becomes of these calls, and nothing else. It
hears of them as of the turn's own, so that they are decided in the same way; the event then says whose it is:
`subagent`, as the frame does, and `through`, the call of the turn below which it stands. What works in the background
holds nobody, and nothing of it is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.sessions.doors.progress import ENDS_CALL, TurnProgress, call_of
from shared.sessions.doors.stored import CallBelow, asked_below, decided_below
from shared.sessions.events import EventType, FrameType
from shared.sessions.models import JsonObject, ToolCallStatus, Turn

_OF_CALLS = ENDS_CALL | {EventType.TOOL_CALL_PENDING, EventType.TOOL_CALL_APPROVED}
_OF_A_CALL = "tool_call."
_CANCELLED = "The turn was cancelled."


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call of a subagent that people were asked about. named: the subagent, for clients."""

    tool: str
    named: JsonObject


class WatchedTurn:
    """Takes a turn's events in order, from its beginning, and says what a door is to hear."""

    def __init__(self) -> None:
        self._below: dict[str, TurnProgress] = {}
        self._own = TurnProgress(self._below)
        self._askers: dict[str, str] = {}
        """Of a subagent's call the call that the subagent answers."""
        self._background: set[str] = set()
        """Calls of what works in the background."""
        self._asked: dict[str, _Asked] = {}
        """That are not over."""
        self._ended: set[str] = set()
        """Of those that people were asked about."""

    @property
    def approvals(self) -> dict[str, str]:
        """Tool call by approval, of all that was asked for, here or in subagents."""
        return self._own.approvals

    @property
    def pending(self) -> set[str]:
        """Ids of the tool calls that wait for people, here or in subagents."""
        return self._own.pending

    @property
    def is_waiting(self) -> bool:
        """All that is left of the step waits for people, or for their clients."""
        return self._own.is_waiting

    @property
    def is_running_calls(self) -> bool:
        return self._own.is_running_calls

    @property
    def is_over(self) -> bool:
        return self._own.is_over

    def has_told(self, message_id: str) -> bool:
        """Whether an answer of the turn itself was told to its end."""
        return self._own.has_told(message_id)

    def has_closed(self, call_id: str) -> bool:
        """Whether the end of a call was told."""
        return call_id in self._ended or self._own.has_closed(call_id)

    def below_is(self, calls: Iterable[CallBelow], turn: Turn) -> None:
        """What subagents do now, as the store says: what was told of them may not be all.

        calls: of subagents, which people were asked about. Whatever else they do counts as nothing.
        """
        self._below.clear()
        for one in calls:
            if one.is_open and one.call.id not in self._ended:
                for envelope in (*asked_below(one, turn), *decided_below(one, turn)):
                    self.told(envelope)

    def told(self, envelope: JsonObject) -> list[JsonObject]:
        """Note an event, and return what a door is to hear in its place: nothing for a repetition, and for a frame of a
        subagent what it says of a call that people are asked about, or the frame, which no door shows."""
        if envelope["type"] == EventType.STREAM_CHUNK:
            frame = envelope["data"]["frame"]
            if frame["type"] == FrameType.SUBAGENT:
                return self._told_below(envelope, frame["subagent"], frame["told"])
        if not self._own.take(envelope):
            return []
        ended = self._left(call_of(envelope), envelope) if envelope["type"] in ENDS_CALL else []
        return [*ended, envelope]

    def _told_below(self, envelope: JsonObject, named: JsonObject, told: JsonObject) -> list[JsonObject]:
        asker = named["tool_call_id"]
        frame = told["data"].get("frame", {}) if told["type"] == EventType.STREAM_CHUNK else {}
        proposed: str | None = frame["id"] if frame.get("type") == FrameType.TOOL_CALL else None
        if named.get("background") or asker in self._background:
            if proposed is not None:
                self._background.add(proposed)
            return [envelope]
        call_id = call_of(told) if told["type"].startswith(_OF_A_CALL) else proposed
        if not self._is_open(asker) or (call_id is not None and not self._place(call_id, asker)):
            return [envelope]
        if not self._below.setdefault(asker, TurnProgress(self._below)).take(told):
            return [envelope]
        if told["type"] == EventType.STREAM_ENDED:
            return [*self._left(asker, envelope), envelope]
        if told["type"] not in _OF_CALLS:
            return [envelope]
        return self._of_call(envelope, named, told)

    def _of_call(self, envelope: JsonObject, named: JsonObject, told: JsonObject) -> list[JsonObject]:
        call_id, kind = call_of(told), told["type"]
        left = self._left(call_id, envelope) if kind in ENDS_CALL else []
        if kind == EventType.TOOL_CALL_PENDING:
            self._asked[call_id] = _Asked(told["data"]["approval"]["tool"], named)
            self.approvals[told["data"]["approval"]["id"]] = call_id
        if call_id not in self._asked:
            return [*left, envelope]
        if kind in ENDS_CALL:
            del self._asked[call_id]
            self._ended.add(call_id)
        return [*left, self._as_own(envelope, named, call_id, kind, told["data"])]

    def _left(self, call_id: str, envelope: JsonObject) -> list[JsonObject]:
        """The ends of calls that people were asked about below a call that is over, or whose subagent is: they ended
        with it, and nothing else tells that."""
        made: list[JsonObject] = []
        for left in [asked for asked in self._asked if call_id in self._above(asked)]:
            one = self._asked.pop(left)
            self._ended.add(left)
            if (turn := self._below.get(self._askers[left])) is not None:
                turn.close(left)
            status, result = ToolCallStatus.FAILED.value, {"error": _CANCELLED}
            call = {"id": left, "message_id": None, "name": one.tool, "status": status, "result": result}
            made.append(self._as_own(envelope, one.named, left, EventType.TOOL_CALL_FAILED, {"tool_call": call}))
        return made

    def _as_own(self, envelope: JsonObject, named: JsonObject, call_id: str, kind: str, data: JsonObject) -> JsonObject:
        above = self._above(call_id)
        return {**envelope, "type": kind, "data": data, "subagent": named, "through": above[-1]}

    def _place(self, call_id: str, asker: str) -> bool:
        """Note below which call one stands. False for one that is another's, or would stand below itself."""
        if call_id not in self._askers and call_id not in {asker, *self._above(asker)}:
            self._askers[call_id] = asker
        return self._askers.get(call_id) == asker

    def _is_open(self, call_id: str) -> bool:
        turn = self._own if call_id not in self._askers else self._below.get(self._askers[call_id])
        return turn is not None and turn.has_open(call_id)

    def _above(self, call_id: str) -> list[str]:
        """The calls above a subagent's call, from the one that its subagent answers up to the turn's own."""
        found: list[str] = []
        while call_id in self._askers:
            call_id = self._askers[call_id]
            found.append(call_id)
        return found
