"""A chat completion request, narrowed once from JSON and checked the way OpenAI's API checks it.

Invariant: what gets past `parse_request` is well formed, including the pairing rule that clients
break most easily: every tool message answers a call of the assistant message before it, and every
such call is answered before anything else is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_PART_TYPES = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
# fmt: off - one name a line would be a page
_ARGUMENTS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
# fmt: on
_NOT_SERVED = ("functions", "function_call", "logprobs", "audio", "prediction")
MAX_TOOLS = 128


class RequestRefused(Exception):
    """The request gets an error answer; the fields are those of OpenAI's error object."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON of the error answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the wire has it: `arguments` is JSON text, not always valid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    text: str
    attachments: int = 0
    """Parts that are not text: images, audio, files."""
    words: str = ""
    """The last text part: where there are several, what was said stands after what came with it."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class OfferedTool:
    name: str
    description: str
    parameters: Mapping[str, Json]
    """JSON schema of an object."""

    @property
    def properties(self) -> Mapping[str, Json]:
        found = self.parameters.get("properties")
        return found if isinstance(found, Mapping) else {}

    @property
    def required(self) -> frozenset[str]:
        names = self.parameters.get("required")
        return frozenset(n for n in names if isinstance(n, str)) if isinstance(names, list) else frozenset()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[Message, ...]
    """Oldest first, never empty."""
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: str = "auto"
    """`none`, `auto`, `required`, or the name of the one tool to call."""
    parallel_tool_calls: bool = True
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    raw: Mapping[str, Json] = field(default_factory=dict, repr=False)

    @property
    def last_user_index(self) -> int:
        """Index of the newest user message, or -1."""
        return next((i for i in reversed(range(len(self.messages))) if self.messages[i].role == "user"), -1)

    @property
    def step(self) -> int:
        """How many times the model has already answered since the newest user message."""
        return sum(m.role == "assistant" for m in self.messages[self.last_user_index + 1 :])


def parse_request(body: bytes, *, model_in_path: str | None = None) -> ChatRequest:
    """Check a request body. model_in_path: Azure's deployment, which makes `model` optional.

    Raises RequestRefused (400).
    """
    try:
        raw: Json = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestRefused(f"The body is not valid JSON: {exc}") from None
    if not isinstance(raw, Mapping):
        raise RequestRefused("The body must be a JSON object.")
    unknown = raw.keys() - _ARGUMENTS
    if unknown:
        name = min(unknown)
        raise RequestRefused(f"Unrecognized request argument supplied: {name}", param=name)
    model = raw.get("model") or model_in_path
    if not isinstance(model, str):
        raise RequestRefused("you must provide a model parameter", param="model")
    _refuse_what_is_not_served(raw)
    stream = _boolean(raw, "stream", default=False)
    tools = _tools(raw.get("tools"))
    return ChatRequest(
        model=model,
        messages=_messages(raw.get("messages")),
        tools=tools,
        tool_choice=_tool_choice(raw.get("tool_choice"), tools),
        parallel_tool_calls=_boolean(raw, "parallel_tool_calls", default=True),
        stream=stream,
        include_usage=_include_usage(raw.get("stream_options"), stream=stream),
        max_tokens=_max_tokens(raw),
        raw=raw,
    )


def _refuse_what_is_not_served(raw: Mapping[str, Json]) -> None:
    for name in _NOT_SERVED:
        if raw.get(name):
            raise RequestRefused(f"The offline model does not support '{name}'.", param=name)
    if raw.get("n", 1) not in (1, None):
        raise RequestRefused("The offline model only supports n=1.", param="n")
    form = raw.get("response_format")
    if isinstance(form, Mapping) and form.get("type") != "text":
        raise RequestRefused("The offline model only answers in text.", param="response_format")
    for name, upper in (("temperature", 2.0), ("top_p", 1.0)):
        value = raw.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= upper:
            raise RequestRefused(f"Invalid '{name}': expected a number from 0 to {upper:g}.", param=name)


def _boolean(raw: Mapping[str, Json], name: str, *, default: bool) -> bool:
    value = raw.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestRefused(f"Invalid type for '{name}': expected a boolean.", param=name)
    return value


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
    return _boolean(options, "include_usage", default=False)


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
    return Message(
        role, "\n".join(texts), attachments, words=texts[-1] if texts else "", tool_calls=calls, tool_call_id=call_id
    )


def _content(content: Json, where: str) -> tuple[list[str], int]:
    """The text parts and how many others there are."""
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
