"""The session cache against a store that keeps plain values: what is kept, for whom, and what a change does to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from shared.errors import CacheUnavailable, ErrorCode, NotFound
from shared.sessions.cache import (
    KEPT_S,
    LOAD_S,
    SessionCache,
    SessionEntry,
)

ENTRY = SessionEntry("ann", {"will": "write", "rita": "read"}, active_branch=2, last_branch=3, feed="s.1")


@dataclass
class Kept:
    """`EntryStore` in a dict. away: how many calls from now on fail."""

    entries: dict[str, bytes] = field(default_factory=dict)
    changes: int = 0
    is_open: bool = False
    away: int = 0

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise CacheUnavailable("away")

    async def find(self, session_id: str) -> bytes | None:
        self._answer()
        return self.entries.get(session_id)

    async def ticket(self, session_id: str) -> str | None:
        self._answer()
        return None if self.is_open else str(self.changes)

    async def keep(self, session_id: str, ticket: str, entry: bytes) -> None:
        self._answer()
        if not self.is_open and ticket == str(self.changes):
            self.entries[session_id] = entry

    async def begin_change(self, session_id: str) -> None:
        self._answer()
        self.entries.pop(session_id, None)
        self.changes, self.is_open = self.changes + 1, True

    async def end_change(self, session_id: str) -> None:
        self._answer()
        self.entries.pop(session_id, None)
        self.changes, self.is_open = self.changes + 1, False


@dataclass
class Rig:
    kept: Kept = field(default_factory=Kept)
    row: SessionEntry | None = ENTRY
    loads: int = 0
    pauses: list[float] = field(default_factory=list)

    async def load(self, session_id: str) -> SessionEntry | None:
        self.loads += 1
        return self.row

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    @property
    def cache(self) -> SessionCache:
        return SessionCache(self.kept, self.load, pause=self.pause)


async def test_one_entry_answers_for_all_who_may_read_the_session_and_for_those_who_may_not() -> None:
    rig = Rig()

    seen = [await rig.cache.get("s", user) for user in ("ann", "will", "rita")]
    with pytest.raises(NotFound) as refused:
        await rig.cache.get("s", "mallory")

    assert [view.access for view in seen] == ["owner", "write", "read"]
    assert {(view.owner_id, view.active_branch, view.last_branch) for view in seen} == {("ann", 2, 3)}
    assert (rig.loads, refused.value.code) == (1, ErrorCode.SESSION_NOT_FOUND)


async def test_a_session_that_is_not_there_is_asked_for_each_time() -> None:
    rig = Rig(row=None)

    for _ in range(2):
        with pytest.raises(NotFound):
            await rig.cache.get("s", "ann")

    assert (rig.loads, rig.kept.entries) == (2, {})


async def test_what_another_version_kept_is_not_read() -> None:
    rig = Rig(Kept({"s": b'[0, "mallory"]'}))

    assert (await rig.cache.get("s", "ann")).access == "owner"
    assert rig.loads == 1


async def test_without_the_store_every_read_asks_the_database() -> None:
    rig = Rig(Kept(away=100))

    for _ in range(3):
        assert (await rig.cache.get("s", "ann")).access == "owner"

    assert rig.loads == 3


async def test_a_reader_that_loaded_before_a_change_ended_keeps_nothing() -> None:
    rig = Rig()

    class Late(Rig):
        async def load(self, session_id: str) -> SessionEntry | None:
            read = rig.row
            async with rig.cache.changing("s"):
                rig.row = replace(ENTRY, participants={})
            return read

    assert (await Late(rig.kept).cache.get("s", "rita")).access == "read", "it had asked before the change"
    assert rig.kept.entries == {}
    with pytest.raises(NotFound):
        await rig.cache.get("s", "rita")


async def test_nothing_is_kept_while_a_change_is_open_or_after_one_that_was_cut() -> None:
    rig = Rig()
    await rig.kept.begin_change("s")  # and its process is gone

    await rig.cache.get("s", "ann")

    assert rig.kept.entries == {}


async def test_a_change_that_failed_ends_too() -> None:
    rig = Rig()

    with pytest.raises(ValueError, match="rolled back"):
        async with rig.cache.changing("s", takes_access=True):
            raise ValueError("rolled back")

    await rig.cache.get("s", "ann")
    assert (list(rig.kept.entries), rig.pauses) == (["s"], [])


async def test_access_is_not_taken_before_every_entry_is_too_old_when_nobody_can_be_told() -> None:
    rig = Rig(Kept(away=1_000))

    async with rig.cache.changing("s"):
        pass
    assert rig.pauses == [], "a change that takes no access from anyone is not worth a wait"
    async with rig.cache.changing("s", takes_access=True):
        pass

    assert sum(rig.pauses) >= KEPT_S + LOAD_S


async def test_the_wait_ends_as_soon_as_somebody_can_be_told() -> None:
    rig = Rig()
    await rig.cache.get("s", "rita")
    rig.kept.away = 4  # the beginning, the end, and two tries after it

    async with rig.cache.changing("s", takes_access=True):
        rig.row = replace(ENTRY, participants={})

    assert len(rig.pauses) == 3
    with pytest.raises(NotFound):
        await rig.cache.get("s", "rita")
