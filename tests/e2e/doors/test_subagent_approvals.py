"""What a subagent asks people, in the clients of other wires: with its own tool and arguments, decided there."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.support.ai_sdk import shown, tools, turn_of, ui_chat
from tests.e2e.support.client import Api, Json, call, post_call, script
from tests.e2e.support.mcp_door import mcp_client
from tests.e2e.support.node_client import node_client
from tests.e2e.support.openai_door import events_of, openai_client
from tests.e2e.support.processes import AppHost, Sink

pytestmark = pytest.mark.timeout(120)

OLGA = "olga;approver"


class Asking:
    """A session whose agent asks other agents. message: what makes it do so."""

    def __init__(self, session_id: str, agent_id: str, helper: str, message: str) -> None:
        self.session_id = session_id
        self.agent_id = agent_id
        self.helper = helper
        self.function = "ask_" + helper.replace(".", "_")
        self.message = message


async def _asking(api: Api, *tasks: str, own: tuple[Json, ...] = (), **caller: Any) -> Asking:
    """tasks: of a helper each, side by side. own: further calls of the turn beside them."""
    helper = f"helper.{uuid4().hex[:12]}"
    body = {"name": "Helper", "instructions": "Be exact."}
    made = await api.as_user("root;admin").request("PUT", f"/api/v1/agents/{helper}", json=body)
    assert made.status_code == 201, made.text
    named = {name: [helper] for name, wanted in caller.items() if wanted is True}
    session_id = await api.session_with(agents=[helper], **named)
    agent_id = (await api.get(f"/api/v1/sessions/{session_id}")).json()["agent_id"]
    calls = [call("ask_" + helper.replace(".", "_"), input=task) for task in tasks]
    return Asking(session_id, agent_id, helper, script(tool_calls=[[*calls, *own]], content="After it."))


def _posting(*urls: str) -> str:
    """A task that posts to these, one after the other."""
    return script(tool_calls=[[post_call(url)] for url in urls], content="sent")


async def test_ag_ui_has_an_interrupt_of_the_subagents_call(parley: AppHost, api: Api, sink: Sink) -> None:
    asking = await _asking(api, _posting(sink.url("/below-ag-ui")))
    async with node_client("ag_ui.cjs", f"{parley.base_url}/api/v1/ag-ui", asking.session_id, OLGA, "") as agent:
        waits = await agent.do(say=asking.message)
        [interrupt] = waits["interrupts"]
        about = interrupt["metadata"]
        assert (about["tool"], about["arguments"]["url"]) == ("http_request", sink.url("/below-ag-ui"))
        assert (about["agent_id"], about["asked_through"]) == (asking.helper, [asking.agent_id])
        [own, asked] = [message for message in waits["messages"] if message.get("toolCalls")]
        assert (own.get("subagentRunId"), asked["subagentRunId"]) == (None, interrupt["subagentRunId"])
        assert [one["function"]["name"] for one in asked["toolCalls"]] == ["http_request"]
        assert asked["toolCalls"][0]["id"] == interrupt["toolCallId"]
        assert sink.at("/below-ag-ui") == []

        resolved = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
        done = await agent.do(resume=[resolved])
        assert (done["error"], done["interrupts"]) == (None, [])
        assert done["messages"][-1]["content"] == "After it."
        results = {one["toolCallId"]: one["content"] for one in done["messages"] if one["role"] == "tool"}
        assert set(results) == {own["toolCalls"][0]["id"], interrupt["toolCallId"]}
        assert len(sink.at("/below-ag-ui")) == 1

        more = await agent.do(say=script(content="And more."))
        assert (more["error"], more["messages"][-1]["content"]) == (None, "And more.")


async def test_who_only_takes_part_is_told_and_cannot_decide(parley: AppHost, api: Api, sink: Sink) -> None:
    asking = await _asking(api, _posting(sink.url("/below-una")))
    path = f"/api/v1/sessions/{asking.session_id}/participants/una"
    assert (await api.request("PUT", path, json={"access": "write"})).status_code == 200
    async with node_client("ag_ui.cjs", f"{parley.base_url}/api/v1/ag-ui", asking.session_id, "una", "") as una:
        waits = await una.do(say=asking.message)
        [interrupt] = waits["interrupts"]
        mine = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
        refused = await una.do(resume=[mine])
        assert (refused["error"]["status"], "TOOL_NOT_FOUND" in refused["error"]["text"]) == (404, True)
        still = await una.do(resume=[{"interruptId": interrupt["id"], "status": "cancelled"}])
        assert [one["id"] for one in still["interrupts"]] == [interrupt["id"]]
        assert (await api.decide(interrupt["id"], "reject")).status_code == 200
        done = await una.do(resume=[{"interruptId": interrupt["id"], "status": "cancelled"}])
    assert (done["error"], done["messages"][-1]["content"]) == (None, "After it.")
    assert sink.at("/below-una") == []


async def test_one_in_the_background_ends_no_run(parley: AppHost, api: Api, sink: Sink) -> None:
    asking = await _asking(api, _posting(sink.url("/behind")), background_agents=True)
    async with node_client("ag_ui.cjs", f"{parley.base_url}/api/v1/ag-ui", asking.session_id, OLGA, "") as agent:
        told = await agent.do(say=asking.message)
    assert (told["error"], told["interrupts"], told["messages"][-1]["content"]) == (None, [], "After it.")
    [child] = (await api.get("/api/v1/sessions", params={"parent_session_id": asking.session_id})).json()["items"]
    assert (await api.decide((await api.approval(child["id"]))["id"], "reject")).status_code == 200


@pytest.mark.parametrize("version", [6, 7])
async def test_use_chat_answers_a_subagent_and_a_call_of_its_own_and_what_is_asked_then(
    api: Api, sink: Sink, version: int
) -> None:
    paths = [f"/below-{version}/{name}" for name in ("first", "second", "own")]
    first, second, own = map(sink.url, paths)
    asking = await _asking(api, _posting(first, second), own=(post_call(own),))
    async with ui_chat(api.base_url, chat_id=asking.session_id, version=version) as chat:
        waiting = await chat.say(asking.message)
        above, mine, below = tools(waiting["messages"][-1])
        assert (above["toolName"], above["output"]) == (asking.function, {"status": "waiting_approval"})
        assert [part["state"] for part in (mine, below)] == ["approval-requested"] * 2
        assert [part["input"]["url"] for part in (mine, below)] == [own, first]
        about = {
            part["id"]: part["data"] for part in waiting["messages"][-1]["parts"] if part["type"] == "data-approval"
        }
        assert about[below["approval"]["id"]]["asked_through"] == [asking.agent_id]
        assert "asked_through" not in about[mine["approval"]["id"]]
        assert turn_of(waiting["messages"][-1])["status"] == "waiting_approval"

        await chat.do("approve", id=below["approval"]["id"], approved=True)
        await chat.do("approve", id=mine["approval"]["id"], approved=True)
        again = await chat.do("wait")
        assert (again["status"], again["error"]) == ("ready", None)
        parts = tools(again["messages"][-1])
        assert [part["state"] for part in parts] == ["output-available"] * 3 + ["approval-requested"]
        assert parts[0]["output"] == {"status": "waiting_approval"}
        await chat.do("approve", id=parts[-1]["approval"]["id"], approved=False, reason="enough")
        state = await chat.do("wait")

        assert (state["status"], state["error"]) == ("ready", None)
        answer = state["messages"][-1]
        assert [part["state"] for part in tools(answer)] == ["output-available"] * 3 + ["output-denied"]
        assert (tools(answer)[0]["output"]["content"], shown(answer)) == ("sent", "After it.")
        assert [len(sink.at(path)) for path in paths] == [1, 0, 1]

        stored = (await api.get(f"/api/v1/ai-sdk/chat/{chat.id}/messages")).json()["messages"]
        outcomes = [
            [(part["toolCallId"], part["toolName"], part["state"]) for part in tools(one)]
            for one in (answer, stored[-1])
        ]
        assert outcomes[0] == outcomes[1], "the history shows what the stream told"
        assert shown((await chat.say(script(content="Yes.")))["messages"][-1]) == "Yes.", "what it posts is its own"


@pytest.mark.parametrize(("approve", "requests"), [(True, 1), (False, 0)])
async def test_a_response_asks_for_the_call_of_a_subagent(
    parley: AppHost, api: Api, sink: Sink, approve: bool, requests: int
) -> None:
    path = f"/below-openai-{approve}"
    asking = await _asking(api, _posting(sink.url(path)))
    async with openai_client(parley.base_url, OLGA) as client:
        waits = await client.responses.create(conversation=asking.session_id, input=asking.message)
        [item] = [one for one in waits.output if one.type == "mcp_approval_request"]
        assert (waits.status, item.name, sink.url(path) in item.arguments) == ("completed", "http_request", True)
        assert item.to_dict()["asked_through"] == [asking.agent_id]
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": item.id, "approve": approve}
        done = await client.responses.create(previous_response_id=waits.id, input=[answer])
        assert (done.status, done.output_text) == ("completed", "After it.")
        ran, above = [one for one in done.output if one.type == "mcp_call"]
        assert (ran.name, ran.approval_request_id) == ("http_request", item.id)
        assert (above.name, ran.status) == (asking.function, "completed" if approve else "failed")
        streamed = await events_of(await client.responses.retrieve(done.id, stream=True))
        assert streamed[-1].response.output == done.output
        retrieved = await client.responses.retrieve(waits.id)
        assert [one.type for one in retrieved.output].count("mcp_approval_request") == 1
    assert len(sink.at(path)) == requests


async def test_an_mcp_client_is_told_what_two_subagents_ask_side_by_side(parley: AppHost, api: Api, sink: Sink) -> None:
    paths = ["/below-mcp/one", "/below-mcp/other"]
    asking = await _asking(api, *(_posting(sink.url(path)) for path in paths))
    async with mcp_client(parley.base_url, OLGA) as client:
        asked = {"message": asking.message, "conversation": asking.session_id}
        told = await client.call_tool(f"ask_{asking.agent_id}", asked)
        assert not told.is_error, told.content
        waiting = told.structured_content["approvals"]
        assert {(one["tool"], one["arguments"]["url"]) for one in waiting} == {
            ("http_request", sink.url(path)) for path in paths
        }
        assert [(one["agent_id"], one["asked_through"]) for one in waiting] == [(asking.helper, [asking.agent_id])] * 2
        assert f"http_request of {asking.helper}" in str(told.content[0])
        for one in waiting:
            await client.call_tool("decide_approval", {"approval_id": one["id"], "decision": "approve"})
        done = await client.call_tool("get_answer", {"task": told.structured_content["task"], "wait_seconds": 50})
    assert (done.structured_content["answer"], done.structured_content["approvals"]) == ("After it.", [])
    assert [len(sink.at(path)) for path in paths] == [1, 1]
