"""The request body for the Responses API, for Azure (`/openai/v1`), OpenAI and some compatible servers.

The server stores nothing (`store: false`). A reasoning model's items (here: notes) come encrypted with its calls; they
are stored with the step and sent back with the results until the turn ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from shared.adapters.models.chat.request import LEAST_OUTPUT_TOKENS, data_url, file_name, instructions
from shared.adapters.models.refusals.optional import takes_effort
from shared.sessions.llm.conversation import AssistantSaid, ModelImage, ModelToolCall, Said, ToolAnswered
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.models import JsonObject
from shared.sessions.structured_output.strict import is_strict

PATH = "/responses"

_ENCRYPTED = "reasoning.encrypted_content"


def optional(request: ModelRequest) -> frozenset[str]:
    """The parameters of a request that can be left out if a server refuses them."""
    names = {"store"}
    if request.temperature is not None:
        names.add("temperature")
    if request.max_output_tokens is not None:
        names.add("max_output_tokens")
    if request.reasons is not False:
        names.update(("include", "reasoning.summary"))
    if request.reasoning_effort is not None:
        names.add("reasoning.effort")
    if request.output_schema is not None:
        names.add("text.format")
    if any("phase" in item for said in request.conversation if isinstance(said, AssistantSaid) for item in said.kept):
        names.add("phase")
    return frozenset(names)


def encode(request: ModelRequest, left_out: frozenset[str] = frozenset()) -> bytes:
    """The request body. Tools are inserted as encoded once at start-up."""
    body: dict[str, Any] = {
        "model": request.model,
        "stream": True,
        "instructions": instructions(request, in_words="text.format" in left_out),
        "input": list(_items(request.conversation, left_out)),
    }
    if "store" not in left_out:
        body["store"] = False
    if request.temperature is not None and "temperature" not in left_out:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None and "max_output_tokens" not in left_out:
        body["max_output_tokens"] = max(LEAST_OUTPUT_TOKENS, request.max_output_tokens)
    reasoning: JsonObject = {}
    if takes_effort(request, "reasoning.effort", left_out):
        reasoning["effort"] = request.reasoning_effort
    if request.reasons is not False:
        if "reasoning.summary" not in left_out:
            reasoning["summary"] = "auto"
        if "include" not in left_out:
            body["include"] = [_ENCRYPTED]
    if reasoning:
        body["reasoning"] = reasoning
    if request.output_schema is not None and "text.format" not in left_out:
        schema = request.output_schema
        body["text"] = {
            "format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": is_strict(schema)}
        }
    if request.tools:
        # Explicit, because in this API tools are strict by default.
        body["tools"] = [orjson.Fragment(b'{"type":"function","strict":false,' + tool[1:]) for tool in request.tools]
    return orjson.dumps(body)


def _items(conversation: Sequence[Said], left_out: frozenset[str]) -> Iterable[JsonObject]:
    for said in conversation:
        if isinstance(said, ToolAnswered):
            yield {"type": "function_call_output", "call_id": said.call_id, "output": said.text}
        elif isinstance(said, AssistantSaid):
            yield from _assistant(said, left_out)
        elif said.before or said.images:
            texts = [{"type": "input_text", "text": text} for text in said.before]
            asked = {"type": "input_text", "text": said.text}
            yield {"role": "user", "content": [*texts, *map(_file, said.images), asked]}
        else:
            yield {"role": "user", "content": said.text}


def _assistant(said: AssistantSaid, left_out: frozenset[str]) -> Iterable[JsonObject]:
    """The items in the order in which the model wrote them, if known: a note must precede the item it led to.

    A call is sent without its item id. With the id, the server would require the note that led to the call, which is
    missing if notes had to be left out.
    """
    calls = {call.id: call for call in said.calls}
    text: str | None = said.text
    for item in said.kept:
        kind = item.get("type")
        if kind == "reasoning":
            yield item
        elif kind == "message" and text:
            message = {"type": "message", "role": "assistant", "content": text}
            if item.get("phase") and "phase" not in left_out:
                message["phase"] = item["phase"]
            yield message
            text = None
        elif kind == "function_call" and item.get("call_id") in calls:
            yield _call(calls.pop(item["call_id"]))
    if text:
        yield {"type": "message", "role": "assistant", "content": text}
    yield from map(_call, calls.values())


def _call(call: ModelToolCall) -> JsonObject:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _file(file: ModelImage) -> JsonObject:
    if file.media_type == "application/pdf":
        return {"type": "input_file", "filename": file_name(file), "file_data": data_url(file)}
    return {"type": "input_image", "image_url": data_url(file), "detail": "auto"}
