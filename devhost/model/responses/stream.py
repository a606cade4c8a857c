"""The events of a streamed answer, in OpenAI's order and with OpenAI's fields.

    response.created, response.in_progress
      reasoning  output_item.added, per paragraph reasoning_summary_part.added, reasoning_summary_text.delta …,
                 reasoning_summary_text.done, reasoning_summary_part.done; output_item.done
      message    output_item.added, content_part.added, output_text.delta … (refusal.delta …), output_text.done,
                 content_part.done, output_item.done
      call       output_item.added, function_call_arguments.delta …, function_call_arguments.done, output_item.done
    response.completed | response.incomplete | response.failed

Invariant: sequence numbers count from 0 without a gap, and there is one delta per token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from devhost.model.errors import Json, RequestRefused
from devhost.model.reply import Reply, encoded, split_tokens
from devhost.model.responses.answer import Item, ResponseObject
from devhost.model.responses.request import ResponsesRequest
from devhost.model.responses.sealed import Sealed, seal

_NUMBERS = tuple(b"%d" % number for number in range(4096))
"""Sequence numbers as bytes, cached since formatting them would be a third of a stream's cost."""


class ResponsesAnswer:
    """One answer being sent; the stream is only built when requested."""

    def __init__(self, request: ResponsesRequest, reply: Reply) -> None:
        self._response = ResponseObject(request, reply)
        self._events: _Events | None = None

    @property
    def completion_tokens(self) -> int:
        return self._response.reply.completion_tokens

    def body(self) -> bytes:
        """The whole answer as one JSON object, also a failed one."""
        return self._response.ended()

    def head(self) -> bytes:
        """Events before the first token."""
        return self._made().head

    def units(self) -> list[bytes]:
        """One entry per token; the events before a token's own belong to it."""
        return self._made().units

    def tail(self) -> bytes:
        """Events after the last token."""
        return self._made().tail

    def error_event(self, sent: int, error: RequestRefused) -> bytes:
        """An `error` event instead of the unit with that index."""
        made = self._made()
        number = made.head.count(b"\n\n") + sum(unit.count(b"\n\n") for unit in made.units[:sent])
        return _frame("error", number, {"code": error.code, "message": error.message, "param": error.param})

    def _made(self) -> _Events:
        if self._events is None:
            self._events = _Events(self._response)
        return self._events


class _Events:
    def __init__(self, response: ResponseObject) -> None:
        self.units: list[bytes] = []
        self._number = 0
        self._waiting = b""
        """Events to send with the next token."""
        self._response = response
        begun = response.begun()
        self._lifecycle("response.created", begun)
        self._lifecycle("response.in_progress", begun)
        self.head, self._waiting = self._waiting, b""
        has_failed = response.reply.failure is not None
        for index, item in enumerate(response.items):
            self._item(index, item, is_done=not has_failed)
        self._lifecycle(response.final_event, response.ended())
        self.tail = self._waiting

    def _item(self, index: int, item: Item, *, is_done: bool) -> None:
        self._add("response.output_item.added", {"output_index": index, "item": _as_begun(item)})
        where: dict[str, Json] = {"item_id": item["id"], "output_index": index}
        match item["type"]:
            case "reasoning":
                self._summary(item, where, is_done=is_done)
            case "function_call":
                self._arguments(item, where, is_done=is_done)
            case _:
                self._text(item, where, is_done=is_done)
        if is_done:
            self._add("response.output_item.done", {"output_index": index, "item": item})

    def _summary(self, item: Item, where: Mapping[str, Json], *, is_done: bool) -> None:
        parts = item["summary"]
        assert isinstance(parts, list)
        for i, part in enumerate(parts):
            place = {**where, "summary_index": i}
            text = str(part["text"])
            self._add("response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}})
            self._deltas("response.reasoning_summary_text.delta", place, split_tokens(text))
            if is_done:
                self._add("response.reasoning_summary_text.done", {**place, "text": text})
                self._add("response.reasoning_summary_part.done", {**place, "part": part})

    def _text(self, item: Item, where: Mapping[str, Json], *, is_done: bool) -> None:
        parts = item["content"]
        assert isinstance(parts, list)
        (part,) = parts
        place = {**where, "content_index": 0}
        is_refusal = self._response.reply.is_refusal
        name = "refusal" if is_refusal else "text"
        kind = "response.refusal" if is_refusal else "response.output_text"
        more: dict[str, Json] = {} if is_refusal else {"logprobs": []}
        self._add("response.content_part.added", {**place, "part": {**part, name: ""}})
        self._deltas(f"{kind}.delta", place, self._response.reply.tokens, **more)
        if is_done:
            self._add(f"{kind}.done", {**place, name: part[name], **more})
            self._add("response.content_part.done", {**place, "part": part})

    def _arguments(self, item: Item, where: Mapping[str, Json], *, is_done: bool) -> None:
        text = str(item["arguments"])
        self._deltas("response.function_call_arguments.delta", where, split_tokens(text))
        if is_done:
            self._add("response.function_call_arguments.done", {**where, "arguments": text})

    def _deltas(self, kind: str, place: Mapping[str, Json], tokens: tuple[str, ...], **more: Json) -> None:
        if not tokens:
            return
        opening = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":'.encode()
        before = b"," + orjson.dumps(place)[1:-1] + b',"delta":'
        after = b"".join(b"," + orjson.dumps({name: value})[1:-1] for name, value in more.items()) + b"}\n\n"
        tokens_json = encoded(tokens)
        numbers = _numbers(self._number, len(tokens_json))
        units = [b"".join((opening, n, before, token, after)) for n, token in zip(numbers, tokens_json, strict=True)]
        units[0] = self._waiting + units[0]
        self._waiting = b""
        self._number += len(units)
        self.units += units

    def _add(self, kind: str, fields: Mapping[str, Json]) -> None:
        self._waiting += _frame(kind, self._number, fields)
        self._number += 1

    def _lifecycle(self, kind: str, response: bytes) -> None:
        self._waiting += (
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,"response":%b}\n\n'
            % (kind.encode(), kind.encode(), self._number, response)
        )  # fmt: skip
        self._number += 1


def _numbers(first: int, count: int) -> Iterable[bytes]:
    if first + count <= len(_NUMBERS):
        return _NUMBERS[first : first + count]
    return (b"%d" % number for number in range(first, first + count))


def _frame(kind: str, number: int, fields: Mapping[str, Json]) -> bytes:
    data = orjson.dumps({"type": kind, "sequence_number": number, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _as_begun(item: Item) -> Item:
    """An item as it is announced, still empty. The content of a reasoning item is only in the finished item."""
    match item["type"]:
        case "reasoning":
            begun = {**item, "summary": []}
            if "encrypted_content" in item:
                begun["encrypted_content"] = seal(Sealed(str(item["id"]), "", ()))
            return begun
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case _:
            return {**item, "status": "in_progress", "content": []}
