"""Maps a refusal to a domain error, with a message that says who has to do what.

Invariant: the message contains no text from the provider, no key and no address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.adapters.models.refusals.overflow import overflow_of
from shared.adapters.models.refusals.refusal import Refusal
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm.protocol import PromptFiltered
from shared.sessions.llm.registry import ModelApi


@dataclass(frozen=True, slots=True)
class Asked:
    """The request, and the settings its model and key came from. key_setting: None if the app uses its identity."""

    model: str
    api: ModelApi
    model_setting: str
    key_setting: str | None


def meaning_of(refusal: Refusal, asked: Asked) -> AppError:
    """The domain error for a refusal: Transient when another try may work."""
    if refusal.is_any(_FILTER_CODES) or (refusal.status in {200, 400} and refusal.says(_FILTERED)):
        return PromptFiltered()
    overflow = overflow_of(refusal)
    if overflow is not None:
        return overflow
    if _is_quota(refusal):
        return _failed("The model's quota is used up. The operator has to raise it; trying again does not help.")
    if refusal.status == 429 or refusal.is_any(_RATE_CODES):
        return Transient(
            ErrorCode.RATE_LIMITED, "The model is over its rate limit.", retry_after_s=refusal.retry_after_s
        )
    if refusal.status in {408, 504}:
        return Transient(ErrorCode.LLM_TIMEOUT, "The model did not answer in time.")
    if refusal.status in {401, 403}:
        return _unauthorised(refusal, asked)  # before its text is searched, which may name API paths
    return _about_request(refusal, asked) or _about_setup(refusal, asked) or _about_server(refusal)


def needs_other_api(asked: Asked) -> ModelFailed:
    """The error for a request that the model supports only over the other API."""
    other = ModelApi.CHAT if asked.api is ModelApi.RESPONSES else ModelApi.RESPONSES
    return _failed(
        f"The model {asked.model!r} does not support this over the API {asked.api}. The operator has to set"
        f" MODEL_API={other}, or `api` for this model in MODELS."
    )


def refuses_schema(refusal: Refusal) -> bool:
    """Whether this particular answer schema is refused, rather than schemas in general."""
    return refusal.is_any(_SCHEMA_CODES) or (refusal.status in {400, 422} and refusal.says(_SCHEMA))


def _about_request(refusal: Refusal, asked: Asked) -> ModelFailed | None:
    """Errors about what this model does not support."""
    if refusal.says(_USED_UP):
        return ModelFailed(
            ErrorCode.TOKEN_LIMIT,
            "The model used its whole output limit for reasoning, before its answer began. Raise max_output_tokens, or"
            " lower reasoning_effort.",
        )
    if refusal.says(_TOOL_FLAG):
        return _failed(
            "The model server was started without support for tools. The operator has to start it with its tool-choice"
            " flag (vLLM: --enable-auto-tool-choice --tool-call-parser; llama.cpp: --jinja)."
        )
    if refusal.says(_NO_TOOLS):
        return _failed(f"The model {asked.model!r} takes no tools. Use an agent without tools, or another model.")
    if refusal.says(_NO_IMAGES):
        return _failed(f"The model {asked.model!r} takes no images. Use an agent without vision, or another model.")
    if refusal.says(_BAD_IMAGE) or any(_IMAGE_CODE.search(code) for code in refusal.codes):
        return _failed("The model could not read an image in the conversation. Send it in another format, or smaller.")
    if refusal.status < 500 and (refusal.says(_OTHER_API) or refusal.is_any(_OTHER_API_CODES)):
        return needs_other_api(asked)
    return None


def _about_setup(refusal: Refusal, asked: Asked) -> ModelFailed | None:
    """Errors that the operator has to fix."""
    status = refusal.status
    if refusal.is_any(_KEY_CODES) or (status == 400 and refusal.says(_BAD_KEY)):
        return _unauthorised(refusal, asked)
    if status == 410 or (status in {400, 404} and refusal.says(_RETIRED)):
        return _failed(
            f"The model {asked.model!r} is retired. The operator has to deploy another one and change"
            f" {asked.model_setting}."
        )
    if refusal.is_any(_NO_MODEL_CODES) or (status in {400, 404} and refusal.says(_NO_MODEL)):
        return _failed(
            f"The model endpoint has no model or deployment {asked.model!r}. The operator has to correct"
            f" {asked.model_setting}."
        )
    if status in {404, 405} or 300 <= status < 400:
        return _failed(
            "The model endpoint does not have the requested path. The operator has to correct the endpoint's address or"
            " MODEL_API."
        )
    return None


def _about_server(refusal: Refusal) -> AppError:
    is_refused = refusal.is_any(_REFUSED_CODES) and not refusal.is_any(_BROKEN_CODES)
    if refusal.status >= 500 or refusal.is_any(_BROKEN_CODES) or refusal.status in {409, 425}:
        return Transient(ErrorCode.LLM_ERROR, "The model failed.", retry_after_s=refusal.retry_after_s)
    if refusal.status == 200 and not is_refused:
        # An error inside a stream has no status. The request was accepted, so another try may work.
        return Transient(ErrorCode.LLM_ERROR, "The model failed.", retry_after_s=refusal.retry_after_s)
    return _failed("The model refused the request. The operator can see why in the app's log.")


def _unauthorised(refusal: Refusal, asked: Asked) -> ModelFailed:
    if refusal.says(_NO_KEYS):
        return _failed(
            f"The model endpoint accepts no keys. The operator has to remove {asked.key_setting or 'the key'}, so that"
            " the app uses its identity."
        )
    if refusal.says(_FIREWALL):
        return _failed("The model endpoint's network rules block the app. The operator has to allow it.")
    if refusal.says(_BLOCKED):
        return _failed("The model endpoint is blocked by its provider. The operator has to contact the provider.")
    if asked.key_setting is not None and not refusal.says(_NO_ROLE):
        return _failed(
            f"The model endpoint refused the app's key ({refusal.status}). The operator has to correct"
            f" {asked.key_setting}."
        )
    return _failed(
        f"The model endpoint refused the app's identity ({refusal.status}). The operator has to assign it the role"
        " Cognitive Services OpenAI User, or Cognitive Services User for models that are not OpenAI's. A new role takes"
        " some minutes to apply."
    )


def _is_quota(refusal: Refusal) -> bool:
    """Whether a quota is used up. Gemini reports a rate limit in the same words, but with a retry time."""
    if refusal.status == 402 or refusal.is_any(_QUOTA_CODES):
        return True
    return refusal.status < 500 and refusal.retry_after_s is None and refusal.says(_QUOTA)


def _failed(sentence: str) -> ModelFailed:
    return ModelFailed(ErrorCode.LLM_ERROR, sentence)


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_FILTER_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "ResponsibleAIPolicyViolation",
        "invalid_prompt",
        "cyber_policy_violation",
        "bio_policy",
        "misalignment_policy_violation",
        "data_inspection_failed",  # Qwen
    }
)
_FILTERED = _words(
    "content management policy",  # Azure, under either name
    "flagged as potentially violating",  # OpenAI
    "content exists risk",  # DeepSeek
    "considered high risk",  # Moonshot
)
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_QUOTA = _words(
    "exceeded your current quota",
    r"insufficient[_ ](?:quota|balance|credits?|funds)",
    "credit balance is too low",
    r"(?:out of|requires more) credits",
    r"spend(?:ing)? limit",
)
_RATE_CODES = frozenset(
    {
        "rate_limit_exceeded",
        "rate_limit_error",
        "RateLimitReached",
        "too_many_requests",
        "requests",
        "tokens",
        "slow_down",
        "RESOURCE_EXHAUSTED",
        "service_tier_capacity_exceeded",  # Mistral
    }
)
_USED_UP = _words("could not finish the message because")
_TOOL_FLAG = _words(
    r"tool[ _]choice.{0,40}requires", "--enable-auto-tool-choice", "--tool-call-parser", "requires --jinja"
)
_NO_TOOLS = _words(
    r"does not support (?:tools|function)",
    "support tool use",
    r"tools? (?:is|are) not supported",
    "cannot use tools with stream",
)
_NO_IMAGES = _words(
    r"(?:image|vision)[ _](?:inputs?|urls?|content).{0,40}(?:not supported|only supported)",
    r"(?:does not|that) support (?:image|vision)",
    r"not a (?:vision|multimodal) model",
)
_BAD_IMAGE = _words(r"invalid image", r"unsupported image", r"(?:download|process|parse|decode).{0,20}\bimages?\b")
_IMAGE_CODE = re.compile(r"^(?:image_|invalid_image|failed_to_download_image|empty_image|unsupported_image)")
_OTHER_API = _words("v1/responses", "v1/chat/completions instead", "operation is unsupported")
_OTHER_API_CODES = frozenset({"OperationNotSupported"})
_KEY_CODES = frozenset(
    {
        "invalid_api_key",
        "authentication_error",
        "PermissionDenied",
        "no_db_connection",  # a LiteLLM proxy without a database, of any key but its master key
    }
)
_BAD_KEY = _words(r"(?:incorrect|invalid) api key", "api key not valid", "authentication fails")
_NO_KEYS = _words("key based authentication is disabled")
_FIREWALL = _words("network/firewall rules", "public access is disabled")
_BLOCKED = _words("temporarily blocked")
_NO_ROLE = _words("lacks the required data action", "does not have access to api/operation")
_RETIRED = _words(r"(?:model|deployment) .{0,120}(?:has been|is) (?:deprecated|retired|decommissioned|discontinued)")
_NO_MODEL_CODES = frozenset({"model_not_found", "DeploymentNotFound", "invalid_model"})
_NO_MODEL = _words(
    r"(?:deployment|model) .{0,120}(?:not found|(?:does not|doesn't|not) exist)",
    r"(?:no such|unknown|invalid) (?:model|deployment)",
    "no models loaded",
    "failed to load model",
)
_BROKEN_CODES = frozenset(
    {"server_error", "internal_error", "overloaded", "overloaded_error", "unavailable_error", "tool_use_failed"}
)
_REFUSED_CODES = frozenset({"invalid_request_error", "BadRequestError", "INVALID_ARGUMENT", "data_residency_mismatch"})
_SCHEMA_CODES = frozenset({"invalid_json_schema"})
_SCHEMA = _words(
    "invalid schema", r"in context=\(", r"(?<!_)schema .{0,60}(?:not supported|unsupported|invalid)", r"\bgrammar\b"
)
