"""A chat completion on the wire: one JSON object, or chunks with a pre-encoded frame around every token."""

from __future__ import annotations

import time
import uuid

import orjson

from devhost.model.chat.request import ChatRequest
from devhost.model.conversation import ToolCall, count_prompt_tokens
from devhost.model.errors import RequestRefused
from devhost.model.reply import MODEL_NAME, Reply, encoded, split_tokens

_FINGERPRINT = "fp_offline_demo"
DONE = b"data: [DONE]\n\n"
_PROMPT_FILTER = (
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
    b'[{"prompt_index":0,"content_filter_results":{}}]}\n\n'
)


class ChatAnswer:
    """One answer being sent. Raises RequestRefused (500) when the model fails before its text."""

    def __init__(self, request: ChatRequest, reply: Reply, *, is_azure: bool = False) -> None:
        self._reply = reply
        self._is_azure = is_azure
        self._has_usage = request.include_usage and reply.tells_usage
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._prompt_tokens = count_prompt_tokens(request)
        self._open = (
            f'data: {{"id":"{self._id}","object":"chat.completion.chunk","created":{self._created},'
            f'"model":"{MODEL_NAME}","system_fingerprint":"{_FINGERPRINT}","choices":'
        ).encode()
        self._close = (b',"usage":null' if self._has_usage else b"") + b"}\n\n"

    @property
    def completion_tokens(self) -> int:
        return self._reply.completion_tokens

    def body(self) -> bytes:
        """The whole answer as one JSON object."""
        if self._reply.failure is not None:
            raise self._breakdown()
        reply = self._reply
        calls = [_call_json(call) for call in reply.tool_calls]
        text = None if reply.is_refusal else reply.text or (None if calls else "")
        message: dict[str, object] = {
            "role": "assistant",
            "content": text,
            "refusal": reply.text if reply.is_refusal else None,
            "annotations": [],
        }
        if reply.thoughts:
            message["reasoning_content"] = reply.reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
        whole: dict[str, object] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": MODEL_NAME,
            "system_fingerprint": _FINGERPRINT,
            "choices": [choice],
        }
        if reply.tells_usage:
            whole["usage"] = self._usage()
        return orjson.dumps(whole)

    def head(self) -> bytes:
        """Events before the first token. Azure begins with one that has no choices."""
        reply = self._reply
        content = b'""' if (reply.tokens and not reply.is_refusal) or not reply.tool_calls else b"null"
        first = self._delta(b'{"role":"assistant","content":' + content + b',"refusal":null}')
        return _PROMPT_FILTER + first if self._is_azure else first

    def units(self) -> list[bytes]:
        """One event per token: of the reasoning, of the text, then of each call's arguments."""
        units = self._text_units(b"reasoning_content", self._reply.thoughts)
        units += self._text_units(b"refusal" if self._reply.is_refusal else b"content", self._reply.tokens)
        for index, call in enumerate(self._reply.tool_calls):
            units += self._call_units(index, call)
        return units

    def tail(self) -> bytes:
        """Finish reason, usage if asked for, and the end mark."""
        if self._reply.failure is not None:
            return b"data: " + self._breakdown().body() + b"\n\n"
        reason = orjson.dumps(self._reply.finish_reason)
        choice = b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":' + reason + b"}]"
        end = self._open + choice + self._close
        if self._has_usage:
            end += self._open + b'[],"usage":' + orjson.dumps(self._usage()) + b"}\n\n"
        return end + DONE

    def error_event(self, sent: int, error: RequestRefused) -> bytes:
        return b"data: " + error.body() + b"\n\n"

    def _breakdown(self) -> RequestRefused:
        # Chat completions have no failed status, so a failure is sent as an error.
        failure = self._reply.failure
        code, message = (failure.code, failure.message) if failure else ("server_error", "The model failed.")
        return RequestRefused(message, status=500, code=code, kind="server_error")

    def _usage(self) -> dict[str, object]:
        prompt, completion = self._prompt_tokens, self.completion_tokens
        thoughts = len(self._reply.thoughts)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self._reply.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": thoughts, "audio_tokens": 0},
        }

    def _text_units(self, name: bytes, tokens: tuple[str, ...]) -> list[bytes]:
        before = self._open + b'[{"index":0,"delta":{"' + name + b'":'
        after = b'},"logprobs":null,"finish_reason":null}]' + self._close
        return [before + token + after for token in encoded(tokens)]

    def _call_units(self, index: int, call: ToolCall) -> list[bytes]:
        opening = {"index": index, **_call_json(ToolCall(call.id, call.name, ""))}
        units = [self._delta(b'{"tool_calls":[' + orjson.dumps(opening) + b"]}")]
        for piece in encoded(split_tokens(call.arguments)):
            fragment = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (index, piece)
            units.append(self._delta(fragment))
        return units

    def _delta(self, delta: bytes) -> bytes:
        return self._open + b'[{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":null}]' + self._close


def _call_json(call: ToolCall) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
