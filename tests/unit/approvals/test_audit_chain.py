"""The chain of audit lines: what is done to it without the key is found, and what is on its way is not blamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.audit.chain import (
    BEING_WRITTEN,
    MAX_PROBLEMS,
    Anchor,
    ChainCheck,
    Problem,
    SealedLine,
    is_genuine,
    row_key,
    seal,
)

KEY = b"k" * 32
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def _trail(count: int, *, key: bytes = KEY, session_id: str = "s1", at: datetime = LONG_AGO) -> list[SealedLine]:
    lines: list[SealedLine] = []
    for number in range(1, count + 1):
        previous = lines[-1].hash if lines else ""
        lines.append(seal(key, session_id, number, at=at, who="ann", action="a", details="{}", previous=previous))
    return lines


def _check(lines: Sequence[SealedLine], anchor: Anchor | None = None, *, whole: int = 5) -> list[Problem]:
    """Of what is left of a trail that had `whole` lines."""
    check = ChainCheck([KEY], "s1", NOW)
    for line in sorted(lines, key=lambda line: line.row_key):
        check.look_at(line)
    return check.end(anchor or Anchor(whole, _trail(whole)[-1].hash if whole else "", LONG_AGO))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_whole_trail_has_no_problem(count: int) -> None:
    assert _check(_trail(count), whole=count) == []


def _changed(field: str, value: str) -> Callable[[list[SealedLine]], list[SealedLine]]:
    return lambda lines: [*lines[:2], replace(lines[2], **{field: value}), *lines[3:]]


def _swapped(lines: list[SealedLine]) -> list[SealedLine]:
    second, third = (replace(lines[1], row_key=row_key(3)), replace(lines[2], row_key=row_key(2)))
    return [lines[0], second, third, *lines[3:]]


def _moved_up(lines: list[SealedLine]) -> list[SealedLine]:
    """The third removed and the rest moved into its place."""
    return [*lines[:2], *(replace(line, row_key=row_key(line.number - 1)) for line in lines[3:])]


def _inserted(lines: list[SealedLine]) -> list[SealedLine]:
    """Between the second and the third, the rest moved down."""
    forged = seal(b"x" * 32, "s1", 3, at=LONG_AGO, who="ann", action="a", details="{}", previous=lines[1].hash)
    return [*lines[:2], forged, *(replace(line, row_key=row_key(line.number + 1)) for line in lines[2:])]


@pytest.mark.parametrize(
    ("tamper", "blamed"),
    [
        (lambda lines: lines[1:], {1}),
        (lambda lines: [*lines[:2], *lines[3:]], {3}),
        (lambda lines: lines[:4], {5}),
        (lambda lines: lines[:2], {3}),
        (lambda _: [], {1}),
        (_changed("who", "eve"), {3}),
        (_changed("action", "b"), {3}),
        (_changed("details", '{"by":"eve"}'), {3}),
        (_changed("at", "2020-01-01T00:00:00+00:00"), {3}),
        (_changed("at", "never"), {3}),
        (_changed("previous", "0" * 64), {3}),
        (_changed("hash", "0" * 64), {3}),
        (_changed("hash", "ž"), {3}),
        (_swapped, {2, 3}),
        (_moved_up, {3, 4, 5}),
        (_inserted, {3, 4, 5, 6}),
        (lambda lines: [*lines, replace(lines[4], row_key=row_key(6))], {6}),
        (lambda lines: [*lines, replace(lines[4], row_key="0000000003 ")], {None}),
        (lambda lines: [*lines, replace(lines[4], row_key="zzz")], {None}),
        (lambda lines: [*lines[:2], _trail(5, session_id="s2")[2], *lines[3:]], {3}),
        (lambda _: _trail(5, key=b"x" * 32), {1, 2, 3, 4, 5}),
    ],
)
def test_every_tampering_is_found_where_it_happened(
    tamper: Callable[[list[SealedLine]], list[SealedLine]], blamed: set[int | None]
) -> None:
    assert {problem.line for problem in _check(tamper(_trail(5)))} >= blamed


def test_a_trail_that_was_started_again_with_the_key_is_found_by_its_anchor() -> None:
    other = _trail(5, at=LONG_AGO + timedelta(seconds=1))
    assert [problem.line for problem in _check(other)] == [5]


def test_lines_of_two_genuine_trails_do_not_join() -> None:
    other = _trail(5, at=LONG_AGO + timedelta(seconds=1))
    assert [problem.message for problem in _check([*other[:2], *_trail(5)[2:]])] == ["It does not follow line 2."]


@pytest.mark.parametrize(
    ("age", "blamed"), [(timedelta(0), []), (BEING_WRITTEN - timedelta(seconds=1), []), (BEING_WRITTEN, [5])]
)
def test_a_last_line_that_may_be_on_its_way_is_not_missed_yet(age: timedelta, blamed: list[int]) -> None:
    anchor = Anchor(5, _trail(5)[-1].hash, NOW - age)
    assert [problem.line for problem in _check(_trail(5)[:4], anchor)] == blamed


def test_a_line_before_a_fresh_one_may_be_on_its_way_too() -> None:
    lines = _trail(3)
    lost = seal(KEY, "s1", 4, at=NOW, who="ann", action="a", details="{}", previous=lines[-1].hash)
    fresh = seal(KEY, "s1", 5, at=NOW, who="ann", action="a", details="{}", previous=lost.hash)
    assert _check([*lines, fresh], Anchor(5, fresh.hash, NOW)) == []
    # But a forged time does not buy any.
    forged = replace(_trail(5)[4], at=NOW.isoformat())
    assert {problem.line for problem in _check([*lines, forged])} == {4, 5}


def test_a_trail_outlives_the_change_of_its_key() -> None:
    new = b"n" * 32
    lines = _trail(2)
    lines.append(seal(new, "s1", 3, at=LONG_AGO, who="ann", action="a", details="{}", previous=lines[-1].hash))

    def problems(keys: list[bytes]) -> list[int | None]:
        check = ChainCheck(keys, "s1", NOW)
        for line in lines:
            check.look_at(line)
        return [problem.line for problem in check.end(Anchor(3, lines[-1].hash, LONG_AGO))]

    assert problems([new, KEY]) == []
    assert problems([new]) == [1, 2], "a key that is thrown away can no longer vouch for anything"


def test_the_gap_says_how_long_it_is() -> None:
    messages = [problem.message for problem in _check([_trail(5)[0], _trail(5)[4]])]
    assert len(messages) == 1
    assert messages[0].startswith("Lines 2 to 4 are missing")


def test_a_ruined_trail_tells_a_bounded_number_of_problems() -> None:
    assert len(_check(_trail(500, key=b"x" * 32))) == MAX_PROBLEMS


@given(st.text(), st.text(), st.text())
def test_parts_of_a_line_cannot_be_shifted_into_each_other(who: str, action: str, details: str) -> None:
    try:
        f"{who}{action}{details}".encode()
    except UnicodeEncodeError:
        return
    line = seal(KEY, "s1", 1, at=NOW, who=who, action=action, details=details, previous="")
    assert is_genuine([KEY], "s1", line)
    shifted = replace(line, who=who + action, action="") if action else replace(line, who=f"{who} ")
    assert not is_genuine([KEY], "s1", shifted)
