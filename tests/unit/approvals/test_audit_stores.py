"""A trail in two stores: read as one, and repaired only by what its seals prove."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.audit.chain import Anchor, Gap, SealedLine
from shared.sessions.audit.repair import MAX_SEALS, restored
from shared.sessions.audit.sealing import Sealer
from shared.sessions.audit.trail import FiledLine, merged
from shared.sessions.records.audit import AuditNote

KEY = b"k" * 32
NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


def _trail(count: int, session_id: str = "s1") -> list[SealedLine]:
    notes = [AuditNote(f"action.{n}", {"n": n}) for n in range(count)]
    lines, _ = Sealer([KEY], clock=lambda: NOW).after(session_id, Anchor(0, ""), notes)
    return lines


def _merged(waiting: dict[str, list[SealedLine]], stored: Sequence[FiledLine]) -> list[FiledLine]:
    async def read() -> AsyncGenerator[FiledLine]:
        for filed in stored:
            yield filed

    async def collect() -> list[FiledLine]:
        return [filed async for filed in merged(waiting, read())]

    return asyncio.run(collect())


@given(st.lists(st.sampled_from(["outbox", "table", "both"]), max_size=12))
def test_wherever_its_lines_are_a_trail_reads_as_one(places: list[str]) -> None:
    lines = _trail(len(places))
    waiting = [line for line, place in zip(lines, places, strict=True) if place != "table"]
    stored = [("s1", line) for line, place in zip(lines, places, strict=True) if place != "outbox"]

    assert _merged({"s1": waiting}, stored) == [("s1", line) for line in lines]


def test_each_trail_keeps_its_order_whatever_stands_between_them() -> None:
    """Somebody's partition, whose name sorts by other rules in the table than here."""
    first, second, stray = _trail(3, "s1"), _trail(2, "s2"), _trail(1, "\U0001f642")
    stored = [("s1", first[0]), ("\U0001f642", stray[0]), ("s1", first[2]), ("s2", second[1])]

    read = _merged({"s1": [first[1]], "s2": [second[0]], "s3": _trail(1, "s3")}, stored)

    for session_id, lines in {"s1": first, "s2": second, "s3": _trail(1, "s3"), "\U0001f642": stray}.items():
        assert [line for name, line in read if name == session_id] == lines


def test_two_different_lines_in_one_place_are_both_seen() -> None:
    [line] = _trail(1)
    other = replace(line, who="eve")

    assert _merged({"s1": [line]}, [("s1", other)]) == [("s1", other), ("s1", line)]


@pytest.mark.parametrize("numbers", [range(2, 3), range(2, 4)], ids=str)
def test_a_gap_is_filled_by_the_line_whose_seal_was_claimed(numbers: range) -> None:
    lines = _trail(4)
    gap = Gap(numbers, lines[0].hash, lines[numbers[-1] - 1].hash)
    anchor = Anchor(4, lines[3].hash, NOW, dict.fromkeys(range(1, 5), NOW))
    told = [AuditNote(f"action.{n}", {"n": n}) for n in range(9)]

    assert restored([b"o" * 32, KEY], "s1", gap, anchor, told) == [lines[n - 1] for n in numbers]
    assert restored([b"o" * 32], "s1", gap, anchor, told) == [], "another key"
    assert restored([KEY], "s2", gap, anchor, told) == [], "another session"
    assert restored([KEY], "s1", gap, anchor, told[4:]) == [], "something else"
    assert restored([KEY], "s1", gap, Anchor(4, lines[3].hash, NOW), told) == [], "no claim"
    assert restored([KEY], "s1", replace(gap, before=None), anchor, told) == [], "what is before it is not certain"
    assert restored([KEY], "s1", gap, anchor, told * MAX_SEALS) == [], "too much to try"
