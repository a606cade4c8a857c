"""Calls that wait for an answer once they have begun: in an orchestration of their own, or in their approval's."""

from __future__ import annotations

import pytest

from devtools.histories.player import Json, Play, instant
from orchestrators import approval as approval_module
from orchestrators import turn as turn_module
from orchestrators import waiting as waiting_module
from shared.durable.names import APPROVAL, CALL_MODEL, EXECUTE_TOOL, REQUEST_APPROVAL, TURN, WAIT, answer_event

WAIT_S = 3600.0
MONTH_S = 30 * 86_400.0


def _waits(play: Play, wait_id: str = "w1", seconds: float = WAIT_S) -> Json:
    return {"status": "pending", "held": True, "wait_id": wait_id, "wait_until": instant(play, seconds)}


def _waiting(seconds: float = WAIT_S) -> Play:
    """Up to the wait."""
    play = Play(waiting_module.waiting, WAIT, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}], "an answer may have come before"
    return play.complete(EXECUTE_TOOL, _waits(play, seconds=seconds))


def test_a_call_that_waits_gets_an_orchestration_of_its_own_and_the_model_waits_for_it() -> None:
    play = Play(turn_module.turn, TURN).begin()
    play.complete(CALL_MODEL, {"outcome": "tool_calls", "calls": [["a", False], ["b", False], ["c", True]]})
    play.complete(EXECUTE_TOOL, _waits(play)).complete(EXECUTE_TOOL, {"status": "completed"})

    assert [child.instance_id for child in play.children.values()] == ["turn-1:c", "turn-1:a"]
    assert play.calls(WAIT) == [{"tool_call_id": "a", "told_wait": "w1"}]
    play.end_child("turn-1:c", "completed")
    assert len(play.calls(CALL_MODEL)) == 1
    play.end_child("turn-1:a", "completed")
    assert len(play.calls(CALL_MODEL)) == 2


def test_a_call_that_is_held_is_asked_for_again_beside_one_that_waits() -> None:
    play = Play(turn_module.turn, TURN).begin()
    play.complete(CALL_MODEL, {"outcome": "tool_calls", "calls": [["a", False], ["b", False]]})
    play.complete(EXECUTE_TOOL, _waits(play)).complete(EXECUTE_TOOL, {"status": "pending", "held": True}).pass_time()

    assert [given["tool_call_id"] for given in play.calls(EXECUTE_TOOL)] == ["a", "b", "b"]
    play.complete(EXECUTE_TOOL, {"status": "completed"})
    assert play.calls(WAIT) == [{"tool_call_id": "a", "told_wait": "w1"}]


def test_a_wait_that_was_lost_leaves_the_turn_to_the_sweep() -> None:
    play = Play(turn_module.turn, TURN).begin()
    play.complete(CALL_MODEL, {"outcome": "tool_calls", "calls": [["a", False]]}).complete(EXECUTE_TOOL, _waits(play))
    play.fail_child("turn-1:a", "terminated")

    assert play.output == turn_module.LOST


def test_an_answer_in_time_goes_on_with_the_call_and_cancels_the_deadline() -> None:
    play = _waiting().hear(answer_event("w1"))

    assert play.timers == {}
    assert play.calls(EXECUTE_TOOL)[-1] == {"tool_call_id": "call-1"}
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


def test_the_deadline_names_the_wait_that_is_over() -> None:
    play = _waiting().pass_time()

    assert play.calls(EXECUTE_TOOL)[-1] == {"tool_call_id": "call-1", "late_wait": "w1"}
    assert play.complete(EXECUTE_TOOL, {"status": "failed"}).output == "failed"


def test_only_the_first_look_is_told_that_everybody_knows() -> None:
    given = {"tool_call_id": "call-1", "told_wait": "w1"}
    play = Play(waiting_module.waiting, WAIT, "turn-1:call-1", given).begin()
    play.complete(EXECUTE_TOOL, _waits(play)).hear(answer_event("w1"))

    assert play.calls(EXECUTE_TOOL) == [given, {"tool_call_id": "call-1"}]


def test_an_answer_that_came_before_the_wait_was_there_is_seen_by_the_first_look() -> None:
    play = Play(waiting_module.waiting, WAIT, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


def test_an_answer_during_the_first_look_is_not_lost() -> None:
    play = Play(waiting_module.waiting, WAIT, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    play.hear(answer_event("w1")).complete(EXECUTE_TOOL, _waits(play))

    assert len(play.calls(EXECUTE_TOOL)) == 2
    assert play.timers == {}


def test_a_call_that_asks_again_waits_again_and_an_old_answer_does_not_end_that() -> None:
    play = _waiting().hear(answer_event("w1"))
    play.complete(EXECUTE_TOOL, _waits(play, "w2")).hear(answer_event("w1"))
    assert len(play.calls(EXECUTE_TOOL)) == 2

    play.hear(answer_event("w2")).complete(EXECUTE_TOOL, {"status": "completed"})
    assert play.output == "completed"


def test_events_without_an_answer_are_looked_after_a_bounded_number_of_times() -> None:
    play = _waiting()
    for _ in range(waiting_module._MAX_LOOKS):
        play.hear(answer_event("w1")).complete(EXECUTE_TOOL, _waits(play))

    play.hear(answer_event("w1"))
    assert play.activities == {}
    assert len(play.timers) == 1
    play.pass_time()
    assert play.calls(EXECUTE_TOOL)[-1]["late_wait"] == "w1"


def test_a_wait_of_a_month_has_several_timers() -> None:
    play = _waiting(MONTH_S)
    while not play.activities:
        play.pass_time()

    assert max(play.waited_s) <= 6 * 86_400
    assert sum(play.waited_s) == pytest.approx(MONTH_S, abs=10)


def test_a_session_that_is_suspended_when_the_answer_comes_is_asked_for_again() -> None:
    play = _waiting().hear(answer_event("w1")).complete(EXECUTE_TOOL, {"status": "pending", "held": True}).pass_time()

    assert len(play.calls(EXECUTE_TOOL)) == 3


def test_an_approved_call_waits_where_it_was_approved() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S)}).hear("approval-a1")
    play.complete(EXECUTE_TOOL, _waits(play)).hear(answer_event("w1"))

    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "call-1"}] * 2
    assert play.complete(EXECUTE_TOOL, {"status": "completed"}).output == "completed"


def test_the_deadline_of_the_approval_is_not_that_of_the_answer() -> None:
    play = Play(approval_module.approval, APPROVAL, "turn-1:call-1", {"tool_call_id": "call-1"}).begin()
    play.complete(REQUEST_APPROVAL, {"approval_id": "a1", "expires_at": instant(play, WAIT_S)}).pass_time()
    play.complete(EXECUTE_TOOL, _waits(play)).hear(answer_event("w1"))

    assert play.calls(EXECUTE_TOOL) == [
        {"tool_call_id": "call-1", "deadline_passed": True},
        {"tool_call_id": "call-1"},
    ]
