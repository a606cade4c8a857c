"""Whether an instance that waits would go on with other code, and which event says that it would not.

Some histories do not say which events a retry policy added, as Azure's do not. `tests/devtools/test_upgrade_check.py`
asks the same through the command.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from devhost.durable.replay.actions import EpisodeOutput
from devhost.durable.store.history import RETRY_OF, note, without_notes
from devtools.histories.judging import Names, judge
from devtools.histories.player import Json, Play, handle_of, run_handle
from devtools.histories.retries import marked
from devtools.histories.stored import Stored
from orchestrators import turn as turn_module
from shared.durable.names import APPROVAL, CALL_MODEL, EXECUTE_TOOL, FINISH_TURN, TURN, WAIT

NAMES = Names({TURN, APPROVAL, WAIT}, {CALL_MODEL, EXECUTE_TOOL, FINISH_TURN})


def _replay(name: str, context: Json) -> EpisodeOutput:
    assert name == TURN
    return run_handle(handle_of(turn_module.turn), context)


def _moments() -> list[list[Json]]:
    """The history after each step of a turn of whose three calls one fails twice and one once, side by side."""
    play = Play(turn_module.turn, TURN).begin()
    calls = [[f"call-{n}", False] for n in range(3)]
    seen = [play.history]

    def after(done: Play) -> None:
        seen.append(done.history)

    after(play.complete(CALL_MODEL, {"outcome": "tool_calls", "calls": calls}))
    after(play.fail(EXECUTE_TOOL))
    after(play.fail(EXECUTE_TOOL))
    after(play.complete(EXECUTE_TOOL, {"status": "completed"}))
    after(play.pass_time())
    after(play.fail(EXECUTE_TOOL))
    after(play.pass_time())
    after(play.complete(EXECUTE_TOOL, {"status": "completed"}))
    after(play.pass_time())
    after(play.complete(EXECUTE_TOOL, {"status": "completed"}))
    assert len(play.calls(CALL_MODEL)) == 2, "the turn went on"
    return seen


def _unmarked(events: list[Json]) -> list[Json]:
    told = [dict(event) for event in events]
    for event in told:
        without_notes(event)
    return told


def test_retries_are_found_in_a_history_that_does_not_mark_them() -> None:
    for events in _moments():
        bare = _unmarked(events)
        output = _replay(TURN, Stored(TURN, "turn-1", bare).context(bare))
        assert output.leaves is not None
        found = [event.get(RETRY_OF) for event in marked(bare, output.leaves)]
        assert found == [note(event, RETRY_OF) for event in events]


def test_an_instance_with_retries_goes_on_at_every_moment_with_the_code_that_began_it() -> None:
    moments = _moments()
    assert len(moments) == 11
    for events in (*moments, *map(_unmarked, moments)):
        assert judge(Stored(TURN, "turn-1", events), NAMES, _replay).why is None


def test_what_an_instance_waits_for_has_to_be_in_the_package() -> None:
    moments = _moments()
    verdict = judge(Stored(TURN, "turn-1", moments[1]), Names({TURN}, {CALL_MODEL}), _replay)
    assert verdict.why == "event 1: it waits for the activity execute_tool, which the package does not have"


# Other code. ---------------------------------------------------------------------------------------------------------

BP = df.Blueprint()


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def asks(context: df.DurableOrchestrationContext) -> Any:
    """The one that began: it asks, and waits for an hour."""
    yield context.call_activity("ask", {})
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def asks_longer(context: df.DurableOrchestrationContext) -> Any:
    """Of what is to come it may do something else."""
    yield context.call_activity("ask", {"in": "other words"})
    yield context.create_timer(context.current_utc_datetime + timedelta(hours=2))
    yield context.call_activity("ask", {})


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def asks_twice(context: df.DurableOrchestrationContext) -> Any:
    yield context.call_activity("ask", {})
    yield context.call_activity("ask", {})


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def raises(context: df.DurableOrchestrationContext) -> Any:
    yield context.call_activity("ask", {})
    raise ValueError("no more")


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def ends(context: df.DurableOrchestrationContext) -> Any:
    yield context.call_activity("ask", {})
    return "done"


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def waits_for_both(context: df.DurableOrchestrationContext) -> Any:
    timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    yield context.task_all([context.call_activity("ask", {}), timer])


@BP.orchestration_trigger(context_name="context", orchestration="asks")
def waits_for_one(context: df.DurableOrchestrationContext) -> Any:
    timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    yield context.task_any([context.call_activity("ask", {}), timer])


@pytest.mark.parametrize(
    ("orchestrator", "why"),
    [
        (asks, None),
        (asks_longer, None),
        (asks_twice, "event 1, a timer of 2026-01-01T00:00:00: the package asks for the activity ask in its place"),
        (raises, "event 1, a timer of 2026-01-01T00:00:00: its orchestrator raises no more instead"),
        (ends, "event 1, a timer of 2026-01-01T00:00:00: the package asks for nothing there"),
    ],
    ids=lambda value: value._function._name if hasattr(value, "_function") else "",
)
def test_other_code_is_judged_by_the_first_event_that_differs(orchestrator: Any, why: str | None) -> None:
    play = Play(asks, "asks").begin().complete("ask", {})
    stored = Stored("asks", "one", play.history)
    names = Names({"asks"}, {"ask"})
    replay = handle_of(orchestrator)

    assert judge(stored, names, lambda _, context: run_handle(replay, context)).why == why


def test_code_that_ends_where_an_instance_waits_is_told_though_no_event_differs() -> None:
    stored = Stored("asks", "one", Play(waits_for_both, "asks").begin().complete("ask", {}).history)
    replay = handle_of(waits_for_one)

    verdict = judge(stored, Names({"asks"}, {"ask"}), lambda _, context: run_handle(replay, context))
    assert verdict.why == "it waits now, and with the package it would end at once"


def test_an_orchestration_that_is_gone_and_one_that_has_not_begun() -> None:
    def never(_: str, __: Json) -> EpisodeOutput:
        raise AssertionError("there is nothing to replay")

    begun = Stored("asks", "one", Play(asks, "asks").begin().history)
    assert judge(begun, Names({"other"}, {"ask"}), never).why == "the package has no orchestration 'asks'"
    assert judge(Stored("asks", "two", []), Names({"ASKS"}, {"ask"}), never).why is None
