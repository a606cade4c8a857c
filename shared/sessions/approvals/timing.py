"""When an approval ends, when others may decide it, when people are notified. Pure functions of the record."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.sessions.approvals.notices import NoticeSchedule
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


def notice_schedule(record: ApprovalRecord) -> NoticeSchedule:
    """When reminders and the escalation notice are sent."""
    every = timedelta(seconds=record.policy.reminder_seconds or 0)
    return NoticeSchedule(
        record.expires_at,
        record.requested_at + every if every else None,
        every,
        escalates_at(record.policy, record.requested_at),
    )
