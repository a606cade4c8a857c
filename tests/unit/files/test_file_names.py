"""What files are called: for people, for headers, never for a file system."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.files.names import MAX_NAME_CHARS, content_disposition, display_name


@pytest.mark.parametrize(
    ("claimed", "shown"),
    [
        ("report.csv", "report.csv"),
        ("žluťoučký kůň 中文.txt", "žluťoučký kůň 中文.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\plan.docx", "plan.docx"),
        ("a\x00b\r\nSet-Cookie: x", "a b Set-Cookie_ x"),
        ("gnp.\u202egpj.exe", "gnp. gpj.exe"),
        ("zero\u200bwidth.txt", "zero width.txt"),
        ("  spaces \t here .txt  ", "spaces here .txt"),
        ("e\u0301.txt", "é.txt"),
        ("..", "file"),
        ("", "file"),
        (None, "file"),
        ("a/", "file"),
        ("\ud800.txt", "txt"),
        ('<script>"|?*.html', "_script_____.html"),
    ],
)
def test_name_is_its_last_part_cleaned(claimed: str | None, shown: str) -> None:
    assert display_name(claimed) == shown


def test_long_name_keeps_its_suffix() -> None:
    assert display_name("x" * 500 + ".tar.gz") == "x" * (MAX_NAME_CHARS - 3) + ".gz"
    assert display_name("x." + "y" * 500) == "x." + "y" * (MAX_NAME_CHARS - 2)


@given(st.text())
def test_any_name_becomes_one_that_ends_no_header_and_stays_as_it_is(claimed: str) -> None:
    name = display_name(claimed)
    assert 1 <= len(name) <= MAX_NAME_CHARS
    assert name.isprintable() or name.replace(" ", "x").isprintable()
    assert display_name(name) == name
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


def test_header_says_the_name_plainly_and_in_utf_8() -> None:
    assert (
        content_disposition("à b.txt", inline=True) == "inline; filename=\"_ b.txt\"; filename*=UTF-8''%C3%A0%20b.txt"
    )
