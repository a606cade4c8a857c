"""`kill -9` in the middle of what the doors tell: after the restart a client resumes and ends with what is stored."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import httpx2
import openai
import pytest

from tests.e2e.support.client import Api, open_api, post_call, script
from tests.e2e.support.mcp_door import mcp_client
from tests.e2e.support.node_client import node_client
from tests.e2e.support.openai_door import Event, events_of, openai_client, text_of
from tests.e2e.support.processes import AppHost, Sink


@pytest.fixture
async def api(own_host: AppHost) -> AsyncIterator[Api]:
    if not own_host.is_running():
        own_host.start()
    client = await open_api(own_host)
    yield client
    await client.aclose()


async def _read_and_kill(stream: AsyncIterable[Event], host: AppHost, seen: list[Event]) -> None:
    """Read on until the connection breaks: the host is killed with the first text."""
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta" and host.is_running():
            host.kill()


async def test_a_response_is_resumed_after_a_kill_in_the_middle_of_its_stream(own_host: AppHost, api: Api) -> None:
    async with openai_client(own_host.base_url, "olga;approver") as client:
        stream = await client.responses.create(input=script(tokens=80, token_ms=25), stream=True)
        seen: list[Event] = []
        with pytest.raises((httpx2.HTTPError, openai.APIConnectionError)):
            await _read_and_kill(stream, own_host, seen)
        own_host.start()
        response_id, last = seen[0].response.id, seen[-1].sequence_number
        rest = await events_of(await client.responses.retrieve(response_id, stream=True, starting_after=last))
        assert rest[-1].type == "response.completed"
        final = rest[-1].response
        # The first try's text was told and does not count; the second's is told whole.
        assert text_of(rest).endswith(final.output_text)
        assert (await client.responses.retrieve(response_id)).output_text == final.output_text
    assert final.conversation is not None
    [stored] = await api.messages(final.conversation.id, role="assistant")
    assert stored["content"] == final.output_text


async def test_an_approval_is_answered_after_a_kill_while_it_waits(own_host: AppHost, api: Api, sink: Sink) -> None:
    async with openai_client(own_host.base_url, "olga;approver") as client:
        content = script(tool_calls=[[post_call(sink.url("/wires-killed"))]], content="After it.")
        waits = await client.responses.create(input=content)
        [asked] = waits.output
        own_host.kill()
        own_host.start()
        answer = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}
        done = await client.responses.create(previous_response_id=waits.id, input=[answer])  # type: ignore[list-item]
        assert done.output_text == "After it."
    assert len(sink.at("/wires-killed")) == 1


async def test_a_task_is_polled_after_a_kill(own_host: AppHost) -> None:
    async with mcp_client(own_host.base_url) as client:
        arguments = {"message": script(tokens=60, token_ms=25), "wait_seconds": 0}
        asked = await client.call_tool("ask_assistant", arguments)
    own_host.kill()
    own_host.start()
    async with mcp_client(own_host.base_url) as client:
        done = await client.call_tool("get_answer", {"task": asked.structured_content["task"], "wait_seconds": 50})
    assert done.structured_content["status"] == "completed"


async def test_a_run_is_run_again_after_a_kill_in_its_middle(own_host: AppHost, api: Api) -> None:
    thread = "killed in its middle"
    arguments = (f"{own_host.base_url}/api/v1/ag-ui", thread, "olga;approver")
    content = script(tokens=120, token_ms=25)
    async with node_client("ag_ui.cjs", *arguments) as agent:
        started = await agent.do(say=content, id="the-question", stop_after=5)
        assert started["events"][0]["type"] == "RUN_STARTED"
        own_host.kill()
        own_host.start()
        done = await agent.do(again=True)
    assert done["error"] is None, done["error"]
    assert done["events"][-1]["outcome"] == {"type": "success"}
    [shown] = [message["content"] for message in done["messages"] if message["role"] == "assistant"]
    [session] = (await api.get("/api/v1/sessions", params={"limit": "1"})).json()["items"]
    [stored] = await api.messages(session["id"], role="assistant")
    assert stored["content"] == shown
