"""A chat completion request, parsed once from JSON and checked as OpenAI's API checks it.

Invariant: a parsed request is well formed. That includes the pairing rule that clients break most easily: every tool
message answers a call of the assistant message before it, and every such call is answered before any other message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devhost.model.conversation import JsonForm, Message, ModelRequest, OfferedTool, ToolCall
from devhost.model.demo.forms import check_strict, read_json_schema
from devhost.model.errors import Json, RequestRefused, boolean_at, check_sampling, choice_at, names, object_at

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_PART_TYPES = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
_ARGUMENTS = names(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key"
    " prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier"
    " stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    " web_search_options"
)
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_NOT_SERVED = ("functions", "function_call", "logprobs", "audio", "prediction", "moderation", "web_search_options")
MAX_TOOLS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(ModelRequest):
    include_usage: bool = False
    """The stream ends with a usage chunk."""


def parse_chat(raw: Mapping[str, Json], *, model_in_path: str | None = None) -> ChatRequest:
    """Check a request. model_in_path: Azure's deployment, which makes `model` optional.

    Raises RequestRefused (400).
    """
    unknown = raw.keys() - _ARGUMENTS
    if unknown:
        name = min(unknown)
        raise RequestRefused(f"Unrecognized request argument supplied: {name}", param=name)
    model = raw.get("model") or model_in_path
    if not isinstance(model, str):
        raise RequestRefused("you must provide a model parameter", param="model")
    _refuse_what_is_not_served(raw)
    check_sampling(raw)
    stream = boolean_at(raw.get("stream"), "stream", default=False)
    tools = _tools(raw.get("tools"))
    messages = _messages(raw.get("messages"))
    return ChatRequest(
        api="chat",
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(raw.get("tool_choice"), tools),
        parallel_tool_calls=boolean_at(raw.get("parallel_tool_calls"), "parallel_tool_calls", default=True),
        stream=stream,
        include_usage=_include_usage(raw.get("stream_options"), stream=stream),
        max_tokens=_max_tokens(raw),
        effort=_effort(raw.get("reasoning_effort")),
        form=_form(raw.get("response_format"), messages),
        raw=raw,
    )


def _refuse_what_is_not_served(raw: Mapping[str, Json]) -> None:
    for name in _NOT_SERVED:
        if raw.get(name):
            raise RequestRefused(f"The offline model does not support '{name}'.", param=name)
    if raw.get("n", 1) not in (1, None):
        raise RequestRefused("The offline model only supports n=1.", param="n")


def _effort(raw: Json) -> str | None:
    return None if raw is None else choice_at(raw, "reasoning_effort", EFFORTS)


def _form(raw: Json, messages: Sequence[Message]) -> JsonForm | None:
    if raw is None:
        return None
    form = object_at(raw, "response_format")
    kind = choice_at(form.get("type"), "response_format.type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        if not any("json" in message.text.lower() for message in messages):
            raise RequestRefused(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                param="messages",
            )
        return {}
    if kind == "text":
        return None
    where = "response_format.json_schema"
    return read_json_schema(object_at(form.get("json_schema"), where), where, param="response_format")


def _max_tokens(raw: Mapping[str, Json]) -> int | None:
    given = [name for name in ("max_tokens", "max_completion_tokens") if raw.get(name) is not None]
    if len(given) == 2:
        raise RequestRefused(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
        )
    if not given:
        return None
    value = raw[given[0]]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestRefused(f"Invalid '{given[0]}': expected an integer above 0.", param=given[0])
    return value


def _include_usage(options: Json, *, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise RequestRefused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if not isinstance(options, Mapping):
        raise RequestRefused("Invalid type for 'stream_options': expected an object.", param="stream_options")
    return boolean_at(options.get("include_usage"), "stream_options.include_usage", default=False)


def _tools(raw: Json) -> tuple[OfferedTool, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not raw:
        raise RequestRefused("Invalid 'tools': expected a non-empty array.", param="tools")
    if len(raw) > MAX_TOOLS:
        raise RequestRefused(f"Invalid 'tools': at most {MAX_TOOLS} are allowed.", param="tools")
    return tuple(_tool(item, f"tools[{i}]") for i, item in enumerate(raw))


def _tool(item: Json, where: str) -> OfferedTool:
    if not isinstance(item, Mapping) or item.get("type") != "function":
        raise RequestRefused(f"Invalid '{where}.type': only 'function' is supported.", param=f"{where}.type")
    function = item.get("function")
    if not isinstance(function, Mapping):
        raise RequestRefused(f"Missing required parameter: '{where}.function'.", param=f"{where}.function")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RequestRefused(
            f"Invalid '{where}.function.name': expected 1-64 of letters, digits, '_', '-'.",
            param=f"{where}.function.name",
        )
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise RequestRefused(
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'.",
            param=f"{where}.function.parameters",
            code="invalid_function_parameters",
        )
    if function.get("strict") is True:
        check_strict(
            parameters,
            f"function '{name}'",
            param=f"{where}.function.parameters",
            code="invalid_function_parameters",
        )
    description = function.get("description")
    return OfferedTool(name, description if isinstance(description, str) else "", parameters)


def _tool_choice(raw: Json, tools: Sequence[OfferedTool]) -> str:
    if raw is None:
        return "auto" if tools else "none"
    if not tools:
        raise RequestRefused("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(raw, str) and raw in ("none", "auto", "required"):
        return raw
    function = raw.get("function") if isinstance(raw, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if isinstance(name, str) and any(tool.name == name for tool in tools):
        return name
    raise RequestRefused(
        "Invalid 'tool_choice': expected 'none', 'auto', 'required' or the name of an offered function.",
        param="tool_choice",
    )


def _messages(raw: Json) -> tuple[Message, ...]:
    if not isinstance(raw, list):
        raise RequestRefused("Missing required parameter: 'messages'.", param="messages")
    if not raw:
        raise RequestRefused("Invalid 'messages': empty array.", param="messages", code="empty_array")
    messages = tuple(_message(item, f"messages[{i}]") for i, item in enumerate(raw))
    _check_pairing(messages)
    return messages


def _message(item: Json, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise RequestRefused(f"Invalid type for '{where}': expected an object.", param=where)
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestRefused(
            f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(_ROLES))}.",
            param=f"{where}.role",
            code="invalid_value",
        )
    calls = _tool_calls(item.get("tool_calls"), where) if role == "assistant" else ()
    content = item.get("content")
    if content is None and role == "assistant" and (calls or item.get("refusal")):
        content = ""
    texts, attachments = _content(content, f"{where}.content")
    call_id = item.get("tool_call_id") if role == "tool" else ""
    if not isinstance(call_id, str) or (role == "tool" and not call_id):
        raise RequestRefused(f"Missing required parameter: '{where}.tool_call_id'.", param=f"{where}.tool_call_id")
    thoughts = item.get("reasoning_content") if role == "assistant" else None
    return Message(
        role,
        "\n".join(texts),
        attachments,
        words=texts[-1] if texts else "",
        tool_calls=calls,
        tool_call_id=call_id,
        thoughts=thoughts if isinstance(thoughts, str) else None,
    )


def _content(content: Json, where: str) -> tuple[list[str], int]:
    """The text parts, and the number of other parts."""
    if isinstance(content, str):
        return [content], 0
    if not isinstance(content, list):
        raise RequestRefused(f"Invalid value for '{where}': expected a string or an array.", param=where)
    texts, others = [], 0
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(kind, str) or kind not in _PART_TYPES:
            raise RequestRefused(
                f"Invalid value: {kind!r}. Supported values are: {', '.join(sorted(_PART_TYPES))}.",
                param=f"{where}[{i}].type",
                code="invalid_value",
            )
        value = part.get(kind)
        if kind in ("text", "refusal"):
            if not isinstance(value, str):
                raise RequestRefused(f"Missing required parameter: '{where}[{i}].{kind}'.", param=where)
            texts.append(value)
        elif not isinstance(value, Mapping):
            raise RequestRefused(f"Missing required parameter: '{where}[{i}].{kind}'.", param=where)
        else:
            others += 1
    return texts, others


def _tool_calls(raw: Json, where: str) -> tuple[ToolCall, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not raw:
        raise RequestRefused(f"Invalid '{where}.tool_calls': empty array.", param=f"{where}.tool_calls")
    calls = []
    for i, item in enumerate(raw):
        call_id = item.get("id") if isinstance(item, Mapping) else None
        function = item.get("function") if isinstance(item, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        arguments = function.get("arguments") if isinstance(function, Mapping) else None
        if not (isinstance(call_id, str) and isinstance(name, str) and isinstance(arguments, str)):
            raise RequestRefused(
                f"Invalid '{where}.tool_calls[{i}]': expected id, type, function.name and function.arguments.",
                param=f"{where}.tool_calls[{i}]",
            )
        calls.append(ToolCall(call_id, name, arguments))
    return tuple(calls)


def _check_pairing(messages: Sequence[Message]) -> None:
    waiting: set[str] = set()
    for i, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise RequestRefused(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceding message"
                    " with 'tool_calls'.",
                    param=f"messages[{i}].role",
                )
            waiting.discard(message.tool_call_id)
            continue
        _refuse_unanswered(waiting)
        waiting = {call.id for call in message.tool_calls}
    _refuse_unanswered(waiting)


def _refuse_unanswered(waiting: set[str]) -> None:
    if waiting:
        raise RequestRefused(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            f" 'tool_call_id'. These had no response: {', '.join(sorted(waiting))}",
            param="messages",
        )
