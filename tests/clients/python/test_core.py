"""What the client decides, without a server: reading streams, trying again, going on, reading errors."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley_client import (
    ApiError,
    ContentDelta,
    Event,
    Gap,
    InvalidRequest,
    MessageStart,
    NotFound,
    OtherFrame,
    Retries,
    ToolCallEvent,
    TurnEnd,
    TurnFailed,
    TurnStillOpen,
    TurnText,
    Unavailable,
)
from parley_client._core import operations
from parley_client._core.following import LOSSES, FollowingSession, FollowingTurn
from parley_client._core.http import Reply, Request, file_of, problem_of, query_of, root_of
from parley_client._core.retrying import Attempts, backed_off
from parley_client._core.sse import MOST_CHARS, ServerEvent, SseReader, TooLarge
from parley_client._core.waiting import LONGEST_PAUSE_S, Waiting
from parley_client.models import Session, Turn

GET = Request("GET", "/x", is_repeatable=True)
POST = Request("POST", "/x", is_repeatable=False)
PATIENT = Retries(tries=3, first_pause_s=1, longest_pause_s=10)


def sse(name: str, data: str, seq: int | None = None) -> bytes:
    number = "" if seq is None else f"id: {seq}\n"
    return f"{number}event: {name}\ndata: {data}\n\n".encode()


def turn(status: str) -> Turn:
    return Turn.model_validate(
        {
            **dict.fromkeys(("started_at", "ended_at", "error")),
            **{"id": "t", "session_id": "s", "message_id": "m", "status": status, "steps": 0, "usage": {}},
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
    )


# Server-Sent Events. ---------------------------------------------------------------------------

STREAM = (
    "\ufeff: comment\r\nid: 1\r\nevent: a\r\ndata: one\r\n\r\n"
    "data:two\rdata:  lines\r\rretry: 250\n\nevent: no data\n\nid: 7\ndata\n\ndata: ü🦊\n\ndata: unfinished"
).encode()
EVENTS = [
    ServerEvent("1", "a", "one"),
    ServerEvent(None, "message", "two\n lines"),
    ServerEvent("7", "message", ""),
    ServerEvent(None, "message", "ü🦊"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_is_read_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    reader = SseReader()
    found = [event for start, end in pairwise(places) for event in reader.read(STREAM[start:end])]

    assert found == EVENTS
    assert reader.retry_s == 0.25


def test_a_server_that_never_ends_an_event_fills_no_memory() -> None:
    reader = SseReader()
    line = b"data: " + b"x" * 2**20 + b"\n"
    for _ in range(MOST_CHARS // len(line)):
        assert list(reader.read(line)) == []
    with pytest.raises(TooLarge):
        list(reader.read(line))


# Trying again. -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "retry_after", "pause_s"),
    [
        (GET, 503, "2", 2),
        (GET, 429, "2", 2),
        (GET, 503, None, 1),  # the first pause, with a draw of 0
        (GET, 503, "Wed, 21 Oct 2026 07:28:00 GMT", 1),  # a form that the service does not send
        (GET, 429, "3600", None),  # the day's budget: nobody waits an hour in a call
        (POST, 503, "2", None),  # it may have been done
        (POST, 429, "2", 2),  # it was not begun
        (GET, 500, None, None),
        (GET, 404, None, None),
        (GET, 200, None, None),
    ],
)
def test_when_a_reply_is_asked_for_again(
    request_: Request, status: int, retry_after: str | None, pause_s: float | None
) -> None:
    reply = Reply(status, {} if retry_after is None else {"retry-after": retry_after}, b"")

    assert Attempts(PATIENT, request_, lambda: 0.0).pause_after(reply) == pause_s


def test_a_request_that_was_not_sent_is_sent_again_and_one_that_was_only_if_it_may_come_twice() -> None:
    def first_pause(request: Request, *, was_sent: bool) -> float | None:
        return Attempts(PATIENT, request, lambda: 0.0).pause_after_loss(was_sent=was_sent)

    assert first_pause(POST, was_sent=False) == first_pause(GET, was_sent=True) == 1
    assert first_pause(POST, was_sent=True) is None


def test_there_are_only_so_many_tries() -> None:
    attempts = Attempts(PATIENT, GET, lambda: 0.0)

    assert [attempts.pause_after(Reply(503, {}, b"")) for _ in range(3)] == [1, 2, None]
    assert Attempts(Retries(tries=1), GET).pause_after(Reply(503, {}, b"")) is None


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_pause_is_within_its_bounds(failures: int, random: float) -> None:
    whole = min(2.0 ** min(failures - 1, 20), 10)
    assert whole / 2 <= backed_off(PATIENT, failures, random) <= whole


@pytest.mark.parametrize(
    ("operation", "is_repeatable"),
    [
        (operations.cancel_turn("s", "t"), True),
        (operations.change_session("s", "end"), False),
        (operations.delete_session("s", if_match=None), True),
        (operations.delete_session("s", if_match='"e"'), False),
        (operations.add_attachment("s", b"x", "n"), False),
    ],
)
def test_what_may_be_sent_twice(operation: Any, is_repeatable: bool) -> None:
    assert operation.request.is_repeatable is is_repeatable


# Streams across connections. -------------------------------------------------------------------


def test_each_numbered_event_is_told_once_across_connections() -> None:
    stream = FollowingTurn(GET, None, PATIENT, lambda: 0.0)
    assert "last-event-id" not in stream.request.headers
    stream.opened(200, "text/event-stream")
    first = list(stream.received(sse("message_start", '{"message_id": "m", "attempt": 1}', 3)))
    list(stream.received(sse("content_delta", '{"index": 0, "text": "Hel"}', 4)))
    assert stream.lost() == 1
    assert stream.request.headers["last-event-id"] == "4"
    stream.opened(200, "text/event-stream")
    again = list(stream.received(sse("content_delta", '{"index": 0, "text": "Hel"}', 4)))
    rest = list(stream.received(sse("content_delta", '{"index": 1, "text": "lo"}', 5)))

    assert (first[0].seq, again) == (3, [])
    assert isinstance(rest[0], ContentDelta)
    assert (rest[0].seq, rest[0].message_id) == (5, "m")


def test_a_turn_from_the_store_replaces_what_was_heard_and_ends() -> None:
    stream, text = FollowingTurn(GET, None, PATIENT), TurnText()
    stream.opened(200, "text/event-stream")
    told = sse("message_start", '{"message_id": "m", "attempt": 2}', 3) + sse(
        "content_delta", '{"text": "Hal", "index": 0}', 4
    )
    stored = (
        sse("message_start", '{"message_id": "m", "attempt": 1000}')
        + sse("content_delta", '{"index": 0, "text": "Hello"}')
        + sse("end", '{"status": "completed", "usage": {}, "steps": 1}')
    )
    events = list(stream.received(told + stored))
    for event in events:
        text.take(event)

    assert text.by_message == {"m": "Hello"}
    assert isinstance(events[-1], TurnEnd)
    assert stream.is_over


def test_a_late_attempt_with_a_lower_number_changes_no_text() -> None:
    text = TurnText()
    for attempt, said in ((2, "new"), (1, "old")):
        text.take(MessageStart(message_id="m", attempt=attempt))
        text.take(ContentDelta(message_id="m", index=0, text=said))

    assert text.last == "new"
    assert TurnText().last == ""


def test_a_gap_is_told_once() -> None:
    stream = FollowingSession(GET, 5, PATIENT)
    stream.opened(200, "text/event-stream")
    event = '{"seq": 9, "type": "stream.ended", "session_id": "s", "at": "2026-01-01T00:00:00Z", "data": {}}'
    [gap] = stream.received(sse("gap", '{"after": 5, "next": 9}'))
    assert stream.request.headers["last-event-id"] == "8"
    [ended] = stream.received(sse("stream.ended", event, 9))

    assert gap == Gap(after=5, next=9)
    assert isinstance(ended, Event)
    assert ended.seq == 9


def test_the_servers_word_on_when_to_come_back_counts() -> None:
    stream = FollowingTurn(GET, None, PATIENT, lambda: 0.0)
    stream.opened(200, "text/event-stream")
    list(stream.received(b"retry: 200\n\n"))

    assert stream.lost() == 0.2


def test_a_stream_is_given_up_after_so_many_connections_that_bring_nothing() -> None:
    stream = FollowingTurn(GET, None, PATIENT, lambda: 0.0)
    pauses = [stream.lost() for _ in range(LOSSES - 1)]
    assert None not in pauses
    stream.opened(200, "text/event-stream")
    list(stream.received(b": keep-alive\n\n"))  # it lives: the count begins again
    assert [stream.lost() is None for _ in range(LOSSES + 1)] == [*[False] * LOSSES, True]


def test_what_an_answer_that_is_no_stream_means() -> None:
    stream = FollowingTurn(GET, None, PATIENT, lambda: 0.0)
    assert not stream.opened(503, "application/problem+json")
    assert stream.refused(Reply(503, {"retry-after": "2"}, b"")) == 2
    assert stream.refused(Reply(502, {}, b"bad gateway")) == 2  # the second failure's pause
    with pytest.raises(NotFound):
        stream.refused(Reply(404, {}, b'{"code": "SESSION_NOT_FOUND", "detail": "No."}'))
    assert not stream.opened(200, "text/html")
    with pytest.raises(ApiError, match="not the service's"):
        stream.refused(Reply(200, {"content-type": "text/html"}, b"<html>Sign in</html>"))
    with pytest.raises(ApiError):
        stream.refused(Reply(429, {"retry-after": "3600"}, b""))
    assert not stream.opened(204, "")
    assert stream.is_over


def test_a_stream_that_is_not_json_is_an_error() -> None:
    stream = FollowingTurn(GET, None, PATIENT)
    stream.opened(200, "text/event-stream")
    for told in ("<html>", "[]", "null", '{"attempt": "first"}'):
        with pytest.raises(Unavailable):
            list(stream.received(sse("message_start", told)))


def test_frames_that_are_new_or_renamed_are_told_all_the_same() -> None:
    stream = FollowingTurn(GET, None, PATIENT)
    stream.opened(200, "text/event-stream")
    [new] = stream.received(sse("citation", '{"url": "u"}', 1))
    [failed] = stream.received(sse("error.occurred", '{"code": "LLM_ERROR", "detail": "No."}', 2))
    [older] = stream.received(sse("error", '{"code": "LLM_ERROR", "detail": "No."}', 3))
    [call] = stream.received(sse("tool_call.completed", '{"data": {"tool_call": {"id": "c"}}}', 4))

    assert isinstance(new, OtherFrame)
    assert (new.type, new.fields["url"]) == ("citation", "u")
    assert isinstance(failed, TurnFailed)
    assert isinstance(older, TurnFailed)
    assert isinstance(call, ToolCallEvent)
    assert (call.type, call.approval) == ("tool_call.completed", None)


# Waiting. --------------------------------------------------------------------------------------


def test_waiting_ends_with_the_turn_or_with_its_wait_for_a_person() -> None:
    def pause(status: str, **options: Any) -> float | None:
        return Waiting(**{"now": 0, "timeout_s": None, "past_approvals": False, **options}).pause_after(
            turn(status), now=0
        )

    assert [pause(status) for status in ("completed", "failed", "cancelled", "waiting_approval")] == [None] * 4
    assert pause("running") == pause("a status of tomorrow") == pause("waiting_approval", past_approvals=True) == 0.1


def test_waiting_looks_ever_more_seldom_and_not_beyond_its_time() -> None:
    patient = Waiting(now=0, timeout_s=None, past_approvals=False)
    pauses = [patient.pause_after(turn("running"), now=0) or 0 for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    brief = Waiting(now=10, timeout_s=0.05, past_approvals=False)
    assert brief.pause_after(turn("running"), now=10) == pytest.approx(0.05)
    with pytest.raises(TurnStillOpen):
        brief.pause_after(turn("running"), now=10.05)


# Errors, addresses, files. ---------------------------------------------------------------------


def test_a_problem_is_an_error_with_all_it_says() -> None:
    body = (
        b'{"title": "T", "status": 422, "code": "VALIDATION_ERROR", "detail": "Refused.", "correlation_id": "c",'
        b' "errors": [{"field": "name", "message": "too long"}]}'
    )
    error = problem_of(Reply(422, {"retry-after": "3"}, body))

    assert isinstance(error, InvalidRequest)
    assert (error.code, error.status, error.detail, error.correlation_id) == ("VALIDATION_ERROR", 422, "Refused.", "c")
    assert (error.retry_after_s, str(error)) == (3, "VALIDATION_ERROR (422): Refused. name: too long")
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.errors, str(copied)) == (type(error), error.errors, str(error))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b"null", b'{"error": {}}', b"\xff"])
def test_what_a_proxy_says_is_an_error_too(body: bytes) -> None:
    error = problem_of(Reply(502, {"x-correlation-id": "c"}, body))

    assert isinstance(error, Unavailable)
    assert (error.code, error.correlation_id) == ("HTTP", "c")


@pytest.mark.parametrize("url", ["", "localhost:7071", "ftp://a", "https://", "https://a?b", "//a"])
def test_what_is_no_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        root_of(url, has_token=False)


def test_a_token_leaves_this_machine_only_over_https() -> None:
    with pytest.raises(ValueError, match="https"):
        root_of("http://parley.example", has_token=True)
    assert root_of("http://parley.example", has_token=False) == "http://parley.example/api/v1"
    assert root_of("http://localhost:7071/", has_token=True) == "http://localhost:7071/api/v1"
    assert root_of("https://parley.example/api/v1", has_token=True) == "https://parley.example/api/v1"


def test_only_what_is_given_is_sent() -> None:
    assert query_of(role=None, from_=datetime(2026, 1, 1, tzinfo=UTC), limit=0) == {
        "from": "2026-01-01T00:00:00+00:00",
        "limit": "0",
    }
    given = {"config": operations.UNSET, "tags": operations.UNSET, "metadata": operations.UNSET, "if_match": None}
    changed = operations.update_session("a/b", name=None, agent_id=operations.UNSET, **given).request
    assert (changed.path, changed.body) == ("/sessions/a%2Fb", b'{"name": null}')
    with pytest.raises(ValueError, match="need a name"):
        operations.add_attachment("s", b"x", None)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=\"a.csv\"; filename*=UTF-8''St%C3%A4dte.csv", "Städte.csv"),
        ('attachment; filename="a \\"b\\".csv"', 'a "b".csv'),
        ("inline", None),
        ("", None),
    ],
)
def test_a_files_name_is_read(disposition: str, name: str | None) -> None:
    found = file_of(Reply(200, {"content-disposition": disposition, "content-type": "text/csv"}, b"x"))

    assert (found.name, found.media_type, found.content) == (name, "text/csv", b"x")
    assert "content" not in repr(found)


def test_what_a_newer_service_adds_is_kept() -> None:
    told = turn("sleeping").model_dump() | {"mood": "calm"}
    read = Turn.model_validate(told)

    assert (read.status, read.is_over, getattr(read, "mood", None)) == ("sleeping", False, "calm")
    with pytest.raises(ValueError, match="frozen"):
        read.status = "completed"
    assert "etag" in Session.model_fields
