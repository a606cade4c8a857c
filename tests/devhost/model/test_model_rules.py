"""Options: what a server refuses, in the words of the server that does the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest

type Serve = Callable[..., Awaitable[str]]
type Make = Callable[..., str]

LONG = "long " * 500  # about 630 tokens
CHAT_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


async def chat(url: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    async with httpx.AsyncClient() as http:
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **body}
        return await http.post(url + path, json=asked, headers=headers)


async def respond(url: str, path: str = "/v1/responses", **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    async with httpx.AsyncClient() as http:
        return await http.post(url + path, json={"model": "m", "input": "hi", **body}, headers=headers)


@pytest.mark.parametrize(
    ("overflow", "more", "body"),
    [
        (
            "openai",
            {},
            {
                "error": {
                    "message": "This model's maximum context length is 100 tokens. However, your messages resulted in"
                    " 632 tokens. Please reduce the length of the messages.",
                    "type": "invalid_request_error",
                    "param": "messages",
                    "code": "context_length_exceeded",
                }
            },
        ),
        (
            "llama.cpp",
            {},
            {
                "error": {
                    "code": 400,
                    "message": "request (632 tokens) exceeds the available context size (100 tokens), try increasing"
                    " it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 632,
                    "n_ctx": 100,
                }
            },
        ),
        (
            "vllm",
            {},
            {
                "object": "error",
                "message": "This model's maximum context length is 100 tokens. However, you requested 632 tokens in the"
                " messages, Please reduce the length of the messages.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        (
            "vllm",
            {"max_tokens": 50},
            {
                "object": "error",
                "message": "This model's maximum context length is 100 tokens. However, you requested 682 tokens (632"
                " in the messages, 50 in the completion). Please reduce the length of the messages or completion.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        (
            "mistral",
            {},
            {
                "object": "error",
                "message": "Prompt contains 632 tokens and 0 draft tokens, too large for model with 100 maximum context"
                " length",
                "type": "invalid_request_invalid_args",
                "param": None,
                "code": "3051",
            },
        ),
    ],
)
async def test_a_request_past_the_window_is_refused_in_the_servers_words(
    serve: Serve, overflow: str, more: Any, body: Any
) -> None:
    url = await serve(context_tokens=100, overflow=overflow)
    answer = await chat(url, messages=[{"role": "user", "content": LONG}], **more)
    assert (answer.status_code, answer.json()) == (400, body)
    assert (await chat(url)).status_code == 200


async def test_the_window_binds_responses_as_well(serve: Serve) -> None:
    url = await serve(context_tokens=100)
    answer = await respond(url, input=LONG, stream=True)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    assert error["message"].startswith("Your input exceeds the context window of this model.")


async def test_vllm_counts_the_wished_for_answer(serve: Serve) -> None:
    url = await serve(context_tokens=100, overflow="vllm")
    assert (await chat(url, max_tokens=90)).status_code == 200  # 7 in the messages
    assert (await chat(url, max_tokens=94)).status_code == 400


async def test_only_named_models_answer(serve: Serve) -> None:
    url = await serve(models=("gpt-one", "gpt-two"))
    for answer in (await chat(url, model="gpt-three"), await respond(url, model="gpt-three")):
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] == "model_not_found"
        assert error["message"] == "The model `gpt-three` does not exist or you do not have access to it."
    for answer in (
        await respond(url, "/openai/v1/responses", model="gpt-three"),
        await chat(url, "/openai/deployments/gpt-three/chat/completions?api-version=2024-10-21"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DeploymentNotFound")
    assert (await respond(url, "/openai/v1/responses", model="gpt-two")).status_code == 200
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
        assert [model.id async for model in client.models.list()] == ["gpt-one", "gpt-two"]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-three")


async def test_only_the_key_opens(serve: Serve) -> None:
    url = await serve(api_key="the-right-key")
    for headers in ({}, {"Authorization": "Bearer sk-0123456789"}, {"api-key": "wrong"}):
        for answer in (await chat(url, headers=headers), await respond(url, headers=headers)):
            assert answer.status_code == 401
            assert "the-right-key" not in answer.text
        answer = await respond(url, "/openai/v1/responses", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "401")
    wrong = await chat(url, headers={"Authorization": "Bearer sk-0123456789"})
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert wrong.json()["error"]["message"] == "Incorrect API key provided: sk-***6789."
    for headers in ({"Authorization": "Bearer the-right-key"}, {"api-key": "the-right-key"}):
        assert (await respond(url, "/openai/v1/responses", headers=headers)).status_code == 200
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="other", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_refused_parameters_are_named(serve: Serve) -> None:
    url = await serve(refused_parameters=("temperature", "reasoning.summary", "parallel_tool_calls"))
    for body, name in (
        ({"temperature": 0.5}, "temperature"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
    ):
        error = (await respond(url, **body)).json()["error"]
        assert error == {
            "message": f"Unsupported parameter: '{name}' is not supported with this model.",
            "type": "invalid_request_error",
            "param": name,
            "code": "unsupported_parameter",
        }
    assert (await chat(url, temperature=0.5)).status_code == 400
    assert (await respond(url, reasoning={"effort": "low"}, temperature=None)).status_code == 200


async def test_tools_need_responses(serve: Serve) -> None:
    url = await serve(tools_need_responses=True)
    error = (await chat(url, model="gpt-6", tools=[CHAT_TOOL])).json()["error"]
    assert error["param"] == "reasoning_effort"
    assert error["message"] == (
        "Function tools with reasoning_effort are not supported for gpt-6 in /v1/chat/completions. To use function"
        " tools, use /v1/responses or set reasoning_effort to 'none'."
    )
    # The newest of these models do not take the way out that the message offers.
    without = (await chat(url, tools=[CHAT_TOOL], reasoning_effort="none")).json()["error"]
    assert (without["code"], without["param"]) == ("unsupported_value", "reasoning_effort")
    assert (await chat(url)).status_code == 200
    assert (await respond(url, tools=[TOOL])).status_code == 200


async def test_no_tool_choice(serve: Serve) -> None:
    url = await serve(no_tool_choice=True)
    refused = await chat(url, tools=[CHAT_TOOL])
    assert refused.status_code == 400
    assert refused.json()["message"] == (
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    )
    named = {"type": "function", "function": {"name": "f"}}
    assert (await chat(url, tools=[CHAT_TOOL], tool_choice=named)).status_code == 200
    assert (await chat(url)).status_code == 200


async def test_a_fault_may_have_any_servers_wording(model_url: str, script: Make) -> None:
    words = {"detail": "Unsupported parameter: max_output_tokens"}
    fail = [
        {"status": 400, "body": words},
        {"status": 400, "message": "no", "param": "tools", "type": "odd", "code": "c"},
        {"status": 503, "body": "plain text"},
    ]
    asked = script(key="worded", content="fine", fail=fail)
    assert (await respond(model_url, input=asked)).json() == words
    assert (await respond(model_url, input=asked)).json()["error"] == {
        "message": "no",
        "type": "odd",
        "param": "tools",
        "code": "c",
    }
    assert (await respond(model_url, input=asked)).text == '"plain text"'
    assert (await respond(model_url, input=asked)).status_code == 200
