"""The request body for chat completions, for OpenAI, Azure and all compatible servers.

The argument `left_out` of `encode` contains what a server was found not to support (`../refusals/optional.py`): names
of parameters, and the constants below for other differences.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from shared.adapters.models.refusals.optional import takes_effort
from shared.sessions.llm.conversation import AssistantSaid, ModelImage, ModelToolCall, Said, ToolAnswered
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.models import JsonObject
from shared.sessions.structured_output.checks import asked_in_words
from shared.sessions.structured_output.strict import is_strict

PATH = "/chat/completions"

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
"""Reasoning fields of an answer, by server: DeepSeek, Kimi, llama.cpp and others; OpenRouter, Groq, Ollama and newer
vLLM; Copilot. Reasoning is sent back in the field it came in, since servers refuse or ignore the others."""
KEPT_LISTS = ("reasoning_details", "thinking_blocks")
"""Lists that OpenRouter and LiteLLM want back unchanged."""
EXTRA = "extra_content"
"""A field of a call with its signature, which Gemini wants back on the same call. Stored by call id."""

BLANK_REASONING = "missing reasoning"
"""The server requires `reasoning_content` on every assistant message, also of earlier turns; reasoning that is no
longer stored is sent as an empty string (DeepSeek, Kimi)."""
SHORT_IDS = "long call ids"
"""The server accepts only call ids of nine letters and digits (Mistral)."""
EFFORT_NONE = "default effort"
"""The model supports tools only with `reasoning_effort: none` (GPT-5.4 to 5.6)."""
SIGNED_CALLS = "unsigned calls"
"""The server refuses calls without a signature; such calls get the placeholder that Google documents (Gemini)."""

LEAST_OUTPUT_TOKENS = 16
"""Least output limit of reasoning models, over either API. Source: the servers' error `integer_below_min_value`."""

_UNSIGNED: JsonObject = {"google": {"thought_signature": "skip_thought_signature_validator"}}
OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens")
"""The newer name first; servers that know only the older one refuse it."""
_SHORT = re.compile(r"[A-Za-z0-9]{9}")


def optional(request: ModelRequest) -> frozenset[str]:
    """The parameters of a request that can be left out if a server refuses them."""
    names = {"stream_options"}
    if request.temperature is not None:
        names.add("temperature")
    if request.max_output_tokens is not None:
        names.update(OUTPUT_LIMITS)
    if request.reasoning_effort is not None:
        names.add("reasoning_effort")
    if request.output_schema is not None and not _is_told_in_words(request):
        names.add("response_format")
    for said in request.conversation:
        if isinstance(said, AssistantSaid):
            names.update(*said.kept)
    return frozenset(names)


def encode(request: ModelRequest, left_out: frozenset[str] = frozenset()) -> bytes:
    """The request body. Tools are inserted as encoded once at start-up."""
    in_words = "response_format" in left_out or _is_told_in_words(request)
    body: dict[str, Any] = {
        "model": request.model,
        "stream": True,
        "messages": [
            {"role": "system", "content": instructions(request, in_words=in_words)},
            *_messages(request.conversation, left_out),
        ],
    }
    if "stream_options" not in left_out:
        body["stream_options"] = {"include_usage": True}
    if request.temperature is not None and "temperature" not in left_out:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        name = next((name for name in OUTPUT_LIMITS if name not in left_out), None)
        if name is not None:
            floor = LEAST_OUTPUT_TOKENS if request.reasons else 1
            body[name] = max(floor, request.max_output_tokens)
    if takes_effort(request, "reasoning_effort", left_out):
        body["reasoning_effort"] = request.reasoning_effort
    elif EFFORT_NONE in left_out and request.tools:
        body["reasoning_effort"] = "none"
    if request.output_schema is not None and not in_words:
        schema = request.output_schema
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": is_strict(schema)},
        }
    if request.tools:
        body["tools"] = [orjson.Fragment(b'{"type":"function","function":%b}' % tool) for tool in request.tools]
    return orjson.dumps(body)


def _is_told_in_words(request: ModelRequest) -> bool:
    """Whether the schema is sent as an instruction because the model is unlisted and the request offers tools.

    Some servers (llama.cpp) force every answer into the schema, so that the model cannot call a tool. The answer is
    validated anyway, and a correction request offers no tools.
    """
    return request.output_schema is not None and bool(request.tools) and request.reasons is None


def instructions(request: ModelRequest, *, in_words: bool) -> str:
    """The instructions, with the answer's schema if it cannot be sent as a parameter."""
    if request.output_schema is None or not in_words:
        return request.instructions
    return f"{request.instructions}\n\n{asked_in_words(request.output_schema)}"


def data_url(file: ModelImage) -> str:
    """The file as a data URL: the provider has no access to our store, and should have none."""
    return f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"


def file_name(file: ModelImage) -> str:
    """The file's name, or a default: both APIs refuse a PDF file without a name."""
    return file.name or "document.pdf"


def _messages(conversation: Sequence[Said], left_out: frozenset[str]) -> Iterable[JsonObject]:
    for said in conversation:
        if isinstance(said, ToolAnswered):
            yield {"role": "tool", "tool_call_id": _call_id(said.call_id, left_out), "content": said.text}
        elif isinstance(said, AssistantSaid):
            yield _assistant(said, left_out)
        elif said.before or said.images:
            texts = [{"type": "text", "text": text} for text in said.before]
            yield {"role": "user", "content": [*texts, *map(_file, said.images), {"type": "text", "text": said.text}]}
        else:
            yield {"role": "user", "content": said.text}


def _assistant(said: AssistantSaid, left_out: frozenset[str]) -> JsonObject:
    message: JsonObject = {"role": "assistant", "content": said.text or (None if said.calls else "")}
    if BLANK_REASONING in left_out:
        message["reasoning_content"] = ""
    extras: JsonObject = {}
    for kept in said.kept:
        # Selected by name, since items stored over the other API have another shape; the operator may have switched.
        message.update(
            {key: kept[key] for key in (*REASONING_FIELDS, *KEPT_LISTS) if key in kept and key not in left_out}
        )
        if EXTRA not in left_out:
            extras.update(kept.get(EXTRA) or {})
    if said.calls:
        message["tool_calls"] = [_call(call, extras.get(call.id), left_out) for call in said.calls]
    return message


def _call(call: ModelToolCall, extra: JsonObject | None, left_out: frozenset[str]) -> JsonObject:
    value: JsonObject = {
        "id": _call_id(call.id, left_out),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if extra is None and SIGNED_CALLS in left_out:
        extra = _UNSIGNED
    if extra is not None:
        value[EXTRA] = extra
    return value


def _call_id(call_id: str, left_out: frozenset[str]) -> str:
    """The id, or for SHORT_IDS a stable replacement of nine letters and digits."""
    if SHORT_IDS not in left_out or _SHORT.fullmatch(call_id):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _file(file: ModelImage) -> JsonObject:
    if file.media_type == "application/pdf":
        return {"type": "file", "file": {"filename": file_name(file), "file_data": data_url(file)}}
    return {"type": "image_url", "image_url": {"url": data_url(file)}}
