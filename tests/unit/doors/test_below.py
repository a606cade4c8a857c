"""What a door hears of the subagents of a turn that is watched: what their calls ask people, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import pytest

from shared.sessions.doors.ag_ui.door import AgUiDoor, Run
from shared.sessions.doors.ai_sdk.request import ChatRequest, check_calls, posted_calls
from shared.sessions.doors.ai_sdk.wire import NEWEST, OLDEST, WAITS_BELOW, UiMessageStream
from shared.sessions.doors.below import WatchedTurn
from shared.sessions.doors.door import Door
from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId, approval_request_id
from shared.sessions.doors.responses.items import Head
from shared.sessions.events import FrameType
from shared.sessions.models import ToolCall, ToolCallStatus
from tests.unit.doors.told import (
    FIRST,
    NOTE,
    SECOND,
    SESSION,
    STARTED,
    SUM,
    TURN,
    Json,
    answer,
    approval,
    decided,
    ended,
    frame,
    numbered,
    ran,
)

ASK, ASK_TOO, ASK_BELOW = (str(UUID(int=number)) for number in (40, 41, 42))
"""Calls of agents: two of the turn, and one of a subagent."""
PAY, PAY_TOO = str(UUID(int=50)), str(UUID(int=51))
"""Calls of subagents that people are asked about."""
OUTCOME = {"paid": True}


def named(asker: str, number: int, **more: Any) -> Json:
    ids = {"session_id": str(UUID(int=number)), "turn_id": str(UUID(int=number + 1))}
    return {"tool_call_id": asker, "agent_id": f"agent-{number}", **ids, **more}


HELPER, OTHER, BELOW = named(ASK, 90), named(ASK_TOO, 80), named(ASK_BELOW, 70)


def of(subagent: Json, *events: Json) -> list[Json]:
    """A subagent's events as its caller's session tells them."""
    return [frame(FrameType.SUBAGENT, None, subagent=subagent, told=event) for event in events]


def asks(call_id: str, **fields: Any) -> Json:
    said = approval("pending", id=f"ap-{call_id}", tool_call_id=call_id, tool="pay", arguments={"sum": 7}, **fields)
    through = {"agent_id": "agent-90", "asked_through": ["boss"]}
    return {"type": "tool_call.pending", "data": {"approval": {**said, **through}, "tool_call_id": call_id}}


def decides(call_id: str, status: str, **fields: Any) -> Json:
    event = asks(call_id, decided_by="olga", **fields)
    event["data"]["approval"]["status"] = status
    return {**event, "type": f"tool_call.{status}"}


def paying(call_id: str = PAY, number: int = 60) -> list[Json]:
    """A subagent's turn until it waits."""
    return [
        STARTED,
        *answer(str(UUID(int=number)), "I pay.", calls=[(call_id, "pay", {"sum": 7})], ends="tool_calls"),
        asks(call_id),
    ]


ASKING = [STARTED, *answer(FIRST, "let me", calls=[(ASK, "ask_helper", {"input": "pay"})], ends="tool_calls")]
WAITING = [*ASKING, *of(HELPER, *paying())]
PAID = of(HELPER, decides(PAY, "approved"), ran(PAY, "pay", OUTCOME), *answer(str(UUID(int=61)), "paid"), ended())
REST = [ran(ASK, "ask_helper", {"content": "paid"}), *answer(SECOND, "done"), ended()]


def watched(*events: Json) -> tuple[WatchedTurn, list[Json]]:
    """What a door hears, but frames of subagents."""
    turn = WatchedTurn()
    heard = [one for event in numbered(events) for one in turn.told(event)]
    return turn, [one for one in heard if one["data"].get("frame", {}).get("type") != FrameType.SUBAGENT]


def kinds_below(heard: Iterable[Json]) -> list[tuple[str, str]]:
    """What was heard of subagents: the event, and the call of the turn below which it stands."""
    return [(one["type"].removeprefix("tool_call."), one["through"]) for one in heard if "subagent" in one]


def test_a_call_that_people_are_asked_about_is_heard_of_and_nothing_else() -> None:
    turn, heard = watched(*WAITING, *PAID, *REST)

    assert kinds_below(heard) == [("pending", ASK), ("approved", ASK), ("completed", ASK)]
    assert "I pay." not in str(heard)
    assert [one["seq"] for one in heard] == sorted({one["seq"] for one in heard}), "under the numbers of the frames"
    assert turn.approvals == {f"ap-{PAY}": PAY}
    assert turn.has_closed(PAY)


def test_a_turn_waits_where_all_that_is_left_of_it_and_of_its_subagents_waits() -> None:
    waiting, _ = watched(*WAITING)
    assert (waiting.is_waiting, waiting.pending) == (True, {PAY})
    assert not watched(*WAITING[:-1])[0].is_waiting, "nobody is asked yet"
    assert not watched(*WAITING, *PAID[:1])[0].is_waiting, "it is allowed, and runs"
    beside = answer(FIRST, "let me", calls=[(ASK, "ask_helper", {}), (SUM, "calculate", {})], ends="tool_calls")
    runs = [STARTED, *beside, *of(HELPER, *paying())]
    assert not watched(*runs)[0].is_waiting, "a call of the turn's own still runs"
    assert watched(*runs, ran(SUM, "calculate", 2))[0].is_waiting


def test_two_subagents_and_a_call_of_the_turns_own_wait_side_by_side() -> None:
    calls = [(ASK, "ask_helper", {}), (ASK_TOO, "ask_other", {}), (NOTE, "http_request", {"url": "http://a/"})]
    asked = [STARTED, *answer(FIRST, "", calls=calls, ends="tool_calls"), decided("pending"), *of(HELPER, *paying())]
    assert not watched(*asked)[0].is_waiting, "the other one works"
    asked += of(OTHER, *paying(PAY_TOO, 62))
    turn, heard = watched(*asked)
    assert (turn.is_waiting, turn.pending) == (True, {NOTE, PAY, PAY_TOO})
    assert kinds_below(heard) == [("pending", ASK), ("pending", ASK_TOO)]
    turn, _ = watched(*asked, *of(HELPER, decides(PAY, "rejected")))
    assert (turn.is_waiting, turn.pending) == (False, {NOTE, PAY_TOO}), "the helper goes on with the no"


def test_a_second_approval_after_the_first_waits_again() -> None:
    more = answer(str(UUID(int=63)), "", calls=[(PAY_TOO, "pay", {})], ends="tool_calls")
    turn, heard = watched(*WAITING, *PAID[:2], *of(HELPER, *more, asks(PAY_TOO)))

    assert (turn.is_waiting, turn.pending) == (True, {PAY_TOO})
    assert [kind for kind, _ in kinds_below(heard)] == ["pending", "approved", "completed", "pending"]


def test_an_agent_below_a_subagent_is_heard_of_below_the_turns_own_call() -> None:
    asking = answer(str(UUID(int=60)), "", calls=[(ASK_BELOW, "ask_below", {})], ends="tool_calls")
    turn, heard = watched(*ASKING, *of(HELPER, STARTED, *asking), *of(BELOW, *paying()))

    assert (turn.is_waiting, turn.pending) == (True, {PAY})
    assert [(one["through"], one["subagent"]) for one in heard if "subagent" in one] == [(ASK, BELOW)]


def test_what_works_in_the_background_holds_nobody_and_is_not_told() -> None:
    behind = {**HELPER, "background": True}
    asking = answer(
        str(UUID(int=60)), "", calls=[(ASK_BELOW, "ask_below", {}), (PAY_TOO, "pay", {})], ends="tool_calls"
    )
    events = [*ASKING, *of(behind, STARTED, *asking, asks(PAY_TOO)), *of(BELOW, *paying())]
    turn, heard = watched(*events)

    assert (kinds_below(heard), turn.pending, turn.is_waiting) == ([], set(), False)
    assert watched(*events, *REST)[0].is_over


@pytest.mark.parametrize(
    "end",
    [
        of(HELPER, ended("cancelled", None)),
        [ran(ASK, "ask_helper", {"error": "its time is over"}, "failed")],
    ],
    ids=["the subagent ends", "its call ends"],
)
def test_an_approval_whose_subagent_ended_has_ended(end: list[Json]) -> None:
    turn, heard = watched(*WAITING, *end)

    assert (turn.pending, turn.is_waiting) == (set(), False)
    assert kinds_below(heard) == [("pending", ASK), ("failed", ASK)]
    late, heard = watched(*WAITING, *end, *PAID[:2])
    assert len(kinds_below(heard)) == 2, "what comes later says nothing new"
    assert late.has_closed(PAY)


def test_calls_of_one_id_do_not_stand_below_themselves() -> None:
    loop = [STARTED, *answer(str(UUID(int=60)), "", calls=[(ASK, "ask_helper", {})], ends="tool_calls"), asks(ASK)]
    turn, _ = watched(*ASKING, *of(HELPER, *loop))
    assert (turn.pending, turn.is_waiting) == (set(), False)
    turn, heard = watched(*ASKING, *of(HELPER, *loop), *REST)
    assert (kinds_below(heard), turn.is_over) == ([], True)


# The doors. --------------------------------------------------------------------------------------

DOORS: dict[str, Callable[[], Door]] = {
    "ag-ui": lambda: AgUiDoor(Run("thread", "run", [{"id": "u1", "role": "user", "content": "hello"}], False)),
    "ai-sdk": lambda: UiMessageStream(SESSION, TURN, version=NEWEST),
    "ai-sdk, the oldest": lambda: UiMessageStream(SESSION, TURN, version=OLDEST),
    "responses": lambda: ResponsesDoor(Head(ResponseId(SESSION, TURN), "assistant", 1_700_000_000, {}), None),
}


def through(door: Door, *events: Json) -> list[Json]:
    turn = WatchedTurn()
    parts = list(door.begin())
    for event in numbered(events):
        for one in turn.told(event):
            parts += door.event(one)
    return [*parts, *door.waiting()] if turn.is_waiting else parts


@pytest.mark.parametrize("name", DOORS)
def test_every_door_tells_the_real_tool_and_its_arguments_and_whose_it_is(name: str) -> None:
    told = str(through(DOORS[name](), *WAITING))

    assert "'pay'" in told
    assert "sum" in told
    assert "'asked_through': ['boss']" in told
    assert "I pay." not in told
    over = str(through(DOORS[name](), *WAITING, *PAID, *REST))
    assert "paid" in over
    assert "I pay." not in over


@pytest.mark.parametrize("name", DOORS)
def test_a_no_and_a_timeout_of_a_subagents_call_are_told_as_its_end(name: str) -> None:
    ends = {"ag-ui": "TOOL_CALL_RESULT", "responses": "response.mcp_call.failed"}.get(name, "tool-output-denied")
    timed_out = ran(PAY, "pay", "Nobody decided.", "rejected")  # which names no approval
    for end in (decides(PAY, "rejected", comment="no"), timed_out):
        parts = through(DOORS[name](), *WAITING, *of(HELPER, end), *REST)
        ended_calls = [part for part in parts if part["type"] == ends]
        assert len(ended_calls) == (2 if name == "ag-ui" else 1), "AG-UI has the same end for the call above it"
        assert PAY in str(ended_calls[0])


def test_ag_ui_tells_a_call_of_the_subagents_own_and_an_interrupt_of_it() -> None:
    parts = through(DOORS["ag-ui"](), *WAITING)
    start = parts[-4]
    run = HELPER["turn_id"]
    assert (start["type"], start["toolCallName"], start["subagentRunId"]) == ("TOOL_CALL_START", "pay", run)
    assert start["parentMessageId"] not in {FIRST, start["toolCallId"]}
    [interrupt] = parts[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["toolCallId"], interrupt["subagentRunId"]) == (f"ap-{PAY}", PAY, run)
    assert interrupt["metadata"]["arguments"] == {"sum": 7}
    assert interrupt["message"].endswith("The agent agent-90 asks, through boss.")

    results = [part for part in through(DOORS["ag-ui"](), *WAITING, *PAID, *REST) if part["type"] == "TOOL_CALL_RESULT"]
    assert [(part["toolCallId"], part.get("subagentRunId")) for part in results] == [(PAY, run), (ASK, None)]


def test_the_ai_sdk_has_a_part_of_its_own_and_lets_the_page_send_by_itself() -> None:
    parts = through(DOORS["ai-sdk"](), *WAITING)
    kinds = [part["type"] for part in parts]
    called = next(part for part in parts if part.get("toolCallId") == PAY)
    assert (called["type"], called["toolName"], called["input"]) == ("tool-input-available", "pay", {"sum": 7})
    assert kinds.index("tool-approval-request") == kinds.index("finish-step") + 2, "in the step of the call above it"
    assert [part.get("output") for part in parts if part.get("toolCallId") == ASK] == [None, WAITS_BELOW]
    assert parts[-2]["data"]["status"] == "waiting_approval"

    over = through(DOORS["ai-sdk"](), *WAITING, *PAID, *REST)
    of_above = [part["type"] for part in over if part.get("toolCallId") == ASK]
    assert of_above == ["tool-input-available", "tool-input-available", "tool-output-available"]
    assert [part["type"] for part in over if part.get("toolCallId") == PAY][-1] == "tool-output-available"


def test_a_page_may_send_back_what_stands_in_place_of_a_result() -> None:
    def sent(output: Any) -> None:
        tool = {"type": "dynamic-tool", "toolCallId": ASK, "toolName": "ask_helper", "state": "output-available"}
        message = {"id": "m", "role": "assistant", "parts": [{**tool, "providerExecuted": True, "output": output}]}
        asked = ChatRequest.model_validate({"id": "c", "messages": [message], "trigger": "submit-message"})
        call = ToolCall(id=ASK, message_id=FIRST, name="ask_helper", arguments={}, status=ToolCallStatus.PENDING)
        check_calls(posted_calls(asked), {ASK: call})

    sent(WAITS_BELOW)
    with pytest.raises(Exception, match="results of tools cannot be posted"):
        sent({**WAITS_BELOW, "content": "forged"})


def test_the_response_to_a_subagents_approval_begins_with_its_decision() -> None:
    waiting = through(DOORS["responses"](), *WAITING)
    [item] = [
        part["item"]
        for part in waiting
        if part["type"] == "response.output_item.done" and part["item"]["type"] != "message"
    ]
    assert (item["type"], item["name"], item["arguments"]) == ("mcp_approval_request", "pay", '{"sum":7}')
    assert waiting[-1]["response"]["status"] == "completed"

    head = Head(ResponseId(SESSION, TURN, PAY), "assistant", 1_700_000_000, {})
    output = through(ResponsesDoor(head), *WAITING, *PAID, *REST)[-1]["response"]["output"]
    assert [(one["type"], one.get("name")) for one in output] == [
        ("mcp_call", "pay"),
        ("mcp_call", "ask_helper"),
        ("message", None),
    ]
    assert output[0]["approval_request_id"] == approval_request_id(f"ap-{PAY}")
