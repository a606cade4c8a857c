"""A request of the Responses API, parsed once from JSON and checked as OpenAI's API checks it.

Invariant: a parsed request needs no state stored by the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devhost.model.conversation import JsonForm, Message, ModelRequest, OfferedTool
from devhost.model.demo.forms import check_strict, read_json_schema
from devhost.model.errors import (
    Json,
    RequestRefused,
    boolean_at,
    check_sampling,
    choice_at,
    names,
    object_at,
    refuse_unknown,
    text_at,
    wrong_type,
)
from devhost.model.responses.history import read_history
from devhost.model.responses.items import read_item

MIN_OUTPUT_TOKENS = 16
MAX_TOOLS = 128
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_SUMMARIES = frozenset({"auto", "concise", "detailed"})
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARGUMENTS = names(
    "access_programs background background_options context_management conversation image include input instructions"
    " max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt"
    " prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store"
    " stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
_TEXTS = ("instructions", "prompt_cache_key", "safety_identifier", "user")
_NEEDS_A_STORE = ("previous_response_id", "conversation", "background", "prompt")
_NOT_SERVED = ("context_management", "moderation", "top_logprobs", "access_programs", "background_options", "image")
_INCLUDABLE = names(
    "file_search_call.results web_search_call.results web_search_call.action.sources message.input_image.image_url"
    " computer_call_output.output.image_url code_interpreter_call.outputs reasoning.encrypted_content"
    " message.output_text.logprobs"
)
_TOOL_FIELDS = names("type name description parameters strict allowed_callers async defer_loading output_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest(ModelRequest):
    wants_summary: bool = False
    """The answer includes a summary of its reasoning."""
    wants_encrypted: bool = False
    """The answer includes its reasoning as `encrypted_content`."""


def parse_responses(raw: Mapping[str, Json]) -> ResponsesRequest:
    """Check a request. Raises RequestRefused (400; 404 when it refers to stored state)."""
    refuse_unknown(raw, _ARGUMENTS)
    model = text_at(raw.get("model"), "model")
    _refuse_what_is_not_served(raw)
    check_sampling(raw)
    for name in _TEXTS:
        if raw.get(name) is not None:
            text_at(raw[name], name)
    boolean_at(raw.get("store"), "store", default=True)
    include = _include(raw.get("include"))
    reasoning = _reasoning(raw.get("reasoning"))
    tools = _tools(raw.get("tools"))
    messages = _messages(raw)
    stream = boolean_at(raw.get("stream"), "stream", default=False)
    _check_extras(raw, stream=stream)
    effort = reasoning.get("effort")
    return ResponsesRequest(
        api="responses",
        model=model,
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(raw.get("tool_choice"), tools),
        parallel_tool_calls=boolean_at(raw.get("parallel_tool_calls"), "parallel_tool_calls", default=True),
        stream=stream,
        max_tokens=_max_tokens(raw.get("max_output_tokens")),
        effort=effort if isinstance(effort, str) else None,
        form=_form(raw.get("text"), messages),
        raw=raw,
        wants_summary=(reasoning.get("summary") or reasoning.get("generate_summary")) is not None,
        wants_encrypted="reasoning.encrypted_content" in include,
    )


def _refuse_what_is_not_served(raw: Mapping[str, Json]) -> None:
    for name in _NEEDS_A_STORE:
        if raw.get(name):
            raise RequestRefused(
                f"The offline model keeps nothing between calls, so it does not support '{name}'."
                " Send the whole conversation as 'input'.",
                param=name,
                code="unsupported_parameter",
            )
    for name in _NOT_SERVED:
        if raw.get(name):
            raise RequestRefused(
                f"The offline model does not support '{name}'.", param=name, code="unsupported_parameter"
            )
    if raw.get("truncation") is not None:
        choice_at(raw["truncation"], "truncation", ("auto", "disabled"))


def _check_extras(raw: Mapping[str, Json], *, stream: bool) -> None:
    options, metadata = raw.get("stream_options"), raw.get("metadata")
    if options is not None and not stream:
        raise RequestRefused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    if options is not None:
        refuse_unknown(object_at(options, "stream_options"), ("include_obfuscation",), "stream_options")
    if metadata is not None:
        for name, value in object_at(metadata, "metadata").items():
            text_at(value, f"metadata.{name}")


def _messages(raw: Mapping[str, Json]) -> tuple[Message, ...]:
    given = raw.get("input")
    if given is None or given == []:
        raise RequestRefused(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.",
            param="input",
            code="missing_required_parameter",
        )
    instructions = raw.get("instructions")
    opening = (Message("system", instructions, words=instructions),) if isinstance(instructions, str) else ()
    if isinstance(given, str):
        return (*opening, Message("user", given, words=given))
    if not isinstance(given, list):
        raise wrong_type("input", "one of a string or array of objects", given)
    return (*opening, *read_history(read_item(item, f"input[{i}]") for i, item in enumerate(given)))


def _include(raw: Json) -> Sequence[str]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise wrong_type("include", "an array of strings", raw)
    names = [choice_at(item, f"include[{i}]", _INCLUDABLE) for i, item in enumerate(raw)]
    if "message.output_text.logprobs" in names:
        raise RequestRefused("The offline model does not support log-probabilities.", param="include")
    return names


def _reasoning(raw: Json) -> Mapping[str, Json]:
    if raw is None:
        return {}
    reasoning = object_at(raw, "reasoning")
    refuse_unknown(reasoning, ("effort", "summary", "generate_summary", "context", "mode"), "reasoning")
    for name, supported in (("effort", EFFORTS), ("summary", _SUMMARIES), ("generate_summary", _SUMMARIES)):
        if reasoning.get(name) is not None:
            choice_at(reasoning[name], f"reasoning.{name}", supported)
    return reasoning


def _max_tokens(raw: Json) -> int | None:
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise wrong_type("max_output_tokens", "an integer", raw)
    if raw < MIN_OUTPUT_TOKENS:
        raise RequestRefused(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {MIN_OUTPUT_TOKENS}, but"
            f" got {raw} instead.",
            param="max_output_tokens",
            code="integer_below_min_value",
        )
    return raw


def _tools(raw: Json) -> tuple[OfferedTool, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        raise wrong_type("tools", "an array of objects", raw)
    if len(raw) > MAX_TOOLS:
        raise RequestRefused(f"Invalid 'tools': at most {MAX_TOOLS} are allowed.", param="tools")
    return tuple(_tool(item, f"tools[{i}]") for i, item in enumerate(raw))


def _tool(raw: Json, where: str) -> OfferedTool:
    tool = object_at(raw, where)
    kind = text_at(tool.get("type"), f"{where}.type")
    if kind != "function":
        raise RequestRefused(
            f"The offline model has no tools of its own: '{kind}' is not supported, only 'function'.",
            param=f"{where}.type",
            code="invalid_value",
        )
    name = text_at(tool.get("name"), f"{where}.name")  # refuses the nested form of chat completions
    refuse_unknown(tool, _TOOL_FIELDS, where)
    if not _NAME.fullmatch(name):
        raise RequestRefused(
            f"Invalid '{where}.name': expected 1-64 of letters, digits, '_', '-'.", param=f"{where}.name"
        )
    parameters = tool.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise RequestRefused(
            f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'.",
            param=f"{where}.parameters",
            code="invalid_function_parameters",
        )
    if boolean_at(tool.get("strict"), f"{where}.strict", default=False):
        check_strict(parameters, f"function '{name}'", param=f"{where}.parameters", code="invalid_function_parameters")
    description = tool.get("description")
    return OfferedTool(
        name, text_at(description, f"{where}.description") if description is not None else "", parameters
    )


def _tool_choice(raw: Json, tools: Sequence[OfferedTool]) -> str:
    if raw is None:
        return "auto" if tools else "none"
    if isinstance(raw, str) and raw in ("none", "auto", "required"):
        if raw == "required" and not tools:
            raise RequestRefused(
                "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice"
            )
        return raw if tools else "none"
    name = raw.get("name") if isinstance(raw, Mapping) and raw.get("type") == "function" else None
    if isinstance(name, str) and any(tool.name == name for tool in tools):
        return name
    if isinstance(name, str):
        raise RequestRefused(f"Tool choice '{name}' not found in 'tools' parameter.", param="tool_choice")
    raise RequestRefused(
        "Invalid 'tool_choice': expected 'none', 'auto', 'required' or {\"type\": \"function\", \"name\"} with the name"
        " of an offered function.",
        param="tool_choice",
    )


def _form(raw: Json, messages: Sequence[Message]) -> JsonForm | None:
    if raw is None:
        return None
    text = object_at(raw, "text")
    refuse_unknown(text, ("format", "verbosity"), "text")
    if text.get("verbosity") is not None:
        choice_at(text["verbosity"], "text.verbosity", ("low", "medium", "high"))
    if text.get("format") is None:
        return None
    form = object_at(text["format"], "text.format")
    kind = choice_at(form.get("type"), "text.format.type", ("text", "json_object", "json_schema"))
    if kind == "json_schema":
        return read_json_schema(form, "text.format", param="text.format.schema")
    if kind == "text":
        return None
    if not any("json" in message.text.lower() for message in messages):
        raise RequestRefused(
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type"
            " 'json_object'.",
            param="input",
        )
    return {}
