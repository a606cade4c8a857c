"""The README's figures are those of the kept files, and no others."""

from __future__ import annotations

import json

import pytest

from devtools.bench.readme import README, SEARCH, TURNS, rewritten


def test_the_readme_shows_the_kept_figures() -> None:
    readme = README.read_text("utf-8")
    turns, search = (json.loads(path.read_text("utf-8")) for path in (TURNS, SEARCH))
    assert readme == rewritten(readme, turns, search), "run: python -m devtools.bench.readme"
    changed = json.loads(TURNS.read_text("utf-8"))
    changed["cases"][0]["turns_per_s"] = 12345
    assert "| 12345 |" in rewritten(readme, changed, search)


def test_a_readme_without_a_place_for_them_is_refused() -> None:
    turns, search = (json.loads(path.read_text("utf-8")) for path in (TURNS, SEARCH))
    with pytest.raises(ValueError, match="no place for the figures of turns"):
        rewritten("# Parley", turns, search)


def test_what_was_kept_is_of_one_commit_and_of_every_workload() -> None:
    turns = json.loads(TURNS.read_text("utf-8"))
    assert list(turns["revisions"]) == ["here"]
    assert {case["workload"] for case in turns["cases"]} == {"W1", "W2", "W3", "realistic"}
    assert {case["sessions"] for case in turns["cases"]} == {1, 16, 64}
