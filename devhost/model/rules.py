"""Optional refusals, in the words of the real server that refuses the same.

Invariant: every rule is off unless an option turns it on, except the check of the context window.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from devhost.model.conversation import ModelRequest, count_prompt_tokens
from devhost.model.errors import Json, RequestRefused
from devhost.model.options import ModelOptions

_AZURE_NO_ACCESS = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an"
    " active subscription and use a correct regional API endpoint for your resource."
)
_AZURE_NO_DEPLOYMENT = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes,"
    " please wait a moment and try again."
)


def check_key(headers: Mapping[str, str], options: ModelOptions, *, is_azure: bool) -> None:
    """Check the key in `Authorization: Bearer` or `api-key`. Raises RequestRefused (401)."""
    if options.api_key is None:
        return
    bearer = headers.get("Authorization", "").removeprefix("Bearer ").strip()
    given = headers.get("api-key") or bearer
    if given == options.api_key:
        return
    if is_azure:
        raise _azure_error("401", _AZURE_NO_ACCESS, status=401)
    if not given:
        raise RequestRefused(
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer"
            " auth (i.e. Authorization: Bearer YOUR_KEY).",
            status=401,
        )
    shown = f"{given[:3]}***{given[-4:]}" if len(given) > 8 else "***"
    raise RequestRefused(f"Incorrect API key provided: {shown}.", status=401, code="invalid_api_key")


def check_model(name: str, options: ModelOptions, *, is_azure: bool) -> None:
    """Check that the model or deployment exists. Raises RequestRefused (404)."""
    if not options.models or name in options.models:
        return
    if is_azure:
        raise _azure_error("DeploymentNotFound", _AZURE_NO_DEPLOYMENT, status=404)
    raise RequestRefused(
        f"The model `{name}` does not exist or you do not have access to it.", status=404, code="model_not_found"
    )


def check_parameters(raw: Mapping[str, Json], options: ModelOptions) -> None:
    """Refuse parameters that the API has but this model does not support. Raises RequestRefused (400)."""
    for name in options.refused_parameters:
        found: Json = raw
        for step in name.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        if found is not None:
            raise RequestRefused(
                f"Unsupported parameter: '{name}' is not supported with this model.",
                param=name,
                code="unsupported_parameter",
            )


def check_tools(request: ModelRequest, options: ModelOptions) -> None:
    """Check that this model calls tools through this API. Raises RequestRefused (400)."""
    if not request.tools:
        return
    if options.no_tool_choice and request.raw.get("tool_choice") in (None, "auto"):
        raise _vllm_error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    if not options.tools_need_responses or request.api != "chat":
        return
    if request.effort == "none":
        raise RequestRefused(
            "Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are:"
            " 'low', 'medium', 'high', and 'xhigh'.",
            param="reasoning_effort",
            code="unsupported_value",
        )
    raise RequestRefused(
        f"Function tools with reasoning_effort are not supported for {request.model} in /v1/chat/completions. To use"
        " function tools, use /v1/responses or set reasoning_effort to 'none'.",
        param="reasoning_effort",
    )


def check_window(request: ModelRequest, options: ModelOptions) -> None:
    """Check that the request fits the context window; vLLM counts the answer as well. Raises RequestRefused (400)."""
    window = options.context_tokens
    prompt = count_prompt_tokens(request)
    answer = (request.max_tokens or 0) if options.overflow == "vllm" else 0
    if prompt + answer > window:
        raise _overflow(request, options, prompt=prompt, answer=answer)


def _overflow(request: ModelRequest, options: ModelOptions, *, prompt: int, answer: int) -> RequestRefused:
    window = options.context_tokens
    match options.overflow:
        case "llama.cpp":
            message = (
                f"request ({prompt} tokens) exceeds the available context size ({window} tokens), try increasing it"
            )
            error: dict[str, Json] = {"code": 400, "message": message, "type": "exceed_context_size_error"}
            return RequestRefused(
                message, raw=orjson.dumps({"error": {**error, "n_prompt_tokens": prompt, "n_ctx": window}})
            )
        case "vllm" if answer:
            return _vllm_error(
                f"This model's maximum context length is {window} tokens. However, you requested {prompt + answer}"
                f" tokens ({prompt} in the messages, {answer} in the completion). Please reduce the length of the"
                " messages or completion."
            )
        case "vllm":
            return _vllm_error(
                f"This model's maximum context length is {window} tokens. However, you requested {prompt} tokens in the"
                " messages, Please reduce the length of the messages."
            )
        case "mistral":
            return _flat_error(
                f"Prompt contains {prompt} tokens and 0 draft tokens, too large for model with {window} maximum context"
                " length",
                kind="invalid_request_invalid_args",
                code="3051",
            )
        case "openai" if request.api == "responses":
            return RequestRefused(
                "Your input exceeds the context window of this model. Please adjust your input and try again.",
                param="input",
                code="context_length_exceeded",
            )
        case "openai":
            return RequestRefused(
                f"This model's maximum context length is {window} tokens. However, your messages resulted in {prompt}"
                " tokens. Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            )


def _vllm_error(message: str) -> RequestRefused:
    return _flat_error(message, kind="BadRequestError", code=400)


def _flat_error(message: str, *, kind: str, code: str | int) -> RequestRefused:
    """An error object without OpenAI's enclosing `error` key."""
    error = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    return RequestRefused(message, raw=orjson.dumps(error))


def _azure_error(code: str, message: str, *, status: int) -> RequestRefused:
    error = {"error": {"code": code, "message": message}}
    return RequestRefused(message, status=status, raw=orjson.dumps(error))
