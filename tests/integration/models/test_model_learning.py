"""What a server does not take is left out or sent in another way, at the price of one refused request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import ModelFailed
from shared.ids import new_id
from shared.sessions.llm.conversation import AssistantSaid, Said, ToolAnswered, UserSaid
from shared.sessions.llm.registry import ModelApi
from tests.integration.domain import script
from tests.integration.models.served_model import (
    SCHEMA,
    SUM,
    TOOL,
    Arrived,
    Model,
    Serve,
    api,
    ask,
    failure_of,
    model,
    request_to,
    scripted,
    serve,
)

__all__ = ["api", "model", "serve"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

_OPTIONAL: dict[ModelApi, dict[str, dict[str, Any]]] = {
    ModelApi.CHAT: {
        "temperature": {"temperature": 0.5},
        "stream_options": {},
        "max_completion_tokens": {"max_output_tokens": 50},
        "reasoning_effort": {"reasoning_effort": "low"},
        "response_format": {"output_schema": SCHEMA},
    },
    ModelApi.RESPONSES: {
        "temperature": {"temperature": 0.5},
        "max_output_tokens": {"max_output_tokens": 50},
        "include": {},
        "reasoning.summary": {},
        "reasoning.effort": {"reasoning_effort": "low"},
        "text.format": {"output_schema": SCHEMA},
    },
}
_PARAMETERS = [(api, name, changes) for api, names in _OPTIONAL.items() for name, changes in names.items()]


@pytest.mark.parametrize(("api", "name", "changes"), _PARAMETERS, ids=[f"{api}-{name}" for api, name, _ in _PARAMETERS])
async def test_a_refused_parameter_costs_one_request_and_is_logged_once(
    serve: Serve, api: ModelApi, name: str, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = await serve(refused_parameters=(name,))
    request = scripted(api, {"content": '{"n": 1}'}, **changes)

    for _ in range(3):
        assert (await ask(model, request)).text == '{"n": 1}'

    assert len(model.arrived) == 4
    assert caplog.text.count(f"{name} is left out from now on") == 1
    # Another model may take it.
    await ask(model, scripted(api, {"content": "x"}, **changes | {"model": "other"}))
    assert len(model.arrived) == 6


async def test_several_refused_parameters_cost_one_request_each(serve: Serve, api: ModelApi) -> None:
    names = tuple(_OPTIONAL[api])
    changes = {name: value for every in _OPTIONAL[api].values() for name, value in every.items()}
    model = await serve(refused_parameters=names)

    for _ in range(2):
        await ask(model, scripted(api, {"content": "x"}, **changes))

    assert len(model.arrived) == len(names) + 2


async def test_requests_beside_each_other_learn_the_same_once(
    serve: Serve, api: ModelApi, caplog: pytest.LogCaptureFixture
) -> None:
    model = await serve(refused_parameters=("temperature",))

    answers = await asyncio.gather(*(ask(model, scripted(api, {"content": str(n)}, temperature=0.5)) for n in range(5)))

    assert [answer.text for answer in answers] == ["0", "1", "2", "3", "4"]
    assert caplog.text.count("is left out from now on") == 1


async def test_an_output_limit_that_is_too_high_is_lowered_and_remembered(model: Model, api: ModelApi) -> None:
    message = "max_tokens is too large: 20000. This model supports at most 16384 completion tokens."
    fault = {"status": 400, "message": message, "code": "invalid_value", "param": "max_tokens"}
    name = "max_completion_tokens" if api is ModelApi.CHAT else "max_output_tokens"

    for most in (20_000, 20_000, 50):
        await ask(model, scripted(api, {"key": "cap", "fail": [fault], "content": "x"}, max_output_tokens=most))

    assert [arrived.body[name] for arrived in model.arrived] == [20_000, 16_384, 16_384, 50]


async def test_a_schema_that_is_refused_says_so_and_others_are_still_sent(model: Model, api: ModelApi) -> None:
    message = "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required."
    fault = {"status": 400, "message": message, "param": "response_format", "code": "invalid_json_schema"}
    name = "response_format" if api is ModelApi.CHAT else "text"

    failure = await failure_of(model, scripted(api, {"key": "s", "fail": [fault]}, output_schema=SCHEMA))
    await ask(model, scripted(api, {"key": "s", "fail": [fault]}, output_schema=SCHEMA))

    assert isinstance(failure, ModelFailed)
    assert "output_schema" in failure.safe_message
    assert "additionalProperties" not in failure.safe_message
    assert all(name in arrived.body for arrived in model.arrived)
    assert len(model.arrived) == 2


async def test_a_request_that_is_refused_for_another_reason_is_sent_once(model: Model, api: ModelApi) -> None:
    fault = {"status": 400, "message": "Something is wrong with input[3].", "param": "input[3]"}

    failure = await failure_of(
        model, scripted(api, {"key": new_id(), "fail": [fault] * 2}, temperature=0.5, max_output_tokens=50)
    )

    assert isinstance(failure, ModelFailed)
    assert len(model.arrived) == 1


_STALE: list[dict[str, Any]] = [
    {"code": "invalid_encrypted_content", "message": "The encrypted content for item rs_1 could not be verified."},
    {"message": "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.", "status": 404},
    {"message": "Item 'rs_1' of type 'reasoning' was provided without its required following item."},
    {"message": "item['content'] is not an array"},
]


@pytest.mark.parametrize("fault", _STALE)
async def test_notes_that_the_server_does_not_know_any_more_are_left_out_once(
    model: Model, fault: dict[str, Any]
) -> None:
    said = UserSaid(
        script(key="k", fail=[{}, {"status": 400} | fault], reasoning="hm", tool_calls=[[SUM]], content="done")
    )
    first = await ask(model, request_to(ModelApi.RESPONSES, said, tools=[TOOL], reasons=True))
    model.arrived.clear()

    turn: list[Said] = [said, first.said(), *(ToolAnswered(call.id, "2") for call in first.end.tool_calls)]
    answer = await ask(model, request_to(ModelApi.RESPONSES, *turn, tools=[TOOL], reasons=True))

    assert answer.text == "done"
    assert [_kinds(arrived) for arrived in model.arrived] == [
        [None, "reasoning", "function_call", "function_call_output"],
        [None, "function_call", "function_call_output"],
    ]


async def test_notes_that_another_resource_sealed_are_left_out(model: Model) -> None:
    """Deployments behind one address may be of several resources."""
    said = UserSaid(script(reasoning="hm", tool_calls=[[SUM]], content="done"))
    first = await ask(model, request_to(ModelApi.RESPONSES, said, tools=[TOOL], reasons=True))
    kept = [
        item | ({"encrypted_content": "sealed elsewhere"} if item["type"] == "reasoning" else {})
        for item in first.end.kept
    ]
    model.arrived.clear()

    turn: list[Said] = [
        said,
        first.said()._replace(kept=kept),
        *(ToolAnswered(call.id, "2") for call in first.end.tool_calls),
    ]
    answer = await ask(model, request_to(ModelApi.RESPONSES, *turn, tools=[TOOL], reasons=True))

    assert answer.text == "done"
    assert ["reasoning" in _kinds(arrived) for arrived in model.arrived] == [True, False]


def _kinds(arrived: Arrived) -> list[str | None]:
    return [item.get("type") for item in arrived.body["input"]]


@pytest.mark.parametrize("times", [2, 20])
async def test_a_server_that_refuses_whatever_is_left_out_is_given_up(model: Model, api: ModelApi, times: int) -> None:
    faults = [{"status": 400, "message": f"Unsupported parameter: '{name}'", "param": name} for name in _OPTIONAL[api]]

    failure = await failure_of(
        model, scripted(api, {"key": new_id(), "fail": faults * times}, temperature=0.5, max_output_tokens=50)
    )

    assert isinstance(failure, ModelFailed)
    assert len(model.arrived) <= 8


@pytest.mark.parametrize(
    ("effort", "asked"), [(None, [None, "none"]), ("high", ["high"])], ids=["not said", "asked for"]
)
async def test_tools_that_need_the_other_api_say_so(serve: Serve, effort: str | None, asked: list[str | None]) -> None:
    """No effort is tried once, as some models take it; one that was asked for is not taken away."""
    model = await serve(tools_need_responses=True)

    failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("hi"), tools=[TOOL], reasoning_effort=effort))
    await ask(model, scripted(ModelApi.RESPONSES, {"content": "x"}, tools=[TOOL]))

    assert isinstance(failure, ModelFailed)
    assert "MODEL_API=responses" in failure.safe_message
    assert [arrived.body.get("reasoning_effort") for arrived in model.arrived[:-1]] == asked


async def test_a_server_without_a_tool_parser_says_what_it_lacks(serve: Serve, api: ModelApi) -> None:
    model = await serve(no_tool_choice=True)

    failure = await failure_of(model, request_to(api, UserSaid("hi"), tools=[TOOL]))

    assert "--enable-auto-tool-choice" in failure.safe_message
    assert len(model.arrived) == 1


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (
            "The `reasoning_content` in the thinking mode must be passed back to the API.",
            lambda said: said["reasoning_content"] == "",
        ),
        (
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
            lambda said: said["reasoning_content"] == "",
        ),
        (
            "Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9.",
            lambda said: len(said["tool_calls"][0]["id"]) == 9,
        ),
        (
            "Function call is missing a thought_signature in functionCall parts.",
            lambda said: "extra_content" in said["tool_calls"][0],
        ),
    ],
    ids=["deepseek", "kimi", "mistral", "gemini"],
)
async def test_what_a_server_wants_in_another_way_it_gets_at_once(
    model: Model, message: str, sent: Callable[[dict[str, Any]], bool]
) -> None:
    said = UserSaid(script(key="k", fail=[{"status": 400, "message": message}], content="done"))
    call = (await ask(model, scripted(ModelApi.CHAT, {"tool_calls": [[SUM]]}))).end.tool_calls[0]
    model.arrived.clear()
    turn = (said, AssistantSaid("", [call]), ToolAnswered(call.id, "2"))

    for _ in range(2):
        assert (await ask(model, request_to(ModelApi.CHAT, *turn))).text == "done"

    assert len(model.arrived) == 3
    assert all(sent(arrived.body["messages"][2]) for arrived in model.arrived[1:])
