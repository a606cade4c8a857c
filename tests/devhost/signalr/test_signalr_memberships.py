"""Which groups a user's later connections join."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devhost.signalr.service import memberships
from devhost.signalr.service.memberships import LASTING_GROUPS_PER_USER, YEAR_S, UserGroups


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(memberships, "time", clock)
    return clock


@pytest.fixture
def reopened(tmp_path: Path, clock: Clock) -> Iterator[Callable[[], UserGroups]]:
    """Each call opens the file as the next start of the host would."""
    opened: list[UserGroups] = []

    def reopen() -> UserGroups:
        for groups in opened:
            groups.close()
        opened.append(UserGroups(tmp_path / "groups.sqlite3"))
        return opened[-1]

    yield reopen
    opened[-1].close()


def test_a_limited_membership_ends_in_memory_and_on_disk(reopened: Callable[[], UserGroups], clock: Clock) -> None:
    groups = reopened()
    groups.add("chat", "anna", "hour", ttl_s=3600)
    groups.add("chat", "anna", "year")
    clock.now += 3600
    assert groups.of("chat", "anna") == ["year"]
    assert list(groups.take_expired()) == [("chat", "anna", "hour")]
    assert list(groups.take_expired()) == []
    assert reopened().of("chat", "anna") == ["year"]
    clock.now += YEAR_S
    assert reopened().of("chat", "anna") == []


def test_only_the_latest_hundred_lasting_groups_of_a_user_are_kept(
    reopened: Callable[[], UserGroups], clock: Clock
) -> None:
    groups = reopened()
    groups.add("chat", "anna", "limited", ttl_s=YEAR_S)
    for number in range(LASTING_GROUPS_PER_USER):
        clock.now += 1
        groups.add("chat", "anna", f"room-{number}")
    clock.now += 1
    groups.add("chat", "anna", "room-0")  # joined again: now the latest
    clock.now += 1
    groups.add("chat", "anna", "one more")
    groups.add("chat", "ben", "room-1")
    for kept in (groups, reopened()):
        assert "room-1" not in kept.of("chat", "anna")
        assert {"room-0", "room-2", "one more", "limited"} <= set(kept.of("chat", "anna"))
        assert len(kept.of("chat", "anna")) == LASTING_GROUPS_PER_USER + 1
        assert kept.of("chat", "ben") == ["room-1"]
        assert kept.of("other", "anna") == []


def test_leaving_one_or_all_groups_is_remembered(reopened: Callable[[], UserGroups], clock: Clock) -> None:
    groups = reopened()
    for name in ("a", "b", "c"):
        groups.add("chat", "anna", name)
    groups.remove("chat", "anna", "a")
    groups.remove("chat", "anna", "never joined")
    assert sorted(reopened().of("chat", "anna")) == ["b", "c"]
    reopened().remove_all("chat", "anna")
    assert reopened().of("chat", "anna") == []
