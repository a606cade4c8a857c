"""Events that an older app logged, as readers get them: in the shape that the document promises."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import orjson
import pytest

import triggers
from shared.sessions.events import EventType, FrameType, envelope, frame
from shared.sessions.older_events import with_defaults
from tests.contract.wire import WireContract
from triggers.http.openapi.document import document

type Json = dict[str, Any]

_AT = "2026-11-20T12:00:00Z"
_IDS = {"session_id": "s-1", "turn_id": "t-1"}
_CONFIG = {"model": None, "temperature": None, "max_steps": 3, "approval_mode": "manual", "concurrency": "reject"}
_SESSION = {
    **{"id": "s-1", "name": None, "status": "ACTIVE", "agent_id": None, "config": _CONFIG, "tags": [], "metadata": {}},
    **{"created_at": _AT, "updated_at": _AT},
}
_POLICY = {"roles": ["approver"], "quorum": 1, "on_timeout": "reject", "channels": ["teams"]}
_APPROVAL = {
    **{"id": "a-1", "tool_call_id": "c-1", **_IDS, "tool": "http_request", "arguments": {"url": "x", "session": {}}},
    **{"status": "pending", "requested_by": "olga", "requested_at": _AT, "expires_at": _AT},
    **{"policy": _POLICY, "quorum": 1, "votes": []},
}
_CALL = {"id": "c-1", "message_id": "m-1", "name": "calculate", "arguments": {}, "status": "pending", "result": None}
_MESSAGE = {"id": "m-1", "role": "assistant", "status": "completed", "content": "", "tool_calls": [_CALL]}
_USAGE = {"input_tokens": 3, "output_tokens": 4}
_END = {"message_id": "m-1", "finish_reason": "stop", "usage": _USAGE}

OLD = [
    ("session.created", {"session": _SESSION}),
    ("message.updated", _MESSAGE),
    ("tool_call.pending", {"approval": _APPROVAL, "tool_call_id": "c-1"}),
    ("stream.chunk", {"frame": {"type": "message_end", **_END}}),
    ("stream.ended", {"status": "completed", "usage": _USAGE, "steps": 1}),
]
"""As versions of the first weeks told them."""


@cache
def _judge() -> WireContract:
    for module in pkgutil.walk_packages(triggers.__path__, "triggers."):
        importlib.import_module(module.name)
    return WireContract(document())


def _body(kind: str, data: Json) -> bytes:
    return orjson.dumps({"type": kind, **_IDS, "message_id": "m-1", "at": _AT, "data": data})[1:]


def _has(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and _has(whole[name], part[name]) for name in part)
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_has, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize(("kind", "data"), OLD, ids=[kind for kind, _ in OLD])
def test_an_old_event_gets_what_events_have_had_since_and_keeps_what_it_has(kind: str, data: Json) -> None:
    told = orjson.loads(envelope(7, with_defaults(_body(kind, data))))
    _judge().check_envelope(told)
    assert _has(told["data"], data)


@pytest.mark.parametrize(("kind", "data"), OLD, ids=[kind for kind, _ in OLD])
def test_what_lacks_nothing_stays_as_it_was_written(kind: str, data: Json) -> None:
    whole = with_defaults(_body(kind, data))
    assert with_defaults(whole) is whole


@pytest.mark.parametrize(
    "body",
    [
        frame(FrameType.CONTENT_DELTA, "t", "m", index=0, text='"usage":{').body("s"),
        _body(EventType.TOOL_CALL_COMPLETED, {"tool_call": {"usage": {"input_tokens": 1}}}),
        _body(EventType.MESSAGE_CREATED, {"id": "m-1", "role": "user", "status": "completed", "content": "hi"}),
        _body(EventType.SESSION_CREATED, {"session": {**_SESSION, "status": "PAUSED"}}),
    ],
    ids=["a delta that quotes one", "a result", "a part of a message", "a status of a newer app"],
)
def test_what_is_no_part_that_grows_or_is_not_known_here_is_passed_on(body: bytes) -> None:
    assert with_defaults(body) is body
