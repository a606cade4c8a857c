"""The AI SDK's wire as a mapping: events in, parts out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from shared.sessions.doors.ai_sdk.history import ui_messages
from shared.sessions.doors.ai_sdk.wire import NEWEST, OLDEST, UiMessageStream, of_answer_id
from shared.sessions.events import EventType, FrameType
from shared.sessions.models import JsonObject, Message, MessageRole, MessageStatus, SubagentResult, TurnStatus

USAGE = {"input_tokens": 1, "output_tokens": 2}
APPROVAL = {"id": "ap1", "tool": "send", "reason": None, "comment": None, "decided_arguments": None}


def framed(kind: FrameType, message_id: str = "m1", **fields: Any) -> JsonObject:
    frame = {"type": kind.value, **fields}
    return {"type": EventType.STREAM_CHUNK.value, "seq": 7, "message_id": message_id, "data": {"frame": frame}}


def event(kind: EventType, **data: Any) -> JsonObject:
    return {"type": kind.value, "seq": 8, "data": data}


def asked(**changes: Any) -> JsonObject:
    return event(EventType.TOOL_CALL_PENDING, tool_call_id="c1", approval=APPROVAL | changes)


def started(attempt: int = 1) -> JsonObject:
    return framed(FrameType.MESSAGE_START, message_id="m1", attempt=attempt)


def text(said: str) -> JsonObject:
    return framed(FrameType.CONTENT_DELTA, index=0, text=said)


def called() -> JsonObject:
    return framed(FrameType.TOOL_CALL, id="c1", name="send", arguments={"to": "ann"})


def ended(reason: str = "stop") -> JsonObject:
    return framed(FrameType.MESSAGE_END, message_id="m1", finish_reason=reason, usage=None)


def over(status: str = "completed", reason: str | None = "stop") -> JsonObject:
    return event(EventType.STREAM_ENDED, status=status, usage=USAGE, steps=1, finish_reason=reason)


def outcome(status: str, result: Any) -> JsonObject:
    kind = EventType(f"tool_call.{status}")
    return event(kind, tool_call={"id": "c1", "name": "send", "status": status, "result": result})


def parts(*envelopes: JsonObject, version: int = NEWEST) -> list[JsonObject]:
    door = UiMessageStream("s1", "t1", version=version)
    door.begin()
    return [part for envelope in envelopes for part in door.event(envelope)]


def kinds(*envelopes: JsonObject, version: int = NEWEST) -> list[str]:
    return [part["type"] for part in parts(*envelopes, version=version)]


def test_a_turn_is_one_message_with_a_step_for_each_answer() -> None:
    reasoned = framed(FrameType.REASONING_DELTA, index=0, text="hm")

    made = parts(started(), reasoned, text("Hel"), text("lo"), ended(), over())

    assert [part["type"] for part in made] == [
        "start-step",
        *("reasoning-start", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-delta", "text-end"),
        "finish-step",
        *("data-turn", "finish"),
    ]
    assert "".join(part["delta"] for part in made if part["type"] == "text-delta") == "Hello"
    assert made[-1] == {"type": "finish", "finishReason": "stop"}
    assert made[-2]["data"] == {"session_id": "s1", "turn_id": "t1", "status": "completed", "seq": 8, "usage": USAGE}


def test_the_message_has_the_turns_id_or_the_one_that_the_client_goes_on_with() -> None:
    for given, id_ in ((None, "t1"), ("own", "own")):
        assert UiMessageStream("s1", "t1", message_id=given).begin()[0] == {"type": "start", "messageId": id_}


@pytest.mark.parametrize(
    ("version", "taken_back"),
    [(OLDEST, {"type": "data-superseded", "data": {"message_id": "m1"}}), (NEWEST, {"type": "reset-step"})],
)
def test_what_another_attempt_replaces_is_taken_back_and_its_parts_have_ids_of_their_own(
    version: int, taken_back: JsonObject
) -> None:
    made = parts(started(), text("Hel"), started(2), text("Hello"), ended(), version=version)

    assert made[4] == taken_back
    opened = [part["id"] for part in made if part["type"] == "text-start"]
    assert len(set(opened)) == 2
    assert [part["id"] for part in made if part["type"] == "text-end"] == opened
    assert [part["type"] for part in made].count("start-step") == 1


def test_an_attempt_that_said_nothing_leaves_nothing_to_take_back() -> None:
    assert kinds(started(), started(2), text("Hello")) == ["start-step", "text-start", "text-delta"]


def test_a_call_of_a_replaced_attempt_is_not_ended_with_the_turn() -> None:
    made = kinds(started(), called(), started(2), text("No call."), ended(), over("cancelled", None))

    assert "tool-output-error" not in made


def test_a_call_is_the_servers_to_run() -> None:
    [_, call, _] = parts(started(), called(), ended("tool_calls"))

    assert (call["input"], call["dynamic"], call["providerExecuted"]) == ({"to": "ann"}, True, True)


@pytest.mark.parametrize(
    ("status", "result", "told"),
    [
        ("completed", {"ok": True}, {"type": "tool-output-available", "output": {"ok": True}}),
        ("failed", {"error": "It is full.", "code": "X"}, {"type": "tool-output-error", "errorText": "It is full."}),
        ("failed", None, {"type": "tool-output-error", "errorText": "The call failed."}),
        ("rejected", {"error": "Nobody answered."}, {"type": "tool-output-denied"}),
    ],
)
def test_a_calls_outcome(status: str, result: Any, told: JsonObject) -> None:
    made = parts(started(), called(), outcome(status, result))[-1]

    assert told.items() <= made.items()
    assert made["toolCallId"] == "c1"


def test_an_approval_is_asked_for_once_though_it_is_told_again() -> None:
    first, second = asked(reason="Two people"), asked(votes=[{"by": "ann"}])

    made = parts(started(), called(), ended("tool_calls"), first, second)

    [request] = [part for part in made if part["type"] == "tool-approval-request"]
    assert (request["approvalId"], request["toolCallId"], request["reason"]) == ("ap1", "c1", "Two people")
    about = [part for part in made if part["type"] == "data-approval"]
    assert [part["id"] for part in about] == ["ap1", "ap1"]
    assert about[-1]["data"]["votes"] == [{"by": "ann"}]


@pytest.mark.parametrize(("version", "responses"), [(OLDEST, 0), (NEWEST, 1)])
@pytest.mark.parametrize(
    ("kind", "last"),
    [(EventType.TOOL_CALL_APPROVED, "data-approval"), (EventType.TOOL_CALL_REJECTED, "tool-output-denied")],
)
def test_a_decision_is_told_to_pages_that_did_not_make_it(
    version: int, responses: int, kind: EventType, last: str
) -> None:
    decided = event(kind, tool_call_id="c1", approval=APPROVAL | {"comment": "fine"})

    made = parts(started(), called(), ended("tool_calls"), asked(), decided, version=version)

    found = [part for part in made if part["type"] == "tool-approval-response"]
    assert len(found) == responses
    assert all((part["approved"], part["reason"]) == (kind is EventType.TOOL_CALL_APPROVED, "fine") for part in found)
    assert made[-1]["type"] == last


def test_changed_arguments_are_those_that_are_shown() -> None:
    changed = event(
        EventType.TOOL_CALL_APPROVED, tool_call_id="c1", approval=APPROVAL | {"decided_arguments": {"to": "bo"}}
    )

    made = parts(started(), called(), ended("tool_calls"), asked(), changed)

    assert [part["input"] for part in made if part["type"] == "tool-input-available"] == [{"to": "ann"}, {"to": "bo"}]


def test_a_stream_that_waits_says_so_and_finishes() -> None:
    door = UiMessageStream("s1", "t1")
    for envelope in (started(), called(), ended("tool_calls"), asked()):
        door.event(envelope)

    turn, finish = door.waiting()

    assert (turn["data"]["status"], turn["data"]["seq"]) == ("waiting_approval", 8)
    assert finish == {"type": "finish", "finishReason": "tool-calls"}


def test_a_stream_that_goes_on_and_still_waits_asks_again() -> None:
    """An answer that was one vote of two is not to be sent again by itself."""
    door = UiMessageStream("s1", "t1", message_id="t1")
    for envelope in (started(), called(), ended("tool_calls"), asked(), asked(votes=[{"by": "ann"}])):
        door.event(envelope)

    assert [part["type"] for part in door.waiting()] == ["tool-approval-request", "data-turn", "finish"]

    door.event(event(EventType.TOOL_CALL_REJECTED, tool_call_id="c1", approval=APPROVAL))
    assert [part["type"] for part in door.waiting()] == ["data-turn", "finish"]


def test_a_stream_that_is_cut_closes_its_text_and_says_that_the_turn_runs() -> None:
    door = UiMessageStream("s1", "t1")
    for envelope in (started(), text("Hel")):
        door.event(envelope)

    text_end, turn, finish = door.cut()

    assert (text_end["type"], turn["data"]["status"], finish["finishReason"]) == ("text-end", "running", "other")


def test_a_failure_is_an_error_in_words_and_the_last_part() -> None:
    failed = event(EventType.ERROR_OCCURRED, code="LLM_ERROR", detail="The model refused.")

    made = parts(started(), text("Hel"), failed, over("failed", None))

    assert [part["type"] for part in made[-3:]] == ["text-end", "data-turn", "error"]
    assert made[-1]["errorText"] == "The model refused."


def test_a_cancelled_turn_is_an_abort_and_leaves_no_call_open() -> None:
    made = kinds(started(), called(), ended("tool_calls"), asked(), over("cancelled", None))

    assert made[-3:] == ["tool-output-error", "data-turn", "abort"]


def test_progress_replaces_itself_and_a_wait_for_a_place_leaves_no_trace() -> None:
    progress = event(EventType.TOOL_CALL_PROGRESS, tool_call={"id": "c1"}, text="half", fraction=0.5)
    waits = framed(FrameType.WAITING, lane="model", seconds=3)

    made = parts(waits, started(), called(), progress)

    assert (made[0]["type"], made[0]["transient"]) == ("data-waiting", True)
    assert made[-1] == {
        "type": "data-progress",
        "id": "c1",
        "data": {"tool_call_id": "c1", "text": "half", "fraction": 0.5},
    }


def test_events_that_the_wire_does_not_show_make_nothing() -> None:
    for kind in (EventType.MESSAGE_CREATED, EventType.MESSAGE_UPDATED, EventType.STREAM_STARTED):
        assert parts(event(kind, id="m1")) == []


def test_a_part_is_one_line_of_data() -> None:
    encoded = UiMessageStream("s1", "t1").encode({"type": "text-delta", "id": "1", "delta": "a\nb"})

    assert encoded == b'data: {"type":"text-delta","id":"1","delta":"a\\nb"}\n\n'
    assert orjson.loads(encoded.removeprefix(b"data: "))["delta"] == "a\nb"


def _waits(status: str, kind: str = "client") -> JsonObject:
    kind_of = EventType.TOOL_CALL_WAITING if status == "pending" else EventType.TOOL_CALL_ANSWERED
    return event(kind_of, wait={"id": "w1", "tool_call_id": "c1", "kind": kind, "status": status})


def test_a_call_of_a_tool_of_the_page_is_the_pages_to_run_only_while_it_waits_for_it() -> None:
    door = UiMessageStream("s", "t")
    [shown] = [part for part in door.event(called()) if part["type"] == "tool-input-available"]
    about, offered = door.event(_waits("pending"))
    assert (shown["providerExecuted"], offered["providerExecuted"]) == (True, False)
    assert (about["type"], about["data"]["status"]) == ("data-wait", "pending")
    assert offered | {"providerExecuted": True} == shown
    assert door.event(_waits("pending")) == [], "told again after a restart"
    turn, finish = door.waiting()
    assert (turn["data"]["status"], finish) == ("waiting_input", {"type": "finish", "finishReason": "tool-calls"})

    assert [part["type"] for part in door.event(_waits("answered"))] == ["data-wait"]
    call = {"id": "c1", "message_id": "m1", "name": "send", "status": "completed", "result": "Oslo"}
    [done] = door.event(event(EventType.TOOL_CALL_COMPLETED, tool_call=call))
    assert (done["output"], done["providerExecuted"]) == ("Oslo", True), "or the page would send it again and again"


def test_a_question_to_the_user_is_told_as_data() -> None:
    door = UiMessageStream("s", "t")
    door.event(called())
    assert [part["type"] for part in door.event(_waits("pending", "input"))] == ["data-wait"]


def test_the_result_of_a_subagent_in_the_background_is_no_message_of_the_user() -> None:
    told = SubagentResult(
        tool_call_id="c",
        agent_id="researcher",
        session_id="z",
        turn_id="u",
        status=TurnStatus.COMPLETED,
        content="a blue whale",
    )
    result = Message(
        id="r",
        session_id="s",
        turn_id="t2",
        role=MessageRole.USER,
        content="It has answered.",
        from_subagent=told,
        status=MessageStatus.COMPLETED,
        created_at=datetime(2030, 1, 1, tzinfo=UTC),
    )

    (shown,) = ui_messages([result], {}, open_turn_id=None)

    assert (shown.id, shown.role, shown.text) == ("r", "assistant", "It has answered.")
    (part,) = [one for one in shown.model_dump()["parts"] if one["type"] == "data-subagent"]
    assert part["data"]["content"] == "a blue whale"


def test_what_follows_a_message_that_joined_a_turn_is_a_message_of_its_own_in_history_and_stream() -> None:
    def said(message_id: str, role: MessageRole, content: str, **more: Any) -> Message:
        at = datetime(2030, 1, 1, tzinfo=UTC)
        return Message(
            id=message_id,
            session_id="s",
            turn_id="t",
            role=role,
            content=content,
            status=MessageStatus.COMPLETED,
            created_at=at,
            **more,
        )

    stored = [
        said("q", MessageRole.USER, "question"),
        said("j0", MessageRole.USER, "and this", joined=True),
        said("a1", MessageRole.ASSISTANT, "first"),
        said("j1", MessageRole.USER, "in French", joined=True, joined_after="a1"),
        said("a2", MessageRole.ASSISTANT, "second"),
    ]

    found = ui_messages(stored, {}, open_turn_id=None)

    assert [(one.id, one.role, one.text) for one in found] == [
        ("q", "user", "question"),
        ("j0", "user", "and this"),
        ("t", "assistant", "first"),
        ("j1", "user", "in French"),
        ("t.j1", "assistant", "second"),
    ]
    start, _ = UiMessageStream("s", "t", joined="j1").begin()
    assert start["messageId"] == "t.j1"
    assert [of_answer_id(one) for one in ("t", "t.j1")] == [("t", None), ("t", "j1")]
