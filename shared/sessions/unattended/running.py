"""ScheduleRunner: posts claimed runs, as their owner.

Invariant: whatever it posts carries the run's idempotency key, so a run that is posted again after a crash posts
nothing new. A run acts with the rights of its owner, checked then, and with no role: roles are of a sign-in, and nobody
has signed in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.errors import AppError, BudgetExceeded, Conflict, ErrorCode, Gone, InvalidInput, InvalidState, NotFound
from shared.principal import Principal, Role
from shared.sessions.models import Concurrency, NewMessage, NewSession, SessionStatus
from shared.sessions.service import SessionService
from shared.sessions.unattended.models import Overlap, RunStatus, Schedule
from shared.sessions.unattended.schedules import DueRun, ScheduleRepository

log = logging.getLogger(__name__)

CLAIM = timedelta(minutes=1)
"""How long a process has to post a run: far longer than that takes. After it, another one takes the run."""
_AT_ONCE = 20
_OVERLAPS = "The turn of the run before it was still open."


@dataclass(slots=True)
class Ran:
    """What the caller has to do for posted runs."""

    messages: list[bytes] = field(default_factory=list)
    """Events to send."""
    turns: list[str] = field(default_factory=list)
    """Turns to start."""


class ScheduleRunner:
    """Posts what is due. Any number of processes may do so at once."""

    def __init__(self, schedules: ScheduleRepository, sessions: SessionService) -> None:
        self._schedules = schedules
        self._sessions = sessions

    async def claim(self, *, now: datetime) -> list[DueRun]:
        return await self._schedules.claim_runs(now=now, until=now + CLAIM, limit=_AT_ONCE)

    async def run(self, run: DueRun, *, now: datetime) -> Ran:
        """Post a claimed run, and note what became of it. Raises Transient: it stays claimed, and is tried again."""
        schedule = run.record.schedule
        if run.overlaps and schedule.overlap is Overlap.SKIP:
            await self._schedules.note_run(run, RunStatus.SKIPPED, reason=_OVERLAPS, now=now)
            return Ran()
        owner = unattended(run.record.owner_id)
        try:
            return await self._post(run, schedule, owner, now=now)
        except Conflict as exc:
            await self._schedules.note_run(run, RunStatus.SKIPPED, reason=exc.safe_message, now=now)
        except BudgetExceeded as exc:
            await self._schedules.note_run(run, RunStatus.REFUSED, reason=exc.safe_message, now=now)
        except (NotFound, Gone, InvalidInput) as exc:
            if await stops(exc, schedule.session_id, owner, self._sessions):
                log.info("schedule %s of %s stops: %s", schedule.id, owner.user_id, exc)
                await self._schedules.stop(run, exc.safe_message, now=now)
            else:
                await self._schedules.note_run(run, RunStatus.REFUSED, reason=exc.safe_message, now=now)
        return Ran()

    async def _post(self, run: DueRun, schedule: Schedule, owner: Principal, *, now: datetime) -> Ran:
        ran, session_id = Ran(), schedule.session_id
        if session_id is None:
            new = NewSession(
                name=schedule.name or schedule.id,
                agent_id=schedule.agent_id,
                config=schedule.config,
                metadata={"schedule": schedule.id, "due_at": run.due_at.isoformat()},
            )
            session, _, messages = await self._sessions.create(new, owner, idempotency_key=run.key)
            session_id = session.id
            ran.messages.extend(messages)
        message = NewMessage(
            content=schedule.content,
            approval_mode=schedule.approval_mode,
            concurrency=Concurrency.ENQUEUE if schedule.overlap is Overlap.QUEUE else Concurrency.REJECT,
        )
        posted = await self._sessions.post_message(session_id, message, owner, idempotency_key=run.key)
        turn_id = posted.result.turn.id
        await self._schedules.note_run(run, RunStatus.POSTED, session_id=session_id, turn_id=turn_id, now=now)
        ran.messages.extend(posted.messages)
        if posted.start:
            ran.turns.append(turn_id)
        return ran


def unattended(owner_id: str) -> Principal:
    """The owner of what runs without them: as a user, with no other role."""
    return Principal(owner_id, frozenset({Role.USER.value}))


async def stops(refusal: AppError, session_id: str | None, owner: Principal, sessions: SessionService) -> bool:
    """Whether what was refused would be refused for ever. session_id: None for new sessions."""
    if refusal.code is ErrorCode.MESSAGE_NOT_FOUND:
        return False  # what the same run posted before was erased since
    if session_id is None:
        return isinstance(refusal, InvalidInput) and not isinstance(refusal, InvalidState)
    if not isinstance(refusal, InvalidState):
        return True
    try:
        record = await sessions.get(session_id, owner)
    except NotFound:
        return True
    return record.session.status is SessionStatus.ENDED
