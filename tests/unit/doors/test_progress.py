"""How far a turn is, by its events: what is open, what waits, what is a repetition."""

from __future__ import annotations

from typing import Any

from shared.sessions.doors.progress import TurnProgress
from shared.sessions.events import EventType, FrameType
from shared.sessions.models import JsonObject


def framed(kind: FrameType, message_id: str = "m1", **fields: Any) -> JsonObject:
    return {"type": EventType.STREAM_CHUNK, "message_id": message_id, "data": {"frame": {"type": kind, **fields}}}


def started(message_id: str = "m1") -> JsonObject:
    return framed(FrameType.MESSAGE_START, message_id, attempt=1)


def ended(message_id: str = "m1") -> JsonObject:
    return framed(FrameType.MESSAGE_END, message_id)


def called(*ids: str) -> list[JsonObject]:
    return [framed(FrameType.TOOL_CALL, id=call_id) for call_id in ids]


def told(kind: EventType, call_id: str) -> JsonObject:
    if kind in {EventType.TOOL_CALL_COMPLETED, EventType.TOOL_CALL_FAILED}:
        return {"type": kind, "data": {"tool_call": {"id": call_id}}}
    return {"type": kind, "data": {"tool_call_id": call_id, "approval": {"id": f"ap-{call_id}"}}}


def after(*envelopes: JsonObject) -> TurnProgress:
    progress = TurnProgress()
    for envelope in envelopes:
        progress.take(envelope)
    return progress


ASKED = [started(), *called("a", "b"), ended()]


def test_a_step_waits_once_all_that_is_left_of_it_waits() -> None:
    waits_for_a = [*ASKED, told(EventType.TOOL_CALL_PENDING, "a")]

    assert not after(*ASKED).is_waiting
    assert not after(*waits_for_a).is_waiting, "b still runs"
    assert after(*waits_for_a, told(EventType.TOOL_CALL_COMPLETED, "b")).is_waiting
    both = after(*waits_for_a, told(EventType.TOOL_CALL_PENDING, "b"))
    assert (both.is_waiting, both.pending) == (True, {"a", "b"})


def test_a_step_whose_answer_is_still_written_does_not_wait() -> None:
    assert not after(started(), *called("a"), told(EventType.TOOL_CALL_PENDING, "a")).is_waiting


def test_a_decision_ends_the_wait_for_its_call_alone() -> None:
    both = [*ASKED, told(EventType.TOOL_CALL_PENDING, "a"), told(EventType.TOOL_CALL_PENDING, "b")]

    approved = after(*both, told(EventType.TOOL_CALL_APPROVED, "a"))
    assert (approved.is_waiting, approved.pending) == (False, {"b"}), "a runs now"
    assert after(*both, told(EventType.TOOL_CALL_REJECTED, "a")).is_waiting
    assert not after(*both, *(told(EventType.TOOL_CALL_REJECTED, call) for call in "ab")).is_waiting


def test_an_answer_that_is_told_again_after_its_end_changes_nothing() -> None:
    progress = after(*ASKED, *(told(EventType.TOOL_CALL_PENDING, call) for call in "ab"))

    assert [progress.take(envelope) for envelope in ASKED] == [False] * len(ASKED)
    assert progress.is_waiting


def test_an_answer_that_did_not_end_is_told_again() -> None:
    progress = after(started(), *called("a"))

    assert progress.take(started())
    assert progress.take(called("c")[0])
    assert progress.take(ended())
    assert after(
        started(), *called("a"), started(), *called("c"), ended(), told(EventType.TOOL_CALL_PENDING, "c")
    ).is_waiting


def test_an_approval_that_is_told_late_opens_nothing_again() -> None:
    decided = [*ASKED, told(EventType.TOOL_CALL_PENDING, "a"), told(EventType.TOOL_CALL_APPROVED, "a")]
    progress = after(*decided)

    assert not progress.take(told(EventType.TOOL_CALL_PENDING, "a"))
    assert progress.pending == set()
    done = after(*decided, told(EventType.TOOL_CALL_COMPLETED, "a"))
    assert not done.take(told(EventType.TOOL_CALL_PENDING, "a"))
    assert (done.pending, done.has_closed("a"), done.approvals) == (set(), True, {"ap-a": "a"})


def waits(kind: EventType, call_id: str, of: str = "client") -> JsonObject:
    return {"type": kind, "data": {"wait": {"id": f"w-{call_id}", "tool_call_id": call_id, "kind": of}}}


def test_calls_that_wait_for_their_user_or_a_client_wait_and_those_for_a_result_do_not() -> None:
    for of, is_waiting in (("client", True), ("input", True), ("result", False)):
        asked = after(*ASKED, told(EventType.TOOL_CALL_PENDING, "a"), waits(EventType.TOOL_CALL_WAITING, "b", of))
        assert asked.is_waiting is is_waiting
    asked.take(told(EventType.TOOL_CALL_COMPLETED, "b"))
    assert asked.is_waiting


def test_an_answer_ends_the_wait_and_what_is_told_of_it_later_is_a_repetition() -> None:
    asked = after(*ASKED, told(EventType.TOOL_CALL_COMPLETED, "a"), waits(EventType.TOOL_CALL_WAITING, "b"))
    assert asked.take(waits(EventType.TOOL_CALL_ANSWERED, "b"))
    assert not asked.is_waiting
    assert not asked.take(waits(EventType.TOOL_CALL_WAITING, "b"))
    assert not asked.is_waiting
