"""The model fails in every way a model can; the turn goes on where it may, and the session stays usable always."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.e2e.support.client import Api, call, model_calls, script
from tests.e2e.support.sse import Transcript

EXHAUSTING = 5
"""Failed calls that use up every try."""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("server-error", {"status": 500}),
        ("unavailable", {"status": 503}),
        ("cut-at-once", {"cut_after": 0}),
        ("error-event", {"error_after": 3}),
        ("conflict", {"status": 409}),
    ],
)
async def test_passing_failure_is_tried_again(api: Api, name: str, fault: dict[str, int]) -> None:
    session_id = await api.session()
    message = script(key=f"{session_id}-{name}", content="at last", fail=[fault, fault])
    turn = await api.until(session_id, await api.say(session_id, message))
    assert (turn["status"], turn["error"]) == ("completed", None)
    assert list((await api.answers(session_id, turn["id"])).values()) == ["at last"]


async def test_rate_limit_is_waited_out_as_the_model_asked(api: Api, model_url: str) -> None:
    session_id = await api.session()
    key = f"{session_id}-429"
    limited = {"status": 429, "retry_after": 2}
    message = script(key=key, content="at last", fail=[limited, limited])
    turn = await api.until(session_id, await api.say(session_id, message))
    assert turn["status"] == "completed"
    arrivals = model_calls(model_url, key)["arrivals"]
    pauses = [later - earlier for earlier, later in pairwise(arrivals)]
    assert min(pauses) >= 1.9, "nobody asked before Retry-After was over"
    assert len(await api.messages(session_id)) == 2


async def test_silent_model_is_a_timeout_and_is_tried_again(api: Api) -> None:
    session_id = await api.session()
    message = script(key=f"{session_id}-hang", tokens=40, fail=[{"hang_after": 5}])
    turn = await api.until(session_id, await api.say(session_id, message))
    assert turn["status"] == "completed"
    transcript = Transcript.of_envelopes(await api.events(session_id), turn["id"])
    assert list(transcript.attempts.values()) == [[1, 2]]


async def test_stream_cut_half_way_is_a_new_attempt_whose_text_is_stored(api: Api) -> None:
    session_id = await api.session()
    cuts = [{"cut_after": 30, "token_ms": 5}, {"cut_after": 10, "token_ms": 5}]
    message = script(key=f"{session_id}-cut", tokens=60, token_ms=2, fail=cuts)
    turn_id = await api.say(session_id, message)
    stream = Transcript.of_turn_stream(await api.turn_stream(session_id, turn_id))
    turn = await api.turn(session_id, turn_id)
    assert (turn["status"], turn["error"]) == ("completed", None)
    stored = await api.answers(session_id, turn_id)
    assert list(stream.attempts.values()) == [[1, 2, 3]]
    assert stream.texts == stored
    assert Transcript.of_envelopes(await api.events(session_id), turn_id).texts == stored
    assert len("".join(stored.values()).split()) == 60


@pytest.mark.parametrize(
    ("name", "fault", "code"),
    [
        ("refused", {"status": 400, "message": "no"}, "LLM_ERROR"),
        ("unauthorized", {"status": 401}, "LLM_ERROR"),
        ("too-long", {"status": 400, "code": "context_length_exceeded"}, "TOKEN_LIMIT"),
        ("filtered", {"status": 400, "code": "content_filter"}, "LLM_ERROR"),
        ("gone-for-long", {"status": 429, "retry_after": 3600}, "RATE_LIMITED"),
    ],
)
async def test_failure_for_good_fails_the_turn_with_its_code(
    api: Api, name: str, fault: dict[str, object], code: str
) -> None:
    session_id = await api.session()
    message = script(key=f"{session_id}-{name}", tokens=5, fail=[fault] * EXHAUSTING)
    turn_id = await api.say(session_id, message)
    stream = await api.turn_stream(session_id, turn_id)
    turn = await api.turn(session_id, turn_id)
    assert (turn["status"], turn["error"]["code"]) == ("failed", code)
    assert turn["error"]["detail"]
    [error] = [event for event in await api.events(session_id) if event["type"] == "error.occurred"]
    assert error["data"] == turn["error"]
    assert [event.event for event in stream][-2:] == ["error.occurred", "end"]
    assert stream[-1].data["status"] == "failed"
    next_id = await api.say(session_id, script(content="usable"))
    assert (await api.until(session_id, next_id))["status"] == "completed"


async def test_model_that_stays_down_fails_the_turn_and_leaves_the_session_usable(api: Api, model_url: str) -> None:
    session_id = await api.session()
    key = f"{session_id}-down"
    turn_id = await api.say(session_id, script(key=key, tokens=5, fail=[{"status": 503}] * 40))
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["error"]["code"]) == ("failed", "LLM_ERROR")
    assert model_calls(model_url, key)["calls"] == EXHAUSTING
    events = [event["type"] for event in await api.events(session_id)]
    assert events.count("error.occurred") == 1
    assert events[-1] == "stream.ended"
    next_id = await api.say(session_id, script(content="usable"))
    assert (await api.until(session_id, next_id))["status"] == "completed"


async def test_cancel_ends_a_retry_pause(api: Api) -> None:
    session_id = await api.session()
    limited = {"status": 429, "retry_after": 300}
    turn_id = await api.say(session_id, script(key=f"{session_id}-pause", tokens=5, fail=[limited] * EXHAUSTING))
    await api.until(session_id, turn_id, "running")
    await api.cancel(session_id, turn_id)
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"


async def test_steps_are_bounded(api: Api) -> None:
    session_id = await api.session(max_steps=3)
    endless = [[call("calculate", expression="1 + 1")]] * 10
    turn = await api.until(session_id, await api.say(session_id, script(tool_calls=endless)))
    assert turn["steps"] == 3
    assert (turn["status"], turn["error"]["code"]) == ("failed", "TOKEN_LIMIT")


@pytest.mark.parametrize(
    ("name", "wanted", "code"),
    [
        ("unknown tool", {"name": "no_such_tool", "arguments": {}}, "TOOL_NOT_FOUND"),
        ("wrong arguments", {"name": "calculate", "arguments": {"expression": 7}}, "INVALID_TOOL_ARGS"),
        ("broken JSON", {"name": "calculate", "arguments": '{"expression": '}, "INVALID_TOOL_ARGS"),
        ("not an object", {"name": "calculate", "arguments": "[1]"}, "INVALID_TOOL_ARGS"),
        ("host not allowed", call("http_request", method="POST", url="http://127.0.0.1:1/"), "TOOL_EXECUTION_FAILED"),
    ],
)
async def test_call_that_cannot_run_is_told_to_the_model_and_asks_nobody(
    api: Api, name: str, wanted: dict[str, object], code: str
) -> None:
    session_id = await api.unattended_session()
    mode = "auto" if wanted["name"] == "http_request" else "policy"
    turn_id = await api.say(session_id, script(tool_calls=[[wanted]], content="so be it"), approval_mode=mode)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], [item["status"] for item in turn["tool_calls"]]) == ("completed", ["failed"])
    [failed] = [event for event in await api.events(session_id) if event["type"] == "tool_call.failed"]
    assert failed["data"]["code"] == code
    assert await api.approvals(session_id, status=None) == []
