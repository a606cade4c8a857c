"""What is due of a schedule when somebody looks: which runs begin, which were missed, and when it is due next.

Pure functions. Invariant: what they return for the same arguments is the same, and each due time is told of once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.sessions.unattended.models import Missed, RunStatus
from shared.sessions.unattended.ncrontab import Ncrontab, Passed, zone_of

LATE = timedelta(minutes=2)
"""A run that begins so long after its time was missed: longer than a restart of the app takes."""
MOST_CAUGHT_UP = 24
"""Missed runs that `run_all` runs."""
MOST_PENDING = 24
"""Runs of one schedule that wait for the one before them."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule is due: `at`, or `cron` in `zone`."""

    at: datetime | None
    cron: str | None
    zone: str
    missed: Missed

    def first_after(self, now: datetime) -> datetime | None:
        """The first due time later than `now`."""
        if self.cron is None:
            return self.at if self.at is not None and self.at > now else None
        return self._ncrontab().next_after(now)

    def _ncrontab(self) -> Ncrontab:
        assert self.cron is not None
        return Ncrontab.of_store(self.cron, zone_of(self.zone))

    def passed(self, since: datetime, now: datetime) -> Passed:
        """since: due then. One more than is ever run, so that what was left out is seen."""
        if self.cron is None:
            return Passed([since], False)
        return self._ncrontab().passed(since, now, most=MOST_CAUGHT_UP + 1)


@dataclass(frozen=True, slots=True)
class NotedRun:
    """A due time and what becomes of it: PENDING, or why it does not run."""

    due_at: datetime
    status: RunStatus = RunStatus.PENDING
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """Runs, oldest first, and the next due time; None: nothing is due any more."""

    next_run_at: datetime | None
    runs: list[NotedRun] = field(default_factory=list)


def advance(timing: Timing, since: datetime, now: datetime, *, pending: int = 0) -> Advance:
    """What is due from `since`, which is a due time that has passed, until `now`.

    pending: runs that wait already.
    """
    passed = timing.passed(since, now)
    late = [due for due in passed.due if now - due > LATE]
    on_time = passed.due[len(late) :]
    runs: list[NotedRun] = []
    match timing.missed:
        case Missed.SKIP:
            runs = [*_left_out(late, passed.is_cut, "Nothing looked for it in time"), *map(NotedRun, on_time)]
        case Missed.RUN_ONCE if late:
            runs = [
                *_left_out(passed.due[:-1], passed.is_cut, "Missed: the run after it stands for it"),
                NotedRun(passed.due[-1]),
            ]
        case Missed.RUN_ONCE:
            runs = [NotedRun(due) for due in on_time]
        case Missed.RUN_ALL:
            beyond, kept = passed.due[:-MOST_CAUGHT_UP], passed.due[-MOST_CAUGHT_UP:]
            runs = [
                *_left_out(beyond, passed.is_cut, f"At most {MOST_CAUGHT_UP} missed runs are run"),
                *map(NotedRun, kept),
            ]
    return Advance(timing.first_after(now), _within(runs, MOST_PENDING - pending))


def _left_out(due: list[datetime], is_cut: bool, why: str) -> list[NotedRun]:
    """One run on record for all that do not run: the newest of them."""
    if not due:
        return []
    others = len(due) - 1
    if is_cut:
        why += f", nor for {others} or more before it" if others else ", nor for others before it"
    elif others:
        why += f", nor for {others} before it"
    return [NotedRun(due[-1], RunStatus.MISSED, f"{why}.")]


def _within(runs: list[NotedRun], room: int) -> list[NotedRun]:
    """The runs with those that have no room turned away."""
    kept: list[NotedRun] = []
    for run in runs:
        if run.status is RunStatus.PENDING:
            room -= 1
            if room < 0:
                run = NotedRun(run.due_at, RunStatus.SKIPPED, f"{MOST_PENDING} runs before it wait already.")
        kept.append(run)
    return kept
