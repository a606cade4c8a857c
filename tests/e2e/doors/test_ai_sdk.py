"""The AI SDK's own client at its door: answers, tools, approvals, resuming, stopping, answering again."""

from __future__ import annotations

import pytest

from tests.e2e.support.ai_sdk import UiChat, shown, tools, turn_of, ui_chat
from tests.e2e.support.client import Api, Json, call, eventually, post_call, script
from tests.e2e.support.processes import Sink

VERSIONS = pytest.mark.parametrize("version", [6, 7])


@VERSIONS
async def test_a_message_is_answered_and_the_next_one_goes_on_in_its_session(api: Api, version: int) -> None:
    async with ui_chat(api.base_url, version=version) as chat:
        state = await chat.say(script(content="Hello there.", reasoning="They greet."))
        assert (state["status"], state["error"]) == ("ready", None)
        [_, answer] = state["messages"]
        assert shown(answer) == "Hello there."
        again = await chat.say(script(content="And again."))

    assert [part["text"] for part in answer["parts"] if part["type"] == "reasoning"] == ["They greet."]
    turn = turn_of(answer)
    assert (turn["turn_id"], turn["status"], turn["usage"]["output_tokens"] > 0) == (answer["id"], "completed", True)
    roles = [message["role"] for message in await api.messages(turn["session_id"])]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert shown(again["messages"][-1]) == "And again."


@VERSIONS
async def test_a_tool_is_shown_with_its_arguments_and_its_result(api: Api, version: int) -> None:
    async with ui_chat(api.base_url, version=version) as chat:
        state = await chat.say(script(tool_calls=[[call("calculate", expression="17 * 23")]], content="391."))
        [tool] = tools(state["messages"][-1])
        assert (tool["toolName"], tool["input"], tool["state"]) == (
            "calculate",
            {"expression": "17 * 23"},
            "output-available",
        )
        assert "391" in str(tool["output"])
        assert shown(state["messages"][-1]) == "391."

        # The page posts that result with its next message: it is the session's own, so nothing is refused.
        assert shown((await chat.say(script(content="Yes.")))["messages"][-1]) == "Yes."


@VERSIONS
@pytest.mark.parametrize(("approved", "end"), [(True, "output-available"), (False, "output-denied")])
async def test_an_approval_is_decided_by_the_clients_own_answer(
    api: Api, sink: Sink, version: int, approved: bool, end: str
) -> None:
    path = f"/ai-sdk-{version}-{end}"
    async with ui_chat(api.base_url, version=version) as chat:
        waiting, tool = await _asked(chat, sink, path)
        assert (waiting["status"], tool["state"], sink.at(path)) == ("ready", "approval-requested", [])
        assert turn_of(waiting["messages"][-1])["status"] == "waiting_approval"

        await chat.do("approve", id=tool["approval"]["id"], approved=approved, reason="as agreed")
        state = await chat.do("wait")

    assert (state["status"], state["error"], len(state["messages"])) == ("ready", None, 2)
    [tool] = tools(state["messages"][-1])
    assert tool["state"] == end
    assert shown(state["messages"][-1]) == "Done with it."
    assert len(sink.at(path)) == int(approved)
    told = (await api.get(f"/api/v1/approvals/{tool['approval']['id']}")).json()
    assert (told["status"], told["comment"]) == ("approved" if approved else "rejected", "as agreed")


async def test_two_approvals_of_one_step_are_answered_one_after_the_other(api: Api, sink: Sink) -> None:
    steps = [[post_call(sink.url("/both")), post_call(sink.url("/neither"))]]
    async with ui_chat(api.base_url) as chat:
        waiting = await chat.say(script(tool_calls=steps, content="Both."))
        first, second = tools(waiting["messages"][-1])
        await chat.do("approve", id=first["approval"]["id"], approved=True)
        between = await chat.do("wait")
        assert (len(sink.at("/both")), between["status"]) == (0, "ready"), "nothing is sent before all are answered"
        await chat.do("approve", id=second["approval"]["id"], approved=False)
        state = await chat.do("wait")

    assert [tool["state"] for tool in tools(state["messages"][-1])] == ["output-available", "output-denied"]
    assert (len(sink.at("/both")), len(sink.at("/neither"))) == (1, 0)
    assert shown(state["messages"][-1]) == "Both."


@VERSIONS
async def test_an_answer_that_is_one_vote_of_two_is_sent_once_and_the_call_still_waits(
    api: Api, sink: Sink, version: int
) -> None:
    session_id = await api.session_under(quorum=2)
    path = f"/votes-{version}"
    async with ui_chat(api.base_url, chat_id=session_id, version=version) as chat:
        _, tool = await _asked(chat, sink, path)
        await chat.do("approve", id=tool["approval"]["id"], approved=True)
        voted = await chat.do("wait")
        [again] = tools(voted["messages"][-1])
        assert (voted["status"], voted["error"], again["state"]) == ("ready", None, "approval-requested")
        [told] = [part["data"] for part in voted["messages"][-1]["parts"] if part["type"] == "data-approval"]
        assert [vote["by"] for vote in told["votes"]] == ["olga"]
        assert (len(voted["finishes"]), sink.at(path)) == (2, [])

        await api.as_user("otto;approver").decide(tool["approval"]["id"], "approve")
        await chat.do("approve", id=tool["approval"]["id"], approved=True)
        state = await chat.do("wait")

    assert (tools(state["messages"][-1])[0]["state"], len(sink.at(path))) == ("output-available", 1)
    assert shown(state["messages"][-1]) == "Done with it."


async def test_what_somebody_else_decided_meanwhile_stands_and_is_no_error(api: Api, sink: Sink) -> None:
    async with ui_chat(api.base_url) as chat:
        _, tool = await _asked(chat, sink, "/meanwhile")
        other = api.as_user("otto;approver")
        await other.decide(tool["approval"]["id"], "reject", comment="not now")
        await chat.do("approve", id=tool["approval"]["id"], approved=True)
        state = await chat.do("wait")

    assert (state["status"], state["error"], sink.at("/meanwhile")) == ("ready", None, [])
    answer = state["messages"][-1]
    assert tools(answer)[0]["state"] == "output-denied"
    [told] = [part["data"] for part in answer["parts"] if part["type"] == "data-approval"]
    assert (told["status"], told["decided_by"], told["comment"]) == ("rejected", "otto", "not now")
    assert shown(answer) == "Done with it."


async def test_a_page_that_only_waits_sees_the_decision_of_others_when_it_resumes(api: Api, sink: Sink) -> None:
    async with ui_chat(api.base_url) as chat:
        waiting, tool = await _asked(chat, sink, "/asked")
        changed = {"method": "POST", "url": sink.url("/changed"), "body": "{}"}
        resumed = await _resumed(chat)
        assert tools(resumed["messages"][-1])[0]["state"] == "approval-requested"

        await api.decide(tool["approval"]["id"], "approve", arguments=changed)
        turn = turn_of(waiting["messages"][-1])
        state = await _resumed(chat)  # or it has ended by now, and nothing is resumed
        await api.until(turn["session_id"], turn["turn_id"])
        stored = (await api.get(f"/api/v1/ai-sdk/chat/{chat.id}/messages")).json()["messages"]
        state = await chat.do("set", messages=stored)
        assert state == await _resumed(chat)

    assert (len(sink.at("/asked")), len(sink.at("/changed"))) == (0, 1)
    question, answer = stored
    assert (question["role"], answer["id"], shown(answer)) == ("user", turn["turn_id"], "Done with it.")
    [tool] = tools(answer)
    assert (tool["input"], tool["state"], tool["approval"]["approved"]) == (changed, "output-available", True)


async def _resumed(chat: UiChat) -> Json:
    await chat.do("resume")
    return await chat.do("wait")


async def _asked(chat: UiChat, sink: Sink, path: str) -> tuple[Json, Json]:
    """The state of a chat whose turn waits for an approval, and the tool's part."""
    waiting = await chat.say(script(tool_calls=[[post_call(sink.url(path))]], content="Done with it."))
    [tool] = tools(waiting["messages"][-1])
    return waiting, tool


LOCATE = {"locate": {"description": "Where the user is.", "parameters": {"type": "object", "properties": {}}}}


@VERSIONS
async def test_a_tool_of_the_page_is_run_by_it_and_its_output_goes_on_by_itself(api: Api, version: int) -> None:
    async with ui_chat(api.base_url, version=version, body={"tools": LOCATE}) as chat:
        asks = script(tool_calls=[[call("locate"), call("calculate", expression="1+1")]], echo=True)
        waiting = await chat.say(asks)
        part, beside = tools(waiting["messages"][-1])
        assert (waiting["status"], waiting["called"]) == ("ready", ["locate"])
        assert (part["state"], part["providerExecuted"], beside["state"]) == (
            "input-available",
            False,
            "output-available",
        )
        assert turn_of(waiting["messages"][-1])["status"] == "waiting_input"

        await chat.do("output", tool="locate", toolCallId=part["toolCallId"], output=["Oslo", 59.9])
        state = await chat.do("wait")
        assert (state["status"], state["error"], len(state["finishes"])) == ("ready", None, 2)
        assert tools(state["messages"][-1])[0]["output"] == ["Oslo", 59.9]
        turn = turn_of(state["messages"][-1])
        assert turn["status"] == "completed"
        read = await api.messages(turn["session_id"], turn["turn_id"], "tool")
        assert any("Oslo" in message["content"] for message in read)

        assert shown((await chat.say(script(content="Yes.")))["messages"][-1]) == "Yes."


async def test_an_output_that_comes_too_late_is_refused_and_the_chat_goes_on(api: Api) -> None:
    async with ui_chat(api.base_url, body={"tools": LOCATE}) as chat:
        waiting = await chat.say(script(tool_calls=[[call("locate")]]))
        turn, [part] = turn_of(waiting["messages"][-1]), tools(waiting["messages"][-1])
        await api.post(f"/api/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}/cancel")
        await api.until(turn["session_id"], turn["turn_id"])
        await chat.do("output", tool="locate", toolCallId=part["toolCallId"], output="Oslo")
        late = await chat.do("wait")
        assert "CONFLICT" in late["error"]
        assert shown((await chat.say(script(content="Yes.")))["messages"][-1]) == "Yes."


async def test_the_page_of_somebody_else_cannot_answer(api: Api) -> None:
    session_id = await api.session()
    invited = await api.request("PUT", f"/api/v1/sessions/{session_id}/participants/otto", json={"access": "write"})
    assert invited.status_code in {200, 201}
    async with ui_chat(api.base_url, chat_id=session_id, body={"tools": LOCATE}) as chat:
        waiting = await chat.say(script(tool_calls=[[call("locate")]]))
        [part] = tools(waiting["messages"][-1])
        async with ui_chat(api.base_url, "otto", chat_id=session_id) as other:
            await other.do("set", messages=waiting["messages"])
            await other.do("output", tool="locate", toolCallId=part["toolCallId"], output="Rome")
            forged = await other.do("wait")
    assert "is no call of a tool of this client" in forged["error"]
    turn = turn_of(waiting["messages"][-1])
    assert (await api.turn(session_id, turn["turn_id"]))["status"] == "waiting_input"


async def test_files_of_a_message_are_stored_and_shown_again(api: Api) -> None:
    async with ui_chat(api.base_url) as chat:
        file = {
            "type": "file",
            "mediaType": "text/plain",
            "filename": "note.txt",
            "url": "data:text/plain;base64,aGVsbG8=",
        }
        await chat.do("send", message={"text": script(content="Read."), "files": [file]})
        state = await chat.do("wait")
        assert (state["error"], shown(state["messages"][-1])) == (None, "Read.")
        question, _answer = (await api.get(f"/api/v1/ai-sdk/chat/{chat.id}/messages")).json()["messages"]
        [shown_file] = [part for part in question["parts"] if part["type"] == "file"]
        assert (shown_file["mediaType"], shown_file["filename"]) == ("text/plain", "note.txt")
        assert (await api.get(shown_file["url"])).content == b"hello"

        # The page that shows it sends it again by its address, as one that was loaded does.
        await chat.do("send", message={"text": script(content="Again."), "files": [shown_file]})
        assert shown((await chat.do("wait"))["messages"][-1]) == "Again."
    stored = await api.messages(turn_of(state["messages"][-1])["session_id"], role="user")
    assert stored[0]["attachments"] == stored[1]["attachments"]


async def test_a_call_of_the_page_that_needs_an_approval_is_run_once_it_has_it(api: Api) -> None:
    async with ui_chat(api.base_url, body={"tools": LOCATE, "approval_mode": "manual"}) as chat:
        waiting = await chat.say(script(tool_calls=[[call("locate", near="here")]], content="Done."))
        [part] = tools(waiting["messages"][-1])
        assert (part["state"], waiting["called"]) == ("approval-requested", [])
        changed = {"near": "there"}
        decided = await api.decide(part["approval"]["id"], "approve", arguments=changed)
        assert decided.status_code == 200, decided.text

        async def offered() -> Json | None:
            state = await _resumed(chat)
            return state if state["called"] else None

        state = await eventually(offered, "the call to be the page's to run")
        [part] = tools(state["messages"][-1])
        assert (part["state"], part["input"], state["called"]) == ("input-available", changed, ["locate"])
        await chat.do("output", tool="locate", toolCallId=part["toolCallId"], output="Oslo")
        assert shown((await chat.do("wait"))["messages"][-1]) == "Done."


async def test_a_message_in_place_of_an_output_stops_the_turn_that_waits_for_the_page(api: Api) -> None:
    async with ui_chat(api.base_url, body={"tools": LOCATE}) as chat:
        turn = turn_of((await chat.say(script(tool_calls=[[call("locate")]])))["messages"][-1])
        assert shown((await chat.say(script(content="Never mind.")))["messages"][-1]) == "Never mind."
    assert (await api.turn(turn["session_id"], turn["turn_id"]))["status"] == "cancelled"
