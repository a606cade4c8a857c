"""What `./dev test` says before it starts, and what `./dev check` says of the folder `agents/`."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.agents.new import new
from devtools.checks import _passes_agents, _wants_browser


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
        (["agents"], False),
        (["agents/tests", "examples/support"], False),
        (["examples"], True),
        (["examples/plain-page/tests"], True),
    ],
)
def test_a_missing_browser_is_told_when_its_tests_may_be_among_those_chosen(arguments: list[str], wants: bool) -> None:
    assert _wants_browser(arguments) is wants


def test_a_fault_in_agents_fails_the_check_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "agents"
    assert _passes_agents(folder), "there is none"
    (tool, _) = new("tool", "greet", folder)
    assert _passes_agents(folder)
    assert "check: agents ok: 0 agents and 1 tools of agents/" in capsys.readouterr().out

    tool.write_text("import nowhere_to_be_found\n")

    assert not _passes_agents(folder)
    shown = capsys.readouterr()
    assert shown.err.startswith("agents/tools/greet.py:1: ModuleNotFoundError: No module named 'nowhere_to_be_found'")
    assert shown.err.count("\n") == 1
    assert "check: agents FAILED" in shown.out
