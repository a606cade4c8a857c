"""ScheduleService: a user's schedules, and the step from due times to runs.

Invariant: a due time becomes a run in the transaction that moves its schedule on, so none is lost and none comes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import ErrorCode, InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal
from shared.rights import Action
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.unattended.due import Advance, Timing, advance
from shared.sessions.unattended.models import (
    NewSchedule,
    RunStatus,
    Schedule,
    ScheduleDetail,
    ScheduleStatus,
)

MAX_OWN_SCHEDULES = 100
KEPT_RUNS = 50
"""Runs of one schedule on record, beside those that have not ended."""
_SHOWN_RUNS = 100
"""More than are ever on record."""
_CHANGED = "The schedule was changed before it ran."
_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule with what is not on the wire. uid: never changes, and is given to no other schedule."""

    uid: str
    owner_id: str
    schedule: Schedule

    @property
    def timing(self) -> Timing:
        schedule = self.schedule
        return Timing(schedule.at, schedule.cron, schedule.zone, schedule.missed)


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that this process has claimed. overlaps: the turn of a run before it is open."""

    record: ScheduleRecord
    due_at: datetime
    overlaps: bool

    @property
    def key(self) -> str:
        """The idempotency key of all that it posts."""
        return f"schedule:{self.record.uid}:{self.due_at.astimezone(UTC).isoformat()}"


class ScheduleRepository(Protocol):
    async def put(
        self, schedule: Schedule, owner_id: str, *, uid: str, skipping: str, limit: int
    ) -> tuple[Schedule, bool] | None:
        """Insert or replace; the flag is True for a new one. Pending runs of the one before are skipped, for that
        reason. uid: of a new one. None: its owner has `limit` already."""
        ...

    async def get(self, schedule_id: str, owner_id: str, *, runs: int) -> ScheduleDetail | None: ...

    async def list_for(self, owner_id: str, *, limit: int) -> list[Schedule]:
        """By id, each with its newest run."""
        ...

    async def delete(self, schedule_id: str, owner_id: str) -> bool: ...

    async def move_due(
        self, step: Callable[[ScheduleRecord, datetime, int], Advance], *, now: datetime, limit: int, kept: int
    ) -> int:
        """Take at most `limit` due schedules that nobody else has taken, and store the step of each: its runs, and when
        it is due next. Returns how many there were.

        step: of a schedule, the time that it was due at, and how many of its runs wait.
        """
        ...

    async def claim_runs(self, *, now: datetime, until: datetime, limit: int) -> list[DueRun]:
        """Pending runs, of each schedule the oldest, for this process until then."""
        ...

    async def note_run(
        self,
        run: DueRun,
        status: RunStatus,
        *,
        reason: str | None = None,
        session_id: str | None = None,
        turn_id: str | None = None,
        now: datetime,
    ) -> None: ...

    async def stop(self, run: DueRun, reason: str, *, now: datetime) -> None:
        """Note the run as refused and stop its schedule, unless that was changed since the run was claimed."""
        ...


class ReadableSessions(Protocol):
    async def get(self, session_id: str, user_id: str) -> SessionRecord:
        """Raises NotFound."""
        ...


class ScheduleService:
    """A user's own schedules; users cannot see each other's."""

    def __init__(self, schedules: ScheduleRepository, sessions: ReadableSessions, agents: AgentCatalog) -> None:
        self._schedules = schedules
        self._sessions = sessions
        self._agents = agents

    async def list_for(self, principal: Principal) -> list[Schedule]:
        return await self._schedules.list_for(principal.user_id, limit=MAX_OWN_SCHEDULES * 2)

    async def get(self, schedule_id: str, principal: Principal) -> ScheduleDetail:
        """Raises NotFound."""
        found = await self._schedules.get(schedule_id, principal.user_id, runs=_SHOWN_RUNS)
        if found is None:
            raise _no_such_schedule()
        return found

    async def put(
        self, schedule_id: str, body: NewSchedule, principal: Principal, *, now: datetime
    ) -> tuple[Schedule, bool]:
        """Make or replace a schedule; the flag is True for a new one. What was due before `now` is not run.

        Raises NotFound (no such session, or the caller may not post to it), InvalidInput.
        """
        await check_target(body.session_id, body.agent_id, principal, self._sessions, self._agents)
        first = Timing(body.at, body.cron, body.zone, body.missed).first_after(now)
        if first is None and not body.paused:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                "The schedule is never due: its time has passed.",
                errors=[{"field": "at", "message": "has passed"}],
            )
        schedule = Schedule(
            **body.model_dump(exclude={"paused", "config"}),
            id=schedule_id,
            config=body.config,
            status=ScheduleStatus.PAUSED if body.paused else ScheduleStatus.ACTIVE,
            status_reason=None,
            next_run_at=None if body.paused else first,
            created_at=now,
            updated_at=now,
        )
        stored = await self._schedules.put(
            schedule, principal.user_id, uid=new_id(), skipping=_CHANGED, limit=MAX_OWN_SCHEDULES
        )
        if stored is None:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR, f"You can have at most {MAX_OWN_SCHEDULES} schedules; delete one first."
            )
        return stored

    async def delete(self, schedule_id: str, principal: Principal) -> None:
        """With its runs; sessions and turns stay. Raises NotFound."""
        if not await self._schedules.delete(schedule_id, principal.user_id):
            raise _no_such_schedule()

    async def move_due(self, *, now: datetime) -> int:
        """Make runs of what is due, of some schedules. Returns how many schedules were due: 0 when none is left."""
        return await self._schedules.move_due(_step(now), now=now, limit=_AT_ONCE, kept=KEPT_RUNS)


def _step(now: datetime) -> Callable[[ScheduleRecord, datetime, int], Advance]:
    return lambda record, since, pending: advance(record.timing, since, now, pending=pending)


async def check_target(
    session_id: str | None,
    agent_id: str | None,
    principal: Principal,
    sessions: ReadableSessions,
    agents: AgentCatalog,
) -> None:
    """Raises NotFound unless the caller may post to the session; InvalidInput for an unknown agent."""
    await agents.check(agent_id)
    if session_id is not None:
        (await sessions.get(session_id, principal.user_id)).require(Action.POST)


def _no_such_schedule() -> NotFound:
    return NotFound(ErrorCode.SESSION_NOT_FOUND, "No such schedule.")
