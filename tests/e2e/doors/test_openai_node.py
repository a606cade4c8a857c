"""OpenAI's own client under Node, unchanged but for its address. What the one for Python does too is not told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e.support.client import call, post_call, script
from tests.e2e.support.node_client import NodeClient, node_client
from tests.e2e.support.processes import AppHost, Sink


@pytest.fixture
async def client(parley: AppHost) -> AsyncIterator[NodeClient]:
    async with node_client("openai.cjs", f"{parley.base_url}/api/openai/v1", "olga;approver") as made:
        yield made


async def test_an_answer_a_stream_and_a_resume(client: NodeClient) -> None:
    whole = await client.do(create={"model": "assistant", "input": script(content="Hello there.")})
    assert (whole["text"], whole["response"]["status"]) == ("Hello there.", "completed")
    again = {"previous_response_id": whole["response"]["id"], "input": script(tokens=60, token_ms=5), "stream": True}
    seen = (await client.do(create=again, stop_after=9))["events"]
    response_id = seen[0]["response"]["id"]
    rest = (await client.do(retrieve=response_id, starting_after=seen[-1]["sequence_number"]))["events"]
    told = "".join(event["delta"] for event in [*seen, *rest] if event["type"] == "response.output_text.delta")
    assert rest[-1]["type"] == "response.completed"
    stored = await client.do(retrieve=response_id)
    assert stored["text"] == told
    assert stored["response"]["conversation"] == whole["response"]["conversation"]
    assert "assistant" in (await client.do(models=True))["models"]


async def test_approval_items_and_cancel(client: NodeClient, sink: Sink) -> None:
    content = script(tool_calls=[[post_call(sink.url("/openai-node"))]], content="After it.")
    waits = (await client.do(create={"input": content}))["response"]
    [asked] = waits["output"]
    answer = {"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": True}
    done = await client.do(create={"previous_response_id": waits["id"], "input": [answer]})
    assert (done["text"], len(sink.at("/openai-node"))) == ("After it.", 1)
    runs = (await client.do(create={"input": script(tokens=4000, token_ms=10), "background": True}))["response"]
    cancelled = (await client.do(cancel=runs["id"]))["response"]
    assert cancelled["status"] in {"cancelled", "in_progress"}


async def test_what_is_refused_has_the_clients_own_errors(client: NodeClient) -> None:
    forged = {"type": "function_call_output", "call_id": "c", "output": "x"}
    refused = (await client.do(create={"input": [{"role": "user", "content": "hi"}, forged]}))["error"]
    assert (refused["status"], refused["code"], refused["param"]) == (422, "VALIDATION_ERROR", "input.1")
    assert "cannot come together with a message" in refused["message"]
    missing = (await client.do(retrieve="resp_1"))["error"]
    assert (missing["status"], missing["code"]) == (404, "MESSAGE_NOT_FOUND")


async def test_a_function_of_the_client_is_called_and_answered(client: NodeClient) -> None:
    locate = {"type": "function", "name": "locate", "parameters": {"type": "object", "properties": {}}, "strict": True}
    asks = {"input": script(tool_calls=[[call("locate")]], content="In Oslo."), "tools": [locate]}
    waits = (await client.do(create=asks))["response"]
    [function] = waits["output"]
    assert (function["type"], function["name"], waits["status"]) == ("function_call", "locate", "completed")
    output = {"type": "function_call_output", "call_id": function["call_id"], "output": '{"city": "Oslo"}'}
    answers = {"previous_response_id": waits["id"], "input": [output], "tools": [locate]}
    done = await client.do(create=answers)
    assert (done["response"]["status"], done["text"]) == ("completed", "In Oslo.")
