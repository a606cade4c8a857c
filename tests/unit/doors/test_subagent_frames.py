"""What a caller's subagents do is told in its own session; of these frames a door tells nothing: what they ask people
reaches it as events (`test_below.py`)."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from shared.sessions.doors.ag_ui.door import AgUiDoor, Run
from shared.sessions.doors.ai_sdk.wire import NEWEST, OLDEST, UiMessageStream
from shared.sessions.doors.door import Door
from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId
from shared.sessions.doors.responses.items import Head
from shared.sessions.events import FrameType
from tests.unit.doors.told import (
    ASKING,
    CALLS,
    FIRST,
    GOING_ON,
    NOTE,
    SESSION,
    SUM,
    TURN,
    Json,
    answer,
    decided,
    ended,
    frame,
    numbered,
    ran,
    told,
)

CHILD = {
    "tool_call_id": SUM,
    "agent_id": "helper",
    "session_id": str(UUID(int=91)),
    "turn_id": str(UUID(int=92)),
}
THEIRS = [
    {"type": "stream.started", "data": {}},
    *answer(str(UUID(int=93)), "of the child", reasoning="its thoughts", calls=CALLS, ends="tool_calls"),
    decided("pending"),
    decided("rejected", decided_by="olga"),
    ran(NOTE, "http_request", {"status": 500}, "failed"),
    ended("failed", None),
]
"""All that may happen in a child's turn, with ids that are its caller's as well: nothing may mix the two up."""

DOORS: dict[str, Callable[[], Door]] = {
    "ag-ui": lambda: AgUiDoor(Run("thread", "run", [{"id": "u1", "role": "user", "content": "hello"}], False)),
    "ai-sdk": lambda: UiMessageStream(SESSION, TURN, version=NEWEST),
    "ai-sdk, the oldest": lambda: UiMessageStream(SESSION, TURN, version=OLDEST),
    "responses": lambda: ResponsesDoor(Head(ResponseId(SESSION, TURN), "assistant", 1_700_000_000, {}), None),
}


def _with_theirs(own: list[Json]) -> list[Json]:
    """The caller's events, and before each of them but the first one or more of a child's until there are none."""
    theirs = [frame(FrameType.SUBAGENT, None, subagent=CHILD, told=one) for one in THEIRS]
    mixed: list[Json] = [own[0]]
    for index, event in enumerate(own[1:], 1):
        of_child = theirs[index - 1 : index] if index < len(own) - 1 else theirs[index - 1 :]
        mixed += [*of_child, event]
    assert len(mixed) == len(own) + len(theirs)
    return mixed


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("is_waiting", [False, True], ids=["to its end", "until it waits"])
def test_a_door_tells_the_caller_as_if_there_were_no_child(name: str, is_waiting: bool) -> None:
    own = ASKING if is_waiting else [*ASKING, *GOING_ON]
    # The same numbers in both: clients resume by them.
    events = numbered(_with_theirs(own))
    without = [event for event in events if event["data"].get("frame", {}).get("type") != FrameType.SUBAGENT]
    assert len(without) == len(own) < len(events)

    parts = told(DOORS[name](), events, waits=is_waiting)

    assert parts == told(DOORS[name](), without, waits=is_waiting)
    assert "of the child" not in str(parts)
    assert FIRST in str(parts), "the caller's own answer is told"
