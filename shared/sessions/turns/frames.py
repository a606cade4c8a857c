"""The frames of a turn's stream, made from its events or from its stored messages."""

from __future__ import annotations

from typing import Any

import orjson

from shared.sessions.events import FrameType, turn_end
from shared.sessions.live.sse import sse
from shared.sessions.models import Message, Turn
from shared.sessions.turns.answer import end_of

STORED_ATTEMPT = 1_000
"""The `attempt` of a message sent from the store: above any live one, so that it replaces what a client has."""


def live_frame(seq: int, event: dict[str, Any]) -> bytes:
    """A stream.chunk as one SSE frame: the envelope, with the frame's own fields lifted beside it."""
    frame = dict(event["data"]["frame"])
    kind = frame.pop("type")
    return sse(kind, orjson.dumps({"seq": seq, **event, **frame}), seq)


def stored_frames(message: Message) -> list[bytes]:
    """message_start, reasoning_delta, content_delta, tool_call..., message_end of a stored message. Without ids: they
    are not events."""
    start = {"message_id": message.id, "attempt": STORED_ATTEMPT}
    frames = [sse(FrameType.MESSAGE_START, orjson.dumps(start))]
    if message.reasoning:
        frames.append(sse(FrameType.REASONING_DELTA, orjson.dumps({"index": 0, "text": message.reasoning})))
    if message.content:
        frames.append(sse(FrameType.CONTENT_DELTA, orjson.dumps({"index": 0, "text": message.content})))
    frames.extend(
        sse(FrameType.TOOL_CALL, orjson.dumps({"id": call.id, "name": call.name, "arguments": call.arguments}))
        for call in message.tool_calls
    )
    reason = end_of(message.status, message.finish_reason, has_calls=bool(message.tool_calls))
    end = {"message_id": message.id, "finish_reason": reason or message.status.value, "usage": None}
    frames.append(sse(FrameType.MESSAGE_END, orjson.dumps(end)))
    return frames


def end_frame(turn: Turn) -> bytes:
    """The last frame of a turn, from what is stored."""
    return sse("end", orjson.dumps(turn_end(turn.status, turn.usage, turn.steps, turn.finish_reason)))
