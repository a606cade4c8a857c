"""Streams of the Responses API as bytes on the wire, checked strictly against the openai package's types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import httpx
from openai import BaseModel
from openai.types.responses import Response, ResponseStreamEvent

NOT_IN_THE_TYPES = {"store"}
"""What OpenAI sends although the package does not declare it."""

type Event = dict[str, Any]


def _event_types() -> dict[str, type[BaseModel]]:
    union = get_args(ResponseStreamEvent)[0]
    return {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(union)}


EVENT_TYPES = _event_types()


async def post_stream(url: str, **body: Any) -> list[Event]:
    """The events of a streamed answer; each one's `event:` line is the type in its data, and nothing else is sent."""
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{url}/v1/responses", json={"model": "m", "stream": True, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(read_events(answer.text))


def read_events(text: str) -> Iterator[Event]:
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        event: Event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        yield event


def check_events(events: list[Event]) -> None:
    """Every event has all that its type requires, nothing unknown, and the next sequence number."""
    for number, event in enumerate(events):
        assert event["sequence_number"] == number
        check_fields(EVENT_TYPES[event["type"]].model_validate(event, strict=True))


def check_response(response: dict[str, Any]) -> None:
    check_fields(Response.model_validate(response, strict=True))


def check_fields(model: BaseModel) -> None:
    """No field anywhere that the types do not know."""
    unknown = set(model.model_extra or {}) - NOT_IN_THE_TYPES
    assert not unknown, (type(model).__name__, unknown)
    for _, value in model:
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, BaseModel):
                check_fields(entry)


def kinds(events: list[Event]) -> list[str]:
    """The types without `response.` before them, runs of deltas as one."""
    found: list[str] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if not found or found[-1] != kind or not kind.endswith("delta"):
            found.append(kind)
    return found


def joined(events: list[Event], kind: str, **where: Any) -> str:
    """The deltas of a kind, put together."""
    deltas = [event for event in events if event["type"] == f"response.{kind}.delta"]
    return "".join(event["delta"] for event in deltas if all(event[name] == at for name, at in where.items()))
