"""Statements are read from files without what is in them for readers only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH

from shared.adapters.postgres import queries
from shared.adapters.postgres.queries import compact, load_queries

RARE = {"copy_history"}
"""Forks of sessions; few enough."""


def _all() -> Mapping[str, bytes]:
    folder = files(queries.__package__)
    names = [path.name[:-4] for path in folder.iterdir() if path.name.endswith(".sql")]
    for part in folder.iterdir():
        if part.is_dir():
            names += [f"{part.name}/{path.name[:-4]}" for path in part.iterdir() if path.name.endswith(".sql")]
    return {f"{name}:{query}": text for name in names for query, text in load_queries(name).items()}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("SELECT a,  b\n  FROM t -- its user's\nWHERE a = 1", "SELECT a,b FROM t WHERE a = 1"),
        ("-- it's\nSELECT coalesce (a, 0)", "SELECT coalesce(a,0)"),
        ("SELECT 'a  -- b', ' (c , d) '", "SELECT 'a  -- b',' (c , d) '"),
        ("SELECT 'it''s  (x)', %(a)s", "SELECT 'it''s  (x)',%(a)s"),
        ("SELECT a - b, a -- c\n, -d", "SELECT a - b,a,-d"),
    ],
)
def test_texts_in_quotes_stay_and_comments_go(written: str, kept: str) -> None:
    assert compact(written) == kept


def test_psycopg_remembers_every_statement_of_a_turn() -> None:
    """A longer one is taken apart again at each use."""
    found = _all()
    assert len(found) > 150
    long = {name for name, text in found.items() if len(text) > MAX_CACHED_STATEMENT_LENGTH}
    assert {name.partition(":")[2] for name in long} == RARE


def test_no_statement_has_a_comment_or_lost_one_of_its_parameters() -> None:
    for name, text in _all().items():
        outside = re.sub(rb"'(?:[^']|'')*'", b"", text)
        assert b"--" not in outside, name
        assert b"\n" not in outside, name
        assert not re.search(rb"%(?!\(\w+\)s|%)", outside), name
