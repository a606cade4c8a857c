"""What a message of the queue says: one form, read in one way, whoever sends it."""

from __future__ import annotations

import base64
import json

import pytest

from shared.errors import ErrorCode, InvalidInput
from shared.ids import new_id
from triggers.unattended.queue import firing_of
from triggers.unattended.triggers import MAX_PAYLOAD_BYTES

UID = new_id()


def test_json_is_read_as_it_is_and_in_base64() -> None:
    text = json.dumps({"trigger": UID, "payload": {"žluť": [1, None]}, "id": "order-7"}, ensure_ascii=False)
    for sent in (text, f"\n {text}", base64.b64encode(text.encode()).decode()):
        firing = firing_of(sent)
        assert (firing.trigger, firing.payload, firing.id) == (UID, {"žluť": [1, None]}, "order-7")


def test_payload_and_id_may_be_left_out() -> None:
    firing = firing_of(json.dumps({"trigger": UID}))
    assert (firing.payload, firing.id) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "null",
        "{",
        '{"trigger": "x"} {"trigger": "y"}',
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b'["x"]').decode(),
        base64.b64encode(b'{"trigger": "x"}').decode().rstrip("="),
        '{"trigger": "\\ud800"}',
        '{"trigger": "x", "payload": ' + "[" * 100_000 + "}",
        '{"trigger": "x", "payload": 1e999}',
        '{"trigger": "x", "payload": NaN}',
        "ž",
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        firing_of(text)
    assert refused.value.code is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"trigger": 7}, "trigger"),
        ({"trigger": "x" * 65}, "trigger"),
        # The host mixes fields of the body with what the queue says of the message.
        ({"Id": "x"}, "Id"),
        ({"InsertionTime": "2000-01-01T00:00:00Z"}, "InsertionTime"),
        ({"session_id": "s"}, "session_id"),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(more: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInput, match=rf"\b{named}\b"):
        firing_of(json.dumps({"trigger": UID} | more))


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        firing_of(f'{{"trigger": "{UID}", "payload": {{"to": "ann", "to": "eve"}}}}')


def test_a_payload_has_the_limit_of_webhooks() -> None:
    assert firing_of(json.dumps({"trigger": UID, "payload": "x" * (MAX_PAYLOAD_BYTES - 2)})).payload
    with pytest.raises(InvalidInput) as refused:
        firing_of(json.dumps({"trigger": UID, "payload": "x" * MAX_PAYLOAD_BYTES}))
    assert refused.value.code is ErrorCode.MESSAGE_TOO_LONG
