"""An instance's history as lanes: what ran when, what is open, and nothing that a history does not say."""

from __future__ import annotations

from collections.abc import Iterable

from devhost.durable.management.lanes import timeline
from devhost.durable.store import jsontext
from devhost.durable.store.history import (
    DEAD_TIMER,
    RETRY_OF,
    EventType,
    encode,
    event_raised,
    execution_completed,
    execution_started,
    orchestrator_completed,
    orchestrator_started,
    task_completed,
    task_failed,
    timer_fired,
    timestamp,
)
from devhost.extensions.timeline import MOST_LANES, Bar, Lane, Timeline, Tone, draw

_T0 = 1_770_000_000_000_000
_S, _DAY = 1_000_000, 86_400_000_000


def _read(chunks: Iterable[str], *, now: int = 10 * _S, is_over: bool = False, armed: Iterable[int] = ()) -> Timeline:
    events = [jsontext.loads(chunk) for chunk in chunks]
    return timeline("an-id", events, now_us=_T0 + now, is_over=is_over, armed=set(armed))  # type: ignore[arg-type]


def _call(at: int, task_id: int, name: str = "work", **fields: object) -> str:
    return encode(EventType.TASK_SCHEDULED, _T0 + at, task_id, Name=name, **fields)


def _timer(at: int, task_id: int, due: int, **fields: object) -> str:
    return encode(EventType.TIMER_CREATED, _T0 + at, task_id, FireAt=timestamp(_T0 + due), **fields)


def _only(shown: Timeline) -> Lane:
    [_, lane] = shown.lanes  # the first is the orchestrator's own
    return lane


def test_a_call_is_a_bar_from_scheduled_to_completed() -> None:
    lane = _only(_read([_call(0, 0), task_completed(_T0 + 2 * _S, 0, "1")]))
    assert (lane.kind, lane.label, lane.note) == ("activity", "work", "2 s")
    assert lane.bars == [Bar(_T0, _T0 + 2 * _S)]


def test_a_failed_call_says_so() -> None:
    lane = _only(_read([_call(0, 0), task_failed(_T0 + _S, 0, "why", "{}")]))
    assert (lane.bars, lane.note) == ([Bar(_T0, _T0 + _S, Tone.FAILED)], "failed after 1 s")


def test_each_attempt_of_a_retried_call_has_its_number() -> None:
    chunks = [
        *(_call(0, 0, **{RETRY_OF: 0}), task_failed(_T0 + 1, 0, "", "")),
        *(_timer(1, 1, _S, **{RETRY_OF: 0}), timer_fired(_T0 + _S, 1, _T0 + _S)),
        *(_call(_S, 2, **{RETRY_OF: 0}), task_completed(_T0 + 2 * _S, 2, "1")),
    ]
    assert [lane.label for lane in _read(chunks).lanes[1:]] == ["work", "delay after a failure", "work (attempt 2)"]


def test_what_is_open_runs_to_the_present() -> None:
    lane = _only(_read([_call(0, 0)]))
    assert (lane.bars, lane.note) == ([Bar(_T0, _T0 + 10 * _S, Tone.OPEN)], "open for 10 s")


def test_what_an_ended_instance_never_heard_of_again_has_no_end() -> None:
    lane = _only(_read([_call(0, 0)], is_over=True))
    assert (lane.bars, lane.marks, lane.note) == ((), [_T0], "never answered")


def test_an_armed_timer_tells_when_it_is_due() -> None:
    lane = _only(_read([_timer(0, 3, 3 * _DAY)], armed=[3]))
    assert (lane.bars, lane.note) == ([Bar(_T0, _T0 + 10 * _S, Tone.OPEN)], "open for 10 s, due in 2 d 23 h")


def test_a_timer_that_will_not_fire_is_no_bar_for_nobody_knows_when_it_was_cancelled() -> None:
    for chunk, over in (
        (_timer(0, 3, _DAY), False),
        (_timer(0, 3, _DAY), True),
        (_timer(0, 3, _DAY, **{DEAD_TIMER: True}), False),
    ):
        lane = _only(_read([chunk], is_over=over))
        assert (lane.bars, lane.marks, lane.note) == ((), [_T0], "cancelled (due after 1 d)")


def test_a_wait_for_an_event_reaches_from_the_last_episode_to_its_arrival() -> None:
    chunks = [
        orchestrator_started(_T0),
        orchestrator_completed(_T0 + _S),
        orchestrator_started(_T0 + 3 * _DAY),
        event_raised(_T0 + 3 * _DAY, "approval", "1"),
        orchestrator_completed(_T0 + 3 * _DAY + 5_000),
    ]
    shown = _read(chunks, now=4 * _DAY, is_over=True)
    lane = _only(shown)
    assert (lane.label, lane.bars, lane.marks) == (
        "event approval",
        [Bar(_T0 + _S, _T0 + 3 * _DAY, Tone.IDLE)],
        [_T0 + 3 * _DAY],
    )
    assert shown.lanes[0].bars == [Bar(_T0, _T0 + _S), Bar(_T0 + 3 * _DAY, _T0 + 3 * _DAY + 5_000)]


def test_an_early_event_is_a_mark_and_no_wait() -> None:
    lane = _only(_read([event_raised(_T0, "early", None)]))
    assert (lane.bars, lane.marks) == ([Bar(_T0, _T0, Tone.IDLE)], [_T0])


def test_a_called_entity_answers_by_its_request_and_a_signalled_one_does_not() -> None:
    def sent(task_id: int, request: str, *, signal: bool) -> str:
        text = jsontext.dumps({"op": "add", "id": request, "signal": signal})
        return encode(EventType.EVENT_SENT, _T0, task_id, InstanceId="@counter@a", Name="op", Input=text)

    chunks = [sent(0, "r", signal=False), sent(1, "s", signal=True), event_raised(_T0 + _S, "r", "1")]
    called, signalled = _read(chunks).lanes[1:]
    assert (called.label, called.bars) == ("@counter@a add", [Bar(_T0, _T0 + _S)])
    assert signalled.bars == [Bar(_T0, _T0)]


def test_a_suspension_has_a_lane_of_its_own() -> None:
    chunks = [
        encode(EventType.EXECUTION_SUSPENDED, _T0),
        encode(EventType.EXECUTION_RESUMED, _T0 + _S),
        encode(EventType.EXECUTION_SUSPENDED, _T0 + 2 * _S),
    ]
    lane = _only(_read(chunks))
    assert (lane.label, lane.bars) == ("suspended", [Bar(_T0, _T0 + _S), Bar(_T0 + 2 * _S, _T0 + 10 * _S, Tone.OPEN)])


def test_an_end_is_marked_and_the_picture_has_words() -> None:
    started = execution_started(_T0, name="o", version="", input_text=None, instance_id="an-id", execution_id="e")
    end = execution_completed(_T0 + 3 * _S, 1, status=1, result="1")
    shown = _read([started, _call(0, 0), task_failed(_T0 + _S, 0, "", ""), end], is_over=True)
    assert shown.lanes[0].marks == [_T0 + 3 * _S]
    assert shown.summary.startswith("Timeline of an-id: 1 activity call; 1 failed; took 3 s.")


def test_ten_thousand_events_become_few_lanes_and_a_small_picture() -> None:
    chunks = []
    for number in range(5_000):
        chunks.append(_call(number * _S, number, f"work-{number % 3}"))
        answer = task_failed if number % 100 == 0 else task_completed
        chunks.append(answer(_T0 + number * _S + 5_000, number, "1", *([""] if answer is task_failed else [])))  # type: ignore[operator]
    shown = _read(chunks, now=6_000 * _S, is_over=True)
    assert [(lane.label, lane.note) for lane in shown.lanes[1:]] == [
        ("work-0", "1667 times, 17 failed"),
        ("work-1", "1667 times, 17 failed"),
        ("work-2", "1666 times, 16 failed"),
    ]
    assert shown.notes == ["5000 lanes are too many: those of one name share one."]
    assert len(draw(shown)) < 200_000


def test_more_names_than_lanes_are_counted() -> None:
    chunks = [_call(number, number, f"work-{number}") for number in range(500)]
    shown = _read(chunks)
    assert len(shown.lanes) == 501
    assert f"{501 - MOST_LANES} more lanes are left out." in draw(shown)


def test_a_sleeper_with_nothing_open_waits_for_an_event_that_has_no_name_yet() -> None:
    chunks = [orchestrator_started(_T0), orchestrator_completed(_T0 + _S)]
    asleep = "Nothing is open: it can only wait for an event, which a history names when it comes."
    assert _read(chunks).notes == [asleep]
    assert _read(chunks, is_over=True).notes == []
    assert _read([*chunks[:1], _call(0, 0), *chunks[1:]]).notes == []
