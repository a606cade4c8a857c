"""Streams of the AI SDK's door that do not go straight: stopped, resumed, seen twice, taken back, failed, killed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.support.ai_sdk import UiChat, shown, tools, turn_of, ui_chat
from tests.e2e.support.client import Api, Json, eventually, open_api, post_call, script
from tests.e2e.support.processes import AppHost, Sink

SLOW = {"tokens": 80, "token_ms": 40}


def _has_text(state: Json) -> bool:
    return (
        bool(state["messages"]) and state["messages"][-1]["role"] == "assistant" and bool(shown(state["messages"][-1]))
    )


async def _begun(chat: UiChat, message: str) -> Json:
    """The state of a chat whose answer has begun to stream."""
    await chat.do("send", message={"text": message})
    return await chat.until(_has_text)


async def test_a_stopped_turn_goes_on_and_another_message_ends_it(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        state = await _begun(chat, script(tokens=4_000, token_ms=20))
        turn = turn_of(state["messages"][-1])
        await chat.do("stop")
        stopped = await chat.do("wait")
        assert (stopped["status"], stopped["finishes"][-1]["isAbort"]) == ("ready", True)
        assert (await api.turn(turn["session_id"], turn["turn_id"]))["status"] == "running"

        state = await chat.say(script(content="Something else."))

    assert (state["error"], shown(state["messages"][-1])) == (None, "Something else.")
    assert (await api.until(turn["session_id"], turn["turn_id"]))["status"] == "cancelled"


async def test_a_message_from_a_page_that_did_not_see_the_turn_ends_nothing(api: Api) -> None:
    async with ui_chat(api.base_url) as chat, ui_chat(api.base_url, chat_id=chat.id) as other:
        state = await _begun(chat, script(**SLOW))
        refused = await other.say(script(content="Me too."))
        assert "CONFLICT" in refused["error"]
        state = await chat.do("wait")

    assert turn_of(state["messages"][-1])["status"] == "completed"
    assert len(shown(state["messages"][-1]).split()) == SLOW["tokens"]


async def test_a_page_loaded_in_mid_stream_shows_what_the_first_one_shows(api: Api) -> None:
    """Two tabs: the second is opened while the first one streams."""
    async with ui_chat(api.base_url) as first, ui_chat(api.base_url, chat_id=first.id) as second:
        await _begun(first, script(**SLOW))
        loaded = (await api.get(f"/api/v1/ai-sdk/chat/{first.id}/messages")).json()["messages"]
        assert [message["role"] for message in loaded] == ["user"]
        await second.do("set", messages=loaded)
        await second.do("resume")
        states = [await first.do("wait"), await second.do("wait")]

    one, two = (state["messages"][-1] for state in states)
    assert [state["error"] for state in states] == [None, None]
    assert (one["id"], shown(one)) == (two["id"], shown(two))
    assert len(shown(two).split()) == SLOW["tokens"]


async def test_a_chat_that_runs_nothing_or_does_not_exist_has_nothing_to_resume(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        await chat.do("resume")
        assert (await chat.do("wait"))["status"] == "ready"
        await chat.say("hello")
    for chat_id in (chat.id, "never-begun", "x" * 200):
        answer = await api.get(f"/api/v1/ai-sdk/chat/{chat_id}/stream")
        assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.get("/api/v1/ai-sdk/chat/never-begun/messages")).json() == {"messages": []}
    for path in ("stream", "messages"):
        assert (await api.get(f"/api/v1/ai-sdk/chat/{'x' * 256}/{path}")).status_code == 404
    assert (await api.get("/api/v1/ai-sdk/chat/never-begun/stream?after=-1")).status_code == 422


async def test_an_answer_is_given_again_beside_the_former_one(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        state = await chat.say(script(content="An answer."))
        turn = turn_of(state["messages"][-1])
        for is_named in (False, True):
            wanted = {"messageId": state["messages"][-1]["id"]} if is_named else {}
            await chat.do("regenerate", **wanted)
            state = await chat.do("wait")
            assert (state["error"], len(state["messages"])) == (None, 2)
            assert shown(state["messages"][-1]) == "An answer."

    branches = (await api.get(f"/api/v1/sessions/{turn['session_id']}/branches")).json()["items"]
    assert [branch["active"] for branch in branches] == [False, False, True]


@pytest.mark.parametrize("version", [6, 7])
async def test_text_of_an_attempt_that_broke_off_is_taken_back(api: Api, version: int) -> None:
    cut = {"cut_after": 30, "token_ms": 5}
    async with ui_chat(api.base_url, version=version) as chat:
        state = await chat.say(script(key=f"{chat.id}-{version}", tokens=60, token_ms=2, fail=[cut]))

    answer = state["messages"][-1]
    turn = turn_of(answer)
    [stored] = (await api.answers(turn["session_id"], turn["turn_id"])).values()
    assert shown(answer) == stored
    kinds = [part["type"] for part in answer["parts"]]
    # Version 7 has taken it back itself; in version 6 the page hides what comes before that part.
    assert kinds.count("data-superseded") == (1 if version == 6 else 0)
    assert kinds.count("text") == (2 if version == 6 else 1)


async def test_a_failed_turn_is_an_error_and_the_chat_goes_on(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        state = await chat.say(script(fail=[{"status": 400, "message": "no"}], key=chat.id))
        assert (state["status"], turn_of(state["messages"][-1])["status"]) == ("error", "failed")
        assert state["error"]
        state = await chat.say(script(content="Better."))
    assert (state["error"], shown(state["messages"][-1])) == (None, "Better.")


async def test_a_cancelled_turn_ends_the_stream_and_closes_its_calls(api: Api, sink: Sink) -> None:
    async with ui_chat(api.base_url) as chat, ui_chat(api.base_url, chat_id=chat.id) as other:
        state = await _begun(chat, script(**SLOW))
        turn = turn_of(state["messages"][-1])
        await api.post(f"/api/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}/cancel")
        state = await chat.do("wait")
        assert (state["status"], state["error"]) == ("ready", None)
        assert turn_of(state["messages"][-1])["status"] == "cancelled"

        waiting = await chat.say(script(tool_calls=[[post_call(sink.url("/never"))]]))
        turn = turn_of(waiting["messages"][-1])
        await api.post(f"/api/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}/cancel")
        await api.until(turn["session_id"], turn["turn_id"])
        stored = (await api.get(f"/api/v1/ai-sdk/chat/{chat.id}/messages")).json()["messages"]
        state = await other.do("set", messages=stored)
        [tool] = tools(state["messages"][-1])
        assert (tool["state"], sink.at("/never")) == ("output-error", [])


async def test_the_same_message_posted_twice_is_one_turn(api: Api) -> None:
    body = {
        "id": "twice",
        "messages": [{"id": "m-1", "role": "user", "parts": [{"type": "text", "text": script(content="Once.")}]}],
        "trigger": "submit-message",
    }
    answers = [await api.post("/api/v1/ai-sdk/chat", body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].headers["x-vercel-ai-ui-message-stream"] == "v1"
    starts = [answer.text.partition('"messageId":"')[2].partition('"')[0] for answer in answers]
    assert starts[0] == starts[1]
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


@pytest.fixture
async def own_api(own_host: AppHost) -> AsyncIterator[Api]:
    if not own_host.is_running():
        own_host.start()
    client = await open_api(own_host)
    yield client
    await client.aclose()


async def test_killed_while_it_streams_a_page_resumes_and_shows_what_is_stored(own_host: AppHost, own_api: Api) -> None:
    async with ui_chat(own_host.base_url) as chat:
        state = await _begun(chat, script(tokens=60, token_ms=25))
        turn = turn_of(state["messages"][-1])
        own_host.kill()
        cut = await chat.do("wait")
        assert (cut["status"], cut["finishes"][-1]["isError"]) == ("error", True)
        own_host.start()
        await chat.do("resume")
        state = await chat.do("wait")

    answer = state["messages"][-1]
    assert (state["status"], state["error"], len(state["messages"])) == ("ready", None, 2)
    assert turn_of(answer) | {"seq": 0} == turn | turn_of(answer) | {"seq": 0, "status": "completed"}
    [stored] = (await own_api.answers(turn["session_id"], turn["turn_id"])).values()
    assert shown(answer) == stored


async def test_killed_while_it_waits_the_approval_is_answered_after_the_restart(
    own_host: AppHost, own_api: Api, sink: Sink
) -> None:
    async with ui_chat(own_host.base_url) as chat:
        waiting = await chat.say(script(tool_calls=[[post_call(sink.url("/killed"))]], content="Sent."))
        own_host.kill()
        own_host.start()
        await chat.do("approve", id=tools(waiting["messages"][-1])[0]["approval"]["id"], approved=True)
        state = await chat.do("wait")

    assert (state["error"], shown(state["messages"][-1]), len(sink.at("/killed"))) == (None, "Sent.", 1)


async def test_two_users_with_one_thread_id_have_a_session_each(api: Api) -> None:
    """The id is a plain one, and each sees only their own, whoever came first."""
    found = {}
    for user in ("ulla", "uwe"):
        async with ui_chat(api.base_url, user, chat_id="main") as chat:
            await chat.do("resume")
            assert (await chat.do("wait"))["messages"] == []
            state = await chat.say(script(content=f"For {user}."))
            found[user] = turn_of(state["messages"][-1])["session_id"]
    assert len({"main", *found.values()}) == 3
    for user, session_id in found.items():
        seen = await api.as_user(user).get("/api/v1/ai-sdk/chat/main/messages")
        assert [shown(message) for message in seen.json()["messages"]][-1] == f"For {user}."
        assert (await api.get(f"/api/v1/sessions/{session_id}")).status_code == 404


async def test_whoever_shares_a_session_of_a_guessed_name_gets_no_messages_of_others(api: Api) -> None:
    trap = (await api.post("/api/v1/sessions", {"id": "default"})).json()["id"]
    invited = f"/api/v1/sessions/{trap}/participants/vera"
    assert (await api.request("PUT", invited, json={"access": "write"})).status_code == 200
    async with ui_chat(api.base_url, "vera", chat_id="default") as chat:
        state = await chat.say(script(content="Secret."))
    assert turn_of(state["messages"][-1])["session_id"] != trap
    assert await api.messages(trap) == []


async def test_a_participant_joins_a_session_by_its_own_id(api: Api) -> None:
    session_id = await api.session()
    for user, access in (("will", "write"), ("rita", "read")):
        participant = f"/api/v1/sessions/{session_id}/participants/{user}"
        await api.request("PUT", participant, json={"access": access})
    async with ui_chat(api.base_url, "will", chat_id=session_id) as chat:
        await chat.say(script(content="From will."))
    async with ui_chat(api.base_url, "rita", chat_id=session_id) as chat:
        refused = await chat.say(script(content="From rita."))
    assert "SESSION_NOT_FOUND" in refused["error"]
    assert [message["author"] for message in await api.messages(session_id, role="user")] == ["will"]


async def test_a_thread_of_a_deleted_session_begins_anew(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        first = turn_of((await chat.say("one"))["messages"][-1])["session_id"]
        assert (await api.request("DELETE", f"/api/v1/sessions/{first}")).status_code == 204

        async def again() -> str:
            state = await chat.say(script(content="two"))
            return str(turn_of(state["messages"][-1])["session_id"])

        second = await eventually(again, "no session")
    assert first != second
