"""The turn orchestrator: what it asks for, in which order, and that it always ends its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devtools.histories.player import ActivityFailed, Json, Play
from orchestrators import turn as turn_module
from shared.durable.messages import CHANGED_DETAIL
from shared.durable.names import APPROVAL, CALL_MODEL, CANCEL_EVENT, EXECUTE_TOOL, FINISH_TURN, TURN
from shared.sessions.turns import retry
from shared.sessions.turns.retry import MAX_ACTIVITY_TRIES

FINAL = {"outcome": "final"}


def _turn() -> Play:
    return Play(turn_module.turn, TURN).begin()


def _wants(*calls: tuple[str, bool]) -> Json:
    return {"outcome": "tool_calls", "calls": [list(call) for call in calls]}


def _answers(*results: Json) -> Callable[[Json], Any]:
    """Results of successive calls."""
    left = list(results)
    return lambda _: left.pop(0)


def test_plain_turn_is_one_model_step_that_closes_it() -> None:
    play = _turn().run({CALL_MODEL: _answers(FINAL | {"closed": True})})
    assert play.asked == [(CALL_MODEL, {"turn_id": "turn-1", "step": 1, "tries": 1})]
    assert (play.output, play.failed) == ("completed", None)


def test_answer_that_did_not_close_its_turn_is_followed_by_its_end() -> None:
    """A repeat of a stored step, or a result of an older version."""
    play = _turn().run({CALL_MODEL: _answers(FINAL), FINISH_TURN: lambda _: None})
    assert play.asked == [
        (CALL_MODEL, {"turn_id": "turn-1", "step": 1, "tries": 1}),
        (FINISH_TURN, {"turn_id": "turn-1", "status": "completed"}),
    ]
    assert (play.output, play.failed) == ("completed", None)


def test_an_answer_during_which_a_message_joined_is_followed_by_another_step() -> None:
    play = _turn().run({CALL_MODEL: _answers({"outcome": "joined"}, FINAL | {"closed": True})})
    assert [asked["step"] for _, asked in play.asked] == [1, 2]
    assert (play.output, play.failed) == ("completed", None)


def test_tool_calls_run_side_by_side_and_then_the_model_goes_on() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", False), ("b", False), ("c", False)))
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": call_id} for call_id in "abc"]
    for _ in range(2):
        play.complete(EXECUTE_TOOL, {"status": "completed"})
        assert len(play.calls(CALL_MODEL)) == 1, "the model waits for all of them"
    play.complete(EXECUTE_TOOL, {"status": "failed"})
    assert play.calls(CALL_MODEL)[-1] == {"turn_id": "turn-1", "step": 2, "tries": 1}
    play.complete(CALL_MODEL, FINAL).complete(FINISH_TURN)
    assert play.output == "completed"


def test_calls_that_need_a_person_wait_apart_while_others_run() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", True), ("b", False), ("c", True)))
    assert [child.instance_id for child in play.children.values()] == ["turn-1:a", "turn-1:c"]
    assert play.calls(APPROVAL) == [{"tool_call_id": "a"}, {"tool_call_id": "c"}]
    play.complete(EXECUTE_TOOL, {"status": "completed"}).end_child("turn-1:c", "rejected")
    assert len(play.calls(CALL_MODEL)) == 1
    play.end_child("turn-1:a", "completed")
    assert len(play.calls(CALL_MODEL)) == 2


def test_answers_in_any_order_lead_to_the_same_steps() -> None:
    orders = (["turn-1:a", "turn-1:b"], ["turn-1:b", "turn-1:a"])
    asked = []
    for order in orders:
        play = _turn().complete(CALL_MODEL, _wants(("a", True), ("b", True)))
        for instance_id in order:
            play.end_child(instance_id, "completed")
        asked.append(play.complete(CALL_MODEL, FINAL).complete(FINISH_TURN).asked)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("result", "ending"),
    [
        ({"outcome": "cancelled"}, {"status": "cancelled"}),
        (
            {"outcome": "failed", "code": "LLM_ERROR", "detail": "The model failed."},
            {"status": "failed", "code": "LLM_ERROR", "detail": "The model failed."},
        ),
    ],
)
def test_turn_ends_as_its_model_step_did(result: Json, ending: Json) -> None:
    play = _turn().run({CALL_MODEL: _answers(result), FINISH_TURN: lambda _: None})
    assert play.calls(FINISH_TURN) == [{"turn_id": "turn-1", **ending}]
    assert (play.output, play.is_over) == (ending["status"], True)


def test_model_that_is_busy_is_asked_again_after_the_pause_it_asked_for() -> None:
    answers = _answers({"outcome": "retry", "delay_s": 7.5}, {"outcome": "retry", "delay_s": 20.0}, FINAL)
    play = _turn().run({CALL_MODEL: answers, FINISH_TURN: lambda _: None})
    assert [call["tries"] for call in play.calls(CALL_MODEL)] == [1, 2, 3]
    assert {call["step"] for call in play.calls(CALL_MODEL)} == {1}
    assert play.waited_s == pytest.approx([7.5, 20.0], abs=0.1)
    assert play.output == "completed"


def test_cancel_cuts_a_retry_pause_and_leaves_no_timer_open() -> None:
    play = _turn().complete(CALL_MODEL, {"outcome": "retry", "delay_s": 600.0}).hear(CANCEL_EVENT)
    assert play.timers == {}
    play.complete(CALL_MODEL, {"outcome": "cancelled"}).complete(FINISH_TURN)
    assert (play.output, play.is_over) == ("cancelled", True)


def test_cancel_that_came_early_ends_the_next_pause_only_by_looking_again() -> None:
    """An event nobody waited for yet satisfies a later wait; the step then finds out what is true."""
    play = _turn().hear(CANCEL_EVENT).complete(CALL_MODEL, {"outcome": "retry", "delay_s": 600.0})
    assert len(play.calls(CALL_MODEL)) == 2
    assert play.timers == {}


HELD = {"outcome": "retry", "delay_s": 1.0, "held": True}


def test_step_that_finds_its_session_suspended_is_asked_for_again_and_that_is_no_failed_try() -> None:
    answers = _answers({"outcome": "retry", "delay_s": 7.0}, *[HELD] * 7, FINAL)
    play = _turn().run({CALL_MODEL: answers, FINISH_TURN: lambda _: None})
    assert [call["tries"] for call in play.calls(CALL_MODEL)] == [1, *[2] * 8]
    assert play.waited_s == pytest.approx([7, 1, 2, 4, 8, 15, 15, 15], abs=0.1)
    assert play.output == "completed"


QUEUED = HELD | {"is_queued": True}


def test_step_that_finds_no_place_looks_again_when_it_was_told_to_and_that_is_no_failed_try() -> None:
    queued = [QUEUED | {"delay_s": delay_s, "is_told": delay_s > 2} for delay_s in (1.0, 2.5, 40.0)]
    failed = {"outcome": "retry", "delay_s": 7.0, "spent_s": 30.0, "spent_tokens": 99}
    answers = _answers(*queued, failed, QUEUED, FINAL)
    play = _turn().run({CALL_MODEL: answers, FINISH_TURN: lambda _: None})
    calls = play.calls(CALL_MODEL)
    assert [call["tries"] for call in calls] == [1, 1, 1, 1, 2, 2]
    assert [call.get("looks", 0) for call in calls] == [0, 1, 2, 3, 0, 1]
    assert [call.get("is_told", False) for call in calls] == [False, False, True, True, False, False]
    assert [call.get("spent_tokens", 0) for call in calls] == [0, 0, 0, 0, 99, 99]
    assert play.waited_s == pytest.approx([1, 2.5, 40, 7, 1], abs=0.1)
    since = [call.get("waits_since") for call in calls]
    assert since[1] == since[2] == since[3] is not None
    assert (since[0], since[4]) == (None, None)
    assert since[5] > since[3], "it had a place, and waits anew"
    assert play.output == "completed"


def test_cancel_ends_the_wait_for_a_place() -> None:
    play = _turn().complete(CALL_MODEL, QUEUED | {"delay_s": 60.0}).hear(CANCEL_EVENT)
    assert play.timers == {}
    play.complete(CALL_MODEL, {"outcome": "cancelled"}).complete(FINISH_TURN)
    assert (play.output, play.is_over) == ("cancelled", True)


def test_calls_that_find_their_session_suspended_are_asked_for_again_and_no_others() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", False), ("b", False), ("c", False)))
    for status in ("completed", "approved", "failed"):
        play.complete(EXECUTE_TOOL, {"status": status, "held": status == "approved"})
    assert len(play.calls(EXECUTE_TOOL)) == 3
    play.pass_time()
    assert play.calls(EXECUTE_TOOL)[3:] == [{"tool_call_id": "b"}]
    play.complete(EXECUTE_TOOL, {"status": "completed"})
    assert play.calls(CALL_MODEL)[-1]["step"] == 2


def test_call_that_was_held_does_not_wait_for_the_approval_of_another() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", True), ("b", False)))
    play.complete(EXECUTE_TOOL, {"status": "pending", "held": True}).pass_time()
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "b"}] * 2
    play.complete(EXECUTE_TOOL, {"status": "completed"})
    assert len(play.calls(CALL_MODEL)) == 1
    play.end_child("turn-1:a", "approved")
    assert play.calls(CALL_MODEL)[-1]["step"] == 2


def test_call_that_was_held_is_asked_for_again_after_an_approval_that_came_first() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", True), ("b", False), ("c", False)))
    play.end_child("turn-1:a", "approved").complete(EXECUTE_TOOL, {"status": "completed"})
    play.complete(EXECUTE_TOOL, {"status": "pending", "held": True}).pass_time()
    assert play.calls(EXECUTE_TOOL)[2:] == [{"tool_call_id": "c"}]
    play.complete(EXECUTE_TOOL, {"status": "completed"})
    assert play.calls(CALL_MODEL)[-1]["step"] == 2


def test_cancel_ends_the_pause_of_a_held_call_early() -> None:
    play = _turn().complete(CALL_MODEL, _wants(("a", False)))
    play.complete(EXECUTE_TOOL, {"status": "pending", "held": True}).hear(CANCEL_EVENT)
    assert (len(play.calls(EXECUTE_TOOL)), play.timers) == (2, {})


def test_turn_whose_approval_was_lost_is_left_open_for_a_restart() -> None:
    """A worker died inside the approval: Durable calls it failed, and the turn has not failed."""
    lost = (
        "Non-Deterministic workflow detected: ... but the current replay execution hasn't (yet?) scheduled this task."
    )
    play = _turn().complete(CALL_MODEL, _wants(("a", True))).fail_child("turn-1:a", lost)
    assert (play.output, play.failed, play.calls(FINISH_TURN)) == ("lost", None, [])


@pytest.mark.parametrize("words", ["by hand", "", "Orchestrator function 'approval' failed: KeyError: 'x'"])
def test_turn_whose_approval_was_terminated_is_left_open_for_a_restart(words: str) -> None:
    play = (
        _turn().complete(CALL_MODEL, _wants(("a", True), ("b", False))).complete(EXECUTE_TOOL, {"status": "completed"})
    )
    assert play.fail_child("turn-1:a", words).output == "lost"


def test_turn_whose_approval_gave_up_fails() -> None:
    words = "Orchestrator function 'approval' failed: Activity function 'execute_tool' failed:  RuntimeError: broken"
    play = _turn().complete(CALL_MODEL, _wants(("a", True))).fail_child("turn-1:a", words)
    assert [call["status"] for call in play.calls(FINISH_TURN)] == ["failed"]


def test_turn_whose_approval_cannot_be_replayed_by_this_version_says_so() -> None:
    changed = "Non-Deterministic workflow detected: ... but the current replay execution instead scheduled 'other'."
    play = _turn().complete(CALL_MODEL, _wants(("a", True))).fail_child("turn-1:a", changed)
    assert [(call["status"], call["detail"]) for call in play.calls(FINISH_TURN)] == [("failed", CHANGED_DETAIL)]


def test_activity_that_is_run_again_is_told_so() -> None:
    """It may have done its work, and only its events were not sent."""
    play = _turn().fail(CALL_MODEL).pass_time().fail(CALL_MODEL).pass_time()
    assert [call.get("again", 0) for call in play.calls(CALL_MODEL)] == [0, 1, 2]


@pytest.mark.parametrize("events", [1, 5])
def test_events_that_mean_nothing_change_nothing(events: int) -> None:
    play = _turn()
    for number in range(events):
        play.hear(f"noise-{number}").hear(CANCEL_EVENT)
    play.run({CALL_MODEL: _answers(_wants(("a", False)), FINAL), EXECUTE_TOOL: _ran, FINISH_TURN: lambda _: None})
    assert [name for name, _ in play.asked] == [CALL_MODEL, EXECUTE_TOOL, CALL_MODEL, FINISH_TURN]


def _ran(_: Json) -> Json:
    return {"status": "completed"}


def _failing(times: int, then: Any) -> Callable[[Json], Any]:
    """Fails that many times before it works."""
    left = [times]

    def activity(_: Json) -> Any:
        if left[0]:
            left[0] -= 1
            raise ActivityFailed("DATABASE_ERROR: The database cannot be reached.")
        return then

    return activity


def test_activity_that_fails_is_called_again_after_growing_pauses() -> None:
    play = _turn().run({CALL_MODEL: _failing(3, FINAL), FINISH_TURN: _failing(2, None)})
    assert len(play.calls(CALL_MODEL)) == 4
    assert len(play.calls(FINISH_TURN)) == 3
    assert play.waited_s == pytest.approx([1, 2, 4, 1, 2], abs=0.1)
    assert (play.output, play.failed) == ("completed", None)


def test_tool_activity_that_fails_is_tried_again_by_the_retry_policy() -> None:
    table = {CALL_MODEL: _answers(_wants(("a", False)), FINAL), EXECUTE_TOOL: _failing(4, _ran({}))}
    play = _turn().run({**table, FINISH_TURN: lambda _: None})
    assert play.calls(EXECUTE_TOOL) == [{"tool_call_id": "a"}] * 5
    assert play.output == "completed"


OUTAGE_TRIES = 13


@pytest.fixture
def _short_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of tries take long to replay."""
    monkeypatch.setattr(retry, "MAX_OUTAGE_TRIES", OUTAGE_TRIES)


@pytest.mark.usefixtures("_short_outage")
@pytest.mark.parametrize("broken", [CALL_MODEL, EXECUTE_TOOL])
def test_activity_that_fails_for_good_still_ends_the_turn(broken: str) -> None:
    table = {CALL_MODEL: _answers(_wants(("a", False)), FINAL), EXECUTE_TOOL: _ran, FINISH_TURN: lambda _: None}
    play = _turn().run({**table, broken: _failing(10_000, None)})
    assert (play.output, play.failed) == ("failed", None)
    [ending] = play.calls(FINISH_TURN)
    assert (ending["status"], ending["code"]) == ("failed", "DATABASE_ERROR")
    assert ending["detail"] == "The database cannot be reached."


def test_what_a_bug_raises_is_not_shown_to_anyone() -> None:
    def broken(_: Json) -> Any:
        raise ActivityFailed("KeyError: 'password of the database'")

    play = _turn().run({CALL_MODEL: broken, FINISH_TURN: lambda _: None})
    [ending] = play.calls(FINISH_TURN)
    assert (ending["code"], ending["detail"]) == ("INTERNAL_ERROR", "The turn failed unexpectedly.")


def test_a_part_that_older_code_began_and_this_cannot_go_on_with_is_told_as_that() -> None:
    def changed(_: Json) -> Any:
        raise ActivityFailed("Non-Deterministic workflow detected: A previous execution of this orchestration ...")

    play = _turn().run({CALL_MODEL: changed, FINISH_TURN: lambda _: None})
    [ending] = play.calls(FINISH_TURN)
    assert (ending["status"], ending["detail"]) == ("failed", CHANGED_DETAIL)


@pytest.mark.usefixtures("_short_outage")
@pytest.mark.parametrize(
    ("reason", "tries"),
    [("DATABASE_ERROR: The database cannot be reached.", OUTAGE_TRIES), ("OSError: disk", MAX_ACTIVITY_TRIES)],
)
def test_turn_whose_end_cannot_be_stored_waits_for_the_database_and_then_fails_visibly(reason: str, tries: int) -> None:
    def fails(_: Json) -> Any:
        raise ActivityFailed(reason)

    play = _turn().run({CALL_MODEL: _answers(FINAL), FINISH_TURN: fails})
    assert len(play.calls(FINISH_TURN)) == tries
    assert play.failed is not None
    assert reason in play.failed


def test_a_step_that_finds_the_database_away_is_asked_for_until_it_is_back() -> None:
    """Such a step is no try, and no failure."""
    away = {"outcome": "retry", "held": True}
    play = _turn().run({CALL_MODEL: _answers(*[away] * 60, FINAL), FINISH_TURN: lambda _: None})
    assert {call["tries"] for call in play.calls(CALL_MODEL)} == {1}
    assert play.waited_s == pytest.approx([1, 2, 4, 8, *[15] * 36, *[60] * 20], abs=0.1)
    assert play.output == "completed"


def test_history_holds_ids_and_small_facts_only() -> None:
    """What crosses the durable boundary does not grow with the conversation."""
    play = _turn().run(
        {CALL_MODEL: _answers(*[_wants((f"call-{n}", False)) for n in range(20)], FINAL), EXECUTE_TOOL: _ran}
        | {FINISH_TURN: lambda _: None}
    )
    assert max(len(str(given)) for _, given in play.asked) < 120
