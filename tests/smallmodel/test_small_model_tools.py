"""A tool call that a real model decides on, streams and reads the result of, over either API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from devtools.small_model import CONTEXT_TOKENS
from tests.e2e.support.client import Api, open_api
from tests.e2e.support.processes import AppHost
from tests.smallmodel.stack import RunningModel, answer_of, app_with, long_message, running_model


@pytest.fixture(scope="module")
def calling_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningModel]:
    """With the chat template that takes tools."""
    with running_model(tmp_path_factory.mktemp("calling-model"), "--tools") as model:
        yield model


@pytest.fixture(scope="module", params=["chat", "responses"])
def parley(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, calling_model: RunningModel
) -> Iterator[AppHost]:
    with app_with(tmp_path_factory.mktemp("parley"), calling_model, MODEL_API=request.param) as host:
        yield host


@pytest.fixture
async def api(parley: AppHost) -> AsyncIterator[Api]:
    client = await open_api(parley)
    yield client
    await client.aclose()


async def _session_with_tools(api: Api, *tools: str) -> str:
    agent_id = f"calculator-{uuid4()}"
    body = {"name": "Calculator", "instructions": "Answer questions about numbers.", "tools": list(tools)}
    made = await api.as_user("root;admin").request("PUT", f"/api/v1/agents/{agent_id}", json=body)
    assert made.status_code == 201, made.text
    response = await api.post("/api/v1/sessions", {"agent_id": agent_id, "config": {"max_output_tokens": 100}})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_the_model_calls_a_tool_and_answers_with_its_result(api: Api) -> None:
    session = await _session_with_tools(api, "calculate")
    turn_id = await api.say(session, "What is 12 * 7?")

    answer = await answer_of(api, session, turn_id)
    turn = await api.turn(session, turn_id)

    [call] = turn["tool_calls"]
    assert (call["name"], call["status"]) == ("calculate", "completed")
    assert call["arguments"]["expression"].replace(" ", "") == "12*7"
    assert turn["steps"] == 2
    # A model this small does not know the product: without the tool it says 90.
    assert "84" in answer["content"]


async def test_without_tools_it_answers_at_once_turn_after_turn(api: Api) -> None:
    session = await _session_with_tools(api)

    for question, city in (("What is the capital of France?", "Paris"), ("And the capital of Italy?", "Rome")):
        turn_id = await api.say(session, question)
        answer = await answer_of(api, session, turn_id)
        turn = await api.turn(session, turn_id)

        assert city in answer["content"]
        assert (turn["steps"], turn["tool_calls"]) == (1, [])
        assert turn["usage"]["output_tokens"] > 0


async def test_a_conversation_longer_than_the_window_goes_on_beside_its_tools(
    api: Api, calling_model: RunningModel
) -> None:
    # The descriptions of all the app's tools fill more than a third of the window.
    session = await api.session(max_output_tokens=60)
    refused_before = calling_model.refusals()

    for number in range(1, 6):
        answer = await answer_of(api, session, await api.say(session, long_message(number)))
        assert answer["content"].strip(), f"turn {number} has an answer"

    said = "\n".join(message["content"] for message in await api.messages(session))
    assert calling_model.count_tokens(said) > CONTEXT_TOKENS
    assert calling_model.refusals() - refused_before <= 2
