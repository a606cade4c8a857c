"""What counts of a conversation that a page posts."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.sessions.doors.ai_sdk.request import (
    Again,
    Answers,
    ChatRequest,
    Question,
    check_calls,
    has_stopped,
    posted_calls,
    read,
)
from shared.sessions.models import Decision, JsonObject, ToolCall, ToolCallStatus

ASKED = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]}
NEXT = {"id": "u2", "role": "user", "parts": [{"type": "text", "text": "three"}]}


def answered(*parts: JsonObject) -> JsonObject:
    return {"id": "t1", "role": "assistant", "parts": list(parts)}


def request(*messages: JsonObject, trigger: str = "submit-message", **more: Any) -> ChatRequest:
    return ChatRequest.model_validate({"id": "chat", "messages": messages, "trigger": trigger, **more})


def responded(approved: bool = True, **approval: Any) -> JsonObject:
    about = {"id": "ap1", "approved": approved, **approval}
    return {"type": "dynamic-tool", "toolCallId": "c1", "state": "approval-responded", "approval": about}


def test_the_newest_message_of_the_user_is_what_is_asked() -> None:
    assert read(request(NEXT, answered(), ASKED)) == Question("one two", "u1")


def test_the_answers_to_approvals_are_decisions_of_the_message_that_goes_on() -> None:
    seen = {"type": "data-turn", "id": "t1", "data": {"seq": 12}}
    asked = read(request(ASKED, answered(seen, responded(False, reason="no")), messageId="t1"))

    assert isinstance(asked, Answers)
    [given] = asked.given
    assert (asked.message_id, asked.seen, given.approval_id) == ("t1", 12, "ap1")
    assert (given.decision.decision, given.decision.comment) == (Decision.REJECT, "no")


def test_an_earlier_message_goes_on_although_the_user_has_said_more() -> None:
    asked = read(request(ASKED, answered(responded()), NEXT, messageId="t1"))

    assert isinstance(asked, Answers)


@pytest.mark.parametrize("seq", [None, "12", True, 1.5, {}])
def test_a_number_that_is_none_is_not_believed(seq: object) -> None:
    seen = {"type": "data-turn", "data": {"seq": seq}}
    asked = read(request(ASKED, answered(seen, responded())))

    assert isinstance(asked, Answers)
    assert asked.seen is None


@pytest.mark.parametrize(("given", "turn_id"), [(None, None), ("u1", None), ("t1", "t1")])
def test_an_answer_to_give_again_is_named_or_the_newest(given: str | None, turn_id: str | None) -> None:
    again = read(request(ASKED, trigger="regenerate-message", messageId=given))

    assert again == Again(turn_id, "one two")


def test_a_message_that_was_sent_is_not_changed() -> None:
    with pytest.raises(InvalidInput) as refused:
        read(request(ASKED, messageId="u1"))
    assert refused.value.errors[0]["field"] == "messageId"


@pytest.mark.parametrize(
    ("messages", "stopped"),
    [
        ([ASKED, answered(), NEXT], True),
        ([ASKED, NEXT], True),
        ([NEXT], False),
        ([{**ASKED, "parts": []}, NEXT], False),
        ([ASKED], False),
    ],
)
def test_whoever_had_the_turn_that_runs_has_stopped_it(messages: list[JsonObject], stopped: bool) -> None:
    assert has_stopped(request(*messages), "t1", "one two") is stopped


def tool(output: Any, state: str = "output-available") -> JsonObject:
    return {"type": "tool-calculate", "toolCallId": "c1", "state": state, "output": output}


@pytest.mark.parametrize(
    ("posted", "stored"),
    [
        ({"a": [1, None, True, "x"]}, {"a": [1, None, True, "x"]}),
        (1, 1.0),
        (9007199254740992, 9007199254740993),
        (10**400, 10**400),
        (None, None),
    ],
)
def test_a_result_is_the_sessions_own_as_a_browser_writes_it(posted: Any, stored: Any) -> None:
    check_calls(posted_calls(request(answered(tool(posted)), NEXT)), {"c1": known(stored)})


@pytest.mark.parametrize(
    ("posted", "stored"),
    [
        ({"a": 1}, {"a": 2}),
        (1, True),
        (0, False),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
        ("1", 1),
        (None, 0),
        (2, 10**400),
    ],
)
def test_a_result_that_is_another_is_refused(posted: Any, stored: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_calls(posted_calls(request(answered(tool(posted)), NEXT)), {"c1": known(stored)})
    assert refused.value.errors[0]["field"] == "messages.0.parts.0.output"


@pytest.mark.parametrize("status", [ToolCallStatus.PENDING, ToolCallStatus.APPROVED, ToolCallStatus.FAILED])
def test_a_result_of_a_call_that_has_none_is_refused(status: ToolCallStatus) -> None:
    with pytest.raises(InvalidInput):
        check_calls(posted_calls(request(answered(tool("done")), NEXT)), {"c1": known("done", status)})


def known(result: Any, status: ToolCallStatus = ToolCallStatus.COMPLETED) -> ToolCall:
    return ToolCall(id="c1", message_id="m1", name="calculate", arguments={}, status=status, result=result)


def test_a_call_that_has_no_outcome_yet_claims_none() -> None:
    assert posted_calls(request(answered(tool(None, "input-available")), NEXT)) == {}


def output(state: str = "output-available", **fields: Any) -> JsonObject:
    return {"type": "tool-locate", "toolCallId": "c1", "state": state, **fields}


def test_outputs_of_the_pages_tools_are_answers_and_those_of_the_server_are_not() -> None:
    parts = [
        output(output=["Oslo"], providerExecuted=False),
        output("output-error", errorText="The user said no.", toolCallId="c2"),
        output("output-error", errorText="", toolCallId="c3"),
        output(output="mine", providerExecuted=True, toolCallId="c4"),
        output("input-available", toolCallId="c5"),
    ]
    asked = read(request(ASKED, answered(*parts), messageId="t1"))

    assert isinstance(asked, Answers)
    assert [(given.call_id, given.value, given.error) for given in asked.outputs] == [
        ("c1", ["Oslo"], None),
        ("c2", None, "The user said no."),
        ("c3", None, "The tool failed."),
    ]
    with pytest.raises(InvalidInput, match="no call of a tool of the page is answered"):
        read(request(ASKED, answered(*parts[3:]), messageId="t1"))


def test_what_the_pages_own_tools_are_said_to_have_returned_is_the_pages_to_show() -> None:
    calls = {
        call_id: ToolCall(
            id=call_id,
            message_id="m",
            name="locate",
            arguments={},
            status=ToolCallStatus.FAILED,
            result={"error": "cancelled"},
            is_client=is_client,
        )
        for call_id, is_client in (("c1", True), ("c2", False))
    }
    check_calls(posted_calls(request(answered(output(output="late")), NEXT)), calls)
    with pytest.raises(InvalidInput, match="results of tools cannot be posted"):
        check_calls(posted_calls(request(answered(output(output="late", toolCallId="c2")), NEXT)), calls)


def test_tools_of_the_page_are_those_of_the_message() -> None:
    schema = {"properties": {"z": {}, "a": {}}, "type": "object"}
    asked = request(NEXT, tools={"locate": {"description": "Where.", "parameters": schema}, "beep": {}})
    assert [(tool.name, tool.description, tool.parameters) for tool in asked.client_tools] == [
        ("locate", "Where.", schema),
        ("beep", "", {}),
    ]


def test_a_message_may_have_files() -> None:
    part = {"type": "file", "mediaType": "text/plain", "filename": "a.txt", "url": "data:text/plain;base64,aGVsbG8="}
    asked = read(request({**NEXT, "parts": [*NEXT["parts"], part]}))
    assert isinstance(asked, Question)
    assert [(file.name, file.data, file.field) for file in asked.files] == [
        ("a.txt", b"hello", "messages.0.parts.1.url")
    ]
