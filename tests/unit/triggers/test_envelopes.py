"""The envelopes that the document describes are those that are sent: what is encoded is read by their models."""

from __future__ import annotations

from typing import Any, get_args

import orjson
import pytest
from pydantic import TypeAdapter

from shared.sessions.events import Event, EventType, FrameType, envelope
from triggers.live.envelopes import Envelope, Frame

_ENVELOPES: TypeAdapter[Any] = TypeAdapter(Envelope)


def _types(union: Any, field: str) -> list[str]:
    """The values of the discriminator of each member."""
    members = get_args(get_args(union.__value__)[0])
    return sorted(get_args(member.model_fields[field].annotation)[0] for member in members)


def test_every_event_and_every_frame_has_a_model_of_its_own() -> None:
    assert _types(Envelope, "type") == sorted(EventType)
    assert _types(Frame, "type") == sorted(FrameType)


@pytest.mark.parametrize("ids", [{}, {"turn_id": "t"}, {"turn_id": "t", "message_id": "m"}])
def test_what_is_encoded_is_the_envelope_that_clients_are_told_of(ids: dict[str, str]) -> None:
    event = Event(EventType.MESSAGE_CREATED, {"id": "m", "role": "assistant", "status": "streaming"}, **ids)

    encoded = envelope(7, event.body("s"))

    told = _ENVELOPES.validate_json(encoded)
    assert (told.seq, told.type, told.session_id, told.at) == (7, event.type, "s", event.at)
    assert list(orjson.loads(encoded)) == ["seq", "type", "session_id", *ids, "at", "data"]
    assert told.model_dump(mode="json") == orjson.loads(encoded)
