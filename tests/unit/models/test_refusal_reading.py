"""Error bodies of every shape, read; and what of them may stand in a log."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from shared.adapters.models.refusals.refusal import (
    MAX_BODY_BYTES,
    MAX_LOGGED,
    Refusal,
    error_in,
    read_refusal,
    refusal_of,
)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Boom", "type": "t", "code": "c"}},
        {"error": {"message": "Boom"}, "message": "Boom"},
        {"error": "Boom"},
        [{"error": {"message": "Boom"}}],
        {"object": "error", "message": "Boom"},
        {"detail": "Boom"},
        {"detail": [{"loc": ["body", "x"], "msg": "Boom"}]},
        {"message": {"detail": [{"msg": "Boom"}]}},
        {"message": [{"msg": "Boom"}]},
        {"statusCode": 401, "message": "Boom"},
        {"error": {"code": 400, "metadata": {"raw": '{"error":{"message":"Boom"}}'}}},
        {"error": {"metadata": {"raw": "Boom"}}},
        {"error": {"message": '[{"error": {"message": "Boom"}}]'}},
        "Boom",
    ],
    ids=json.dumps,
)
def test_the_words_are_found_in_every_shape(body: Any) -> None:
    assert "Boom" in read_refusal(400, orjson.dumps(body), {}).words


def test_text_that_is_no_json_is_read_as_it_is() -> None:
    assert read_refusal(502, b"<html>Bad\xff\x00 Gateway\n</html>", {}).words == "<html>Bad\ufffd Gateway </html>"
    assert read_refusal(400, b"", {}).words == ""


def test_places_that_a_validating_server_names_are_dotted_paths() -> None:
    detail = [
        {"type": "extra_forbidden", "loc": ["body", "messages", 31, "assistant", "reasoning_content"], "msg": "Extra"},
        {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "Extra"},
    ]

    refusal = read_refusal(422, orjson.dumps({"message": {"detail": detail}}), {})

    assert refusal.places == ("body.messages.31.assistant.reasoning_content", "body.max_completion_tokens")


def test_codes_of_every_level_count_and_a_status_is_none() -> None:
    inner = json.dumps({"error": {"code": "context_length_exceeded", "message": "m"}})
    body = {"error": {"code": 400, "type": "upstream", "metadata": {"raw": inner}}}

    assert read_refusal(400, orjson.dumps(body), {}).codes == ("upstream", "context_length_exceeded")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        orjson.dumps({"error": [{"message": "x" * 1_000}] * 10_000}),
        orjson.dumps({str(n): {"message": "y"} for n in range(20_000)}),
        b"x" * (2 * MAX_BODY_BYTES),
    ],
    ids=["brackets", "deep", "many", "wide", "long"],
)
def test_a_monster_is_read_as_far_as_it_is_bounded(body: bytes) -> None:
    refusal = read_refusal(400, body, {})

    assert len(refusal.words) <= 4_000
    assert len(str(refusal)) <= MAX_LOGGED


_KEYS = [
    "sk-proj-AbC_123456789",
    "sk-abc***************xyz",
    "gsk_1234567890abcdef",
    "xai-1234567890",
    "hf_abcdefghijkl",
    "AIzaSyA1234567890abcdefg",
    "0123456789abcdef0123456789ABCDEF",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "Bearer some.opaque-token",
    "1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R9s0T1u2V3w4X5y6Z7a8B9c0D1e2F3g4H5i6J7k8L9m0NAAAA",
]


@pytest.mark.parametrize("key", _KEYS)
@pytest.mark.parametrize("field", ["message", "code", "param"])
def test_what_looks_like_a_key_is_not_logged(key: str, field: str) -> None:
    refusal = refusal_of({"error": {"message": "m", field: f"Incorrect API key provided: {key}"[-180:]}})

    assert "[secret]" in str(refusal)
    assert key.removeprefix("Bearer ") not in f"{refusal} {refusal!r}"


def test_a_key_of_ours_is_not_logged_whatever_it_looks_like() -> None:
    refusal = refusal_of({"error": {"message": "bad key: hunter2!", "param": "hunter2!", "code": "hunter2!"}})

    assert "hunter2" not in str(refusal.without(("hunter2!",)))
    assert "hunter2" in str(refusal.without(("",)))


def test_a_key_at_the_end_of_what_is_logged_is_not_cut_in_half() -> None:
    key = "sk-" + "A1b2C3d4" * 8
    for before in range(MAX_LOGGED - 80, MAX_LOGGED):
        assert "A1b2" not in str(refusal_of({"error": {"message": f"{'x ' * (before // 2)}{key}"}}))


def test_words_stay_on_one_line_of_the_log() -> None:
    refusal = refusal_of({"error": {"message": "one\r\n2026-11-29 CRITICAL forged\x1b[31m\u2028two"}})

    assert str(refusal) == "200: one 2026-11-29 CRITICAL forged [31m two"


@pytest.mark.parametrize("event", [{"type": "ping"}, {"choices": []}, {}, {"error": None}, {"detail": ""}])
def test_an_event_that_is_no_error_is_none(event: Any) -> None:
    assert error_in(event) is None


@pytest.mark.parametrize("event", [None, 5, "error", True])
def test_what_is_no_event_is_another_shape(event: Any) -> None:
    with pytest.raises(TypeError):
        error_in(event)


def test_a_refusal_says_its_status_and_what_it_is_about() -> None:
    body = {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "unsupported_value",
        }
    }

    assert (
        str(read_refusal(400, orjson.dumps(body), {})) == "400 invalid_request_error unsupported_value temperature: No."
    )
    assert isinstance(read_refusal(400, b"", {}), Refusal)
