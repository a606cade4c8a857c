"""The context window: which stored messages a model call reads, as the JSON it is sent.

Invariant: what is sent is a valid conversation. A tool call and its results are kept or dropped together, a call
without a result (its turn was cancelled) gets one that says so, and the newest message is never dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from shared.sessions.llm import ModelImage
from shared.sessions.models import MessageStatus
from shared.sessions.records import ContextMessage
from shared.sessions.visible import visible_text

BYTES_PER_TOKEN = 3
"""English runs at about 4 bytes a token in the o200k vocabulary, code and other scripts at 2 to 3.5. The vocabulary
itself is a download, so we count with a divisor that errs on the safe side."""

MESSAGE_OVERHEAD_TOKENS = 4
"""Role and separators of one message (OpenAI's cookbook counts 3 to 4)."""

NO_RESULT = orjson.dumps({"status": "failed", "error": "This call has no result: its turn ended first."}).decode()


def estimate_tokens(text: str) -> int:
    """Tokens of one message with this text, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS


def fit(newest_first: Iterable[ContextMessage], budget_tokens: int) -> list[ContextMessage]:
    """The newest groups that fit `budget_tokens` together, oldest first.

    A group is one step of one turn: an assistant message with its tool results, or a user message. The newest group
    is kept whatever its size, since without it there is nothing to answer.
    """
    kept: list[ContextMessage] = []
    group: list[ContextMessage] = []
    spent = 0

    def take() -> bool:
        nonlocal spent
        cost = sum(message.tokens for message in group)
        if kept and spent + cost > budget_tokens:
            return False
        spent += cost
        kept.extend(group)
        return True

    for message in newest_first:
        if group and (message.turn_number, message.step) != (group[0].turn_number, group[0].step):
            if not take():
                group = []
                break
            group = []
        group.append(message)
    # The oldest group read may have been cut by the row limit: without its assistant message it is not usable.
    if group and group[-1].role != "tool":
        take()
    kept.reverse()
    return kept


def to_wire(
    messages: Sequence[ContextMessage], images: Mapping[str, ModelImage] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Chat-completion messages, oldest first, complete and in the order the API demands.

    images: by attachment id; of those that are not among them the message's note tells.
    """
    wire: list[dict[str, Any]] = []
    unanswered: dict[str, None] = {}

    def close() -> None:
        wire.extend({"role": "tool", "tool_call_id": call_id, "content": NO_RESULT} for call_id in unanswered)
        unanswered.clear()

    for message in messages:
        if message.role == "tool":
            if message.tool_call_id in unanswered:
                del unanswered[message.tool_call_id]
                text = visible_text(message.content)
                wire.append({"role": "tool", "tool_call_id": message.tool_call_id, "content": text})
            continue
        close()
        if message.role == "assistant":
            if message.calls and message.status is MessageStatus.COMPLETED:
                wire.append(
                    {
                        "role": "assistant",
                        "content": message.content or None,
                        "tool_calls": [_wire_call(call) for call in message.calls],
                    }
                )
                unanswered.update(dict.fromkeys(call["id"] for call in message.calls))
            elif message.content:
                wire.append({"role": "assistant", "content": message.content})
        elif message.note is not None:
            # The user's words last: what a file says comes before them and cannot speak after them.
            shown = [images[file["id"]] for file in message.attachments or () if file["id"] in images]
            parts = [_text(visible_text(message.note)), *map(_image, shown), _text(message.content)]
            wire.append({"role": message.role, "content": parts})
        else:
            wire.append({"role": message.role, "content": message.content})
    close()
    return wire


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(image: ModelImage) -> dict[str, Any]:
    # In the request itself: the model's provider could not read our store, nor should it.
    data = base64.b64encode(image.data).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{data}"}}


def _wire_call(call: dict[str, Any]) -> dict[str, Any]:
    arguments = call["arguments"]
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": text}}
