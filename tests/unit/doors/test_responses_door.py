"""A turn as an OpenAI response, judged by the types of OpenAI's own client."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId, approval_of
from shared.sessions.doors.responses.items import Head
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
    SESSION,
    STARTED,
    SUM,
    TURN,
    answer,
    decided,
    ended,
    frame,
    kinds,
    numbered,
    of_client,
    ran,
    told,
    unnumbered,
    waited,
)

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WHOLE = ResponseId(SESSION, TURN)
AFTER_NOTE = ResponseId(SESSION, TURN, NOTE)


def door(response: ResponseId = WHOLE, starting_after: int | None = None) -> ResponsesDoor:
    return ResponsesDoor(Head(response, "assistant", 1_700_000_000, {}), starting_after)


def final(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return dict(parts[-1]["response"])


def output(response: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Type, status and what is in it."""
    return [
        (
            item["type"],
            item.get("status"),
            (item.get("content") or item.get("summary") or [{}])[0].get("text") or item.get("output"),
        )
        for item in response["output"]
    ]


EVERY = {
    "an answer": [STARTED, *answer(FIRST, "a", "b", reasoning="hm"), ended()],
    "a wait": ASKING,
    "a turn with a decision": [*ASKING, *GOING_ON],
    "a rejection": [*ASKING, decided("rejected", comment="no"), *answer(SECOND, "ok"), ended()],
    "a second try": [STARTED, *answer(FIRST, "a", ends=None), *answer(FIRST, "b", attempt=2), ended()],
    "a failed call": [
        STARTED,
        *answer(FIRST, calls=CALLS[1:], ends="tool_calls"),
        ran(SUM, "calculate", "x", "failed"),
    ],
    "a failed turn": [
        STARTED,
        *answer(FIRST, "a", ends="failed"),
        {"type": "error.occurred", "data": {"code": "LLM_ERROR", "detail": "it broke"}},
        ended("failed", None),
    ],
    "a cancelled turn": [STARTED, *answer(FIRST, "a", ends="cancelled"), ended("cancelled", None)],
    "a cut answer": [STARTED, *answer(FIRST, "a", ends="length"), ended("completed", "length")],
}


@pytest.mark.parametrize("name", EVERY)
def test_every_part_is_one_of_the_clients_types_and_numbers_grow(name: str) -> None:
    parts = told(door(), numbered(EVERY[name]), waits=name == "a wait")
    numbers = [part["sequence_number"] for part in parts]
    assert numbers == sorted(set(numbers))
    for part in parts:
        parsed = _EVENT.validate_python(part, strict=True)
        assert parsed.to_dict() == {key: value for key, value in part.items() if value is not None} or parsed.type


@pytest.mark.parametrize("name", EVERY)
def test_whoever_resumes_after_any_number_gets_exactly_the_rest(name: str) -> None:
    events = numbered(EVERY[name])
    parts = told(door(), events)
    for place, part in enumerate(parts):
        assert told(door(starting_after=part["sequence_number"]), events) == parts[place + 1 :]


def test_an_answer_is_text_with_its_reasoning_before_it() -> None:
    parts = told(door(), numbered(EVERY["an answer"]))
    assert kinds(parts) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    response = final(parts)
    assert Response.model_validate(response).output_text == "ab"
    assert output(response) == [("reasoning", "completed", "hm"), ("message", "completed", "ab")]
    assert response["usage"]["total_tokens"] == 10
    assert response["model"] == "assistant"


def test_a_wait_completes_the_response_with_what_is_asked() -> None:
    response = final(told(door(), numbered(ASKING), waits=True))
    assert response["status"] == "completed"
    [asked] = [item for item in response["output"] if item["type"] == "mcp_approval_request"]
    assert approval_of(asked["id"]) == ASKED
    assert (asked["name"], asked["arguments"]) == ("http_request", '{"url":"http://a/"}')
    # The call that nobody had to decide has run; the other one is not shown as running.
    [call] = [item for item in response["output"] if item["type"] == "mcp_call"]
    assert (call["name"], call["status"], call["output"]) == ("calculate", "completed", '{"result":"2"}')


def test_an_approval_that_is_told_twice_is_asked_once() -> None:
    response = final(told(door(), numbered([*ASKING, decided("pending")]), waits=True))
    assert [item["type"] for item in response["output"]].count("mcp_approval_request") == 1


def test_the_response_after_a_decision_begins_with_it() -> None:
    response = final(told(door(AFTER_NOTE), numbered([*ASKING, *GOING_ON])))
    assert output(response) == [("mcp_call", "completed", '{"status":200}'), ("message", "completed", "done")]
    assert response["output"][0]["approval_request_id"] == f"mcpr_{ASKED}"
    assert response["id"] == str(AFTER_NOTE)
    assert response["usage"]["total_tokens"] == 10, "of its own answer alone"


def test_a_response_whose_vote_did_not_decide_asks_again() -> None:
    response = final(told(door(AFTER_NOTE), numbered(ASKING), waits=True))
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["mcp_approval_request"]


def test_changed_arguments_are_shown_as_what_ran() -> None:
    events = [*ASKING, decided("approved", decided_arguments={"url": "http://b/"}), *GOING_ON[1:]]
    response = final(told(door(), numbered(events)))
    [call] = [item for item in response["output"] if item.get("approval_request_id")]
    assert call["arguments"] == '{"url":"http://b/"}'


def test_a_rejected_call_is_a_failed_one_that_says_why() -> None:
    events = [*ASKING, decided("rejected", decided_by="olga", comment="not today"), *answer(SECOND, "ok"), ended()]
    response = final(told(door(), numbered(events)))
    [call] = [item for item in response["output"] if item.get("approval_request_id")]
    assert (call["status"], call["error"]["content"]) == ("failed", "Rejected by olga: not today")


def test_text_of_a_try_that_did_not_count_is_not_in_the_response() -> None:
    parts = told(door(), numbered(EVERY["a second try"]))
    assert Response.model_validate(final(parts)).output_text == "b"
    items = [part["item"] for part in parts if part["type"] == "response.output_item.done"]
    assert [(item["id"], item["status"]) for item in items] == [
        (f"msg_{FIRST}", "incomplete"),
        (f"msg_{FIRST}_2", "completed"),
    ]
    assert [part["output_index"] for part in parts if part["type"] == "response.output_text.delta"] == [0, 1]


def test_calls_of_a_try_that_did_not_count_are_forgotten() -> None:
    first = answer(FIRST, calls=[(NOTE, "http_request", {})], ends=None)
    events = [*first, *answer(FIRST, attempt=2, calls=CALLS[1:], ends="tool_calls"), ran(SUM, "calculate", 2)]
    each = door()
    told(each, numbered(events))
    assert [item["name"] for item in each.response()["output"]] == ["calculate"]


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("a failed turn", "response.failed", "failed"),
        ("a cancelled turn", "response.incomplete", "cancelled"),
        ("a cut answer", "response.incomplete", "incomplete"),
    ],
)
def test_an_end_that_is_no_success_says_so(name: str, kind: str, status: str) -> None:
    parts = told(door(), numbered(EVERY[name]))
    assert (parts[-1]["type"], final(parts)["status"]) == (kind, status)


def test_a_failure_and_a_cut_answer_say_why() -> None:
    assert final(told(door(), numbered(EVERY["a failed turn"])))["error"] == {
        "code": "server_error",
        "message": "LLM_ERROR: it broke",
    }
    cut = final(told(door(), numbered(EVERY["a cut answer"])))
    assert cut["incomplete_details"] == {"reason": "max_output_tokens"}


def test_what_is_told_from_the_store_comes_after_all_that_the_client_had() -> None:
    parts = told(door(starting_after=100_000), unnumbered(numbered(EVERY["an answer"])))
    assert parts[-1]["type"] == "response.completed"
    assert min(part["sequence_number"] for part in parts) > 100_000


def test_the_response_after_a_decision_is_told_from_the_store_too() -> None:
    stored = [
        *answer(FIRST, "let me", attempt=1000, calls=CALLS, ends="tool_calls"),
        ran(NOTE, "http_request", {"status": 200}),
        *answer(SECOND, "done", attempt=1000),
        ended(),
    ]
    response = final(told(door(AFTER_NOTE), unnumbered(stored)))
    assert output(response) == [("mcp_call", "completed", '{"status":200}'), ("message", "completed", "done")]


def test_a_wait_that_lasts_is_told_to_whoever_comes_back() -> None:
    events = numbered(ASKING)
    last = told(door(), events, waits=True)[-1]
    again = told(door(starting_after=last["sequence_number"]), events, waits=True)
    assert kinds(again) == ["response.completed"]
    assert again[0]["sequence_number"] > last["sequence_number"]


def test_a_stream_that_is_closed_while_the_turn_runs_says_nothing_of_an_end() -> None:
    each = door()
    told(each, numbered(ASKING[:4]))
    assert each.cut() == []
    assert each.response()["status"] == "in_progress"


def test_the_bytes_are_events_named_after_their_type() -> None:
    each = door()
    assert each.encode({"type": "response.completed", "sequence_number": 3}) == (
        b'event: response.completed\ndata: {"type":"response.completed","sequence_number":3}\n\n'
    )


@pytest.mark.parametrize("response", [WHOLE, AFTER_NOTE, ResponseId("my.session_1", TURN)])
def test_an_id_says_which_part_of_which_turn_it_is(response: ResponseId) -> None:
    assert ResponseId.parse(str(response)) == response


@pytest.mark.parametrize(
    "text",
    ["", "resp_1", f"resp_{'0' * 32}_0_", f"resp_{'g' * 32}_0_a", f"resp_{'0' * 32}_0_../a", f"xresp_{'0' * 32}_0_a"],
)
def test_what_is_no_response_id_is_none(text: str) -> None:
    assert ResponseId.parse(text) is None


@pytest.mark.parametrize("text", ["", ASKED, "mcpr_", "mcpr_../x", f"mcp_{ASKED}"])
def test_what_names_no_approval_is_none(text: str) -> None:
    assert approval_of(text) is None


def test_frames_that_the_wire_does_not_show_make_nothing() -> None:
    waits = frame("waiting", None, lane="model", seconds=3)
    assert kinds(told(door(), numbered([STARTED, waits]))) == ["response.created", "response.in_progress"]


def test_a_call_of_a_function_of_the_client_ends_the_response_and_its_output_begins_the_next() -> None:
    events = numbered([*LOCATING, *LOCATED])
    waits = told(door(), events[: len(LOCATING)], waits=True)
    for part in waits:
        _EVENT.validate_python(part)
    first = final(waits)
    assert (first["status"], [item["type"] for item in first["output"]]) == (
        "completed",
        ["message", "mcp_call", "function_call"],
    )
    function = first["output"][-1]
    assert (function["call_id"], function["name"], function["arguments"]) == (
        NOTE,
        "http_request",
        '{"url":"http://a/"}',
    )
    assert kinds(waits).count("response.function_call_arguments.done") == 1

    second = final(told(door(AFTER_NOTE), events))
    assert output(second) == [("message", "completed", "Oslo")]
    whole = final(told(door(), events))
    assert [item["type"] for item in whole["output"]] == ["message", "mcp_call", "function_call", "message"]
    assert [part["sequence_number"] for part in waits] == sorted({part["sequence_number"] for part in waits})


def test_a_function_comes_after_a_call_that_ends_later_as_whoever_retrieves_the_response_finds_it() -> None:
    both = of_client(answer(FIRST, "let me", calls=CALLS, ends="tool_calls"))
    events = [STARTED, *both, waited("pending"), ran(SUM, "calculate", 2)]
    waits = told(door(), numbered(events), waits=True)
    places = [(part["output_index"], part["item"]["type"]) for part in waits if part["type"].endswith("item.added")]
    assert places == [(0, "message"), (1, "mcp_call"), (2, "function_call")]
    assert [item["type"] for item in final(waits)["output"]] == ["message", "mcp_call", "function_call"]


def test_a_function_that_is_still_not_answered_is_asked_for_again() -> None:
    both = [(NOTE, "http_request", {}), (SUM, "calculate", {})]
    calls = of_client(of_client(answer(FIRST, calls=both, ends="tool_calls")), SUM)
    events = [
        STARTED,
        *calls,
        waited("pending"),
        waited("pending", SUM),
        waited("answered"),
        ran(NOTE, "http_request", 1),
    ]
    again = final(told(door(AFTER_NOTE), numbered(events), waits=True))
    assert [(item["type"], item["call_id"]) for item in again["output"]] == [("function_call", SUM)]


def test_a_question_to_the_user_leaves_the_response_incomplete_and_its_answer_goes_on() -> None:
    asks = [
        STARTED,
        *answer(FIRST, calls=CALLS[:1], ends="tool_calls"),
        waited("pending", kind="input", questions=[QUESTION]),
    ]
    waits = told(door(), numbered(asks), waits=True)
    response = final(waits)
    assert (kinds(waits)[-1], response["status"], response["incomplete_details"]) == (
        "response.incomplete",
        "incomplete",
        {"reason": "input_required"},
    )
    assert response["output"][0]["wait"]["questions"] == [QUESTION]
    done = final(
        told(door(), numbered([*asks, waited("answered", kind="input"), ran(NOTE, "http_request", "ok"), ended()]))
    )
    assert (done["status"], output(done), "wait" in done["output"][0]) == (
        "completed",
        [("mcp_call", "completed", "ok")],
        False,
    )
