"""A turn as an AG-UI run. `tests/e2e/doors` has the real client's word on it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.sessions.doors.ag_ui.door import AgUiDoor, Run
from shared.sessions.doors.ag_ui.request import AnsweredQuestion
from tests.unit.doors.told import (
    ASKED,
    ASKING,
    CALLS,
    FIRST,
    GOING_ON,
    LOCATED,
    LOCATING,
    NOTE,
    QUESTION,
    SECOND,
    STARTED,
    SUM,
    answer,
    decided,
    ended,
    kinds,
    numbered,
    of_client,
    ran,
    told,
    waited,
)

ASKS = {"id": "u1", "role": "user", "content": "hello"}


def door(*messages: dict[str, Any], is_told_again: bool = False) -> AgUiDoor:
    return AgUiDoor(Run("thread", "run", [ASKS, *messages], is_told_again))


def test_an_answer_is_a_run_with_reasoning_and_a_message() -> None:
    parts = told(door(), numbered([STARTED, *answer(FIRST, "a", "b", reasoning="hm"), ended()]))
    assert kinds(parts) == [
        "RUN_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert parts[0] == {"type": "RUN_STARTED", "threadId": "thread", "runId": "run", "protocolVersion": "1.0"}
    assert {part["messageId"] for part in parts if part["type"].startswith("TEXT")} == {FIRST}
    assert parts[-1]["outcome"] == {"type": "success"}
    assert parts[-1]["usage"][0]["totalTokens"] == 10


def test_a_wait_ends_the_run_with_what_waits() -> None:
    parts = told(door(), numbered(ASKING), waits=True)
    assert kinds(parts)[-5:] == [
        "TOOL_CALL_START",
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "RUN_FINISHED",
    ]
    assert parts[-1]["outcome"]["type"] == "interrupt"
    [interrupt] = parts[-1]["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["toolCallId"], interrupt["reason"]) == (ASKED, NOTE, "tool_call")
    assert interrupt["expiresAt"] == "2026-12-01T19:44:30Z"
    assert interrupt["responseSchema"]["required"] == ["approved"]


def test_a_call_is_of_the_message_that_proposed_it() -> None:
    parts = told(door(), numbered(ASKING))
    starts = [part for part in parts if part["type"] == "TOOL_CALL_START"]
    assert [(part["toolCallId"], part["parentMessageId"]) for part in starts] == [(NOTE, FIRST), (SUM, FIRST)]


def test_what_comes_after_a_decision_is_the_result_and_the_next_answer() -> None:
    each = door()
    told(each, numbered(ASKING), waits=True)
    parts = [part for event in numbered(GOING_ON, 50) for part in each.event(event)]
    assert kinds(parts) == [
        "TOOL_CALL_RESULT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert (parts[0]["toolCallId"], parts[0]["content"]) == (NOTE, '{"status":200}')


def test_a_rejection_is_the_result_of_its_call() -> None:
    each = door()
    told(each, numbered(ASKING), waits=True)
    [part] = each.event(decided("rejected", decided_by="olga", comment="no"))
    assert (part["type"], part["content"]) == ("TOOL_CALL_RESULT", "Rejected by olga: no")


def test_text_of_a_try_that_did_not_count_is_taken_back() -> None:
    first = answer(FIRST, "a", reasoning="hm", calls=CALLS[1:], ends=None)
    parts = told(door(), numbered([STARTED, *first, *answer(FIRST, "b", attempt=2), ended()]))
    [snapshot] = [part for part in parts if part["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshot["messages"] == [ASKS]
    after = parts[parts.index(snapshot) :]
    assert {part["messageId"] for part in after if part["type"].startswith("TEXT")} == {f"{FIRST}-2"}
    assert kinds(after)[1:] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


def test_a_snapshot_keeps_what_the_run_has_told_before() -> None:
    again = [*answer(SECOND, "x", ends=None), *answer(SECOND, "y", attempt=2), ended()]
    events = [STARTED, *answer(FIRST, "a", calls=CALLS[1:], ends="tool_calls"), ran(SUM, "calculate", "2"), *again]
    parts = told(door(), numbered(events))
    [snapshot] = [part for part in parts if part["type"] == "MESSAGES_SNAPSHOT"]
    assert [(message["role"], message.get("content")) for message in snapshot["messages"]] == [
        ("user", "hello"),
        ("assistant", "a"),
        ("tool", "2"),
    ]
    assert snapshot["messages"][1]["toolCalls"][0]["function"] == {
        "name": "calculate",
        "arguments": '{"expression":"1+1"}',
    }


def test_a_message_that_the_client_has_from_an_earlier_run_is_in_a_snapshot_once() -> None:
    has = {"id": FIRST, "role": "assistant", "content": "let me"}
    again = [*answer(SECOND, "x", ends=None), *answer(SECOND, "y", attempt=2), ended()]
    parts = told(door(has), numbered([*ASKING, *GOING_ON[:2], *again]))
    [snapshot] = [part for part in parts if part["type"] == "MESSAGES_SNAPSHOT"]
    assert [message["id"] for message in snapshot["messages"]].count(FIRST) == 1


def test_a_turn_that_is_told_again_begins_with_what_was_before_it() -> None:
    parts = told(door(is_told_again=True), numbered([STARTED, *answer(FIRST, "a"), ended()]))
    assert kinds(parts)[:2] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
    assert parts[1]["messages"] == [ASKS]


@pytest.mark.parametrize(
    ("end", "told_as"),
    [
        (ended("cancelled", None), ("RUN_FINISHED", {"type": "cancelled"})),
        (ended("failed", None), ("RUN_ERROR", None)),
        (ended(), ("RUN_FINISHED", {"type": "success"})),
    ],
)
def test_the_end_says_how_the_turn_ended(end: dict[str, Any], told_as: tuple[str, Any]) -> None:
    last = told(door(), numbered([STARTED, *answer(FIRST, "a", ends=None), end]))[-1]
    assert (last["type"], last.get("outcome")) == told_as


def test_a_failure_says_why() -> None:
    failed = {"type": "error.occurred", "data": {"code": "LLM_ERROR", "detail": "it broke"}}
    last = told(door(), numbered([STARTED, failed, ended("failed", None)]))[-1]
    assert (last["code"], last["message"]) == ("LLM_ERROR", "it broke")


def test_a_stream_that_has_been_open_for_long_ends_the_run_and_says_to_come_back() -> None:
    each = door()
    told(each, numbered([STARTED, *answer(FIRST, "a", ends=None)]))
    assert kinds(each.cut()) == ["TEXT_MESSAGE_END", "RUN_ERROR"]


def test_the_bytes_are_data_lines_alone() -> None:
    assert door().encode({"type": "RUN_STARTED"}) == b'data: {"type":"RUN_STARTED"}\n\n'


def test_a_call_of_a_tool_of_the_client_is_open_when_its_run_ends() -> None:
    parts = told(door(), numbered(LOCATING), waits=True)
    starts = [part["toolCallId"] for part in parts if part["type"] == "TOOL_CALL_START"]
    assert starts == [SUM, NOTE], "it is told once it waits"
    assert [part["toolCallId"] for part in parts if part["type"] == "TOOL_CALL_RESULT"] == [SUM]
    assert parts[-1]["outcome"] == {"type": "success", "pendingToolCallIds": [NOTE]}


def test_the_result_that_the_client_has_given_is_not_told_to_it_again() -> None:
    given = {"id": "t1", "role": "tool", "toolCallId": NOTE, "content": "Oslo"}
    for messages, results in (([given], [SUM]), ([], [SUM, NOTE])):
        parts = told(door(*messages), numbered([*LOCATING, *LOCATED]))
        assert [part["toolCallId"] for part in parts if part["type"] == "TOOL_CALL_RESULT"] == results
        assert parts[-1]["outcome"] == {"type": "success"}


def test_a_call_of_the_client_is_not_told_to_it_before_a_person_has_approved_it() -> None:
    asked = [STARTED, *of_client(answer(FIRST, calls=CALLS[:1], ends="tool_calls")), decided("pending")]
    waits = told(door(), numbered(asked), waits=True)
    assert "TOOL_CALL_START" not in kinds(waits)
    [interrupt] = waits[-1]["outcome"]["interrupts"]
    assert interrupt["metadata"] == {"tool": "http_request", "arguments": {"url": "http://a/"}}
    changed = decided("approved", decided_arguments={"url": "http://b/"})
    parts = told(door(), numbered([*asked, changed, waited("pending")]), waits=True)
    assert [part["delta"] for part in parts if part["type"] == "TOOL_CALL_ARGS"] == ['{"url":"http://b/"}']


def test_a_question_to_the_user_is_an_interrupt_with_its_form() -> None:
    asks = [
        STARTED,
        *answer(FIRST, calls=CALLS[:1], ends="tool_calls"),
        waited("pending", kind="input", questions=[QUESTION]),
    ]
    [interrupt] = told(door(), numbered(asks), waits=True)[-1]["outcome"]["interrupts"]
    assert (interrupt["reason"], interrupt["message"], interrupt["toolCallId"]) == ("input_required", "For whom?", NOTE)
    assert interrupt["responseSchema"]["required"] == ["who"]
    assert (
        "interrupts" not in told(door(), numbered([*asks, waited("answered", kind="input")]), waits=True)[-1]["outcome"]
    )


@pytest.mark.parametrize(
    ("payload", "answers"),
    [
        ({"who": {"name": "Ada"}}, {"who": {"action": "accept", "content": {"name": "Ada"}}}),
        ({"who": None}, {"who": {"action": "decline", "content": None}}),
        (None, {"who": {"action": "cancel", "content": None}}),
    ],
)
def test_an_answer_to_a_question_is_one_for_each_of_its_parts(payload: dict[str, Any] | None, answers: Any) -> None:
    given = AnsweredQuestion("c", "w", payload, "resume.0.interruptId").answer(["who"])
    assert given.model_dump(mode="json") == {"wait_id": "w", "answers": answers}


@pytest.mark.parametrize("payload", [{"who": "Ada"}, {f"q{n}": None for n in range(6)}])
def test_what_is_no_answer_to_a_question_is_refused_by_name(payload: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"resume\.0"):
        AnsweredQuestion("c", "w", payload, "resume.0.interruptId").answer(["who"])
