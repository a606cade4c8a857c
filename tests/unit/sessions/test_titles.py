"""The title of a session is the beginning of its first message."""

from __future__ import annotations

import pytest

from shared.sessions.posting.titles import MAX_TITLE_CHARS, title_of


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Book a table\nfor four", "Book a table"),
        ("\n\n  ## Report:\t the  quarter \r\nmore", "Report: the quarter"),
        ("> **bold** words", "bold** words"),
        ("x" * MAX_TITLE_CHARS, "x" * MAX_TITLE_CHARS),
        ("x" * (MAX_TITLE_CHARS + 1), "x" * (MAX_TITLE_CHARS - 1) + "…"),
        ("東京都の会議", "東京都の会議"),
        ("", None),
        (" \n# \n", None),
        ("\n" * 10_000 + "too far down", None),
    ],
)
def test_title_is_the_first_line_with_words(content: str, title: str | None) -> None:
    assert title_of(content) == title
