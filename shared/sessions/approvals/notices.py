"""The schedule of an approval's notices: reminders, the escalation and the decision.

Invariant: pure functions of frozen values and a time argument, since orchestrators compute them again in every replay.
No notice is sent after the approval's deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind

MAX_REMINDERS = 100
"""Most reminders of one approval. Each adds to the history that every replay reads."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice. number: which reminder, from 1; 0 for other kinds."""

    kind: NoticeKind
    at: datetime
    number: int = 0


@dataclass(frozen=True, slots=True)
class NoticeSchedule:
    """The notices still to be sent while the approval is pending. All times are aware UTC."""

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
        """The schedule after a notice was sent; skips reminders whose time has passed meanwhile."""
        if given.kind is NoticeKind.ESCALATED:
            return replace(self, escalate_at=None)
        missed = max(0, (now - given.at) // self.remind_every)
        return replace(self, remind_at=given.at + (missed + 1) * self.remind_every, reminded=given.number)


def reminders_until(policy: ApprovalPolicy, requested_at: datetime, until: datetime) -> int:
    """Most reminders that can have been sent by `until`."""
    if policy.reminder_seconds is None:
        return 0
    return min(MAX_REMINDERS, max(0, (until - requested_at) // timedelta(seconds=policy.reminder_seconds)))


def webhook_id(approval_id: str, kind: NoticeKind, number: int) -> str:
    """The id of a notice: the same for every retry, so that a receiver recognises repeats."""
    if kind is NoticeKind.REQUESTED:
        return approval_id
    return f"{approval_id}.{kind}.{number}" if number else f"{approval_id}.{kind}"
