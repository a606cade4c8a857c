"""Results of servers as text and data."""

from __future__ import annotations

from typing import Any

import pytest

from shared.sessions.mcp.results import MAX_PARTS, MAX_TEXT_CHARS, read_result


def test_every_kind_of_content_is_told() -> None:
    content: list[Any] = [
        {"type": "text", "text": "hello"},
        {"type": "image", "data": "QUJD", "mimeType": "image/png"},
        {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt", "mimeType": "text/plain"},
        {"type": "resource", "resource": {"uri": "file:///b", "mimeType": "text/plain", "text": "inside"}},
        {"type": "resource", "resource": {"uri": "file:///c", "blob": "QUJD"}},
        {"type": "hologram"},
        "nothing",
    ]

    assert read_result({"content": content}).text.split("\n\n") == [
        "hello",
        "[image image/png, 3 bytes, left out]",
        "[link a.txt: file:///a.txt, text/plain]",
        "[resource file:///b text/plain]\ninside",
        "[resource file:///c ] 3 bytes, left out",
        "[hologram, left out]",
        "[a part that cannot be read]",
    ]


def test_structured_content_is_data_and_text_where_there_is_no_other() -> None:
    result = read_result({"content": [], "structuredContent": {"n": 1}})

    assert (result.text, result.data) == ('{"n":1}', {"n": 1})


def test_only_true_is_an_error() -> None:
    assert read_result({"content": [], "isError": True}).is_error
    assert not read_result({"content": [], "isError": "no"}).is_error


def test_many_parts_and_long_texts_are_cut() -> None:
    text = {"type": "text", "text": "x" * 1_000}

    result = read_result({"content": [text] * (MAX_PARTS + 1_000)})

    assert len(result.text) == MAX_TEXT_CHARS
    assert "[1000 more parts" in read_result({"content": [{"type": "text", "text": ""}] * (MAX_PARTS + 1_000)}).text


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"content": "text"}, "not a list"),
        ({"resultType": "later"}, "not known"),
        (
            {
                "resultType": "input_required",
                "inputRequests": {"a": {"method": "elicitation/create", "params": {"message": "Your name\u202e?"}}},
            },
            "asks for input: Your name",
        ),
        ({"resultType": "input_required", "inputRequests": 7}, "asks for input in a form that is not known"),
    ],
)
def test_what_is_no_result_is_said(raw: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_result(raw)
