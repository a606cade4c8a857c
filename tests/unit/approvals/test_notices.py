"""When people hear of an approval again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.adapters.http.webhook import webhook_id
from shared.durable.names import notification_instance, notification_instances
from shared.sessions.approvals.notices import MAX_REMINDERS, Notice, NoticeSchedule, reminders_until
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind
from shared.sessions.turns.retry import MAX_NOTIFY_TRIES, notify_delay_s

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def _all(schedule: NoticeSchedule) -> list[tuple[NoticeKind, int, float]]:
    """Every notice there will be, each given when it is due: (kind, number, minutes from the request)."""
    found: list[tuple[NoticeKind, int, float]] = []
    while (notice := schedule.next()) is not None:
        found.append((notice.kind, notice.number, (notice.at - NOW) / MINUTE))
        schedule = schedule.after(notice, notice.at)
    return found


def test_notices_come_in_the_order_of_their_times() -> None:
    schedule = NoticeSchedule(NOW + 5 * MINUTE, NOW + 2 * MINUTE, 2 * MINUTE, NOW + 3 * MINUTE)
    assert _all(schedule) == [
        (NoticeKind.REMINDER, 1, 2),
        (NoticeKind.ESCALATED, 0, 3),
        (NoticeKind.REMINDER, 2, 4),
    ]


def test_at_the_same_moment_others_are_asked_first() -> None:
    schedule = NoticeSchedule(NOW + 3 * MINUTE, NOW + 2 * MINUTE, 2 * MINUTE, NOW + 2 * MINUTE)
    assert [kind for kind, _, _ in _all(schedule)] == [NoticeKind.ESCALATED, NoticeKind.REMINDER]


@pytest.mark.parametrize("remind_at", [NOW + MINUTE, NOW + 2 * MINUTE])
def test_nothing_comes_at_the_deadline_or_after_it(remind_at: datetime) -> None:
    assert NoticeSchedule(NOW + MINUTE, remind_at, MINUTE, NOW + MINUTE).next() is None


def test_a_policy_without_notices_has_none() -> None:
    assert NoticeSchedule(NOW + MINUTE).next() is None


def test_reminders_are_bounded() -> None:
    found = _all(NoticeSchedule(NOW + timedelta(days=30), NOW + MINUTE, MINUTE))
    assert [number for _, number, _ in found] == list(range(1, MAX_REMINDERS + 1))


@pytest.mark.parametrize(("late_s", "next_minute"), [(0, 2), (59, 2), (60, 3), (61, 3), (600, 12)])
def test_a_late_reminder_moves_the_next_to_its_own_time(late_s: int, next_minute: int) -> None:
    schedule = NoticeSchedule(NOW + timedelta(days=1), NOW + MINUTE, MINUTE)
    first = schedule.next()
    assert first is not None
    following = schedule.after(first, first.at + timedelta(seconds=late_s)).next()
    assert following == Notice(NoticeKind.REMINDER, NOW + next_minute * MINUTE, 2)


@pytest.mark.parametrize(
    ("every_s", "after", "count"),
    [(None, MINUTE, 0), (60, timedelta(seconds=59), 0), (60, MINUTE, 1), (1, timedelta(days=1), MAX_REMINDERS)],
)
def test_how_many_reminders_there_may_have_been(every_s: int | None, after: timedelta, count: int) -> None:
    policy = ApprovalPolicy(reminder_seconds=every_s)
    assert reminders_until(policy, NOW, NOW + after) == count
    assert reminders_until(policy, NOW, NOW - MINUTE) == 0


def test_every_webhook_has_an_id_and_an_instance_of_its_own_that_erasure_knows() -> None:
    sent = [(kind, 0) for kind in NoticeKind if kind is not NoticeKind.REMINDER]
    sent += [(NoticeKind.REMINDER, number) for number in (1, 2, 3)]
    assert len({webhook_id("a1", *one) for one in sent}) == len(sent)
    instances = [notification_instance("a1", *one) for one in sent]
    assert len(set(instances)) == len(sent)
    assert sorted(notification_instances("a1", reminders=3)) == sorted(instances)
    assert notification_instance("a1") == "a1:notification", "as instances that run now are called"


def test_a_webhook_is_tried_for_hours_and_ever_less_often() -> None:
    delays = [notify_delay_s(tries) for tries in range(1, MAX_NOTIFY_TRIES)]
    kept = [delay for delay in delays if delay is not None]
    assert len(kept) == len(delays)
    assert kept[:4] == [1, 2, 4, 8]
    assert kept == sorted(kept)
    assert max(kept) == 3_600
    assert timedelta(hours=6) < timedelta(seconds=sum(kept)) < timedelta(hours=24)
    assert notify_delay_s(MAX_NOTIFY_TRIES) is None
