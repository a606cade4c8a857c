"""Which parameter a refusal is about, in the servers' words, and that it is left out from then on."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from shared.adapters.models.refusals.optional import LeftOut, refused_parameter
from shared.adapters.models.refusals.refusal import Refusal, read_refusal
from shared.sessions.llm.registry import ModelApi

_CHAT = frozenset(
    {
        *(
            "stream_options",
            "temperature",
            "max_completion_tokens",
            "max_tokens",
            "reasoning_effort",
            "response_format",
        ),
        *("reasoning_content", "reasoning", "reasoning_details", "extra_content"),
    }
)
_RESPONSES = frozenset(
    {
        "store",
        "temperature",
        "max_output_tokens",
        "include",
        "reasoning.summary",
        "reasoning.effort",
        "text.format",
        "phase",
    }
)


def _refused(status: int, body: Any) -> Refusal:
    return read_refusal(status, orjson.dumps(body), {})


def _error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def _extra(*place: Any) -> dict[str, Any]:
    """Mistral's."""
    detail = [{"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted", "input": 1}]
    return {
        "object": "error",
        "message": {"detail": detail},
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("sent", "status", "body", "name"),
    [
        (
            _CHAT,
            400,
            _error(
                "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is"
                " supported.",
                param="temperature",
                code="unsupported_value",
            ),
            "temperature",
        ),
        (
            _RESPONSES,
            400,
            _error("Unsupported parameter: 'temperature' is not supported with this model."),
            "temperature",
        ),
        (
            _CHAT,
            400,
            _error(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
                " instead.",
                param="max_tokens",
                code="unsupported_parameter",
            ),
            "max_tokens",
        ),
        (_CHAT, 400, _error("max_completion_tokens is not supported, use max_tokens"), "max_completion_tokens"),
        (
            _CHAT,
            400,
            _error(
                "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported"
                " values are:"
                " 'none', 'low', 'medium', 'high', 'xhigh'.",
                param="reasoning_effort",
                code="unsupported_value",
            ),
            "reasoning_effort=minimal",
        ),
        (
            _CHAT,
            400,
            _error(
                "[{'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'none',"
                " 'low',"
                " 'medium' or 'high'\", 'input': 'minimal'}]",
                type="BadRequestError",
            ),
            "reasoning_effort=minimal",
        ),
        (_CHAT, 400, _error("Unrecognized request argument supplied: reasoning_effort"), "reasoning_effort"),
        (
            _CHAT,
            400,
            {"code": "x", "error": "Model grok-4.20-non-reasoning does not support parameter reasoningEffort."},
            "reasoning_effort",
        ),
        (
            _RESPONSES,
            400,
            _error(
                "Unsupported parameter: 'reasoning.effort' is not supported with this model.", param="reasoning.effort"
            ),
            "reasoning.effort",
        ),
        (
            _RESPONSES,
            400,
            _error(
                "Your organization must be verified to generate reasoning summaries. Please go to: https://x",
                param="reasoning.summary",
                code="unsupported_value",
            ),
            "reasoning.summary",
        ),
        (
            _RESPONSES,
            400,
            _error("Unsupported parameter: 'reasoning.summary' is not supported with the 'gpt-4.1' model."),
            "reasoning.summary",
        ),
        (_RESPONSES, 400, _error("Encrypted content is not supported with this model.", param="include"), "include"),
        (_RESPONSES, 400, _error("Encrypted content is not supported with this model."), "include"),
        (_RESPONSES, 400, _error("Unknown parameter: 'include[0]'.", param="include[0]"), "include"),
        (_RESPONSES, 400, _error("Unknown parameter: 'input[0].phase'.", param="input[0].phase"), "phase"),
        (_RESPONSES, 400, _error("Unknown parameter: 'input[0].phase'."), "phase"),
        (_RESPONSES, 400, _error("Unknown parameter: 'store'."), "store"),
        (
            _RESPONSES,
            400,
            _error("Invalid parameter: 'text.format' of type 'json_schema' is not supported with this model."),
            "text.format",
        ),
        (_CHAT, 400, _error("This response_format type is unavailable now"), "response_format"),
        (_CHAT, 400, _error("This model does not support response format `json_schema`."), "response_format"),
        (
            _CHAT,
            400,
            _error("Unknown parameter: 'stream_options.include_usage'.", param="stream_options.include_usage"),
            "stream_options",
        ),
        (_CHAT, 422, _extra("max_completion_tokens"), "max_completion_tokens"),
        (_CHAT, 422, _extra("messages", 31, "assistant", "reasoning_content"), "reasoning_content"),
        (_CHAT, 422, _extra("messages", 3, "assistant", "reasoning"), "reasoning"),
        (
            _CHAT,
            422,
            {
                "object": "Error",
                "detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}],
                "type": "invalid_request_error",
                "code": 3001,
            },
            "stream_options",
        ),
        (
            _CHAT,
            422,
            {
                "error": {
                    "code": "Invalid input",
                    "status": 422,
                    "message": "invalid input error",
                    "details": [{"type": "extra_forbidden", "loc": ["body", "reasoning_effort"]}],
                }
            },
            "reasoning_effort",
        ),
        (
            _CHAT,
            400,
            [_error('Invalid JSON payload received. Unknown name "stream_options": Cannot find field.')],
            "stream_options",
        ),
        (
            _CHAT,
            400,
            _error(
                "litellm.UnsupportedParamsError: openai does not support parameters: ['temperature'], for"
                " model=gpt-5. To"
                " drop these, set `litellm.drop_params=True`"
            ),
            "temperature",
        ),
    ],
)
def test_the_refused_parameter_is_known(sent: frozenset[str], status: int, body: Any, name: str) -> None:
    assert refused_parameter(_refused(status, body), sent, effort="minimal") == name


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        # Of another status.
        (_CHAT, 401, _error("Unsupported parameter: 'temperature'", param="temperature")),
        (_CHAT, 500, _error("Unsupported parameter: 'temperature'")),
        (_CHAT, 429, _error("temperature is not supported")),
        # Of another parameter, though words of it are about ours.
        (_CHAT, 400, _error("Invalid 'messages[0].content': temperature is unknown", param="messages")),
        (_CHAT, 422, _extra("messages", 0, "user", "name")),
        # Of nothing that was sent.
        (_RESPONSES - {"temperature"}, 400, _error("Unsupported parameter: 'temperature'", param="temperature")),
        (_RESPONSES, 400, _error("Invalid input: the messages must include a user message and store nothing")),
        (_RESPONSES, 400, _error("Invalid value: the format of the summary is unexpected in this phase")),
        # A value that is out of range: leaving it out would hide the mistake.
        (
            _CHAT,
            400,
            _error("Invalid 'temperature': decimal above maximum value. Expected a value <= 1.", param="temperature"),
        ),
        (_CHAT, 400, _error("You mention temperature, and nothing is said to be wrong with it")),
    ],
)
def test_a_refusal_of_something_else_leaves_nothing_out(sent: frozenset[str], status: int, body: Any) -> None:
    assert refused_parameter(_refused(status, body), sent) is None


def test_what_is_left_out_is_remembered_by_model_and_api_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    left_out, refusal = LeftOut(), _refused(400, _error("no temperature here, says sk-1234567890"))

    with caplog.at_level(logging.WARNING):
        left_out.add(ModelApi.CHAT, "m", "temperature", refusal)
        left_out.add(ModelApi.CHAT, "m", "temperature", refusal)
        left_out.add(ModelApi.CHAT, "m", "stream_options", refusal)

    assert left_out.of(ModelApi.CHAT, "m") == {"temperature", "stream_options"}
    assert left_out.of(ModelApi.RESPONSES, "m") == left_out.of(ModelApi.CHAT, "other") == frozenset()
    assert [record.getMessage().split(" is left out")[0] for record in caplog.records] == [
        "model m: temperature",
        "model m: stream_options",
    ]
    assert "sk-" not in caplog.text
