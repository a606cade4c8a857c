"""Streams of model servers as bytes, made and parsed: in whole, byte by byte, or in pieces of anybody's choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from shared.adapters.models.chat.answer_parser import ChatParser
from shared.adapters.models.responses.answer_parser import ResponsesParser
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.llm.protocol import ModelEnd, ModelEvent, ModelReasoning, ModelText

STREAMS = Path(__file__).parent / "streams"
DONE = "[DONE]"

type Event = dict[str, Any]


class Parsed(NamedTuple):
    """What a reader of an answer has in the end."""

    text: str
    thought: str
    end: ModelEnd

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        return [(call.id, call.name, call.arguments) for call in self.end.tool_calls]


def parse(parser: ChatParser | ResponsesParser, chunks: Iterable[bytes]) -> Parsed:
    events: list[ModelEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
    events += parser.finish()
    assert not any(isinstance(event, ModelEnd) for event in events[:-1])
    assert all(event.text for event in events[:-1] if isinstance(event, (ModelText, ModelReasoning)))
    end = events[-1]
    assert isinstance(end, ModelEnd)
    return Parsed(
        "".join(event.text for event in events if isinstance(event, ModelText)),
        "".join(event.text for event in events if isinstance(event, ModelReasoning)),
        end,
    )


def chat(*chunks: bytes) -> Parsed:
    return parse(ChatParser(), chunks)


def responses(*chunks: bytes) -> Parsed:
    return parse(ResponsesParser(), chunks)


def sse(*events: Any, newline: str = "\n", space: str = " ") -> bytes:
    """The bytes of events; text is sent as it stands."""
    blocks = [f"data:{space}{event if isinstance(event, str) else _json(event)}{newline}{newline}" for event in events]
    return "".join(blocks).encode()


def _json(event: Any) -> str:
    """As UTF-8 where that can be, else in escapes: half characters, numbers of any length."""
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        return json.dumps(event)


def delta(**fields: Any) -> Event:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def finish(reason: str | None = "stop") -> Event:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def call_part(index: Any = None, name: str | None = None, arguments: Any = None, **fields: Any) -> Event:
    """One delta with one piece of a call; what is None is left out."""
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    part = {**({} if index is None else {"index": index}), "function": function, **fields}
    return delta(tool_calls=[part])


def chat_stream(*events: Any, reason: str | None = "stop") -> bytes:
    """A whole stream around these."""
    return sse(*events, finish(reason), DONE)


def item_done(item: Event, place: int | None = 0) -> Event:
    return {"type": "response.output_item.done", "item": item, **({} if place is None else {"output_index": place})}


def text_delta(text: str, place: int | None = 0) -> Event:
    return {"type": "response.output_text.delta", "delta": text, **({} if place is None else {"output_index": place})}


def message(*texts: str, **fields: Any) -> Event:
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": t} for t in texts],
        **fields,
    }


def function_call(call_id: str, name: str, arguments: Any = "{}", **fields: Any) -> Event:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments, **fields}


def ended(kind: str = "completed", *output: Event, **fields: Any) -> Event:
    """The last event of a response."""
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    response = {"id": "resp_1", "model": "m-1", "status": kind, "output": list(output), "usage": usage, **fields}
    return {"type": f"response.{kind}", "response": response}


def pieces(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The stream, cut at these places."""
    places = sorted(cut % (len(stream) + 1) for cut in cuts)
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def each_byte(stream: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in stream]


def named(calls: Sequence[ModelToolCall]) -> list[tuple[str, str]]:
    """What is called, without ids."""
    return [(call.name, call.arguments) for call in calls]
