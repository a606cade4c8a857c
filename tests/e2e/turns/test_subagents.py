"""Agents that call agents: each call is a session and a turn of its own, and the caller reads its answer."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.support.client import Api, Json, call, eventually, post_call, script
from tests.e2e.support.processes import Sink

pytestmark = pytest.mark.timeout(120)


class Team:
    """A session whose agent may call another one."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def agent(self, **fields: Any) -> str:
        agent_id = f"own.{uuid4().hex[:12]}"
        made = await self.put(agent_id, **fields)
        assert made.status_code == 201, made.text
        return agent_id

    async def put(self, agent_id: str, **fields: Any) -> Any:
        body = {"name": "Own", "instructions": "Be exact.", **fields}
        return await self.api.as_user("root;admin").request("PUT", f"/api/v1/agents/{agent_id}", json=body)

    async def asks(self, helper: str, *tasks: str, **caller: Any) -> tuple[str, str]:
        """(session id, turn id) of a turn that calls the agent `helper` with these tasks side by side."""
        session_id = await self.api.session_with(agents=[helper], **caller)
        calls = [call(function_of(helper), input=task) for task in tasks]
        return session_id, await self.api.say(session_id, script(tool_calls=[calls], echo=True))

    async def begins(self, helper: str, task: str, **caller: Any) -> tuple[str, str]:
        """(session id, turn id) of a turn that begins the agent `helper` in the background."""
        session_id = await self.api.session_with(agents=[helper], background_agents=[helper], **caller)
        calls = [call(function_of(helper), input=task)]
        return session_id, await self.api.say(session_id, script(tool_calls=[calls], content="it works on it"))

    async def result(self, session_id: str) -> Json:
        """The message that tells what became of the agent in the background."""

        async def look() -> Json | None:
            told = [one for one in await self.api.messages(session_id) if "from_subagent" in one]
            assert len(told) <= 1, told
            return told[0] if told else None

        return await eventually(look, "the result of the subagent")

    async def children(self, session_id: str) -> list[Json]:
        """Oldest first."""
        query = {"parent_session_id": session_id, "sort": "created_at"}
        return list((await self.api.get("/api/v1/sessions", params=query)).json()["items"])

    async def child(self, session_id: str) -> Json:
        return (await eventually(lambda: self.children(session_id), "the session of the subagent"))[0]

    async def last(self, session_id: str, turn_id: str) -> str:
        return list((await self.api.answers(session_id, turn_id)).values())[-1]


def function_of(agent_id: str) -> str:
    return "ask_" + agent_id.replace(".", "_")


@pytest.fixture
def team(api: Api) -> Team:
    return Team(api)


async def test_the_answers_of_two_children_are_the_results_of_their_calls(team: Team, api: Api) -> None:
    helper = await team.agent(name="Helper")
    session_id, turn_id = await team.asks(helper, script(content="blue whale"), script(content="red fox"))

    turn = await api.until(session_id, turn_id)

    assert turn["status"] == "completed"
    first, second = await team.children(session_id)
    told = {one["result"]["session_id"]: one["result"] for one in turn["tool_calls"]}
    assert {one["content"] for one in told.values()} == {"blue whale", "red fox"}
    assert set(told) == {first["id"], second["id"]}
    assert "blue whale" in await team.last(session_id, turn_id)
    assert {first["parent_tool_call_id"], second["parent_tool_call_id"]} == {one["id"] for one in turn["tool_calls"]}
    assert (first["parent_session_id"], first["parent_turn_id"], first["agent_id"]) == (session_id, turn_id, helper)
    own = [one["id"] for one in (await api.get("/api/v1/sessions", params={"limit": "200"})).json()["items"]]
    assert session_id in own
    assert first["id"] not in own
    assert (await api.get(f"/api/v1/sessions/{first['id']}")).status_code == 200
    stranger = api.as_user("mallory")
    assert (await stranger.get(f"/api/v1/sessions/{first['id']}")).status_code == 404
    refused = await api.post(f"/api/v1/sessions/{first['id']}/messages", {"content": "hello"})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_STATE")


async def test_events_of_a_child_are_told_under_the_numbers_of_its_caller(team: Team, api: Api) -> None:
    below = await team.agent(name="Below")
    helper = await team.agent(name="Helper", agents=[below])
    task = script(
        tool_calls=[[call(function_of(below), input=script(content="from below"))]], content="from the helper"
    )
    session_id, turn_id = await team.asks(helper, task)

    turn = await api.until(session_id, turn_id)
    frames = [
        event["data"]["frame"]
        for event in await api.events(session_id)  # dense, and each as its schema says
        if event["type"] == "stream.chunk" and event["data"]["frame"]["type"] == "subagent"
    ]
    child = await team.child(session_id)
    (grandchild,) = await team.children(child["id"])

    (told,) = turn["subagents"]
    assert (told["session_id"], told["agent_id"], told["status"]) == (child["id"], helper, "completed")
    assert told["tool_call_id"] == child["parent_tool_call_id"] == turn["tool_calls"][0]["id"]
    for session, agent_id, text in ((child, helper, "from the helper"), (grandchild, below, "from below")):
        own = [frame for frame in frames if frame["subagent"]["session_id"] == session["id"]]
        assert {frame["subagent"]["agent_id"] for frame in own} == {agent_id}
        assert {frame["subagent"]["tool_call_id"] for frame in own} == {session["parent_tool_call_id"]}
        chunks = [frame["told"]["data"]["frame"] for frame in own if frame["told"]["type"] == "stream.chunk"]
        assert "".join(chunk["text"] for chunk in chunks if chunk["type"] == "content_delta") == text
        assert own[-1]["told"]["type"] == "stream.ended"
    streamed = await api.turn_stream(session_id, turn_id)
    assert len([event for event in streamed if event.event == "subagent"]) == len(frames)


async def test_an_approval_of_a_child_holds_both_and_says_who_asked_through_whom(
    team: Team, api: Api, sink: Sink
) -> None:
    helper = await team.agent(name="Helper")
    task = script(tool_calls=[[post_call(sink.url("/child-approved"))]], content="sent")
    session_id, turn_id = await team.asks(helper, task)

    await api.until(session_id, turn_id, "waiting_approval")
    child = await team.child(session_id)
    approval = await api.approval(child["id"])
    caller = (await api.get(f"/api/v1/sessions/{session_id}")).json()["agent_id"]
    assert (approval["agent_id"], approval["asked_through"]) == (helper, [caller])
    assert (await api.decide(approval["id"], "approve")).status_code == 200

    turn = await api.until(session_id, turn_id)
    assert turn["status"] == "completed"
    assert len(sink.at("/child-approved")) == 1
    assert turn["tool_calls"][0]["result"]["content"] == "sent"


async def test_a_cancel_reaches_the_child_and_its_approval(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id, turn_id = await team.asks(helper, script(tool_calls=[[post_call(sink.url("/never"))]]))
    await api.until(session_id, turn_id, "waiting_approval")
    child = await team.child(session_id)
    approval = await api.approval(child["id"])

    assert (await api.cancel(session_id, turn_id)).status_code in {200, 202}

    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "cancelled"
    assert (await api.decide(approval["id"], "approve")).status_code == 409
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    assert (await api.until(child["id"], child_turn(approval)))["status"] == "cancelled"
    assert sink.at("/never") == []


async def test_a_suspended_session_holds_its_children(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    task = script(tool_calls=[[post_call(sink.url("/held"))]], content="sent")
    session_id, turn_id = await team.asks(helper, task)
    await api.until(session_id, turn_id, "waiting_approval")
    child = await team.child(session_id)
    approval = await api.approval(child["id"])
    refused = await api.post(f"/api/v1/sessions/{child['id']}/suspend")
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_STATE")
    assert (await api.post(f"/api/v1/sessions/{session_id}/suspend")).status_code == 200

    assert (await api.decide(approval["id"], "approve")).status_code == 200
    assert sink.at("/held") == []
    assert (await api.post(f"/api/v1/sessions/{session_id}/resume")).status_code == 200

    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/held")) == 1


async def test_a_child_that_fails_is_an_error_of_its_call(team: Team, api: Api) -> None:
    helper = await team.agent(name="Helper", defaults={"max_steps": 1})
    session_id, turn_id = await team.asks(helper, script(tool_calls=[[call("calculate", expression="1 + 1")]]))

    turn = await api.until(session_id, turn_id)

    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "failed")
    assert "No answer within 1 steps." in await team.last(session_id, turn_id)


async def test_a_deleted_session_takes_its_children_along(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id, turn_id = await team.asks(helper, script(tool_calls=[[post_call(sink.url("/erased"))]]))
    await api.until(session_id, turn_id, "waiting_approval")
    child = await team.child(session_id)

    assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}")).status_code == 204

    async def is_gone() -> bool:
        return (await api.get(f"/api/v1/sessions/{child['id']}")).status_code == 404

    await eventually(is_gone, "the child to be erased")
    assert sink.at("/erased") == []


def child_turn(approval: Json) -> str:
    return str(approval["turn_id"])


async def test_agents_that_cannot_be_called_are_refused_by_name(team: Team) -> None:
    one = await team.agent()
    two = await team.agent(agents=[one])

    circle = await team.put(one, agents=[two])
    unknown = await team.put(two, agents=[one, "nobody"])
    itself = await team.put(one, agents=[one])

    assert circle.json()["errors"] == [
        {"field": "agents.0", "message": f"it would call itself: {one} -> {two} -> {one}"}
    ]
    assert unknown.json()["errors"] == [{"field": "agents.1", "message": "there is no agent nobody"}]
    assert itself.json()["errors"] == [{"field": "agents.0", "message": f"it would call itself: {one} -> {one}"}]


async def test_another_agent_goes_on_with_the_turn_and_the_session(team: Team, api: Api) -> None:
    billing = await team.agent(name="Billing", tools=["calculate"])
    session_id = await api.session_with(hands_over_to=[billing])
    function = "hand_over_to_" + billing.replace(".", "_")
    more = [call("calculate", expression="17 * 23")]
    turn_id = await api.say(session_id, script(tool_calls=[[call(function, note="Asks for a sum.")], more], echo=True))

    turn = await api.until(session_id, turn_id)

    assert (turn["status"], turn["agent_id"]) == ("completed", billing)
    answers = await api.messages(session_id, turn_id, "assistant")
    assert [message["agent_id"] == billing for message in answers] == [False, True, True]
    assert "391" in await team.last(session_id, turn_id)
    session = (await api.get(f"/api/v1/sessions/{session_id}")).json()
    assert session["agent_id"] == billing
    (told,) = [event for event in await api.events(session_id) if event["type"] == "session.handed_over"]
    assert (told["turn_id"], told["data"]["agent_id"]) == (turn_id, billing)
    assert "session.handed_over" in [event.event for event in await api.turn_stream(session_id, turn_id)]
    audit = (await api.get(f"/api/v1/sessions/{session_id}/audit")).json()
    assert [line["details"]["handed_over_to"] for line in audit["items"] if line["action"] == "tool_call.ended"] == [
        billing
    ]


async def test_a_result_from_the_background_begins_a_turn_after_its_callers_has_ended(
    team: Team, api: Api, sink: Sink
) -> None:
    helper = await team.agent(name="Helper")
    task = script(tool_calls=[[post_call(sink.url("/background"))]], content="blue whale")
    session_id, turn_id = await team.begins(helper, task)

    turn = await api.until(session_id, turn_id)
    assert turn["status"] == "completed", "it waits for nobody"
    assert await team.last(session_id, turn_id) == "it works on it"
    child = await team.child(session_id)
    approval = await api.approval(child["id"])
    caller = (await api.get(f"/api/v1/sessions/{session_id}")).json()["agent_id"]
    assert (approval["agent_id"], approval["asked_through"]) == (helper, [caller])
    assert (await api.decide(approval["id"], "approve")).status_code == 200

    message = await team.result(session_id)
    told = message["from_subagent"]
    assert message["turn_id"] != turn_id
    assert (message["role"], message.get("author")) == ("user", None)
    assert (told["content"], told["status"], told["session_id"]) == ("blue whale", "completed", child["id"])
    assert told["tool_call_id"] == turn["tool_calls"][0]["id"]
    assert (await api.until(session_id, message["turn_id"]))["status"] == "completed"
    assert len(sink.at("/background")) == 1
    (listed,) = (await api.turn(session_id, turn_id))["subagents"]
    assert (listed["background"], listed["status"]) == (True, "completed")
    events = await api.events(session_id)  # dense, and each as its schema says
    assert [one["data"]["from_subagent"] for one in events if "from_subagent" in one["data"]] == [told]
    ends = [one["seq"] for one in events if one["type"] == "stream.ended" and one["turn_id"] == turn_id]
    frames = [
        one
        for one in events
        if one["type"] == "stream.chunk" and one["data"]["frame"]["type"] == "subagent" and one["turn_id"] == turn_id
    ]
    assert frames[-1]["data"]["frame"]["told"]["type"] == "stream.ended"
    assert frames[-1]["seq"] > ends[0], "they go on after the end of the turn that called"
    assert (await api.turn_stream(session_id, turn_id))[-1].event == "end"
    edit = f"/api/v1/sessions/{session_id}/messages/{message['id']}/edit"
    refused = await api.post(edit, {"content": "It was a red fox."})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_MESSAGE")


async def test_a_result_from_the_background_joins_the_turn_that_runs(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id = await api.session_with(agents=[helper], background_agents=[helper])
    begins = [call(function_of(helper), input=script(content="red fox"))]
    turn_id = await api.say(session_id, script(tool_calls=[begins, [post_call(sink.url("/caller"))]], content="done"))
    await api.until(session_id, turn_id, "waiting_approval")

    message = await team.result(session_id)

    assert (message["turn_id"], message["joined"]) == (turn_id, True)
    assert (await api.decide((await api.approval(session_id))["id"], "approve")).status_code == 200
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert [one["turn_id"] for one in await api.messages(session_id) if one["role"] == "user"] == [turn_id, turn_id]


async def test_one_in_the_background_is_cancelled_by_its_own_turn_and_says_so(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id, turn_id = await team.begins(helper, script(tool_calls=[[post_call(sink.url("/stopped"))]]))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    child = await team.child(session_id)
    approval = await api.approval(child["id"])

    assert (await api.cancel(child["id"], child_turn(approval))).status_code in {200, 202}

    told = (await team.result(session_id))["from_subagent"]
    assert told["status"] == "cancelled"
    assert "was cancelled" in told["content"]
    assert sink.at("/stopped") == []


async def test_a_cancelled_caller_takes_its_background_along(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id = await api.session_with(agents=[helper], background_agents=[helper])
    begins = [call(function_of(helper), input=script(tool_calls=[[post_call(sink.url("/along"))]]))]
    turn_id = await api.say(session_id, script(tool_calls=[begins, [post_call(sink.url("/caller-never"))]]))
    await api.until(session_id, turn_id, "waiting_approval")
    approval = await api.approval((await team.child(session_id))["id"])

    assert (await api.cancel(session_id, turn_id)).status_code in {200, 202}

    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "cancelled"
    assert (await team.result(session_id))["turn_id"] == turn_id, "it begins no turn"
    assert sink.at("/along") == sink.at("/caller-never") == []


async def test_a_deleted_session_takes_its_background_along(team: Team, api: Api, sink: Sink) -> None:
    helper = await team.agent(name="Helper")
    session_id, turn_id = await team.begins(helper, script(tool_calls=[[post_call(sink.url("/erased-behind"))]]))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    child = await team.child(session_id)
    approval = await api.approval(child["id"])

    assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}")).status_code == 204

    async def is_gone() -> bool:
        return (await api.get(f"/api/v1/sessions/{child['id']}")).status_code == 404

    await eventually(is_gone, "the child to be erased")
    assert (await api.decide(approval["id"], "approve")).status_code in {404, 409}
    assert sink.at("/erased-behind") == []


async def test_only_agents_that_may_be_called_work_in_the_background(team: Team) -> None:
    one = await team.agent()

    refused = await team.put(f"own.{uuid4().hex[:12]}", background_agents=[one])

    assert refused.json()["errors"] == [{"field": "background_agents.0", "message": f"{one} is not one of `agents`"}]
