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
    Reading,
    SealedLine,
    is_genuine,
    row_key,
    seal,
)

KEY = b"k" * 32
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
AT_ONCE = Reading(NOW, NOW)


def _trail(count: int, *, key: bytes = KEY, session_id: str = "s1", at: datetime = LONG_AGO) -> list[SealedLine]:
    lines: list[SealedLine] = []
    for number in range(1, count + 1):
        previous = lines[-1].hash if lines else ""
        lines.append(seal(key, session_id, number, at=at, who="ann", action="a", details="{}", previous=previous))
    return lines


def _check(lines: Sequence[SealedLine], anchor: Anchor | None = None, *, whole: int = 5) -> list[Problem]:
    """Of what is left of a trail that had `whole` lines."""
    check = ChainCheck([KEY], "s1")
    for line in sorted(lines, key=lambda line: line.row_key):
        check.look_at(line)
    return check.end(anchor or Anchor(whole, _trail(whole)[-1].hash if whole else "", LONG_AGO), AT_ONCE)


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


def test_a_missing_line_is_judged_by_its_own_age_and_not_by_that_of_the_line_after_it() -> None:
    lines = _trail(3)
    lost = seal(KEY, "s1", 4, at=NOW, who="ann", action="a", details="{}", previous=lines[-1].hash)
    fresh = seal(KEY, "s1", 5, at=NOW, who="ann", action="a", details="{}", previous=lost.hash)

    def missing(anchor: Anchor) -> list[int | None]:
        return [problem.line for problem in _check([*lines, fresh], anchor)]

    assert missing(Anchor(5, fresh.hash, NOW, {4: NOW, 5: NOW})) == []
    assert missing(Anchor(5, fresh.hash, NOW, {4: NOW - BEING_WRITTEN, 5: NOW})) == [4]
    assert missing(Anchor(5, fresh.hash, NOW)) == [4], "an older version kept no time of it"
    # Neither does a forged time buy any, nor a clock that is ahead.
    forged = replace(_trail(5)[4], at=NOW.isoformat())
    assert {problem.line for problem in _check([*lines, forged])} == {4, 5}
    ahead = NOW + timedelta(days=1)
    assert missing(Anchor(5, fresh.hash, ahead, {4: ahead, 5: ahead})) == [4]


def test_a_line_that_is_claimed_while_the_trail_is_read_is_not_missed() -> None:
    lines = _trail(2)
    check = ChainCheck([KEY], "s1")
    check.look_at(lines[0])
    began, claimed, ended = NOW, NOW + timedelta(seconds=25), NOW + timedelta(seconds=30)

    assert check.end(Anchor(2, lines[1].hash, claimed, {2: claimed}), Reading(began, ended)) == []
    assert check.being_written == [2]


class _Time:
    """A trail as its writers, its table and somebody who may write the table make it over time."""

    def __init__(self) -> None:
        self.now = NOW
        self.made: list[SealedLine] = []
        self.claimed: list[datetime] = []
        self.rows: dict[int, SealedLine] = {}
        self.kept: dict[int, datetime] = {}

    def claim(self, *, lost: bool) -> None:
        previous = self.made[-1].hash if self.made else ""
        number = len(self.made) + 1
        line = seal(KEY, "s1", number, at=self.now, who="ann", action="a", details="{}", previous=previous)
        self.made.append(line)
        self.claimed.append(self.now)
        # As the store does it.
        self.kept = {n: at for n, at in self.kept.items() if at > self.now - 2 * BEING_WRITTEN} | {number: self.now}
        if not lost:
            self.rows[number] = line

    def tamper(self, how: str, one: int, other: int) -> None:
        if not self.made:
            return
        one, other = one % len(self.made) + 1, other % (len(self.made) + 1) + 1
        match how:
            case "remove":
                self.rows.pop(one, None)
            case "change" if one in self.rows:
                self.rows[one] = replace(self.rows[one], who="eve")
            case "move" if one in self.rows:
                self.rows[other] = replace(self.rows.pop(one), row_key=row_key(other))
            case "copy" if one in self.rows:
                self.rows[other] = replace(self.rows[one], row_key=row_key(other))

    @property
    def is_whole(self) -> bool:
        """Whether all that should be there by now is there, and nothing else."""
        numbered = dict(enumerate(self.made, 1))
        old = {n for n in numbered if self.claimed[n - 1] <= self.now - BEING_WRITTEN}
        return old <= self.rows.keys() and all(numbered.get(n) == line for n, line in self.rows.items())

    def verify(self) -> list[Problem]:
        check = ChainCheck([KEY], "s1")
        for _, line in sorted(self.rows.items()):
            check.look_at(line)
        end = (len(self.made), self.made[-1].hash, self.claimed[-1]) if self.made else (0, "", None)
        return check.end(Anchor(*end, self.kept), Reading(self.now, self.now))


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 12)),
    st.tuples(st.just("claim"), st.booleans()),
    st.tuples(st.sampled_from(["remove", "change", "move", "copy"]), st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(STEPS, max_size=25))
def test_whatever_is_written_or_looked_at_a_missing_or_changed_line_is_told_once_it_is_old_enough(
    steps: list[tuple[str, int] | tuple[str, bool] | tuple[str, int, int]],
) -> None:
    trail = _Time()
    for what, *how in steps:
        if what == "wait":
            trail.now += timedelta(seconds=how[0])
        elif what == "claim":
            trail.claim(lost=bool(how[0]))
        else:
            trail.tamper(what, *how)
        assert (trail.verify() == []) == trail.is_whole


def test_a_trail_outlives_the_change_of_its_key() -> None:
    new = b"n" * 32
    lines = _trail(2)
    lines.append(seal(new, "s1", 3, at=LONG_AGO, who="ann", action="a", details="{}", previous=lines[-1].hash))

    def problems(keys: list[bytes]) -> list[int | None]:
        check = ChainCheck(keys, "s1")
        for line in lines:
            check.look_at(line)
        return [problem.line for problem in check.end(Anchor(3, lines[-1].hash, LONG_AGO), AT_ONCE)]

    assert problems([new, KEY]) == []
    assert problems([new]) == [1, 2], "a key that is thrown away can no longer vouch for anything"


def test_the_gap_says_how_long_it_is() -> None:
    messages = [problem.message for problem in _check([_trail(5)[0], _trail(5)[4]])]
    assert len(messages) == 1
    assert messages[0].startswith("Lines 2 to 4 are missing")


def test_a_ruined_trail_tells_a_bounded_number_of_problems() -> None:
    assert len(_check(_trail(500, key=b"x" * 32))) == MAX_PROBLEMS // 2 + 1  # and that it is not the last line


def test_lines_that_somebody_adds_hide_none_that_are_missing() -> None:
    trail = _trail(6)
    junk = [replace(trail[0], row_key=f"z{number:03}") for number in range(MAX_PROBLEMS)]
    problems = [problem.message for problem in _check([trail[0], trail[5], *junk])]
    assert any(message.startswith("Lines 2 to 5 are missing") for message in problems)


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
