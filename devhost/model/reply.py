"""What to answer, how it is cut into tokens, and how it goes onto the wire as JSON or SSE events.

Invariant: the concatenated deltas of a stream are the same text, and the same argument texts, as
the non-streaming body of the same reply.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache

import orjson

from devhost.model.request import ChatRequest, ToolCall

MODEL_NAME = "offline-demo"
_FINGERPRINT = "fp_offline_demo"
_PIECE = re.compile(r"\s?\w{1,8}|\s+|[^\w\s]+?", re.DOTALL)
_CHARS_PER_TOKEN = 4  # the usual rule of thumb; usage is an estimate and is only ever compared with itself
_CACHED_CHARS = 8192
_CACHED_TOKENS = 2048
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Reply:
    tokens: tuple[str, ...]
    """The text, cut; its concatenation is the content."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"

    @property
    def text(self) -> str:
        return "".join(self.tokens)


def split_tokens(text: str) -> tuple[str, ...]:
    """Cut a text into pieces about as long as a tokenizer would; nothing is lost."""
    return _cut(text) if len(text) <= _CACHED_CHARS else tuple(_PIECE.findall(text))


@lru_cache(maxsize=512)
def _cut(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))


def limited(reply: Reply, max_tokens: int | None) -> Reply:
    """Cut a reply at max_tokens as a model does: `length`, and a half-written call is still sent."""
    if max_tokens is None:
        return reply
    if len(reply.tokens) > max_tokens:
        return Reply(reply.tokens[:max_tokens], (), "length")
    left = max_tokens - len(reply.tokens)
    calls: list[ToolCall] = []
    for call in reply.tool_calls:
        pieces = split_tokens(call.arguments)
        if len(pieces) > left:
            calls.append(ToolCall(call.id, call.name, "".join(pieces[:left])))
            return Reply(reply.tokens, tuple(calls), "length")
        left -= len(pieces)
        calls.append(call)
    return reply


def count_prompt_tokens(request: ChatRequest) -> int:
    """An estimate: characters by four, and the few tokens each message and each tool costs."""
    chars = 0
    for message in request.messages:
        chars += len(message.text) + 16 + 400 * message.attachments
        for call in message.tool_calls:
            chars += len(call.name) + len(call.arguments)
    for tool in request.tools:
        chars += len(tool.name) + len(tool.description) + 40 * len(tool.properties)
    return chars // _CHARS_PER_TOKEN + 3


class Completion:
    """One answer on its way out: the id and the pre-encoded frame around every delta."""

    def __init__(self, request: ChatRequest, reply: Reply, *, is_azure: bool = False) -> None:
        self.reply = reply
        self._include_usage = request.include_usage
        self._is_azure = is_azure
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        prompt = count_prompt_tokens(request)
        completion = len(reply.tokens) + sum(len(split_tokens(c.arguments)) + 4 for c in reply.tool_calls)
        self.completion_tokens = completion
        """Tokens of the answer."""
        self.usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }
        self._open = (
            f'data: {{"id":"{self._id}","object":"chat.completion.chunk","created":{self._created},'
            f'"model":"{MODEL_NAME}","system_fingerprint":"{_FINGERPRINT}","choices":'
        ).encode()
        self._close = (b',"usage":null' if request.include_usage else b"") + b"}\n\n"

    def body(self) -> bytes:
        """The whole answer as one JSON object."""
        calls = [_call_json(call) for call in self.reply.tool_calls]
        message: dict[str, object] = {
            "role": "assistant",
            "content": self.reply.text or (None if calls else ""),
            "refusal": None,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.reply.finish_reason}
        return orjson.dumps(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": MODEL_NAME,
                "system_fingerprint": _FINGERPRINT,
                "choices": [choice],
                "usage": self.usage,
            }
        )

    def head(self) -> bytes:
        """Events before the first token. Azure opens with one that has no choice at all."""
        content = b"null" if self.reply.tool_calls and not self.reply.tokens else b'""'
        first = self._delta(b'{"role":"assistant","content":' + content + b',"refusal":null}')
        if not self._is_azure:
            return first
        return (
            b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
            b'[{"prompt_index":0,"content_filter_results":{}}]}\n\n' + first
        )

    def units(self) -> list[bytes]:
        """One event per token: of the text first, then of each call's arguments."""
        before = self._open + b'[{"index":0,"delta":{"content":'
        after = b'},"logprobs":null,"finish_reason":null}]' + self._close
        units = [before + token + after for token in _encoded(self.reply.tokens)]
        for index, call in enumerate(self.reply.tool_calls):
            units += self._call_units(index, call)
        return units

    def tail(self) -> bytes:
        """Finish reason, usage if asked for, and the end mark."""
        reason = orjson.dumps(self.reply.finish_reason)
        choice = b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":' + reason + b"}]"
        end = self._open + choice + self._close
        if self._include_usage:
            end += self._open + b'[],"usage":' + orjson.dumps(self.usage) + b"}\n\n"
        return end + DONE

    def _call_units(self, index: int, call: ToolCall) -> list[bytes]:
        opening = {"index": index, **_call_json(ToolCall(call.id, call.name, ""))}
        units = [self._delta(b'{"tool_calls":[' + orjson.dumps(opening) + b"]}")]
        for piece in _encoded(split_tokens(call.arguments)):
            fragment = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, piece)
            units.append(self._delta(fragment))
        return units

    def _delta(self, delta: bytes) -> bytes:
        return self._open + b'[{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":null}]' + self._close


def _call_json(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _encoded(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    # Scripted and demo answers repeat; encoding each token again would be most of a stream's cost.
    return _encode(tokens) if len(tokens) <= _CACHED_TOKENS else tuple(map(orjson.dumps, tokens))


@lru_cache(maxsize=512)
def _encode(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(orjson.dumps, tokens))
