"""Turns as their events, for the tests of doors: envelopes with numbers, as the session's log holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from shared.sessions.doors.door import Door

type Json = dict[str, Any]

SESSION = str(UUID(int=1))
TURN = str(UUID(int=2))
FIRST, SECOND = str(UUID(int=10)), str(UUID(int=11))
"""Ids of answers."""
NOTE, SUM = str(UUID(int=20)), str(UUID(int=21))
"""Ids of tool calls: one that waits for a person, one that does not."""
ASKED = str(UUID(int=30))
"""Id of the approval of NOTE."""

USAGE = {"input_tokens": 7, "output_tokens": 3, "cached_input_tokens": 2, "reasoning_tokens": 1, "cost_usd": None}


def numbered(events: Iterable[Json], first: int = 5) -> list[Json]:
    return [{"seq": seq, "session_id": SESSION, "turn_id": TURN, **event} for seq, event in enumerate(events, first)]


def frame(kind: str, message_id: str | None, /, **fields: Any) -> Json:
    named = {} if message_id is None else {"message_id": message_id}
    return {"type": "stream.chunk", **named, "data": {"frame": {"type": kind, **fields}}}


def answer(
    message_id: str,
    *texts: str,
    attempt: int = 1,
    reasoning: str = "",
    calls: Iterable[tuple[str, str, Json]] = (),
    ends: str | None = "stop",
) -> list[Json]:
    """ends: its finish reason; None: it breaks off."""
    made = [frame("message_start", message_id, message_id=message_id, attempt=attempt)]
    if reasoning:
        made.append(frame("reasoning_delta", message_id, index=0, text=reasoning))
    made += [frame("content_delta", message_id, index=index, text=text) for index, text in enumerate(texts)]
    made += [frame("tool_call", message_id, id=call, name=name, arguments=given) for call, name, given in calls]
    if ends is not None:
        made.append(frame("message_end", message_id, message_id=message_id, finish_reason=ends, usage=USAGE))
    return made


def approval(status: str, **fields: Any) -> Json:
    return {
        "id": ASKED,
        "tool_call_id": NOTE,
        "tool": "http_request",
        "arguments": {"url": "http://a/"},
        "decided_arguments": None,
        "status": status,
        "expires_at": "2026-12-01T19:44:30Z",
        "decided_by": None,
        "comment": None,
        "reason": None,
        **fields,
    }


def decided(kind: str, **fields: Any) -> Json:
    """kind: pending, approved or rejected."""
    return {"type": f"tool_call.{kind}", "data": {"approval": approval(kind, **fields), "tool_call_id": NOTE}}


def ran(call_id: str, name: str, result: Any, kind: str = "completed") -> Json:
    told = {"id": call_id, "message_id": FIRST, "name": name, "status": kind, "result": result}
    return {"type": f"tool_call.{kind}", "message_id": FIRST, "data": {"tool_call": told}}


def ended(status: str = "completed", reason: str | None = "stop") -> Json:
    return {
        "type": "stream.ended",
        "data": {"status": status, "usage": USAGE, "steps": 1, "finish_reason": reason},
    }


STARTED = {"type": "stream.started", "data": {}}
CALLS = [(NOTE, "http_request", {"url": "http://a/"}), (SUM, "calculate", {"expression": "1+1"})]
ASKING = [
    STARTED,
    *answer(FIRST, "let ", "me", reasoning="hmm", calls=CALLS, ends="tool_calls"),
    decided("pending"),
    ran(SUM, "calculate", {"result": "2"}),
]
"""A turn until it waits for a person."""
GOING_ON = [
    decided("approved", decided_by="olga"),
    ran(NOTE, "http_request", {"status": 200}),
    *answer(SECOND, "done"),
    ended(),
]


def told(door: Door, events: Iterable[Json], *, waits: bool = False) -> list[Json]:
    """All that a door makes of these events, which end with a wait or not."""
    parts = list(door.begin())
    for event in events:
        parts += door.event(event)
    return [*parts, *door.waiting()] if waits else parts


def kinds(parts: Iterable[Json]) -> list[str]:
    return [part["type"] for part in parts]


def unnumbered(events: Iterable[Json]) -> list[Json]:
    """As they are made from what is stored."""
    return [{name: value for name, value in event.items() if name != "seq"} for event in events]


def waited(status: str, call_id: str = NOTE, kind: str = "client", **fields: Any) -> Json:
    """A call waits, or has been answered."""
    wait = {
        "id": f"w-{call_id}",
        "tool_call_id": call_id,
        "tool": "http_request",
        "kind": kind,
        "status": status,
        "asked_by": None,
        "asked_of": "olga",
        "questions": [],
        "expires_at": "2026-12-01T19:44:30Z",
        **fields,
    }
    return {"type": f"tool_call.{'waiting' if status == 'pending' else 'answered'}", "data": {"wait": wait}}


def of_client(events: Iterable[Json], call_id: str = NOTE) -> list[Json]:
    """The same, with the call as one of the client's own tools."""
    made = []
    for event in events:
        frame_of = event["data"].get("frame", {})
        if frame_of.get("type") == "tool_call" and frame_of["id"] == call_id:
            event = {**event, "data": {"frame": {**frame_of, "is_client": True}}}
        made.append(event)
    return made


LOCATING = [
    STARTED,
    *of_client(answer(FIRST, "let me", calls=CALLS, ends="tool_calls")),
    ran(SUM, "calculate", {"result": "2"}),
    waited("pending"),
]
"""A turn until it waits for its client."""
LOCATED = [
    waited("answered"),
    ran(NOTE, "http_request", {"city": "Oslo"}),
    *answer(SECOND, "Oslo"),
    ended(),
]
QUESTION = {"id": "who", "message": "For whom?", "requested_schema": {"type": "object", "properties": {}}}
