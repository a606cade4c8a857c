"""The response object of the Responses API: its items, its status and the echoed fields of the request.

Invariant: every field that OpenAI always sends is present, null where it has no value.
"""

from __future__ import annotations

import time
import uuid

import orjson

from devhost.model.conversation import ToolCall, count_prompt_tokens
from devhost.model.errors import Json
from devhost.model.reply import MODEL_NAME, Reply
from devhost.model.responses.request import ResponsesRequest
from devhost.model.responses.sealed import Sealed, seal

type Item = dict[str, Json]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of chat completions that make an answer incomplete, and their names in the Responses API."""


class ResponseObject:
    """The `response` object at the beginning and at the end of an answer."""

    def __init__(self, request: ResponsesRequest, reply: Reply) -> None:
        self.reply = reply
        self._request = request
        self._serial = uuid.uuid4().hex
        self._made = 0
        self._created = int(time.time())
        self._incomplete = _INCOMPLETE.get(reply.finish_reason)
        self._prompt_tokens = count_prompt_tokens(request)
        self.items: tuple[Item, ...] = tuple(self._items())
        """The finished items: reasoning, the message, the calls."""
        # Encoded once, since tools and instructions are large and a stream sends them three times.
        self._echo = orjson.dumps(self._echoed())[:-1]

    def begun(self) -> bytes:
        """The JSON before the first item."""
        return self._json({"status": "in_progress", "output": [], "usage": None, "error": None})

    def ended(self) -> bytes:
        """The JSON at the end; a failed response has no output."""
        failure = self.reply.failure
        if failure is not None:
            error: Json = {"code": failure.code, "message": failure.message}
            return self._json({"status": "failed", "output": [], "usage": None, "error": error})
        status = "incomplete" if self._incomplete else "completed"
        usage = self._usage() if self.reply.tells_usage else None
        return self._json({"status": status, "output": list(self.items), "usage": usage, "error": None})

    @property
    def final_event(self) -> str:
        """The type of the event that ends the stream."""
        if self.reply.failure is not None:
            return "response.failed"
        return "response.incomplete" if self._incomplete else "response.completed"

    def _items(self) -> list[Item]:
        reply = self.reply
        items = [self._reasoning()] if reply.thoughts else []
        cut_while_reasoning = bool(reply.thoughts) and reply.finish_reason == "length"
        if reply.tokens or not (reply.tool_calls or cut_while_reasoning):
            items.append(self._message())
        items += [self._call(call) for call in reply.tool_calls]
        if self._incomplete and items and items[-1]["type"] != "reasoning":
            items[-1]["status"] = "incomplete"
        return items

    def _reasoning(self) -> Item:
        item_id = self._new_id("rs")
        paragraphs = self.reply.reasoning.split("\n\n") if self._request.wants_summary else []
        summary: list[Json] = [{"type": "summary_text", "text": paragraph} for paragraph in paragraphs]
        item: Item = {"id": item_id, "type": "reasoning", "summary": summary}
        if self._request.wants_encrypted:
            calls = tuple(call.id for call in self.reply.tool_calls)
            item["encrypted_content"] = seal(Sealed(item_id, self.reply.reasoning, calls))
        return item

    def _message(self) -> Item:
        text = self.reply.text
        part: Json = (
            {"type": "refusal", "refusal": text}
            if self.reply.is_refusal
            else {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        )
        message_id = self._new_id("msg")
        return {"id": message_id, "type": "message", "status": "completed", "content": [part], "role": "assistant"}

    def _call(self, call: ToolCall) -> Item:
        return {
            "id": self._new_id("fc"),
            "type": "function_call",
            "status": "completed",
            "arguments": call.arguments,
            "call_id": call.id,
            "name": call.name,
        }

    def _new_id(self, kind: str) -> str:
        self._made += 1
        return f"{kind}_{self._serial}{self._made:04x}"

    def _echoed(self) -> dict[str, Json]:
        raw = self._request.raw
        text, reasoning = raw.get("text"), raw.get("reasoning")
        texts = text if isinstance(text, dict) else {}
        thinking = reasoning if isinstance(reasoning, dict) else {}
        return {
            "id": f"resp_{self._serial}",
            "object": "response",
            "created_at": self._created,
            "background": False,
            "instructions": raw.get("instructions"),
            "max_output_tokens": raw.get("max_output_tokens"),
            "max_tool_calls": raw.get("max_tool_calls"),
            "model": MODEL_NAME,
            "parallel_tool_calls": self._request.parallel_tool_calls,
            "previous_response_id": None,
            "prompt_cache_key": raw.get("prompt_cache_key"),
            "reasoning": {"effort": thinking.get("effort"), "summary": thinking.get("summary")},
            "safety_identifier": raw.get("safety_identifier"),
            "service_tier": "default",
            "store": False,  # whatever the request says, since nothing is stored
            "temperature": _or(raw.get("temperature"), 1.0),
            "text": {
                "format": _or(texts.get("format"), {"type": "text"}),
                "verbosity": _or(texts.get("verbosity"), "medium"),
            },
            "tool_choice": _or(raw.get("tool_choice"), "auto"),
            "tools": [_echoed_tool(tool) for tool in _list(raw.get("tools"))],
            "top_logprobs": 0,
            "top_p": _or(raw.get("top_p"), 1.0),
            "truncation": _or(raw.get("truncation"), "disabled"),
            "user": raw.get("user"),
            "metadata": _or(raw.get("metadata"), {}),
        }

    def _json(self, changing: dict[str, Json]) -> bytes:
        is_complete = changing["status"] == "completed"
        changing["completed_at"] = int(time.time()) if is_complete else None
        is_incomplete = changing["status"] == "incomplete"
        changing["incomplete_details"] = {"reason": self._incomplete} if is_incomplete else None
        return self._echo + b"," + orjson.dumps(changing)[1:]

    def _usage(self) -> dict[str, Json]:
        given, made = self._prompt_tokens, self.reply.completion_tokens
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": self.reply.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": len(self.reply.thoughts)},
            "total_tokens": given + made,
        }


def _or(value: Json, default: Json) -> Json:
    return default if value is None else value


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _echoed_tool(tool: Json) -> Json:
    if not isinstance(tool, dict):
        return tool
    return {"description": None, "parameters": None, "strict": False, **tool}
