"""What an error of a model server means for the turn, by its status, shape and wording; and what a user reads of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.adapters.models.refusals.meaning import Asked, meaning_of, refuses_schema
from shared.adapters.models.refusals.refusal import Refusal, read_refusal, refusal_of
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm.protocol import ContextOverflow, PromptFiltered
from shared.sessions.llm.registry import ModelApi

_ASKED = Asked("my-model", ModelApi.CHAT, model_setting="OPENAI_MODEL", key_setting="OPENAI_API_KEY")
_AS_ITSELF = Asked("my-model", ModelApi.RESPONSES, model_setting="AZURE_OPENAI_DEPLOYMENT", key_setting=None)


def _read(status: int, body: Any, **headers: str) -> Refusal:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_refusal(status, raw, {name.replace("_", "-"): value for name, value in headers.items()})


def _meaning(status: int, body: Any, asked: Asked = _ASKED, **headers: str) -> AppError:
    return meaning_of(_read(status, body, **headers), asked)


def _error(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


_AZURE_FILTER = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please"
    " modify your"
    " prompt and retry. To learn more: https://go.microsoft.com/fwlink/?linkid=2198766"
)

_FILTERED = [
    (400, _error(_AZURE_FILTER, type=None, param="prompt", code="content_filter", status=400)),
    (400, _error(_AZURE_FILTER.replace("Azure OpenAI", "Microsoft"), code=None)),
    (
        400,
        _error(
            "x", code="BadRequest", innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}}
        ),
    ),
    (400, _error("x", code="content_filter", content_filters=[{"blocked": True, "source_type": "prompt"}])),
    (
        400,
        _error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
        ),
    ),
    (200, _error("x", code="cyber_policy_violation")),
    (200, _error("x", code="bio_policy")),
    (200, _error("x", code="misalignment_policy_violation")),
    (200, _error(_AZURE_FILTER)),
    (400, _error("Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
    (400, _error("The request was rejected because it was considered high risk", type="content_filter")),
]


@pytest.mark.parametrize(("status", "body"), _FILTERED)
def test_a_prompt_that_the_filter_refused_is_known(status: int, body: Any) -> None:
    assert isinstance(_meaning(status, body), PromptFiltered)


def test_a_conversation_that_is_too_long_is_known() -> None:
    body = _error("This model's maximum context length is 10 tokens. However, your messages resulted in 12 tokens.")

    meaning = _meaning(400, body)

    assert isinstance(meaning, ContextOverflow)
    assert (meaning.code, meaning.limit_tokens, meaning.read_tokens) == (ErrorCode.TOKEN_LIMIT, 10, 12)


_FATAL = [
    # Money.
    (429, _error("You exceeded your current quota, please check your plan.", type="insufficient_quota"), "quota"),
    (429, _error("x", code="insufficient_quota"), "quota"),
    (200, _error("x", code="insufficient_quota"), "quota"),
    (402, _error("Insufficient Balance", type="unknown_error", code="invalid_request_error"), "quota"),
    (
        402,
        _error("This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens."),
        "quota",
    ),
    (400, _error("Your credit balance is too low to access the API."), "quota"),
    # Keys and roles.
    (401, _error("Incorrect API key provided: sk-abc***.", code="invalid_api_key"), "OPENAI_API_KEY"),
    (401, {"detail": "Unauthorized"}, "OPENAI_API_KEY"),
    (
        401,
        _error("Authentication Fails, Your api key: ****x is invalid", type="authentication_error"),
        "OPENAI_API_KEY",
    ),
    (400, [_error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT")], "OPENAI_API_KEY"),
    (401, _error("Invalid API Key", code=401, type="authentication_error"), "OPENAI_API_KEY"),
    (
        403,
        _error("Key based authentication is disabled for this resource.", code="AuthenticationTypeDisabled"),
        "no keys",
    ),
    (403, _error("Access denied due to Virtual Network/Firewall rules.", code="403"), "network rules"),
    (403, _error("Public access is disabled. Please configure private endpoint.", code="403"), "network rules"),
    (403, _error("The resource has been temporarily blocked because we detected behavior"), "blocked"),
    # Models that are not there.
    (
        404,
        _error("The model `x` does not exist or you do not have access to it.", code="model_not_found"),
        "OPENAI_MODEL",
    ),
    (404, _error("The model `x` does not exist.", type="NotFoundError", code=404), "OPENAI_MODEL"),
    (404, _error("model 'x' not found", type="not_found_error"), "OPENAI_MODEL"),
    (404, _error('model "x" not found, try pulling it first'), "OPENAI_MODEL"),
    (400, _error("Model Not Exist", type="invalid_request_error"), "OPENAI_MODEL"),
    (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, "OPENAI_MODEL"),
    (404, _error("The API deployment for this resource does not exist.", code="DeploymentNotFound"), "OPENAI_MODEL"),
    (404, _error("The API deployment `x` does not exist.", code="invalid_request_error"), "OPENAI_MODEL"),
    (404, _error("No models loaded. Please load a model in the developer page."), "OPENAI_MODEL"),
    (400, _error('Failed to load model "x".'), "OPENAI_MODEL"),
    (410, _error("Gone"), "retired"),
    (410, b"", "retired"),
    (404, _error("The model `x` has been deprecated, learn more here: https://x", code="model_not_found"), "retired"),
    (404, _error("Resource not found", code="404"), "MODEL_API"),
    (404, b"<html>nginx</html>", "MODEL_API"),
    (405, b"", "MODEL_API"),
    (308, b"", "address"),
    # Tools and images.
    (
        400,
        _error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        "tool-choice flag",
    ),
    (400, _error('tool_choice="required" requires --tool-call-parser to be set'), "tool-choice flag"),
    (500, _error("tools param requires --jinja flag"), "--jinja"),
    (
        400,
        _error("registry.ollama.ai/library/gemma3:latest does not support tools", type="api_error"),
        "takes no tools",
    ),
    (400, _error('"llama3.2" does not support tools'), "takes no tools"),
    (404, _error("No endpoints found that support tool use. To learn more: https://x"), "takes no tools"),
    (404, _error("No endpoints found that support image input"), "takes no images"),
    (500, _error("image input is not supported - hint: you may need to provide the mmproj"), "takes no images"),
    (400, _error("Invalid content type. image_url is only supported by certain models."), "takes no images"),
    (200, _error("x", code="invalid_image_format"), "an image"),
    (200, _error("x", code="image_too_large"), "an image"),
    (400, _error("Failed to process image"), "an image"),
    # The other API.
    (
        400,
        _error(
            "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/chat/completions. To use"
            " function tools, use /v1/responses or set reasoning_effort to 'none'.",
            param="reasoning_effort",
        ),
        "MODEL_API=responses",
    ),
    (
        404,
        _error("This model is only supported in v1/responses and not in v1/chat/completions."),
        "MODEL_API=responses",
    ),
    (400, _error("The requested operation is unsupported.", code="OperationNotSupported"), "MODEL_API=responses"),
    (
        400,
        _error("The chatCompletion operation does not work with the specified model, x.", code="OperationNotSupported"),
        "MODEL_API=responses",
    ),
    # The rest.
    (400, _error("Something else", type="invalid_request_error"), "refused the request"),
    (422, {"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "no"}]}}, "refused the request"),
    (200, _error("Bad", type="invalid_request_error", code=None), "refused the request"),
    (200, _error("Bad", code="data_residency_mismatch"), "refused the request"),
]


@pytest.mark.parametrize(("status", "body", "says"), _FATAL)
def test_what_waiting_does_not_cure_says_who_can_do_what(status: int, body: Any, says: str) -> None:
    meaning = _meaning(status, body)

    assert isinstance(meaning, ModelFailed), meaning
    assert meaning.code is ErrorCode.LLM_ERROR
    assert says in meaning.safe_message


def test_an_output_limit_that_reasoning_used_up_is_a_matter_of_tokens() -> None:
    body = _error("Could not finish the message because max_tokens or model output limit was reached.")

    meaning = _meaning(400, body)

    assert isinstance(meaning, ModelFailed)
    assert (meaning.code, "max_output_tokens" in meaning.safe_message) == (ErrorCode.TOKEN_LIMIT, True)


@pytest.mark.parametrize(
    "body",
    [
        _error(
            "The principal `1a2b` lacks the required data action"
            " `Microsoft.CognitiveServices/accounts/OpenAI/responses/write` to perform `POST /openai/v1/responses`.",
            code="PermissionDenied",
        ),
        _error("Principal does not have access to API/Operation.", code="PermissionDenied"),
        {"statusCode": 401, "message": "Unauthorized. Access token is missing, invalid, audience is incorrect."},
        _error("Access denied due to invalid subscription key or wrong API endpoint.", code="401"),
    ],
)
def test_an_identity_that_may_not_is_told_which_role_it_needs(body: Any) -> None:
    meaning = _meaning(401, body, _AS_ITSELF)

    assert isinstance(meaning, ModelFailed)
    assert "Cognitive Services OpenAI User" in meaning.safe_message


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait_s"),
    [
        (429, _error("Rate limit reached", type="requests", code="rate_limit_exceeded"), {"retry_after": "37"}, 37),
        (429, _error("x"), {"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        (429, _error("x", code="429"), {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (429, _error("x"), {"retry_after": "nan"}, None),
        (429, _error("x"), {"retry_after": "-5"}, 0),
        (429, _error("Rate limit reached for gpt-5: Limit 3, Used 3. Please try again in 1.2s."), {}, 1.2),
        (429, _error("Please try again in 20ms. Visit your account's billing page to add a method."), {}, 0.02),
        (429, _error("Rate limit reached for model. Please try again in 7m12.5s."), {}, 432.5),
        (
            429,
            _error("You have exceeded token rate limit. Please retry after 6 seconds.", code="RateLimitReached"),
            {},
            6,
        ),
        (200, _error("Rate limit reached. Please try again in 2s.", code="rate_limit_exceeded"), {}, 2),
        (
            429,
            [
                _error(
                    "You exceeded your current quota, please check your plan and billing details.",
                    status="RESOURCE_EXHAUSTED",
                    details=[{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}],
                )
            ],
            {},
            34.5,
        ),
        (
            429,
            {"object": "error", "message": "Service tier capacity exceeded for this model.", "code": "3505"},
            {},
            None,
        ),
        (429, b"", {}, None),
    ],
)
def test_a_rate_limit_says_when_to_come_back(
    status: int, body: Any, headers: dict[str, str], wait_s: float | None
) -> None:
    meaning = _meaning(status, body, _ASKED, **headers)

    assert isinstance(meaning, Transient)
    assert (meaning.code, meaning.retry_after_s) == (ErrorCode.RATE_LIMITED, wait_s)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (408, b"", ErrorCode.LLM_TIMEOUT),
        (504, b"<html>Gateway Time-out</html>", ErrorCode.LLM_TIMEOUT),
        (500, _error("x", type="server_error"), ErrorCode.LLM_ERROR),
        (502, b"", ErrorCode.LLM_ERROR),
        (503, _error("Loading model", type="unavailable_error", code=503), ErrorCode.LLM_ERROR),
        (503, {"error": "Model is overloaded", "error_type": "overloaded"}, ErrorCode.LLM_ERROR),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, ErrorCode.LLM_ERROR),
        (
            500,
            _error("The model produced output that does not match the expected peg-native format"),
            ErrorCode.LLM_ERROR,
        ),
        (409, b"", ErrorCode.LLM_ERROR),
        (
            400,
            _error("Failed to call a function.", code="tool_use_failed", type="invalid_request_error"),
            ErrorCode.LLM_ERROR,
        ),
        (200, _error("x", code="server_error"), ErrorCode.LLM_ERROR),
        (200, _error("x", code="vector_store_timeout"), ErrorCode.LLM_ERROR),
        (200, _error("x", code="something_new"), ErrorCode.LLM_ERROR),
        (200, {"error": "boom"}, ErrorCode.LLM_ERROR),
    ],
)
def test_what_may_work_another_time_is_tried_again(status: int, body: Any, code: ErrorCode) -> None:
    meaning = _meaning(status, body)

    assert isinstance(meaning, Transient)
    assert meaning.code is code


_EVERY = [(status, body) for status, body, _ in _FATAL] + _FILTERED


@pytest.mark.parametrize("asked", [_ASKED, _AS_ITSELF], ids=["key", "identity"])
@pytest.mark.parametrize(("status", "body"), _EVERY)
def test_a_user_reads_no_word_of_the_provider_no_key_and_no_address(status: int, body: Any, asked: Asked) -> None:
    marks = ("ZZZ", "https://x.example/y", "sk-secret-1234567890")

    def marked(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: f"{item} {' '.join(marks)}"
                if key in {"message", "detail"} and isinstance(item, str)
                else marked(item)
                for key, item in value.items()
            }
        return [marked(item) for item in value] if isinstance(value, list) else value

    refusal = _read(status, marked(body))
    sentence = meaning_of(refusal, asked).safe_message

    assert not any(mark in sentence for mark in marks)
    assert "http" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("body", "is_refused"),
    [
        (
            _error("Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required"),
            True,
        ),
        (_error("x", code="invalid_json_schema", param="text.format.schema"), True),
        (_error("The provided JSON schema is invalid: unsupported keyword"), True),
        (_error("Failed to parse grammar"), True),
        (_error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."), False),
        (_error("This model does not support response format `json_schema`."), False),
        (_error("This response_format type is unavailable now"), False),
        (_error("Unsupported parameter: 'temperature' is not supported with this model."), False),
    ],
)
def test_one_schema_that_is_refused_is_told_from_all_of_them(body: Any, is_refused: bool) -> None:
    assert refuses_schema(_read(400, body)) is is_refused


def test_an_error_in_a_stream_means_what_it_would_mean_as_a_status() -> None:
    body = {"error": {"code": "model_not_found", "message": "x"}}

    assert "OPENAI_MODEL" in meaning_of(refusal_of(body), _ASKED).safe_message
