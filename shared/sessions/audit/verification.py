"""The verification of all audit trails, without anybody looking: what it finds is kept, logged and shown to admins.

A trail that nobody opens would hide a removal for ever, and an erased session has no page that shows its line. So the
whole store of lines is read, id by id, beside the outbox and what the database says of each id. Every run goes on where
the last one ended.

Invariant: an id is judged from lines that were read before its anchors. So a line that is claimed or a session that is
made or erased meanwhile is no problem.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pydantic import Field

from shared.errors import ErrorCode, NotFound
from shared.principal import Principal, Role
from shared.sessions.audit.chain import (
    BEING_WRITTEN,
    ERASED_PREFIX,
    MAX_PROBLEMS,
    Anchor,
    ChainCheck,
    Problem,
    Reading,
    SealedLine,
    is_genuine_erasure,
)
from shared.sessions.audit.repair import may_be_repaired, restored
from shared.sessions.audit.trail import AuditLines, AuditProblem, AuditUnavailable, merged
from shared.sessions.models import Value
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.pages import Page

log = logging.getLogger(__name__)

DAMAGED_LINE = "audit trail damaged:"
"""Beginning of the log line; the alert `audit-trail` in `infra/` looks for the same words."""

EVERY = timedelta(hours=1)
LATE = timedelta(hours=6)
"""A verification that has not come to its end for so long is reported like damage."""
"""How often a run begins. A deployment with few trails has each of them verified this often."""

IDS_AT_ONCE = 200
_REPAIRS = 20
"""Most sessions of so many ids that a run tries to repair."""
READ_TIMEOUT_S = 120.0
"""For the lines of so many ids."""


@dataclass(frozen=True, slots=True)
class ErasureAnchor:
    """The line that remains of an erased session, as the database knows it."""

    id: str
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Anchored:
    """What the database says of an id."""

    trail: Anchor | None
    """None: there is no such session."""
    erasures: Sequence[ErasureAnchor] = ()
    """One for each session that had the id and was erased."""
    changing: bool = False
    """A session with the id is being erased, or was while its lines were read."""


class AuditFinding(Value):
    """What is wrong with the audit trail of a session, or with the line that remains of an erased one."""

    session_id: str
    problems: list[AuditProblem]
    found_at: datetime = Field(description="When these problems were first seen together")


class AuditFindings(Value):
    """Damaged trails, newest finding first."""

    items: list[AuditFinding]
    next_cursor: str | None
    verified_at: datetime | None = Field(description="When all trails had been verified the last time; null: not yet")


class VerifiedTrails(Protocol):
    """What the database knows of all trails, and what their verification found. Every method raises Transient."""

    async def begin(self, *, now: datetime, every: timedelta) -> str | None:
        """Claim a run and return the id after which it goes on; None when the last one began less than `every` ago."""
        ...

    async def ids_after(self, after: str, *, limit: int) -> list[str]:
        """The next ids that must have lines, in the order of their bytes."""
        ...

    async def waiting(self, after: str, up_to: str | None) -> Mapping[str, Sequence[SealedLine]]:
        """The lines in the outbox, those of erasures too, by session id and in row key order."""
        ...

    async def anchored(self, ids: Sequence[str], *, since: datetime) -> Mapping[str, Anchored]:
        """Of every given id. since: erasures that were finished before then are over."""
        ...

    async def note(
        self, after: str, up_to: str | None, damaged: Mapping[str, Sequence[Problem]], *, now: datetime
    ) -> list[str]:
        """Replace the findings of a part of all ids and move on; returns the ids whose problems are not known yet."""
        ...

    async def restore(self, session_id: str, lines: Sequence[SealedLine]) -> None:
        """Put lines that the trail's end counts already into the outbox."""
        ...

    async def completed_at(self) -> datetime | None:
        """When the last part of all ids was noted."""
        ...

    async def findings(self, page: Page) -> list[AuditFinding]:
        """Newest first; one item more than `page.limit` when there are more."""
        ...


@dataclass(slots=True)
class _Read:
    """What was read of one id."""

    check: ChainCheck
    lines: int = 0
    erasures: dict[str, str] = field(default_factory=dict)
    """Seals of genuine erasure lines by their ids."""
    problems: list[Problem] = field(default_factory=list)


class AuditVerification:
    """Verifies every trail in turn. keys: all that may have sealed a line. clock: aware UTC.

    retold: what the trail of a session may have told, to repair lines that older code claimed and never wrote.
    """

    def __init__(
        self,
        trails: VerifiedTrails,
        lines: AuditLines,
        retold: Callable[[str], Awaitable[Sequence[AuditNote]]],
        *,
        keys: Sequence[bytes],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ids_at_once: int = IDS_AT_ONCE,
    ) -> None:
        self._trails = trails
        self._lines = lines
        self._retold = retold
        self._keys = keys
        self._clock = clock
        self._ids_at_once = ids_at_once

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Verify from where the last run ended, to the end of all ids or until `goes_on` says no; nothing when it is
        not due yet. Raises Transient; an unavailable store of lines is logged, and the next run tries again."""
        after = await self._trails.begin(now=self._clock(), every=EVERY)
        try:
            while after is not None:
                after = await self._verify_some(after)
                if not goes_on():
                    return
        except (AuditUnavailable, TimeoutError) as exc:
            log.warning("the audit trails cannot be verified now: %s: %s", type(exc).__name__, exc)
            completed = await self._trails.completed_at()
            if completed is not None and self._clock() - completed > LATE:
                # Whoever can write the table can also make it too large to read.
                log.error("%s the trails could not be verified since %s", DAMAGED_LINE, completed.isoformat())

    async def _verify_some(self, after: str, *, is_repaired: bool = False) -> str | None:
        """Verify the ids after `after`; returns the last one of them, None at the end of all."""
        ids = await self._trails.ids_after(after, limit=self._ids_at_once)
        up_to = ids[-1] if len(ids) == self._ids_at_once else None
        began = self._clock()
        # First, since a line that moves meanwhile moves into the store that is read next.
        waiting = await self._trails.waiting(after, up_to)
        read = await self._read(after, up_to, waiting)
        for session_id in ids:
            read.setdefault(session_id, _Read(ChainCheck(self._keys, session_id)))
        anchored = await self._trails.anchored(list(read), since=began - BEING_WRITTEN)
        reading = Reading(began, self._clock())
        found = {name: _problems(each, anchored[name], reading) for name, each in read.items()}
        damaged = {name: problems for name, problems in found.items() if problems}
        if not is_repaired and await self._repair({name: read[name].check for name in damaged}, anchored):
            return await self._verify_some(after, is_repaired=True)
        for name in await self._trails.note(after, up_to, damaged, now=reading.ended):
            first = damaged[name][0]
            log.error("%s session %s, %d problems, line %s: %s", DAMAGED_LINE, name, len(damaged[name]), *_shown(first))
        return up_to

    async def _repair(self, damaged: Mapping[str, ChainCheck], anchored: Mapping[str, Anchored]) -> bool:
        """Restore lines whose claims still tell what they were; whether there were any. A restored line is told like
        damage: somebody may have removed it."""
        is_repaired, left = False, _REPAIRS
        for name, check in damaged.items():
            trail = anchored[name].trail
            gaps = [] if trail is None else [gap for gap in check.lost if may_be_repaired(gap, trail)]
            if trail is None or not gaps or not left:
                continue
            left -= 1
            told = await self._retold(name)
            for gap in gaps:
                lines = restored(self._keys, name, gap, trail, told)
                if lines:
                    await self._trails.restore(name, lines)
                    is_repaired = True
                    numbers = ", ".join(str(line.number) for line in lines)
                    log.error("%s session %s, line %s was missing and is restored", DAMAGED_LINE, name, numbers)
        return is_repaired

    async def _read(
        self, after: str, up_to: str | None, waiting: Mapping[str, Sequence[SealedLine]]
    ) -> dict[str, _Read]:
        read: dict[str, _Read] = {}
        async with asyncio.timeout(READ_TIMEOUT_S), aclosing(self._lines.read_all(after, up_to)) as stored:
            async for session_id, line in merged(waiting, stored):
                one = read.setdefault(session_id, _Read(ChainCheck(self._keys, session_id)))
                if not line.row_key.startswith(ERASED_PREFIX):
                    one.lines += 1
                    one.check.look_at(line)
                elif is_genuine_erasure(self._keys, session_id, line):
                    one.erasures[line.previous] = line.hash
                else:
                    if len(one.problems) < MAX_PROBLEMS:
                        one.problems.append(_no_erasure(line))
        return read

    async def findings(self, principal: Principal, page: Page) -> AuditFindings:
        """The damaged trails, for admins. Raises NotFound, Transient."""
        if Role.ADMIN not in principal.roles:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "Findings are for callers with the role admin.")
        found, cursor = page.cut(await self._trails.findings(page), lambda one: (one.found_at, one.session_id))
        return AuditFindings(items=found, next_cursor=cursor, verified_at=await self._trails.completed_at())


def _problems(read: _Read, known: Anchored, reading: Reading) -> list[Problem]:
    """What is wrong with one id."""
    problems = read.problems + [
        Problem(None, f"The line of the erasure at {erasure.at.isoformat()} is missing.")
        for erasure in known.erasures
        if read.erasures.get(erasure.id) != erasure.hash and not reading.may_be_written(erasure.at)
    ]
    if known.changing:
        return problems
    if known.trail is not None:
        return problems + read.check.end(known.trail, reading)
    if read.lines:
        problems.append(Problem(None, "There are lines, but no such session: it was erased, or they are forged."))
    return problems


def _no_erasure(line: SealedLine) -> Problem:
    return Problem(None, f"The row {line.row_key[:60]!r} is not the line of an erasure: altered, moved or forged.")


def _shown(problem: Problem) -> tuple[str, str]:
    return ("none" if problem.line is None else str(problem.line), problem.message)
