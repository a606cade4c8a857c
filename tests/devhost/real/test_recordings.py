"""The recordings, the tests that they belong to and the table of differences fit together."""

from __future__ import annotations

import ast
import json
import re

import pytest

from devhost.durable.fidelity import DIFFERENCES, differing_cases
from tests.devhost.real.comparing import CUT_SHORT, RECORDED_TESTS
from tests.devhost.real.episodes import RECORDINGS, differences, recorded, scrubbed

EPISODES = sorted(path.stem for path in (RECORDINGS / "episodes").glob("*.json"))


def entries(name: str, key: str) -> list[str]:
    return [entry[key] for entry in json.loads((RECORDINGS / name).read_text())]


def test_every_recording_belongs_to_a_test() -> None:
    """A test that was renamed would no longer be compared."""
    names = [
        node.name.removeprefix("test_")
        for path in RECORDED_TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    alone = [case for case in EPISODES if not any(case == name or case.startswith(f"{name}_") for name in names)]
    assert not alone
    assert set(EPISODES) >= CUT_SHORT


def test_every_observation_and_answer_is_compared() -> None:
    source = RECORDED_TESTS[-1].read_text()
    named = set(re.findall(r'"([a-z_]+)"', source))
    wanted = [
        *entries("answers.json", "call"),
        *(re.sub(r"[\d_]+$", "", case) for case in entries("observed.json", "case")),
    ]
    assert [case for case in wanted if case not in named and case != "long_timer"] == []


def test_the_table_of_differences_names_recordings_only() -> None:
    known = {
        *(f"episodes/{case}" for case in EPISODES),
        *(f"answers/{call}" for call in entries("answers.json", "call")),
        *(f"observed/{case}" for case in entries("observed.json", "case")),
    }
    assert differing_cases() <= known
    assert sum(len(row.cases) for row in DIFFERENCES) == len(differing_cases())
    assert len({row.what for row in DIFFERENCES}) == len(DIFFERENCES)


@pytest.mark.parametrize("case", EPISODES)
def test_scrubbing_a_recording_changes_nothing(case: str) -> None:
    found = recorded(case)
    assert found is not None
    assert scrubbed(found) == found
    assert differences(found, found) == []
