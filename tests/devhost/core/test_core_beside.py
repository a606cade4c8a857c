"""What is shown of the machine around an app: servers it was told of, and links to this host in its log."""

from __future__ import annotations

import logging

import pytest

from devhost.pages.beside import Beside


def _logged(beside: Beside, message: str, *args: object) -> None:
    beside.handle(logging.LogRecord("app", logging.WARNING, __file__, 1, message, args, None))


def test_servers_are_shown_by_name_and_address() -> None:
    (table,) = Beside(7071, '[["postgres", "127.0.0.1:5432"]]').tables()

    assert [[text for text, _ in row] for row in table.rows] == [["postgres", "127.0.0.1:5432"]]


def test_links_to_this_host_are_kept_newest_first_and_lead_there() -> None:
    beside = Beside(7071, "")
    _logged(beside, "needs %s\n  %s", "a person", "http://localhost:7071/api/approve/one")
    _logged(beside, "needs http://127.0.0.1:7071/api/approve/two now")

    (table,) = beside.tables()

    assert [row[1] for row in table.rows] == [("/api/approve/two",) * 2, ("/api/approve/one",) * 2]


@pytest.mark.parametrize(
    "message",
    [
        "https://evil.example/api/approve/x",
        "http://localhost:7072/api/approve/x",
        "http://localhost:7071.evil.example/x",
        "http://localhost:7071@evil.example/x",
        "http://localhost:7071",
    ],
)
def test_links_that_lead_elsewhere_are_not_kept(message: str) -> None:
    beside = Beside(7071, "")
    _logged(beside, message)

    assert beside.tables() == []


def test_only_the_newest_links_are_kept() -> None:
    beside = Beside(7071, "")
    for number in range(200):
        _logged(beside, "http://localhost:7071/%d", number)

    (table,) = beside.tables()

    assert (len(table.rows), table.rows[0][1]) == (50, ("/199", "/199"))


@pytest.mark.parametrize("setting", ["{", "{}", '["a"]', '[["a"]]', '[["a", 1]]'])
def test_a_setting_that_is_no_list_of_servers_is_refused(setting: str) -> None:
    with pytest.raises(ValueError):
        Beside(7071, setting)
