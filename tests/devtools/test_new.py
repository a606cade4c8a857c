"""`./dev new`: what it writes works, and what it refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.agents.look import look
from devtools.agents.new import Refused, main, new

ROOT = Path(__file__).parents[2]


def test_what_it_writes_is_taken_by_the_app_and_its_tests_pass(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    for kind, name in (
        ("tool", "find_order"),
        ("tool", "x"),
        ("workflow", "ship_order"),
        ("agent", "support"),
        ("agent", "second-line"),
    ):
        new(kind, name, folder)

    found = asyncio.run(look(folder))
    assert (found.tools, found.problems) == (("find_order", "ship_order", "x"), ())
    assert found.agents == ("second-line", "support")
    tested = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", "agents/tests"),
            *("-c", str(ROOT / "pyproject.toml"), "--override-ini", f"pythonpath={ROOT} {tmp_path}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "8 passed" in tested.stdout, tested.stdout + tested.stderr
    for tool in ("ruff check", "ruff format --check"):
        checked = subprocess.run(
            [sys.executable, "-m", *tool.split(), "--config", str(ROOT / "pyproject.toml"), str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("tool", "Find", "cannot be a tool's name"),
        ("tool", "find-order", "cannot be a tool's name"),
        ("tool", "../escape", "cannot be a tool's name"),
        ("tool", "class", "cannot be a tool's name"),
        ("tool", "x" * 65, "cannot be a tool's name"),
        ("tool", "calculate", "there is a tool 'calculate' already"),
        ("workflow", "Ship", "cannot be a workflow's name"),
        ("workflow", "turn", "Parley itself has a function 'turn'"),
        ("agent", "../escape", "cannot be an agent's id"),
        ("agent", "README", "cannot be an agent's id"),
        ("agent", "", "cannot be an agent's id"),
    ],
)
def test_a_name_that_would_not_work_is_refused_and_nothing_is_written(
    tmp_path: Path, kind: str, name: str, told: str
) -> None:
    with pytest.raises(Refused, match=told):
        new(kind, name, tmp_path / "agents")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (("tool", "find_order"), ("agent", "support")):
        arguments = [kind, name, "--agents", str(tmp_path / "agents")]
        assert main(arguments) == 0
        written = capsys.readouterr().out
        assert written.count("wrote ") == 2
        assert "next: ./dev test " in written
        assert main(arguments) == 1
        assert "already: choose another name" in capsys.readouterr().err


def test_a_tool_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    (path, _) = new("tool", "greet", folder)
    path.rename(path.with_name("greetings.py"))

    with pytest.raises(Refused, match="there is a tool 'greet' already"):
        new("tool", "greet", folder)


def test_a_module_that_ends_the_process_is_told(tmp_path: Path) -> None:
    tools = tmp_path / "agents" / "tools"
    tools.mkdir(parents=True)
    (tools / "bad.py").write_text("import os\nprint('noise')\nos._exit(3)\n")

    found = asyncio.run(look(tmp_path / "agents"))

    assert found.problems == ("agents: importing its tools ended the process: code 3",)
