"""The pages' figures are those of the kept files, and no others."""

from __future__ import annotations

import json

import pytest

from devtools.bench.readme import TABLES, TURNS, rewritten, turns_table


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_kept_figures(name: str) -> None:
    page, figures, table_of = TABLES[name]
    text = page.read_text("utf-8")
    table = table_of(json.loads(figures.read_text("utf-8")))
    assert text == rewritten(text, name, table), "run: python -m devtools.bench.readme"
    assert "| 12345 |" in rewritten(text, name, "| 12345 |")


def test_the_table_has_the_figures_of_the_file() -> None:
    changed = json.loads(TURNS.read_text("utf-8"))
    changed["cases"][0]["turns_per_s"] = 12345
    assert "| 12345 |" in turns_table(changed)


def test_a_page_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the figures of turns"):
        rewritten("# Parley", "turns", "")


def test_what_was_kept_is_of_one_commit_and_of_every_workload() -> None:
    turns = json.loads(TURNS.read_text("utf-8"))
    assert list(turns["revisions"]) == ["here"]
    assert {case["workload"] for case in turns["cases"]} == {"W1", "W2", "W3", "realistic"}
    assert {case["sessions"] for case in turns["cases"]} == {1, 16, 64}
