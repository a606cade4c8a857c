"""The approval orchestrator: ask, wait for the event or the deadline, then do what the store says was decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from devtools.histories.player import ActivityFailed, Json, Play, instant
from orchestrators import approval as approval_module
from orchestrators import notification as notification_module
from shared.durable.names import (
    APPROVAL,
    EXECUTE_TOOL,
    GIVE_NOTICE,
    NOTIFICATION,
    NOTIFY_APPROVERS,
    REQUEST_APPROVAL,
)
from shared.sessions.turns.retry import MAX_NOTIFY_TRIES

WAIT_S = 3600.0
EVENT = "approval-a1"


def _asked() -> Play:
    """Up to the wait."""
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    assert play.calls(REQUEST_APPROVAL) == [{"tool_call_id": "call-1", "instance_id": "turn-1:call-1"}]
    return play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S)})


def test_decision_in_time_runs_the_call_and_cancels_the_deadline() -> None:
    play = _asked()
    assert play.waited_s == pytest.approx([WAIT_S], abs=0.1)
    play.hear(EVENT, {})
    assert play.timers == {}, "an open timer would keep the instance running until it fires"
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    play.complete(EXECUTE_TOOL, {"status": "completed"})
    assert (play.output, play.is_over) == ("completed", True)


def test_rejection_is_a_normal_outcome() -> None:
    play = _asked().hear(EVENT).complete(EXECUTE_TOOL, {"status": "rejected"})
    assert (play.output, play.failed) == ("rejected", None)


def test_deadline_without_a_decision_is_a_normal_outcome() -> None:
    play = _asked().pass_time()
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]
    play.complete(EXECUTE_TOOL, {"status": "rejected"})
    assert (play.output, play.is_over) == ("rejected", True)


def test_event_that_came_before_the_wait_is_not_lost() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin().hear(EVENT)
    play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S)})
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    assert play.timers == {}
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).is_over


@pytest.mark.parametrize("event", ["approval-other", "APPROVAL-A1", "cancel", "a1"])
def test_event_of_another_name_does_not_end_the_wait(event: str) -> None:
    play = _asked().hear(event, {"decision": "approve"})
    assert play.calls(EXECUTE_TOOL) == []
    assert len(play.timers) == 1


def test_event_without_a_decision_behind_it_waits_on_until_the_same_deadline() -> None:
    """A forged or repeated event can make it look, never decide."""
    play = _asked()
    for looks in range(1, 4):
        play.hear(EVENT, {"decision": "approve"})
        assert len(play.calls(EXECUTE_TOOL)) == looks
        play.complete(EXECUTE_TOOL, {"status": "pending", "pending": True})
    assert not play.is_over
    [deadline] = play.timers.values()
    assert (deadline.fire_at_us - play.now_us) / 1e6 == pytest.approx(WAIT_S, abs=1)
    assert play.pass_time().calls(EXECUTE_TOOL)[-1] == {"tool_call_id": "call-1", "deadline_passed": True}
    assert play.complete(EXECUTE_TOOL, {"status": "rejected"}).output == "rejected"


def test_flood_of_events_is_looked_at_a_bounded_number_of_times() -> None:
    play = _asked()
    for _ in range(60):
        play.hear(EVENT)
        if play.activities:
            play.complete(EXECUTE_TOOL, {"status": "pending", "pending": True})
    assert len(play.calls(EXECUTE_TOOL)) == 20
    play.pass_time().complete(EXECUTE_TOOL, {"status": "rejected"})
    assert (play.output, play.is_over) == ("rejected", True)


def test_call_of_a_turn_cancelled_before_anyone_was_asked_waits_for_nobody() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    play.complete(REQUEST_APPROVAL, {})
    assert play.timers == {}
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]
    assert play.complete(EXECUTE_TOOL, {"status": "failed"}).output == "failed"


def test_asking_is_repeated_while_the_database_is_away() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    for _ in range(3):
        play.fail(REQUEST_APPROVAL).pass_time()
    play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S)})
    play.hear(EVENT).fail(EXECUTE_TOOL).pass_time().complete(EXECUTE_TOOL, {"status": "completed"})
    assert (play.output, play.is_over) == ("completed", True)


# Long waits. ---------------------------------------------------------------------------------------------------------

DAY_S = 86_400.0


def _long(days: float, *, slices: bool, orchestrator: Any = approval_module.approval) -> Play:
    """Up to the wait. slices: on Azure Storage; on the Scheduler a timer has any length."""
    play = Play(orchestrator, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}, slices=slices).begin()
    return play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, days * DAY_S)})


_FORMER = df.Blueprint()


@_FORMER.orchestration_trigger(context_name="context", orchestration=APPROVAL)
def former(context: df.DurableOrchestrationContext) -> Any:
    """The approval as it waited before: one timer, however long."""
    yield context.call_activity(REQUEST_APPROVAL, {"tool_call_id": "call-1", "instance_id": context.instance_id})
    until = context.current_utc_datetime + timedelta(days=former_days)
    winner = yield context.task_any([context.wait_for_external_event(EVENT), context.create_timer(until)])
    raise AssertionError(f"only its beginning is played, not {winner}")


former_days = 0.0


@pytest.mark.parametrize("slices", [True, False])
@pytest.mark.parametrize("days", [4.9, 5.4, 5.9, 6.1, 10, 29.9])
@pytest.mark.parametrize("after_days", [0.5, 5.5, 9, 25])
def test_a_decision_ends_a_wait_of_any_length_at_once(days: float, after_days: float, *, slices: bool) -> None:
    play = _long(days, slices=slices)
    begun = play.now_us
    while play.timers and (min(t.fire_at_us for t in play.timers.values()) - begun) / 1e6 < after_days * DAY_S:
        play.pass_time()
        if play.activities:
            return  # its deadline came first: another test's
    play.hear(EVENT)
    assert play.timers == {}, "an open timer would keep the instance running until it fires"
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).is_over


@pytest.mark.parametrize("slices", [True, False])
@pytest.mark.parametrize("days", [0.001, 4.9, 5.4, 5.9, 6.1, 10, 29.9])
def test_a_wait_of_any_length_ends_at_its_deadline(days: float, *, slices: bool) -> None:
    play = _long(days, slices=slices)
    begun = play.now_us
    while not play.activities:
        assert len(play.timers) == 1
        play.pass_time()
    assert (play.now_us - begun) / 1e6 == pytest.approx(days * DAY_S, abs=2)
    assert max(play.waited_s) < 6 * DAY_S, "the SDK cannot cancel a longer one"
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]


@pytest.mark.parametrize("early_s", [0.0, 0.3])
@pytest.mark.parametrize("slices", [True, False])
@pytest.mark.parametrize("days", [0.5, 5.7, 6.1, 10, 13, 29.9])
@pytest.mark.parametrize("fired", [0, 1, 2])
@pytest.mark.parametrize("decided", [True, False])
def test_a_wait_that_began_with_one_long_timer_goes_on(
    days: float, fired: int, early_s: float, *, slices: bool, decided: bool
) -> None:
    """Instances that wait while the app is deployed: their histories hold the timers of the former code."""
    global former_days
    former_days = days
    play = _long(days, slices=slices, orchestrator=former)
    begun = play.now_us
    for _ in range(fired):
        if (min(t.fire_at_us for t in play.timers.values()) - begun) / 1e6 > (days - 0.01) * DAY_S:
            break  # the last one
        play.pass_time()
    play.orchestrator = approval_module.approval
    if decided:
        play.hear(EVENT)
        assert play.timers == {}
        assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    else:
        while not play.activities:
            [task_id] = play.timers
            play.timers[task_id] = replace(
                play.timers[task_id], fire_at_us=play.timers[task_id].fire_at_us - int(early_s * 1e6)
            )
            play.pass_time()
        assert (play.now_us - begun) / 1e6 == pytest.approx(days * DAY_S, abs=2)
        assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).is_over


def test_approval_that_was_decided_under_an_orchestration_that_was_lost_waits_for_nothing() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    asked = {"approval_id": "a1", "expires_at": instant(play, WAIT_S), "decided": True}
    play.complete(REQUEST_APPROVAL, asked)
    assert (play.timers, play.calls(EXECUTE_TOOL)) == ({}, [{"tool_call_id": "call-1"}])
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


def test_approved_call_of_a_suspended_session_is_run_once_it_is_resumed() -> None:
    play = _reminded().hear(EVENT)
    for _ in range(3):
        play.complete(EXECUTE_TOOL, {"status": "approved", "held": True}).pass_time()
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}] * 4
    assert play.waited_s[-3:] == pytest.approx([1, 2, 4], abs=0.1)
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


# Reminders and escalation. Every step of a play is a whole replay: a kill between any two of them changes nothing. ---


def _reminded(**times: float) -> Play:
    """Up to the first wait of an approval with notices. times: seconds from now."""
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    result: Json = {"approval_id": "a1", "expires_at": instant(play, times.get("expires", WAIT_S))}
    if "every" in times:
        result |= {"remind_at": instant(play, times["every"]), "remind_every_s": int(times["every"])}
    if "escalate" in times:
        result["escalate_at"] = instant(play, times["escalate"])
    return play.complete(REQUEST_APPROVAL, result)


def _notices(play: Play) -> list[tuple[str, int]]:
    return [(given["kind"], given.get("number", 0)) for given in play.calls(GIVE_NOTICE)]


def test_people_are_reminded_and_others_asked_each_at_its_time_until_somebody_decides() -> None:
    play = _reminded(every=600, escalate=900)
    begun = play.now_us
    for seconds in (600, 900, 1200, 1800):
        assert len(play.timers) == 1, "the one that is next, and no other"
        play.pass_time()
        assert (play.now_us - begun) / 1e6 == pytest.approx(seconds, abs=1)
        play.complete(GIVE_NOTICE)
    assert _notices(play) == [("reminder", 1), ("escalated", 0), ("reminder", 2), ("reminder", 3)]
    assert {given["approval_id"] for given in play.calls(GIVE_NOTICE)} == {"a1"}
    assert play.calls(EXECUTE_TOOL) == []
    play.hear(EVENT)
    assert play.timers == {}, "an open timer would keep the instance running until it fires"
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


def test_reminders_go_on_after_those_of_an_orchestration_that_was_lost() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    asked = {"remind_at": instant(play, 600), "remind_every_s": 600, "reminded": 9}
    play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S), **asked})
    play.pass_time().complete(GIVE_NOTICE)
    assert _notices(play) == [("reminder", 10)]


def test_deadline_comes_between_two_reminders() -> None:
    play = _reminded(every=2_000).pass_time().complete(GIVE_NOTICE)
    [deadline] = play.timers.values()
    assert (deadline.fire_at_us - play.now_us) / 1e6 == pytest.approx(WAIT_S - 2_000, abs=1)
    assert play.pass_time().calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]
    assert play.complete(EXECUTE_TOOL, {"status": "rejected"}).is_over
    assert _notices(play) == [("reminder", 1)]


@pytest.mark.parametrize("times", [{"every": WAIT_S}, {"escalate": WAIT_S}, {"every": 7_200, "escalate": 9_000}])
def test_notice_that_could_only_come_after_the_deadline_never_comes(times: dict[str, float]) -> None:
    play = _reminded(**times).pass_time()
    assert _notices(play) == []
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]


def test_decision_that_comes_while_a_notice_is_given_is_not_lost() -> None:
    play = _reminded(every=600).pass_time().hear(EVENT)
    assert play.calls(EXECUTE_TOOL) == []
    play.complete(GIVE_NOTICE)
    assert play.timers == {}
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}]
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).is_over


def test_event_without_a_decision_behind_it_does_not_disturb_the_reminders() -> None:
    play = _reminded(every=600, escalate=700).pass_time().complete(GIVE_NOTICE)
    play.hear(EVENT).complete(EXECUTE_TOOL, {"status": "pending", "pending": True})
    for _ in range(2):
        play.pass_time().complete(GIVE_NOTICE)
    assert _notices(play) == [("reminder", 1), ("escalated", 0), ("reminder", 2)]
    play.hear(EVENT).complete(EXECUTE_TOOL, {"status": "completed"})
    assert play.is_over


def test_notice_that_cannot_be_given_does_not_end_the_wait() -> None:
    def broken(_: Json) -> None:
        raise ActivityFailed("DATABASE_ERROR: away")

    play = _reminded(every=600, expires=1_000)
    play.run({GIVE_NOTICE: broken, EXECUTE_TOOL: lambda _: {"status": "rejected"}})
    assert (play.output, play.failed) == ("rejected", None)
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1", "deadline_passed": True}]


def test_reminders_missed_while_nothing_ran_are_not_made_up_for() -> None:
    """A suspended session: its timers come due all at once when it is resumed."""
    play = _reminded(every=600)
    play.now_us += 2_000 * 1_000_000
    play.pass_time().complete(GIVE_NOTICE)
    [following] = play.timers.values()
    assert (following.fire_at_us - play.now_us) / 1e6 == pytest.approx(400, abs=1)
    assert _notices(play) == [("reminder", 1)]


def _notification() -> Play:
    return Play(notification_module.notification, NOTIFICATION, "a1:notification", {"approval_id": "a1"}).begin()


def test_notification_is_repeated_until_it_is_taken() -> None:
    play = _notification()
    for _ in range(3):
        play.fail(NOTIFY_APPROVERS, "the receiver answered 500").pass_time()
    play.complete(NOTIFY_APPROVERS)
    assert (play.output, play.is_over, play.failed) == (None, True, None)
    assert [call["approval_id"] for call in play.calls(NOTIFY_APPROVERS)] == ["a1"] * 4


def test_notification_that_nobody_takes_gives_up_visibly() -> None:
    def refuse(_: Json) -> None:
        raise ActivityFailed("the receiver answered 500")

    play = _notification().run({NOTIFY_APPROVERS: refuse})
    assert len(play.calls(NOTIFY_APPROVERS)) == MAX_NOTIFY_TRIES
    assert play.failed is not None
