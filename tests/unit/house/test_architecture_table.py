"""ARCHITECTURE.md of the sessions domain: no module is missing and every file its table names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SESSIONS = ROOT / "shared" / "sessions"

MODULES = frozenset(
    [
        *("models", "service", "repository", "cache", "events", "executor", "streaming", "tool_handler", "approval"),
        *("bridge", "error_handler", "recovery", "metrics", "features/tags", "features/statistics"),
        *("features/templates", "files/analyzer", "files/generator", "history/manager", "history/bookmarks"),
        "history/search",
    ]
)
"""What the sessions document names."""


def _rows() -> list[list[str]]:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    section = text.split("## The sessions domain, module by module")[1].split("\nWhat it does not name:")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert all(len(row) >= 3 for row in rows)
    return rows


def _named(cell: str) -> list[str]:
    return re.findall(r"`([\w/*.]+(?:\.py|/))`", cell)


def test_every_module_of_the_document_has_a_row_and_a_file() -> None:
    named = {_named(row[0])[0].removesuffix(".py") for row in _rows()}

    assert named == MODULES
    assert [name for name in named if not (SESSIONS / f"{name}.py").is_file()] == []


def test_every_file_in_the_table_exists() -> None:
    missing = [
        name
        for row in _rows()
        for cell in row[1:]
        for name in _named(cell)
        if not any(list(folder.glob(name)) for folder in (SESSIONS, ROOT, ROOT / "shared"))
    ]

    assert missing == []


def test_no_module_of_the_domain_is_left_out() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    modules = {path.name for path in SESSIONS.glob("*.py")} - {"__init__.py"}

    assert modules - {name.rpartition("/")[2] for name in _named(text)} == set()


def test_every_row_names_a_test() -> None:
    assert [row[0] for row in _rows() if not any(name.startswith("tests/") for name in _named(row[-1]))] == []
