"""The security and operations pages name tests that exist and numbers that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
NAMED = re.compile(r"`((?:\w+/)+test_\w+|…)(?:::(\w+))?`")


def test_every_test_the_security_page_names_exists() -> None:
    last, found = "", 0
    for file, name in NAMED.findall((ROOT / "docs/security.md").read_text("utf-8")):
        last = last if file == "…" else file
        path = TESTS / f"{last}.py"
        assert path.is_file(), last
        found += 1
        if name:
            assert re.search(rf"(?:def|class) {name}\b", path.read_text("utf-8")), f"{last}::{name}"
    assert found > 60


def test_no_row_of_the_security_page_is_empty() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text("utf-8").splitlines() if line.startswith("| ")]

    assert rows
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|")[1:])


def test_the_operations_page_quotes_what_was_measured() -> None:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    measured = json.loads((ROOT / "docs/measured-turn.json").read_text("utf-8"))["per_turn"]
    answer, tool = measured["answer"], measured["one tool"]

    for name in ("history_events", "events", "redis_commands", "postgres_transactions"):
        mean = (answer[name] + tool[name]) / 2
        assert f"| {answer[name]} | {tool[name]} | {mean:.1f} |" in page, name
    for kind in (answer, tool):
        assert f"{kind['functions']} ({kind['functions_relay']})" in page
        assert f"{kind['input_tokens']:.0f} / {kind['output_tokens']:.0f}" in page
