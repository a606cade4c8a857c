"""What an answer says of itself, over both model APIs: how it ended, what it used, who asked, in which form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.support.client import Api, Json, call, script
from tests.e2e.support.sse import Transcript

SCHEMA = {
    "type": "object",
    "properties": {"boats": {"type": "integer"}},
    "required": ["boats"],
    "additionalProperties": False,
}


@pytest.fixture(params=["chat", "responses"])
def model_api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _asked(api: Api, session_id: str, **told: Any) -> tuple[Json, Json, list[Json]]:
    """The turn, its last answer, and its events."""
    turn = await api.until(session_id, await api.say(session_id, script(**told)))
    answer = (await api.messages(session_id, turn["id"], "assistant"))[-1]
    events = [event for event in await api.events(session_id) if event.get("turn_id") == turn["id"]]
    return turn, answer, events


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"content": "All of it."}, "stop"),
        ({"content": "1. one 2. tw", "finish_reason": "length"}, "length"),
        ({"content": "Half of", "finish_reason": "content_filter"}, "content_filter"),
        ({"refusal": "I cannot help with that."}, "refusal"),
    ],
    ids=["stop", "length", "content_filter", "refusal"],
)
async def test_an_answer_says_how_it_ended_live_and_stored(
    api: Api, model_api: str, told: dict[str, str], reason: str
) -> None:
    session_id = await api.session_with(model_api=model_api)

    turn, answer, events = await _asked(api, session_id, **told)

    assert (turn["status"], turn["finish_reason"]) == ("completed", reason)
    assert (answer["status"], answer["finish_reason"]) == ("completed", reason)
    assert answer["content"] == told.get("refusal", told.get("content"))
    frames = [event["data"]["frame"] for event in events if event["type"] == "stream.chunk"]
    assert [frame["finish_reason"] for frame in frames if frame["type"] == "message_end"] == [reason]
    assert events[-1]["data"]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("reason", "code"), [("length", "TOKEN_LIMIT"), ("content_filter", "LLM_ERROR")], ids=["length", "content_filter"]
)
async def test_an_answer_that_says_nothing_is_not_a_complete_one(
    api: Api, model_api: str, reason: str, code: str
) -> None:
    session_id = await api.session_with(model_api=model_api)

    turn, answer, _ = await _asked(api, session_id, content="", finish_reason=reason)

    assert (turn["status"], turn["error"]["code"], answer["status"]) == ("failed", code, "failed")
    assert (answer["finish_reason"], turn["finish_reason"]) == (reason, reason)
    again, _, _ = await _asked(api, session_id, content="The session goes on.")
    assert again["status"] == "completed"


async def test_reasoning_is_streamed_apart_from_the_answer_and_kept_with_it(api: Api, model_api: str) -> None:
    session_id = await api.session_with(model_api=model_api)

    turn, answer, events = await _asked(api, session_id, reasoning="Two boats and two.", content="Four boats.")

    assert (answer["reasoning"], answer["content"]) == ("Two boats and two.", "Four boats.")
    frames = [event["data"]["frame"] for event in events if event["type"] == "stream.chunk"]
    told = [frame for frame in frames if frame["type"] == "reasoning_delta"]
    assert "".join(frame["text"] for frame in told) == answer["reasoning"]
    assert [frame["index"] for frame in told] == list(range(len(told)))
    assert Transcript.of_envelopes(events, turn["id"]).texts == {answer["id"]: "Four boats."}
    assert turn["usage"]["reasoning_tokens"] > 0


async def test_a_turn_with_tools_gives_the_model_its_reasoning_back(api: Api, model_api: str) -> None:
    session_id = await api.session_with(model_api=model_api)
    calls = [call("calculate", expression="2 + 2"), call("calculate", expression="3 * 3")]

    turn, answer, _ = await _asked(
        api,
        session_id,
        reasoning="I have to add, and to multiply.",
        needs_reasoning=True,
        tool_calls=[calls, [calls[0]], []],
        content="Four and nine.",
    )

    assert (turn["status"], turn["steps"], len(turn["tool_calls"])) == ("completed", 3, 3)
    assert answer["content"] == "Four and nine."
    reasons = [message["finish_reason"] for message in await api.messages(session_id, turn["id"], "assistant")]
    assert reasons == ["tool_calls", "tool_calls", "stop"]


async def test_an_answer_in_a_schema_is_stored_as_json_beside_its_text(api: Api, model_api: str) -> None:
    session_id = await api.session_with(model_api=model_api)
    message = script(content='{"boats": 3}')

    turn = await api.until(session_id, await api.say(session_id, message, output_schema=SCHEMA))

    (answer,) = await api.messages(session_id, turn["id"], "assistant")
    assert (answer["content"], answer["output"]) == ('{"boats": 3}', {"boats": 3})


async def test_an_answer_that_does_not_fit_its_schema_is_asked_for_once_more(api: Api, model_api: str) -> None:
    """The script is of the first question alone: told what is wrong, the model answers with what the schema says."""
    session_id = await api.session_with(model_api=model_api)

    turn_id = await api.say(session_id, script(content='{"boats": "three"}'), output_schema=SCHEMA)
    turn = await api.until(session_id, turn_id)

    assert turn["status"] == "completed"
    (answer,) = await api.messages(session_id, turn_id, "assistant")
    assert isinstance(answer["output"]["boats"], int)
    assert answer["content"] != '{"boats": "three"}'
    transcript = Transcript.of_envelopes(await api.events(session_id), turn_id)
    assert list(transcript.attempts.values()) == [[1, 2]]
    assert transcript.texts == {answer["id"]: answer["content"]}
    asked_once, _, _ = await _asked(api, session_id, content="Without a schema.")
    assert turn["usage"]["input_tokens"] > asked_once["usage"]["input_tokens"], "both were counted"


async def test_a_schema_that_is_none_is_refused_by_name(api: Api) -> None:
    session_id = await api.session()

    for schema in ({"type": "object", "properties": 5}, {"type": "array"}, {"type": "object", "$ref": "https://a.b/c"}):
        body = {"content": "How many boats?", "output_schema": schema}
        refused = await api.post(f"/api/v1/sessions/{session_id}/messages", body)
        assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR")
        assert refused.json()["errors"][0]["field"] == "output_schema"


async def test_a_message_that_the_filter_refused_does_not_end_the_session(api: Api, model_api: str) -> None:
    session_id = await api.session_with(model_api=model_api)
    filtered = {"status": 400, "code": "content_filter", "message": "The prompt was filtered."}

    turn, _, _ = await _asked(api, session_id, key=f"{session_id}-filter", fail=[filtered, filtered])

    assert (turn["status"], turn["error"]["code"]) == ("failed", "LLM_ERROR")
    question = (await api.messages(session_id, turn["id"], "user"))[0]
    assert question["left_out"] == "content_filter"
    later, answer, _ = await _asked(api, session_id, echo=True)
    assert later["status"] == "completed"
    assert "-filter" not in answer["content"], "the model is not sent it again"


async def test_whoever_wrote_a_message_stands_in_it(api: Api) -> None:
    session_id = await api.session()
    other = api.as_user("petr")
    shared = await api.request("PUT", f"/api/v1/sessions/{session_id}/participants/petr", json={"access": "write"})
    assert shared.status_code in {200, 201}

    for client in (api, other):
        await client.until(session_id, await client.say(session_id, script(content="yes")))

    authors = [message["author"] for message in await api.messages(session_id)]
    assert authors == ["olga", None, "petr", None]
    forked = (await api.post(f"/api/v1/sessions/{session_id}/fork", {})).json()["id"]
    assert [message["author"] for message in await api.messages(forked)] == authors


async def test_cached_tokens_are_told(api: Api, model_api: str) -> None:
    session_id = await api.session_with(model_api=model_api)

    turn, _, _ = await _asked(api, session_id, content="Known already.", cached_tokens=7)

    assert turn["usage"]["cached_input_tokens"] == 7
    assert turn["usage"]["cost_usd"] is None, "nobody told the price of the scripted model"


async def test_readiness_says_to_admins_alone_which_model_answers(api: Api) -> None:
    ready = (await api.as_user("root;admin").get("/api/v1/health/ready")).json()
    public = (await api.as_user("petr").get("/api/v1/health/ready")).json()

    assert (ready["model"]["answers"], ready["model"]["may_pass"]) == (True, False)
    assert ready["model"]["text"].startswith("scripted answers (chat API, ")
    assert (public["model"], public["dependencies"]["model"]) == (None, "ok")
