"""Events that an older version of the app logged, as this one describes them: with the fields that came since.

The log keeps events for a day, and while a deployment is under way both versions write. Readers get bytes, so that is
where what is missing is filled in: with the defaults of the models, which say what was so before there was the field.

Invariant: what an event has is passed on as it is. Deltas, of which answers consist, are not even parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from shared.sessions.approvals.models import Approval
from shared.sessions.events import EventType
from shared.sessions.models import Session, ToolCall, ToolWait, Usage

_PARTS: Mapping[str, type[BaseModel]] = {"session": Session, "approval": Approval, "wait": ToolWait, "usage": Usage}
"""By the name of the field in an event's data."""
_WITHOUT = tuple(
    b'"type":"%b"' % kind.encode()
    for kind in (EventType.TOOL_CALL_PROGRESS, EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED)
)
"""How bodies begin that hold none of these parts, and perhaps a large result."""
_CHUNK = b'"type":"%b"' % EventType.STREAM_CHUNK.encode()
_USAGE = b'"usage":{'


def with_defaults(body: bytes) -> bytes:
    """An event's body (`Event.body`) with what it lacks; the same object if it lacks nothing."""
    if body.startswith(_WITHOUT) or (body.startswith(_CHUNK) and _USAGE not in body):
        return body
    event = orjson.loads(b"{" + body)
    data = event["data"]
    found = [(part, model) for name, model in _PARTS.items() if isinstance(part := data.get(name), dict)]
    found += [(call, ToolCall) for call in data.get("tool_calls", ())]
    if isinstance(usage := data.get("frame", {}).get("usage"), dict):
        found.append((usage, Usage))
    added = [_fill(part, model) for part, model in found]
    if event["type"] == EventType.STREAM_ENDED and "finish_reason" not in data:
        data["finish_reason"] = None
        added.append(True)
    return orjson.dumps(event)[1:] if any(added) else body


def _fill(part: dict[str, Any], model: type[BaseModel]) -> bool:
    """Add in place what the model has by default. Whether anything was missing."""
    try:
        whole = model.model_validate(part)
    except ValidationError:
        return False  # of a newer version, whose values this one does not know
    return _add(part, whole.model_dump(mode="json"))


def _add(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        missing = {name: value for name, value in whole.items() if name not in part}
        added = [_add(part[name], value) for name, value in whole.items() if name in part]
        part.update(missing)
        return bool(missing) or any(added)
    if isinstance(part, list) and isinstance(whole, list) and len(part) == len(whole):
        return sum(_add(one, other) for one, other in zip(part, whole, strict=True)) > 0
    return False
