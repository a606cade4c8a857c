"""The objects of the wire: output items, and the response that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.sessions.doors.responses.ids import ResponseId, approval_request_id
from shared.sessions.doors.whose import whose
from shared.sessions.models import JsonObject

SERVER_LABEL = "parley"
"""Tools run at the server; this wire shows such calls as those of an MCP server."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a response before its turn says anything."""

    id: ResponseId
    agent_id: str
    created_at: int
    """Seconds since 1970."""
    metadata: JsonObject
    is_background: bool = False


@dataclass(slots=True)
class Spent:
    """Tokens of a response's model calls."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0

    def add(self, usage: JsonObject) -> None:
        self.input += usage["input_tokens"]
        self.output += usage["output_tokens"]
        self.cached += usage.get("cached_input_tokens", 0)
        self.reasoning += usage.get("reasoning_tokens", 0)

    def shown(self) -> JsonObject:
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached, "cache_write_tokens": 0},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.input + self.output,
        }


def response_object(
    head: Head,
    status: str,
    output: Sequence[JsonObject],
    *,
    usage: JsonObject | None = None,
    error: JsonObject | None = None,
    incomplete: str | None = None,
) -> JsonObject:
    """incomplete: why it is."""
    return {
        "id": str(head.id),
        "object": "response",
        "created_at": head.created_at,
        "status": status,
        "background": head.is_background,
        "conversation": {"id": head.id.session_id},
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "instructions": None,
        "metadata": head.metadata,
        "model": head.agent_id,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(item_id: str, status: str, content: Sequence[JsonObject] = ()) -> JsonObject:
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": list(content)}


def summary_part(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}


def reasoning_item(item_id: str, status: str, summary: Sequence[JsonObject] = ()) -> JsonObject:
    return {"id": item_id, "type": "reasoning", "status": status, "summary": list(summary)}


def approval_item(approval: JsonObject) -> JsonObject:
    """Of a subagent's call it says whose that is, beside what the wire has for it."""
    return {
        "id": approval_request_id(approval["id"]),
        "type": "mcp_approval_request",
        "server_label": SERVER_LABEL,
        "name": approval["tool"],
        "arguments": as_text(approval["arguments"]),
        **whose(approval),
    }


def call_item(
    call_id: str, tool: str, arguments: str, approval_id: str | None, named: JsonObject | None = None
) -> JsonObject:
    """A call that runs. named: of a subagent's, whose it is."""
    return {
        "id": f"mcp_{call_id}",
        "type": "mcp_call",
        "server_label": SERVER_LABEL,
        "name": tool,
        "arguments": arguments,
        "approval_request_id": None if approval_id is None else approval_request_id(approval_id),
        "status": "in_progress",
        "output": None,
        "error": None,
        **(named or {}),
    }


def function_item(call_id: str, tool: str, arguments: str) -> JsonObject:
    """A call that the client runs."""
    return {
        "id": f"fc_{call_id}",
        "type": "function_call",
        "call_id": call_id,
        "name": tool,
        "arguments": arguments,
        "status": "completed",
    }


def as_text(value: Any) -> str:
    """JSON as the text that this wire puts it into; text stays text. Sorted, since the store has keys in another order
    than the model wrote them."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
