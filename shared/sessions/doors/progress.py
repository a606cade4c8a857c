"""How far a turn is, told by its events alone: which calls are open, and whether people alone can go on with it."""

from __future__ import annotations

from collections.abc import Mapping

from shared.sessions.events import EventType, FrameType
from shared.sessions.models import JsonObject, WaitKind

_RUNNING = "running"
_PENDING = "pending"
_ASKING = "asking"

_BY_PEOPLE = frozenset({_PENDING, _ASKING})

ENDS_CALL = frozenset({EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED, EventType.TOOL_CALL_REJECTED})


class TurnProgress:
    """Takes a turn's events in order, from its beginning."""

    def __init__(self, below: Mapping[str, TurnProgress] | None = None) -> None:
        """below: the turns of subagents, by the call that each answers; it may grow."""
        self._below = {} if below is None else below
        self._answer: str | None = None
        self._ended: set[str] = set()
        self._repeats: str | None = None
        self._open: dict[str, str] = {}
        self._closed: set[str] = set()
        self._answered: set[str] = set()
        self.approvals: dict[str, str] = {}
        """Tool call by approval, of all that was asked for."""
        self.is_over = False

    @property
    def pending(self) -> set[str]:
        """Ids of the tool calls that wait for people: for an approval, or an answer. Those of subagents are among
        them."""
        own = {call_id for call_id, state in self._open.items() if state in _BY_PEOPLE}
        return own.union(*(self._below[call_id].pending for call_id in self._open if call_id in self._below))

    @property
    def is_waiting(self) -> bool:
        """All that is left of the step waits for people, or for their clients, here or in a subagent."""
        if self._answer is not None or self.is_over or not self._open:
            return False
        return all(state in _BY_PEOPLE or self._waits_below(call_id) for call_id, state in self._open.items())

    def _waits_below(self, call_id: str) -> bool:
        turn = self._below.get(call_id)
        return turn is not None and turn.is_waiting

    @property
    def is_running_calls(self) -> bool:
        """Its answer is written, and a call is neither over nor known to wait for people."""
        return self._answer is None and any(state not in _BY_PEOPLE for state in self._open.values())

    def take(self, envelope: JsonObject) -> bool:
        """Note an event. False for a repetition that nobody has to hear of: an answer that has ended is told again when
        the run that told it was cut before that was on record."""
        kind = envelope["type"]
        if kind == EventType.STREAM_CHUNK:
            return self._take_frame(envelope["data"]["frame"], envelope.get("message_id"))
        if kind == EventType.STREAM_ENDED:
            self.is_over = True
        elif kind == EventType.TOOL_CALL_PENDING:
            call_id = envelope["data"]["tool_call_id"]
            self.approvals[envelope["data"]["approval"]["id"]] = call_id
            if call_id in self._closed or self._open.get(call_id) == "approved":
                return False
            self._open[call_id] = _PENDING
        elif kind == EventType.TOOL_CALL_APPROVED:
            call_id = envelope["data"]["tool_call_id"]
            if call_id not in self._closed:
                self._open[call_id] = "approved"
        elif kind in {EventType.TOOL_CALL_WAITING, EventType.TOOL_CALL_ANSWERED}:
            return self._take_wait(kind, envelope["data"]["wait"])
        elif kind in ENDS_CALL:
            self.close(call_of(envelope))
        return True

    def _take_wait(self, kind: str, wait: JsonObject) -> bool:
        call_id = wait["tool_call_id"]
        if call_id in self._closed or wait["id"] in self._answered:
            return False
        if kind == EventType.TOOL_CALL_ANSWERED:
            self._answered.add(wait["id"])
            self._open[call_id] = _RUNNING
        elif wait["kind"] != WaitKind.RESULT:  # which nobody who watches can bring
            self._open[call_id] = _ASKING
        return True

    def _take_frame(self, frame: JsonObject, message_id: str | None) -> bool:
        kind = frame["type"]
        if kind == FrameType.MESSAGE_START:
            if message_id in self._ended:
                self._repeats = message_id
            else:
                self._repeats, self._answer = None, message_id
                # Calls of an attempt that is replaced by this one.
                self._open = {call: state for call, state in self._open.items() if state != _RUNNING}
        if message_id is not None and message_id == self._repeats:
            if kind == FrameType.MESSAGE_END:
                self._repeats = None
            return False
        if kind == FrameType.TOOL_CALL and frame["id"] not in self._closed:
            self._open.setdefault(frame["id"], _RUNNING)
        elif kind == FrameType.MESSAGE_END and message_id is not None:
            self._ended.add(message_id)
            self._answer = None
        return True

    def close(self, call_id: str) -> None:
        """A call is over."""
        self._closed.add(call_id)
        self._open.pop(call_id, None)

    def has_told(self, message_id: str) -> bool:
        """Whether an answer was told to its end."""
        return message_id in self._ended

    def has_open(self, call_id: str) -> bool:
        """Whether a call was told, and not its end."""
        return call_id in self._open

    def has_closed(self, call_id: str) -> bool:
        """Whether the end of a call was told."""
        return call_id in self._closed


def call_of(envelope: JsonObject) -> str:
    """The tool call of a `tool_call.*` event: those of approvals name it beside the approval, those of waits in it."""
    data = envelope["data"]
    found: str
    if "wait" in data:
        found = data["wait"]["tool_call_id"]
    else:
        found = data["tool_call_id"] if "tool_call_id" in data else data["tool_call"]["id"]
    return found
