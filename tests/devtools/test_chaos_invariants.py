"""Each invariant says nothing of a history that keeps it, and names what is broken in one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from devhost.model.scripts.script import filler
from devtools.chaos import invariants
from devtools.chaos.history import Operation, Outcome
from devtools.chaos.invariants import INVARIANTS, CallRow, Evidence, MessageRow, Trail, TurnRow, violations
from devtools.chaos.readers import Heard
from devtools.chaos.schedule import Target
from devtools.chaos.users import StreamRead, Turned

SAID = "".join(filler(2))


def operation(kind: str, key: str, outcome: Outcome = Outcome.OK, status: int = 200, **detail: Any) -> Operation:
    return Operation(kind, "olga", key, 1.0, 2.0, outcome, status, detail)


def chunk(seq: int, **frame: Any) -> dict[str, Any]:
    return {"seq": seq, "type": "stream.chunk", "at": str(seq), "message_id": "m2", "data": {"frame": frame}}


def streamed(*texts: str, ends: bool = True, lost: int = 0) -> Heard:
    """What a reader heard of one answer. lost: so many of its last deltas did not reach the reader."""
    heard = Heard("s")
    frames: list[dict[str, Any]] = [{"type": "message_start", "message_id": "m2", "attempt": 1}]
    frames += [{"type": "content_delta", "index": index, "text": text} for index, text in enumerate(texts)]
    frames += [{"type": "message_end", "message_id": "m2"}] if ends else []
    for seq, frame in enumerate(frames, 1):
        if not len(texts) + 1 - lost < seq <= len(texts) + 1:
            heard.take(chunk(seq, **frame), "a reader")
    return heard


KEPT = Evidence(
    operations=[
        operation("create", "u1", id="s"),
        operation("post", "u1-1", Outcome.UNKNOWN, 0, session_id="s"),
        operation("post", "u1-1", session_id="s", turn_id="t", message_id="m1"),
        operation("decide", "a", decision="approve"),
        operation("decide", "a", Outcome.FAIL, 409, decision="reject"),
        operation("create", "u2", id="gone"),
        operation("delete", "gone"),
    ],
    sessions={"s": "u1"},
    turns={"t": TurnRow("s", "completed")},
    messages={
        "m1": MessageRow("s", "t", "user", 0, '#script {"key":"u1-1","tokens":2}', "completed"),
        "m2": MessageRow("s", "t", "assistant", 1, SAID, "completed"),
    },
    calls={"c": CallRow("s", "t", True, "completed", True, "done", "approved")},
    approvals={"a": "approved"},
    effects={"c": 1},
    heard=[streamed(*filler(2))],
    streams=[StreamRead("t", {"m2": SAID}, ())],
    turned=[Turned("t", "completed", 1.0, 2.0)],
    uploads={"f": True},
    upload_sessions={"f": "s"},
    trails={"s": Trail(True, ())},
    peak_mib=200,
)
"""One session with one turn that did everything."""


def rows[Row](rows: dict[str, Row], name: str, **changes: Any) -> dict[str, Row]:
    """With one row changed."""
    return {**rows, name: rows[name]._replace(**changes)}  # type: ignore[attr-defined]


def test_a_part_that_was_lost_and_told_of_makes_no_text_wrong() -> None:
    """Of an answer whose last events are lost, as Redis may lose them, a reader is told that some are missing."""
    heard = streamed(*filler(2), lost=1)
    assert violations(replace(KEPT, heard=[heard])) == {}


def test_a_history_that_keeps_every_promise_is_clean() -> None:
    assert violations(KEPT) == {}


BROKEN: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (invariants.nothing_confirmed_is_lost, {"sessions": {}}, "create u1: session s is not there"),
    (invariants.nothing_confirmed_is_lost, {"turns": {}}, "post u1-1: turn t is not there"),
    (
        invariants.nothing_confirmed_is_lost,
        {"messages": {"m2": KEPT.messages["m2"]}},
        "post u1-1: message m1 is not there",
    ),
    (invariants.nothing_confirmed_is_lost, {"uploads": {"f": False}}, "file f is not there as it was sent"),
    (
        invariants.nothing_is_done_twice,
        {"operations": [*KEPT.operations, operation("post", "u1-1", session_id="s", turn_id="t2", message_id="m1")]},
        "post u1-1 was answered with 2 results: ['t', 't2']",
    ),
    (invariants.nothing_is_done_twice, {"sessions": {"s": "u1", "s2": "u1"}}, "session u1 was made 2 times"),
    (
        invariants.nothing_is_done_twice,
        {"messages": {**KEPT.messages, "m3": KEPT.messages["m1"]}},
        "session s has 2 messages of 1 that were posted",
    ),
    (invariants.every_turn_ends, {"turns": {"t": TurnRow("s", "running")}}, "turn t is running"),
    (
        invariants.every_turn_ends,
        {"messages": rows(dict(KEPT.messages), "m2", status="streaming")},
        "message m2 of turn t is streaming",
    ),
    (
        invariants.every_turn_ends,
        {"calls": rows(dict(KEPT.calls), "c", has_ended=False)},
        "call c of turn t is completed",
    ),
    (invariants.every_turn_ends, {"approvals": {"a": "pending"}}, "approval a is pending"),
    (invariants.every_turn_ends, {"left_over": ["t"]}, "orchestration t runs"),
    (invariants.what_has_ended_stays, {"turns": {"t": TurnRow("s", "failed")}}, "turn t was completed and is failed"),
    (invariants.effects_happen_at_most_once, {"effects": {"c": 2}}, "call c had its effect 2 times"),
    (invariants.effects_happen_at_most_once, {"effects": {}}, "call c is completed and had no effect"),
    (
        invariants.effects_happen_at_most_once,
        {"calls": rows(dict(KEPT.calls), "c", status="failed", told="The turn ended before this call ran.")},
        "call c had an effect, and the model is told: The turn ended before this call ran.",
    ),
    (
        invariants.decisions_stand,
        {"operations": [*KEPT.operations, operation("decide", "a", decision="reject")]},
        "approval a: both decisions were confirmed",
    ),
    (
        invariants.decisions_stand,
        {"approvals": {"a": "rejected"}},
        "approval a: {'approved'} was confirmed, and it is rejected",
    ),
    (
        invariants.decisions_stand,
        {"calls": rows(dict(KEPT.calls), "c", approval="rejected")},
        "call c had an effect, and its approval is rejected",
    ),
    (
        invariants.numbers_are_dense_and_never_twice,
        {"heard": [Heard("s", problems=["number 3 was given twice"])]},
        "session s: number 3 was given twice",
    ),
    (
        invariants.numbers_are_dense_and_never_twice,
        {"heard": [Heard("s", gaps=1)]},
        "session s: 1 gaps, and Redis was not struck",
    ),
    (
        invariants.numbers_are_dense_and_never_twice,
        {"lost": frozenset({"s"})},
        "session s: its log has lost events, and Redis was not struck",
    ),
    (
        invariants.what_was_streamed_is_stored,
        {"messages": rows(dict(KEPT.messages), "m2", content="")},
        f"message m2: {len(SAID)} characters were streamed, 0 are stored",
    ),
    (
        invariants.what_was_streamed_is_stored,
        {"heard": [streamed("other", ends=False)]},
        f"message m2: 5 characters were streamed, {len(SAID)} are stored",
    ),
    (
        invariants.what_was_streamed_is_stored,
        {"streams": [StreamRead("t", {"m2": "other"}, ())]},
        "message m2: its turn's stream has other text than is stored",
    ),
    (
        invariants.what_was_streamed_is_stored,
        {"streams": [StreamRead("t", {}, ())]},
        "turn t: its stream leaves out message m2",
    ),
    (
        invariants.what_was_streamed_is_stored,
        {"streams": [StreamRead("t", {"m2": SAID}, ("m2",))]},
        "turn t: its stream has a hole in message m2",
    ),
    (
        invariants.answers_are_the_models,
        {"messages": rows(dict(KEPT.messages), "m2", content="half", calls=False)},
        "message m2 is completed, and is not what the model said",
    ),
    (
        invariants.audit_trails_are_verified,
        {"trails": {"s": Trail(False, ("line 2: missing",))}},
        "session s: line 2: missing",
    ),
    (invariants.readers_hear_the_end, {"deaf": ["s: heard up to 3 of 4"]}, "s: heard up to 3 of 4"),
    (
        invariants.deletions_leave_nothing,
        {"sessions": {"s": "u1", "gone": ""}},
        "session gone was deleted and is there",
    ),
    (
        invariants.requests_are_answered,
        {"operations": [operation("read", "/x", Outcome.UNKNOWN, 0, why="TimeoutError", path="/x")]},
        "read /x had no answer in 1 s",
    ),
    (invariants.memory_is_bounded, {"peak_mib": 2_000}, "the host had 2000 MiB, the limit is 1024"),
    (
        invariants.nobody_dies_by_itself,
        {"deaths": ["host: ended with code 1; restarting in 0.2 s"]},
        "host: ended with code 1; restarting in 0.2 s",
    ),
]


@pytest.mark.parametrize(("check", "changes", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_history_that_breaks_a_promise_is_named(
    check: Callable[[Evidence], Any], changes: dict[str, Any], said: str
) -> None:
    assert said in list(check(replace(KEPT, **changes)))


def test_every_invariant_is_shown_to_fail() -> None:
    assert {check for check, _, _ in BROKEN} == set(INVARIANTS)


def test_a_deletion_whose_outcome_is_unknown_excuses_what_is_not_there() -> None:
    asked = replace(KEPT, operations=[*KEPT.operations, operation("delete", "s", Outcome.UNKNOWN, 0)])
    assert list(invariants.nothing_confirmed_is_lost(replace(asked, sessions={}, turns={}, messages={}))) == []


def test_a_gap_is_excused_where_redis_was_struck() -> None:
    struck = replace(KEPT, heard=[Heard("s", gaps=1)], lost=frozenset({"s"}), struck=frozenset({Target.REDIS}))
    assert violations(struck) == {}


def test_an_answer_that_was_cut_may_go_on_in_the_store_and_one_with_a_hole_is_not_judged() -> None:
    cut = replace(KEPT, heard=[streamed(filler(2)[0], ends=False)])
    assert violations(cut) == {}
    with_hole = streamed("x", "y", "z")
    del with_hole.events[3]
    assert violations(replace(KEPT, heard=[with_hole])) == {}
