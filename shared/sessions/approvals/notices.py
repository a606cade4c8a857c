"""What people hear of an approval after they were asked: reminders, the escalation, the decision. When, and as what.

Invariant: pure functions of frozen values and of the time that is passed in, since orchestrators compute them again in
every replay. A notice that could only come after the deadline never comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.sessions.records.policy import ApprovalPolicy

MAX_REMINDERS = 100
"""Of one approval; each adds to the history that is read again in every replay."""


class NoticeKind(StrEnum):
    REQUESTED = "requested"  # somebody is asked
    REMINDER = "reminder"  # and asked again
    ESCALATED = "escalated"  # and now others may decide too
    DECIDED = "decided"  # or timed out, or cancelled


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. number: of a reminder, from 1."""

    kind: NoticeKind
    at: datetime
    number: int = 0


@dataclass(frozen=True, slots=True)
class NoticeSchedule:
    """What is still to come while nobody decides. Every time is aware UTC."""

    expires_at: datetime
    remind_at: datetime | None = None
    remind_every: timedelta = timedelta()
    escalate_at: datetime | None = None
    reminded: int = 0

    def next(self) -> Notice | None:
        """The next notice before the deadline."""
        wanted: list[Notice] = []
        if self.escalate_at is not None:
            wanted.append(Notice(NoticeKind.ESCALATED, self.escalate_at))
        if self.remind_at is not None and self.reminded < MAX_REMINDERS:
            wanted.append(Notice(NoticeKind.REMINDER, self.remind_at, self.reminded + 1))
        first = min(wanted, key=lambda notice: notice.at, default=None)
        return first if first is not None and first.at < self.expires_at else None

    def after(self, given: Notice, now: datetime) -> NoticeSchedule:
        """What is left once it was given; reminders whose time has passed meanwhile are left out, not made up for."""
        if given.kind is NoticeKind.ESCALATED:
            return replace(self, escalate_at=None)
        missed = max(0, (now - given.at) // self.remind_every)
        return replace(self, remind_at=given.at + (missed + 1) * self.remind_every, reminded=given.number)


def reminders_until(policy: ApprovalPolicy, requested_at: datetime, until: datetime) -> int:
    """How many reminders there may have been by then, at most."""
    if policy.reminder_seconds is None:
        return 0
    return min(MAX_REMINDERS, max(0, (until - requested_at) // timedelta(seconds=policy.reminder_seconds)))
