"""When an approval ends, when others may decide it, when people are notified. Pure functions of the record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.sessions.approvals.notices import NoticeSchedule, reminders_until
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.records.plan import TurnPlan


def timeout_seconds(policy: ApprovalPolicy, plan: TurnPlan) -> int:
    """Seconds that an approval waits."""
    return plan.approval_timeout_seconds if policy.timeout_seconds is None else policy.timeout_seconds


def escalates_at(policy: ApprovalPolicy, requested_at: datetime) -> datetime | None:
    """When the escalation role may decide too; None: never."""
    if policy.escalate_after_seconds is None:
        return None
    return requested_at + timedelta(seconds=policy.escalate_after_seconds)


def in_words(at: datetime) -> str:
    """For people anywhere, where their zone is not known: "Thu 1 Jan 2026, 01:00 UTC"."""
    utc = at.astimezone(UTC)
    return f"{utc:%a} {utc.day} {utc:%b %Y, %H:%M} UTC"


def notice_schedule(record: ApprovalRecord, now: datetime) -> NoticeSchedule:
    """When reminders and the escalation notice are still to be sent. now: aware UTC.

    An approval may have been asked for long ago, by an orchestration that was lost: what was due then was sent then.
    """
    every = timedelta(seconds=record.policy.reminder_seconds or 0)
    past = reminders_until(record.policy, record.requested_at, now)
    escalates = escalates_at(record.policy, record.requested_at)
    return NoticeSchedule(
        record.expires_at,
        record.requested_at + (past + 1) * every if every else None,
        every,
        escalates if escalates is not None and escalates > now else None,
        reminded=past,
    )
