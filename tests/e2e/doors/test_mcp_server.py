"""The MCP server, from the protocol's own client: agents as tools, approvals to list and decide."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
from mcp import Client

from tests.e2e.support.client import Api, Json, eventually, post_call, script
from tests.e2e.support.mcp_door import mcp_client
from tests.e2e.support.processes import AppHost, Sink

OLGA = "olga;approver"
MODES = ["2026-07-28", "auto", "legacy"]


def _client(parley: AppHost, user: str = OLGA, mode: str = "auto") -> AbstractAsyncContextManager[Client]:
    return mcp_client(parley.base_url, user, mode)


async def _tell(client: Client, tool: str, **arguments: Any) -> Json:
    """What a tool says, which has worked."""
    told = await client.call_tool(tool, arguments)
    assert not told.is_error, told.content
    return dict(told.structured_content)


async def _refusal(client: Client, tool: str, **arguments: Any) -> str:
    """What a tool says, which has not worked."""
    told = await client.call_tool(tool, arguments)
    assert told.is_error, told.content
    return str(told.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
async def test_every_version_of_the_client_lists_the_tools_and_asks(parley: AppHost, mode: str) -> None:
    async with _client(parley, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"ask_assistant", "get_answer", "cancel_task", "list_approvals", "decide_approval"} <= set(tools)
        decides = tools["decide_approval"].annotations
        assert decides is not None
        assert (decides.read_only_hint, decides.destructive_hint) == (False, True)
        told = await client.call_tool("ask_assistant", {"message": script(content="Hello there.")})
        assert (told.is_error, told.content[0].text) == (False, "Hello there.")  # type: ignore[union-attr]
        assert told.structured_content["status"] == "completed"


async def test_there_is_no_stream_of_the_servers_own(parley: AppHost) -> None:
    """As the protocol asks of a server without one."""
    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False) as client:
        for method, accept in (("GET", "text/event-stream"), ("GET", "*/*"), ("DELETE", "*/*")):
            refused = await client.request(method, "/api/mcp", headers={"accept": accept})
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_a_conversation_goes_on(parley: AppHost) -> None:
    async with _client(parley) as client:
        first = await _tell(client, "ask_assistant", message="remember that my dog is Rex")
        asked = {"message": script(echo=True), "conversation": first["conversation"]}
        second = await _tell(client, "ask_assistant", **asked)
        assert "my dog is Rex" in second["answer"]
        assert second["conversation"] == first["conversation"]


async def test_what_takes_longer_is_a_task_to_poll(parley: AppHost) -> None:
    async with _client(parley) as client:
        asked = await _tell(client, "ask_assistant", message=script(tokens=40, token_ms=20), wait_seconds=0)
        assert (asked["status"] in {"queued", "running"}, asked["answer"]) == (True, None)
        done = await _tell(client, "get_answer", task=asked["task"])
        assert (done["status"], bool(done["answer"])) == ("completed", True)
        assert await _tell(client, "get_answer", task=asked["task"], wait_seconds=0) == done


async def test_two_clients_that_ask_at_once_do_not_mix_their_questions(parley: AppHost) -> None:
    async with _client(parley) as one, _client(parley) as other:
        begun = await _tell(one, "ask_assistant", message=script(content="first"))
        slow = {"message": script(tokens=100, token_ms=10), "conversation": begun["conversation"], "wait_seconds": 0}
        asked = await _tell(one, "ask_assistant", **slow)
        late = await _refusal(other, "ask_assistant", message="and me", conversation=begun["conversation"])
        assert late.startswith("CONFLICT")
        polls = (client.call_tool("get_answer", {"task": asked["task"], "wait_seconds": 50}) for client in (one, other))
        first, second = await asyncio.gather(*polls)
    assert first.structured_content == second.structured_content


async def test_a_task_can_be_stopped(parley: AppHost) -> None:
    async with _client(parley) as client:
        asked = await _tell(client, "ask_assistant", message=script(tokens=4000, token_ms=10), wait_seconds=0)
        await client.call_tool("cancel_task", {"task": asked["task"]})

        async def look() -> bool:
            told = await client.call_tool("get_answer", {"task": asked["task"], "wait_seconds": 0})
            return bool(told.structured_content["status"] == "cancelled" and told.is_error)

        await eventually(look, "the task to be stopped")


@pytest.mark.parametrize(("decision", "requests"), [("approve", 1), ("reject", 0)])
async def test_approvals_are_listed_and_decided(parley: AppHost, sink: Sink, decision: str, requests: int) -> None:
    path = f"/mcp-{decision}"
    content = script(tool_calls=[[post_call(sink.url(path))]], content="After it.")
    async with _client(parley) as client:
        waits = await _tell(client, "ask_assistant", message=content)
        [waiting] = waits["approvals"]
        assert (waits["status"], waiting["tool"]) == ("waiting_approval", "http_request")
        assert waiting["arguments"]["url"] == sink.url(path)
        listed = (await _tell(client, "list_approvals"))["approvals"]
        assert waiting["id"] in [approval["id"] for approval in listed]
        assert sink.at(path) == []
        asked = {"approval_id": waiting["id"], "decision": decision, "comment": "as agreed"}
        decided = await _tell(client, "decide_approval", **asked)
        assert decided["approval"]["status"] == f"{decision}{'d' if decision == 'approve' else 'ed'}"
        done = await _tell(client, "get_answer", task=waits["task"])
        assert done["answer"] == "After it."
        assert (await _tell(client, "decide_approval", **asked)) == decided
        other = "reject" if decision == "approve" else "approve"
        assert "CONFLICT" in await _refusal(client, "decide_approval", approval_id=waiting["id"], decision=other)
    assert len(sink.at(path)) == requests


async def test_nobody_sees_or_decides_what_is_not_theirs(parley: AppHost, sink: Sink) -> None:
    content = script(tool_calls=[[post_call(sink.url("/mcp-theirs"))]], content="Done.")
    async with _client(parley) as olga, _client(parley, "walt") as walt:
        waits = await _tell(olga, "ask_assistant", message=content, conversation="same")
        his = await _tell(walt, "ask_assistant", message=script(content="mine"), conversation="same")
        assert his["conversation"] != waits["conversation"]
        [waiting] = waits["approvals"]
        assert waiting["id"] not in [found["id"] for found in (await _tell(walt, "list_approvals"))["approvals"]]
        asked = {"approval_id": waiting["id"], "decision": "approve"}
        assert await _refusal(walt, "decide_approval", **asked) == "TOOL_NOT_FOUND: No such approval."
        missing = "MESSAGE_NOT_FOUND: No such task."
        assert await _refusal(walt, "get_answer", task=waits["task"]) == missing
        assert await _refusal(walt, "cancel_task", task=waits["task"]) == missing
        assert await _refusal(walt, "get_answer", task="resp_x") == missing
        # Who takes part in a session and has no role for it may read what waits, and not decide.
        una = await _tell(walt, "ask_assistant", message=content)
        mine = {"approval_id": una["approvals"][0]["id"], "decision": "approve"}
        assert "not yours to decide" in await _refusal(walt, "decide_approval", **mine)
    assert sink.at("/mcp-theirs") == []


async def test_an_agent_is_asked_by_its_name(parley: AppHost, api: Api) -> None:
    body = {"name": "Own", "instructions": "Be exact."}
    await api.as_user("root;admin").request("PUT", "/api/v1/agents/mcp.own", json=body)
    async with _client(parley) as client:
        assert "ask_mcp.own" in [tool.name for tool in (await client.list_tools()).tools]
        told = await _tell(client, "ask_mcp.own", message=script(content="Exactly."))
        assert told["answer"] == "Exactly."
        other = {"message": "hello", "conversation": told["conversation"]}
        assert "conversation" in await _refusal(client, "ask_assistant", **other)
        assert "There is no agent 'nobody'" in await _refusal(client, "ask_nobody", message="hello")


async def test_a_failed_turn_is_an_error_that_says_why(parley: AppHost) -> None:
    async with _client(parley) as client:
        content = script(key="mcp-fails", fail=[{"status": 400, "message": "no"}], content="x")
        assert (await _refusal(client, "ask_assistant", message=content)).startswith("LLM_ERROR")


@pytest.mark.parametrize(
    ("tool", "arguments", "field"),
    [
        ("ask_assistant", {}, "message"),
        ("ask_assistant", {"message": "x", "approval_mode": "auto"}, "approval_mode"),
        ("ask_assistant", {"message": "x", "wait_seconds": 1000}, "wait_seconds"),
        ("ask_assistant", {"message": "x" * 400_001}, "message"),
        ("ask_assistant", {"message": "x", "conversation": "a\x00"}, "conversation"),
        ("decide_approval", {"approval_id": "x", "decision": "maybe"}, "decision"),
        ("decide_approval", {"approval_id": "../x", "decision": "approve"}, "TOOL_NOT_FOUND"),
        ("list_approvals", {"status": "any"}, "status"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_by_name(
    parley: AppHost, tool: str, arguments: Json, field: str
) -> None:
    async with _client(parley) as client:
        assert field in await _refusal(client, tool, **arguments)


# A client that is none. --------------------------------------------------------------------------

PING = {"jsonrpc": "2.0", "id": 7, "method": "ping"}


async def _post(parley: AppHost, body: Any = PING, **headers: str) -> httpx.Response:
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False) as client:
        return await client.post("/api/mcp", headers={"x-dev-user": "eve", **headers}, **content)  # type: ignore[arg-type]


async def test_a_page_of_another_site_is_refused(parley: AppHost) -> None:
    assert (await _post(parley)).json() == {"jsonrpc": "2.0", "id": 7, "result": {}}
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        response = await _post(parley, **headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, -32600)
    assert (await _post(parley, origin=parley.base_url)).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"ping"}', {"content-type": "text/plain"}, 400, -32600),
        (b"{", {"content-type": "application/json"}, 400, -32700),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","method":"x"}', {"content-type": "application/json"}, 400, -32600),
        ([PING], {}, 400, -32600),
        ({**PING, "method": "approvals/decide"}, {}, 200, -32601),
        ({**PING, "method": "tools/call", "params": {"name": "shell"}}, {}, 200, -32602),
        ({**PING, "method": "tools/list", "params": {"cursor": 5}}, {}, 200, -32602),
        (PING, {"mcp-protocol-version": "1999-01-01"}, 400, -32022),
        (PING, {"mcp-protocol-version": "2026-07-28", "mcp-method": "ping"}, 400, -32602),
    ],
)
async def test_what_is_not_understood_is_refused_by_name(
    parley: AppHost, body: Any, headers: dict[str, str], status: int, code: int
) -> None:
    response = await _post(parley, body, **headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text


async def test_too_much_is_refused(parley: AppHost) -> None:
    response = await _post(parley, {**PING, "params": {"x": "y" * (3 * 1024 * 1024)}})
    assert (response.status_code, response.json()["code"]) == (413, "MESSAGE_TOO_LONG")


async def test_notifications_and_what_nobody_asked_for_are_taken_note_of(parley: AppHost) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await _post(parley, note)).status_code == 202
