"""What readers say of an order of events, and of a run's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from devtools.chaos.history import History, Operation, Outcome, outcome_of
from devtools.chaos.readers import Frames, Heard, Position, Sent
from devtools.chaos.report import keep, recoveries_table, runs_table, summary, told
from devtools.chaos.run import Fallen, Run, figures, recoveries
from devtools.chaos.schedule import Planned, Strike, Target, make_schedule
from devtools.chaos.users import Turned


def event(number: int, text: str = "") -> Sent:
    return Sent(
        number, "message.created", {"seq": number, "type": "message.created", "at": "now", "data": {"text": text}}
    )


def heard_of(*sent: Sent) -> Heard:
    heard = Heard("s")
    position = Position(heard, "a reader")
    for one in sent:
        position.take(one)
    return heard


def test_dense_numbers_and_told_gaps_are_no_problem() -> None:
    gap = Sent(None, "gap", {"after": 2, "next": 10_001})
    heard = heard_of(event(1), event(2), gap, event(10_001), event(10_002))
    assert (heard.problems, heard.gaps, sorted(heard.events)) == ([], 1, [1, 2, 10_001, 10_002])


def test_a_hole_a_repeat_and_a_number_given_twice_are_problems() -> None:
    assert heard_of(event(1), event(3)).problems == ["a reader heard number 3 after 1, without a gap"]
    assert heard_of(event(1), event(1)).problems == ["a reader heard number 1 after 1, without a gap"]
    heard = heard_of(event(1, "one"))
    heard.take(event(1, "another").data, "SignalR")
    assert "number 1 was given twice (SignalR)" in heard.problems[0]


def test_frames_are_the_text_of_the_last_attempt_and_know_their_holes() -> None:
    def start(attempt: int) -> dict[str, Any]:
        return {"type": "message_start", "message_id": "m", "attempt": attempt}

    def delta(index: int, text: str) -> dict[str, Any]:
        return {"type": "content_delta", "index": index, "text": text}

    frames = Frames()
    for frame in (start(1), delta(0, "lost"), start(2), delta(0, "a"), delta(1, "b")):
        frames.take(frame, "m")
    assert (frames.texts, frames.is_whole) == ({"m": "ab"}, {"m": False})
    frames.take({"type": "message_end", "message_id": "m"}, "m")
    assert frames.is_whole == {"m": True}
    frames.take(delta(3, "d"), "m")
    assert (frames.has_holes, frames.is_whole) == ({"m"}, {"m": False})


def test_a_refusal_did_nothing_and_a_server_error_may_have() -> None:
    assert [outcome_of(status) for status in (200, 202, 409, 503, 0)] == [
        Outcome.OK,
        Outcome.OK,
        Outcome.FAIL,
        Outcome.UNKNOWN,
        Outcome.UNKNOWN,
    ]


def run_of(folder: Path, *fallen: Fallen, turned: tuple[Turned, ...] = ()) -> Run:
    run = Run(make_schedule(5, 60, users=1), History(folder / "history.jsonl"))
    run.fallen += fallen
    run.seen.turned += turned
    return run


def test_a_recovery_is_the_first_turn_that_was_posted_after_the_healing(tmp_path: Path) -> None:
    redis = Fallen(Planned(10, Strike.HANG, Target.REDIS, 5), 10, 15)
    turned = (
        Turned("before", "completed", 14, 15.5),
        Turned("failed", "failed", 15.1, 15.6),
        Turned("first", "completed", 15.2, 16.5),
    )
    assert recoveries(run_of(tmp_path, redis, turned=turned)) == {"redis hang": [1.5]}
    other = Fallen(Planned(16, Strike.KILL, Target.HOST, 1), 16, 17)
    assert recoveries(run_of(tmp_path, redis, other, turned=turned)) == {}, "nobody could say whose time it was"


def test_what_is_kept_becomes_the_tables_and_a_seed_replaces_its_run(tmp_path: Path, monkeypatch: Any) -> None:
    kept = tmp_path / "chaos.json"
    monkeypatch.setattr("devtools.chaos.report.KEPT", kept)
    run = run_of(
        tmp_path,
        Fallen(Planned(10, Strike.ROLL_BACK, Target.REDIS, 5), 10, 15),
        turned=(Turned("t", "completed", 15, 16.25),),
    )
    run.history.add(Operation("post", "olga", "k", 1, 2, Outcome.OK, 202))
    found = figures(run)
    about = {"at": "2026-11-30T00:00:00", "command": "./dev chaos --seed 5", "revision": "abc"}
    keep(kept, {**about, **found, "violations": {"memory_is_bounded": 1}})
    assert "memory_is_bounded (1)" in runs_table()
    keep(kept, {**about, **found})
    keep(kept, {**about, **found, "seed": 4})
    assert [run["seed"] for run in orjson.loads(kept.read_bytes())["runs"]] == [4, 5]
    assert "memory_is_bounded" not in runs_table()
    assert "| redis roll back | 2 | 10 s | 2 | 1.25 s | 1.25 s |" in recoveries_table()
    assert "redis roll_back" in summary(found)


def test_broken_invariants_are_told_with_their_first_lines() -> None:
    assert told({"memory_is_bounded": ["much"], "every_turn_ends": [str(n) for n in range(9)]}).splitlines() == [
        "memory_is_bounded: 1",
        "  much",
        "every_turn_ends: 9",
        *(f"  {n}" for n in range(8)),
        "  ...",
    ]
