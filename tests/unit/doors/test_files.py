"""Files in what a client posts: which are read, and that nothing is fetched."""

from __future__ import annotations

import pytest

from shared.errors import InvalidInput
from shared.sessions.doors.files import (
    MAX_FILES,
    SentFile,
    check_number,
    content_url,
    file_of_base64,
    file_of_url,
)


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:text/plain;base64,aGVsbG8=", b"hello"),
        ("DATA:text/plain;charset=utf-8;BASE64,aGVsbG8=", b"hello"),
        ("data:,hello%20there", b"hello there"),
        ("data:;base64,", b""),
    ],
)
def test_a_data_url_is_its_bytes(url: str, data: bytes) -> None:
    assert file_of_url(url, "f", "a.txt") == SentFile("f", "a.txt", data)


def test_the_address_of_a_stored_file_is_that_file() -> None:
    stored = "0190aaaa-0000-7000-8000-000000000000"
    assert file_of_url(content_url(stored), "f", "a.txt") == SentFile("f", attachment_id=stored)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://example.com/a.png",
            "http://169.254.169.254/",
            "file:///etc/passwd",
            "blob:x",
            "",
            "data:text/plain",
        ),
        *("//example.com/api/v1/attachments/0190aaaa-0000-7000-8000-000000000000/content", None, 7, {"a": 1}),
        *("/api/v1/attachments/../secrets/content", "data:a;base64,====", "data:a;base64,aGVs bG8="),
    ],
)
def test_what_is_elsewhere_or_nothing_is_refused_by_name(url: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        file_of_url(url, "parts.0.url")
    assert caught.value.errors is not None
    assert caught.value.errors[0]["field"] == "parts.0.url"


@pytest.mark.parametrize("name", [7, ["a"], "x" * 256])
def test_a_name_is_a_short_text(name: object) -> None:
    with pytest.raises(InvalidInput, match="has a name"):
        file_of_base64("aGVsbG8=", "f", name)
    assert file_of_base64("aGVsbG8=", "f", "").name is None


def test_a_message_has_a_bounded_number_of_files() -> None:
    check_number([SentFile("f")] * MAX_FILES)
    with pytest.raises(InvalidInput, match=r"parts\.16"):
        check_number([SentFile(f"parts.{n}") for n in range(MAX_FILES + 1)])
