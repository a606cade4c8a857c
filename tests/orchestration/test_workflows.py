"""Orchestrations of somebody's own, as they are wrapped: begun once, and ended with a result or a reason."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
import pytest

from devtools.histories.judging import Names, Replay, judge
from devtools.histories.player import Json, Play, handle_of, run_handle
from devtools.histories.stored import Stored
from orchestrators.workflows import NOT_BEGUN, contain
from parley.workflows import ToolFailed, caller_of, progress, workflow
from shared.durable.messages import is_other_code
from shared.durable.names import BEGIN_WORKFLOW, END_WORKFLOW, TELL_PROGRESS

INSTANCE = "turn-1:call-1:workflow"
STARTED: Json = {
    "tool_call_id": "call-1",
    "caller": {"user_id": "alice", "roles": ["user"], "session_id": "s1"},
    "start": "start-1",
    "input": {"text": "a word"},
}


def _built(written: Any) -> Any:
    """As a blueprint has made it and the app registers it."""
    bp = df.Blueprint()
    builder = bp.orchestration_trigger(context_name="context")(workflow(risks=())(written))
    contain(bp._function_builders)
    return builder


def _play(written: Any, given: Json = STARTED) -> Play:
    return Play(_built(written), "errand", INSTANCE, given).begin()


def _begun(written: Any) -> Play:
    return _play(written).complete(BEGIN_WORKFLOW, {"begun": "now"})


def _outcome(play: Play) -> Json:
    """What the call is answered with."""
    (asked,) = play.calls(END_WORKFLOW)
    assert asked["tool_call_id"] == "call-1"
    return dict(asked["outcome"])


def errand(context: Any) -> Any:
    """Do something."""
    yield progress(context, "half", 0.5)
    done = yield context.call_activity("visit", {**context.get_input(), "who": caller_of(context).user_id})
    return {"done": done}


def test_it_runs_with_its_arguments_and_its_caller_and_answers_with_what_it_returned() -> None:
    play = _begun(errand)
    assert play.calls(BEGIN_WORKFLOW) == [{"tool_call_id": "call-1", "start": "start-1"}]
    assert play.calls(TELL_PROGRESS) == [{"tool_call_id": "call-1", "text": "half", "fraction": 0.5}]
    play.complete(TELL_PROGRESS)
    assert play.calls("visit") == [{"text": "a word", "who": "alice"}]
    play.complete("visit", 7)

    assert _outcome(play)["data"] == {"done": 7}
    assert play.complete(END_WORKFLOW).output == "completed"


def test_a_start_that_does_not_run_does_nothing() -> None:
    play = _play(errand).complete(BEGIN_WORKFLOW, {"begun": "never"})

    assert play.output == NOT_BEGUN
    assert {name for name, _ in play.asked} == {BEGIN_WORKFLOW}


def test_a_suspended_session_is_asked_for_again_until_it_is_not() -> None:
    play = _play(errand)
    for _ in range(3):
        play.complete(BEGIN_WORKFLOW, {"begun": "held"})
        assert play.calls(TELL_PROGRESS) == []
        play.pass_time()
    play.complete(BEGIN_WORKFLOW, {"begun": "now"})

    assert len(play.calls(TELL_PROGRESS)) == 1


def test_its_own_words_are_told_and_others_are_not() -> None:
    def refuses(context: Any) -> Any:
        """Refuse."""
        yield context.call_activity("visit", {})
        raise ToolFailed("No such order.")

    def breaks(context: Any) -> Any:
        """Break."""
        yield context.call_activity("visit", {})
        raise KeyError("postgres://user:password@host")

    assert _outcome(_begun(refuses).complete("visit")) == {"error": "No such order."}
    assert _outcome(_begun(breaks).complete("visit")) == {"error": "The workflow failed unexpectedly."}


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Activity function 'visit' failed: ToolFailed: No such order.\nStack: ...", "No such order."),
        ("Activity function 'visit' failed: KeyError: 'secret'", "The workflow failed unexpectedly."),
    ],
)
def test_an_activity_that_fails_is_told_of_as_it_wants(reason: str, said: str) -> None:
    play = _begun(errand).complete(TELL_PROGRESS).fail("visit", reason)

    assert _outcome(play) == {"error": said}
    assert play.complete(END_WORKFLOW).output == "failed"


def test_a_result_that_is_too_large_is_cut_before_it_is_stored() -> None:
    def large(context: Any) -> Any:
        """Return a lot."""
        yield context.call_activity("visit", {})
        return {"text": "x" * 1_000_000}

    outcome = _outcome(_begun(large).complete("visit"))

    assert len(outcome["content"]) < 33_000
    assert outcome["data"] == {"left_out": True, "size_bytes": 1_000_002}


def test_a_result_that_is_not_json_is_an_error() -> None:
    def odd(context: Any) -> Any:
        """Return an object."""
        yield context.call_activity("visit", {})
        return object()

    assert "error" in _outcome(_begun(odd).complete("visit"))


def _yields_text(_context: Any) -> Any:
    while True:
        yield "no task"


def _yields_text_later(context: Any) -> Any:
    yield context.call_activity("visit", {})
    try:
        yield None
    finally:
        yield "and still none"


def _exits(context: Any) -> Any:
    yield context.call_activity("visit", {})
    sys.exit(3)


def _exits_at_once(_context: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("written", [_yields_text, _yields_text_later, _exits, _exits_at_once])
def test_one_that_yields_no_task_or_exits_has_failed_at_once(written: Any, caplog: pytest.LogCaptureFixture) -> None:
    written.__doc__ = "Do something."
    play = _begun(written)
    if play.calls("visit"):
        play.complete("visit", None)

    assert _outcome(play) == {"error": "The workflow failed unexpectedly."}
    assert "a workflow" in caplog.text or "generator ignored" in caplog.text


def test_what_it_catches_is_what_its_task_failed_with_and_it_goes_on() -> None:
    def tries(context: Any) -> Any:
        """Do something."""
        try:
            yield context.call_activity("visit", {})
        except Exception as exc:
            return (yield context.call_activity("visit", {"again": type(exc).__name__}))

    play = _begun(tries).fail("visit", "it rains")

    assert play.calls("visit")[-1] == {"again": "Exception"}
    assert _outcome(play.complete("visit", "done"))["content"] == "done"


@pytest.mark.parametrize("is_async", [True, False])
async def test_an_activity_that_exits_fails_and_its_worker_lives(is_async: bool) -> None:
    def leaves(given: Any) -> None:
        sys.exit(3)

    async def leaves_later(given: Any) -> None:
        sys.exit(3)

    bp = df.Blueprint()
    builder = bp.activity_trigger(input_name="given")(leaves_later if is_async else leaves)
    contain(bp._function_builders)
    run = builder._function.get_user_function()

    async def runs() -> None:
        found = run(given={})
        if is_async:
            await found

    with pytest.raises(RuntimeError, match="may not end its process"):
        await runs()


def test_it_may_run_for_ever_in_rounds_and_keeps_whom_it_runs_for() -> None:
    def rounds(context: Any) -> Any:
        """Go round."""
        given = context.get_input()
        yield context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        if given.get("round", 0) < 1:
            context.continue_as_new({"round": 1, "who": caller_of(context).user_id})
            return None
        return given

    play = _begun(rounds)
    play.pass_time()

    assert play.calls(END_WORKFLOW) == [], "a round that goes on is no end"


def test_what_it_starts_has_ids_that_begin_with_its_own_and_is_wrapped_too() -> None:
    def parent(context: Any) -> Any:
        """Start two."""
        both = [context.call_sub_orchestrator("child", number) for number in range(2)]
        return (yield context.task_all(both))

    play = _begun(parent)
    children = list(play.children.values())

    assert len({child.instance_id for child in children}) == 2
    assert all(child.instance_id.startswith(f"{INSTANCE}:") for child in children)
    assert [given["input"] for given in play.calls("child")] == [0, 1]
    below = play.calls("child")[0]

    def child(context: Any) -> Any:
        """Work."""
        return (yield context.call_activity("visit", [context.get_input(), caller_of(context).user_id]))

    inner = _play(child, below)
    assert inner.calls("visit") == [[0, "alice"]]
    assert inner.complete("visit", "done").output == "done", "it answers no call"


def test_another_id_for_what_it_starts_is_refused() -> None:
    def parent(context: Any) -> Any:
        """Start one."""
        return (yield context.call_sub_orchestrator("child", 1, "singleton"))

    assert "error" in _outcome(_begun(parent))


def test_an_upgrade_check_sees_a_workflow_that_waits_and_would_not_go_on() -> None:
    events = _begun(errand).complete(TELL_PROGRESS).history
    stored = Stored("errand", INSTANCE, events)
    names = Names({"errand"}, {BEGIN_WORKFLOW, TELL_PROGRESS, END_WORKFLOW, "visit"})

    def other(context: Any) -> Any:
        """Do something else."""
        yield progress(context, "half", 0.5)
        yield context.call_activity("call", context.get_input())

    other.__name__ = "errand"

    def replay(written: Any) -> Replay:
        return lambda _, context: run_handle(handle_of(_built(written)), context)

    assert judge(stored, names, replay(errand)).why is None
    why = judge(stored, names, replay(other)).why
    assert why is not None
    assert "the activity visit" in why
    assert "the activity call in its place" in why
    assert "has no orchestration 'errand'" in str(judge(stored, Names(set(), names.activities), replay(errand)).why)


@pytest.mark.parametrize(
    ("words", "is_changed"),
    [
        ("Non-Deterministic workflow detected: A previous execution scheduled 'visit', now 'call'", True),
        ("Non-Deterministic workflow detected: the orchestrator hasn't (yet?) scheduled this task", False),
        ("Orchestrator function 'errand' failed: KeyError", False),
        ("", False),
    ],
)
def test_only_a_replay_that_asks_for_something_else_tells_of_other_code(words: str, is_changed: bool) -> None:
    assert is_other_code(words) is is_changed
