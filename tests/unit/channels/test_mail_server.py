"""The setting SMTP_URL."""

from __future__ import annotations

import pytest

from shared.sessions.channels.mail_server import MailServer


@pytest.mark.parametrize(
    ("url", "expected", "in_clear"),
    [
        ("smtps://u:p%40ss@mail.example", MailServer("mail.example", 465, "u", "p@ss", True), False),
        ("smtp://u:p@mail.example:2525", MailServer("mail.example", 2525, "u", "p", False), False),
        ("smtp://mail.example", MailServer("mail.example", 587, None, None, False), False),
        ("smtp://localhost:1025", MailServer("localhost", 1025, None, None, False), True),
        ("smtp://u:p@localhost:1025", MailServer("localhost", 1025, "u", "p", False), False),
        ("smtps://localhost:1025", MailServer("localhost", 1025, None, None, True), False),
    ],
)
def test_it_says_where_and_how(url: str, expected: MailServer, in_clear: bool) -> None:
    server = MailServer.parse(url)

    assert (server, server.in_clear) == (expected, in_clear)


@pytest.mark.parametrize(
    "url",
    [
        "mail.example",
        "http://mail.example",
        "smtp://:secret@",
        "smtp://user@mail.example",
        "smtp://u:secret@mail.example/box",
        "smtp://u:secret@mail.example:notaport",
        "smtps://u:secret@mail.example?x=1",
    ],
)
def test_anything_else_is_refused_without_saying_the_secret(url: str) -> None:
    with pytest.raises(ValueError) as refused:
        MailServer.parse(url)
    assert "secret" not in str(refused.value)


def test_the_password_is_not_shown() -> None:
    assert "p@ss" not in repr(MailServer.parse("smtps://u:p%40ss@mail.example"))
