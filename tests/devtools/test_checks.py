"""What `./dev test` says before it starts."""

from __future__ import annotations

import pytest

from devtools.checks import _wants_browser


@pytest.mark.parametrize(
    ("arguments", "wants"),
    [
        ([], True),
        (["-x", "-k", "pages"], True),
        (["tests"], True),
        (["tests/unit", "tests/web/test_console_tour.py"], True),
        (["tests/unit"], False),
        (["tests/unit/test_pages.py::test_a"], False),
        (["--ignore=tests/web"], False),
    ],
)
def test_a_missing_browser_is_told_when_its_tests_may_be_among_those_chosen(arguments: list[str], wants: bool) -> None:
    assert _wants_browser(arguments) is wants
