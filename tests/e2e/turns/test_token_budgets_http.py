"""Token budgets through HTTP: the turn ends in order, what was said is kept, and the session goes on."""

from __future__ import annotations

from tests.e2e.support.client import Api, call, model_calls, script


async def _price(api: Api) -> int:
    """Tokens of a turn of one short step; every budget below is a multiple of it."""
    session_id = await api.session()
    turn = await api.until(session_id, await api.say(session_id, script(content="hi")))
    return int(turn["usage"]["input_tokens"] + turn["usage"]["output_tokens"])


async def test_a_turn_stops_before_the_step_its_budget_does_not_cover(api: Api, model_url: str) -> None:
    price = await _price(api)
    # Less than one step uses: it may begin, and no second.
    session_id = await api.session(max_turn_tokens=price * 9 // 10)
    steps = [[call("calculate", expression="1 + 1")]]
    message = script(key=session_id, tool_calls=steps, preamble="let me see", content="two")

    turn_id = await api.say(session_id, message)
    turn = await api.until(session_id, turn_id)

    assert (turn["status"], turn["error"]["code"]) == ("failed", "TOKEN_LIMIT")
    assert model_calls(model_url, session_id)["calls"] == 1, "the second step never reached the model"
    assert [item["status"] for item in turn["tool_calls"]] == ["completed"]
    assert "let me see" in (await api.answers(session_id, turn_id)).values()
    events = await api.events(session_id)
    [error] = [event for event in events if event["type"] == "error.occurred"]
    assert error["data"] == turn["error"]
    assert events[-1]["type"] == "stream.ended"
    next_id = await api.say(session_id, script(content="usable"))
    assert (await api.until(session_id, next_id))["status"] == "completed"


async def test_an_answer_is_cut_where_the_budget_ends(api: Api) -> None:
    price = await _price(api)
    session_id = await api.session(max_turn_tokens=price * 9 // 10)

    turn = await api.until(session_id, await api.say(session_id, script(tokens=5_000)))

    assert turn["status"] == "completed"
    assert 0 < turn["usage"]["output_tokens"] <= price
    ends = [
        event["data"]["frame"]["finish_reason"]
        for event in await api.events(session_id)
        if event["data"].get("frame", {}).get("type") == "message_end"
    ]
    assert ends == ["length"]


async def test_a_session_that_has_used_its_budget_refuses_messages_until_it_is_raised(api: Api) -> None:
    price = await _price(api)
    session_id = await api.session(max_session_tokens=price * 3)
    path = f"/api/v1/sessions/{session_id}/messages"

    async def post() -> int:
        response = await api.post(path, {"content": script(tokens=price)}, headers={"prefer": "wait=30"})
        if response.status_code == 200:
            return 200
        assert response.json()["code"] == "TOKEN_LIMIT"
        return response.status_code

    statuses = [await post()]
    while statuses[-1] == 200 and len(statuses) < 10:
        statuses.append(await post())

    assert (statuses[0], statuses[-1]) == (200, 413)
    raised = await api.request("PATCH", f"/api/v1/sessions/{session_id}", json={"config": {"max_session_tokens": None}})
    assert raised.status_code == 200
    turn = await api.until(session_id, await api.say(session_id, script(content="usable")))
    assert turn["status"] == "completed"
