"""What servers say when a conversation is longer than they read: whether it is that, and the numbers in it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.adapters.models.refusals.overflow import output_cap, overflow_of
from shared.adapters.models.refusals.refusal import Refusal, read_refusal


def _refused(status: int, body: Any) -> Refusal:
    return read_refusal(status, orjson.dumps(body), {})


def _error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


_VLLM = "BadRequestError"


@pytest.mark.parametrize(
    ("status", "body", "limit", "read"),
    [
        (
            400,
            _error(
                "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000"
                " tokens."
                " Please reduce the length of the messages.",
                type="invalid_request_error",
                param="messages",
                code="context_length_exceeded",
            ),
            128_000,
            130_000,
        ),
        (
            400,
            _error(
                "This model's maximum context length is 32768 tokens. However, you requested 45969 tokens (35969 in the"
                " messages, 10000 in the completion). Please reduce the length of the messages or completion.",
                code="context_length_exceeded",
            ),
            32_768,
            35_969,
        ),
        # With room for the answer it was too much: what was read says nothing about how the server counts.
        (
            400,
            _error(
                "This model's maximum context length is 32768 tokens. However, you requested 35969 tokens (9969 in the"
                " messages, 26000 in the completion). Please reduce the length of the messages or completion."
            ),
            32_768,
            None,
        ),
        (
            400,
            _error(
                "This model's maximum context length is 16385 tokens. However, you requested 20000 tokens (19000 in the"
                " messages, 500 in the functions, and 500 in the completion). Please reduce the length."
            ),
            16_385,
            19_000,
        ),
        (
            400,
            _error(
                "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 289650 tokens."
                " Please reduce the length of the messages.",
                code="context_length_exceeded",
            ),
            272_000,
            289_650,
        ),
        (
            200,
            {
                "error": {
                    "code": "context_length_exceeded",
                    "message": "Your input exceeds the context window of this model. Please adjust your input and"
                    " try again.",
                }
            },
            None,
            None,
        ),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "request (8209 tokens) exceeds the available context size (4096 tokens), try"
                    " increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 8209,
                    "n_ctx": 4096,
                }
            },
            4_096,
            8_209,
        ),
        (400, _error("the request exceeds the available context size, try increasing it"), None, None),
        (500, _error("Context size has been exceeded.", code=500, type="server_error"), None, None),
        # Ollama: llama.cpp's answer as text within its own; LM Studio: behind a sentence.
        (
            400,
            _error(
                '{"error":{"code":400,"message":"request (8209 tokens) exceeds the available context size (4096'
                " tokens),"
                ' try increasing it","type":"exceed_context_size_error","n_prompt_tokens":8209,"n_ctx":4096}}'
            ),
            4_096,
            8_209,
        ),
        (
            400,
            _error(
                'Engine protocol predict request returned 400: {"error":{"code":400,"message":"request (8209 tokens)'
                ' exceeds the available context size (4096 tokens), try increasing it"}}'
            ),
            4_096,
            8_209,
        ),
        (
            400,
            {
                "object": "error",
                "message": "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens"
                " (112946 in the messages, 10000 in the completion). Please reduce the length of the messages or"
                " completion.",
                "type": _VLLM,
                "param": None,
                "code": 400,
            },
            16_384,
            112_946,
        ),
        # "at least" is not the length.
        (
            400,
            _error(
                "This model's maximum context length is 196608 tokens. However, you requested 32768 output tokens"
                " and your"
                " prompt contains at least 163841 input tokens, for a total of at least 196609 tokens. Please"
                " reduce the"
                " length of the input prompt or the number of requested output tokens. (parameter=input_tokens,"
                " value=163841)",
                type=_VLLM,
                param="input_tokens",
                code=400,
            ),
            196_608,
            None,
        ),
        (
            400,
            _error(
                "You passed 112946 input tokens and requested 10000 output tokens. However, the model's context"
                " length is"
                " only 16384 tokens, resulting in a maximum input length of 6384 tokens. Please reduce the length"
                " of the"
                " input prompt."
            ),
            16_384,
            112_946,
        ),
        (
            400,
            _error("max_tokens=20000 cannot be greater than max_model_len=16384. Please request fewer."),
            16_384,
            None,
        ),
        (
            400,
            _error(
                "the prompt is longer than the context length currently available to the model; shorten the"
                " prompt, adjust"
                " the context length in settings, or use a model with a longer context length"
            ),
            None,
            None,
        ),
        (400, _error("prompt too long; exceeded max context length by 12 tokens"), None, None),
        (
            200,
            {
                "error": {
                    "message": "Input does not fit in context length. The input has 31430 tokens, but the context"
                    " length"
                    " only supports 30000 tokens."
                }
            },
            30_000,
            31_430,
        ),
        (
            400,
            _error(
                "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded"
                " with context"
                " length of only 4096 tokens, which is not enough."
            ),
            4_096,
            None,
        ),
        (
            400,
            {
                "object": "error",
                "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768"
                " maximum context"
                " length",
                "type": "invalid_request_error",
                "code": "3051",
            },
            32_768,
            40_000,
        ),
        (400, _error("Please reduce the length of the messages or completion."), None, None),
        # Larger than all that a minute allows: no waiting helps, a shorter conversation does.
        (
            413,
            _error(
                "Request too large for model `x` in organization `org_1` service tier `on_demand` on tokens per minute"
                " (TPM): Limit 6000, Requested 8000, please reduce your message size and try again.",
                type="tokens",
                code="rate_limit_exceeded",
            ),
            6_000,
            8_000,
        ),
        (
            429,
            _error(
                "Request too large for gpt-4.1 in organization org-1 on tokens per min (TPM): Limit 30000,"
                " Requested 40000."
                " The input or output tokens must be reduced in order to run successfully.",
                type="tokens",
                code="rate_limit_exceeded",
            ),
            30_000,
            40_000,
        ),
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (1196265) exceeds the maximum number of tokens allowed"
                        " (1048575).",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            1_048_575,
            1_196_265,
        ),
        (
            400,
            {
                "code": "Client specified an invalid argument",
                "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
            },
            131_072,
            537_812,
        ),
        (
            400,
            _error(
                "This endpoint's maximum context length is 32768 tokens. However, you requested about 42832 tokens"
                " (42832 of"
                ' text input). Please reduce the length of either one, or use the "middle-out" transform.',
                code=400,
            ),
            32_768,
            42_832,
        ),
        (
            400,
            _error(
                "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError:"
                " OpenAIException -"
                " This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
                " Received Model Group=x",
                type=None,
                code="400",
            ),
            8_192,
            9_000,
        ),
        (
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"
                " `inputs`"
                " tokens and 100 `max_new_tokens`",
                "error_type": "validation",
            },
            4_096,
            5_000,
        ),
        (422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"}, 4_096, 5_000),
        (
            400,
            _error("Invalid request: Your request exceeded model token limit: 262144 (requested: 270000)"),
            262_144,
            270_000,
        ),
        (400, _error("The input (9000 tokens) is longer than the model's context length (8192 tokens)."), 8_192, 9_000),
        (400, _error("Range of input length should be [1, 129024]"), 129_024, None),
        (400, _error("prompt is too long: 210000 tokens > 200000 maximum"), 200_000, 210_000),
        (413, "", None, None),
        (413, _error("Payload Too Large"), None, None),
    ],
)
def test_an_overflow_is_known_with_the_numbers_it_tells(
    status: int, body: Any, limit: int | None, read: int | None
) -> None:
    overflow = overflow_of(_refused(status, body))

    assert overflow is not None
    assert (overflow.limit_tokens, overflow.read_tokens) == (limit, read)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, _error("Rate limit reached for gpt-5 on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.")),
        (429, _error("Too many requests. Please reduce the length of the messages.")),
        (400, _error("max_tokens is too large: 20000. This model supports at most 16384 completion tokens.")),
        (400, _error("Could not finish the message because max_tokens or model output limit was reached.")),
        (400, _error("Invalid 'messages[1].content': string too long.", code="string_above_max_length")),
        (400, _error("Unsupported parameter: 'temperature' is not supported with this model.")),
        (500, _error("The model produced output that does not match the expected peg-native format")),
        (401, _error("Incorrect API key provided")),
        (200, _error("The model failed to generate a response.", code="server_error")),
    ],
)
def test_what_is_about_something_else_is_none(status: int, body: Any) -> None:
    assert overflow_of(_refused(status, body)) is None


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (
            "max_tokens is too large: 20000. This model supports at most 16384 completion tokens, whereas you provided"
            " 20000.",
            16_384,
        ),
        (
            "max_completion_tokens is too large: 200000. This model supports at most 128000 completion tokens,"
            " whereas you"
            " provided 200000.",
            128_000,
        ),
        (
            "Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 128000, but got 200000"
            " instead.",
            128_000,
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8_192),
        ("Range of max_tokens should be [1, 16384]", 16_384),
        (
            "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for"
            " `max_completion_tokens` is"
            " less than the `context_window` for this model",
            8_192,
        ),
        ("max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens for x", 64_000),
    ],
)
def test_the_most_an_answer_may_have_is_read(message: str, most: int) -> None:
    refusal = _refused(400, _error(message))

    assert output_cap(refusal) == most
    assert overflow_of(refusal) is None


def test_other_words_about_output_name_no_limit() -> None:
    for message in (
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 10 instead.",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can only"
        " afford 4",
    ):
        assert output_cap(_refused(400, _error(message))) is None
