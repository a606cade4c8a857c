"""SessionService over PostgreSQL and Redis: the state machine, what is refused, and the events that tell of it."""

from __future__ import annotations

import pickle
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import AppError, Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.models import NewDecision
from shared.sessions.models import (
    MAX_CONTENT_CHARS,
    Concurrency,
    Decision,
    NewMessage,
    NewSession,
    SessionConfig,
    SessionStatus,
    TurnError,
    TurnStatus,
)
from shared.sessions.records.pages import Page, SessionFilter
from shared.sessions.service import SessionService
from tests.integration.domain import OWNER, STRANGER, envelopes

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER}))
MALLORY = Principal(STRANGER, frozenset({Role.USER, Role.APPROVER, Role.ADMIN}))


async def _new(service: SessionService, **fields: Any) -> str:
    session, _, _ = await service.create(NewSession(**fields), ANN, idempotency_key=None)
    return session.id


async def _move(service: SessionService, session_id: str, verb: str, who: Principal = ANN) -> Any:
    if verb == "resume":
        return await service.resume(session_id, who)
    targets = {"activate": SessionStatus.ACTIVE, "suspend": SessionStatus.SUSPENDED, "end": SessionStatus.ENDED}
    return await service.change_status(session_id, who, targets[verb])


@pytest.mark.parametrize(
    ("path", "verb", "becomes"),
    [
        ([], "activate", "ACTIVE"),
        ([], "suspend", None),
        ([], "resume", None),
        ([], "end", "ENDED"),
        (["activate"], "activate", None),
        (["activate"], "suspend", "SUSPENDED"),
        (["activate"], "resume", None),
        (["activate"], "end", "ENDED"),
        (["activate", "suspend"], "activate", None),
        (["activate", "suspend"], "suspend", None),
        (["activate", "suspend"], "resume", "ACTIVE"),
        (["activate", "suspend"], "end", "ENDED"),
        (["end"], "activate", None),
        (["end"], "suspend", None),
        (["end"], "resume", None),
        (["end"], "end", None),
    ],
)
async def test_a_status_moves_along_the_arrows_only(
    service: SessionService, path: list[str], verb: str, becomes: str | None
) -> None:
    session_id = await _new(service)
    for earlier in path:
        await _move(service, session_id, earlier)
    before = (await service.get(session_id, ANN)).session.status

    if becomes is None:
        with pytest.raises(InvalidState) as caught:
            await _move(service, session_id, verb)
        assert caught.value.code is ErrorCode.INVALID_STATE
        assert (await service.get(session_id, ANN)).session.status is before
        return
    changed = await _move(service, session_id, verb)

    assert changed.session.status == becomes
    (event,) = envelopes(changed.messages)
    expected = {"ACTIVE": "activated", "SUSPENDED": "suspended", "ENDED": "ended"}[becomes]
    assert event["type"] == f"session.{expected}"
    assert event["data"]["session"]["status"] == becomes


async def test_a_new_session_is_event_one(service: SessionService) -> None:
    session, created, messages = await service.create(
        NewSession(name="n", tags=["a", "b", "a"]), ANN, idempotency_key=None
    )

    (event,) = envelopes(messages)
    assert (created, event["seq"], event["type"]) == (True, 1, "session.created")
    assert session.tags == ["a", "b"]
    assert event["data"]["session"]["id"] == session.id


async def test_a_repeated_creation_is_told_once(service: SessionService) -> None:
    key = new_id()
    first = await service.create(NewSession(name="n"), ANN, idempotency_key=key)
    again = await service.create(NewSession(name="n"), ANN, idempotency_key=key)

    assert (again[0].id, again[1], again[2]) == (first[0].id, False, [])
    with pytest.raises(Conflict):
        await service.create(NewSession(name="other"), ANN, idempotency_key=key)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\x00"])
async def test_a_key_that_is_no_key_is_refused_by_name(service: SessionService, key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await service.create(NewSession(), ANN, idempotency_key=key)

    assert caught.value.errors[0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    "metadata",
    [{"k": "x" * 17_000}, {"k": "\x00"}],
    ids=["too large", "nul"],
)
async def test_metadata_that_cannot_be_kept_is_the_callers_mistake(
    service: SessionService, metadata: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await service.create(NewSession(metadata=metadata), ANN, idempotency_key=None)

    assert caught.value.code is ErrorCode.VALIDATION_ERROR


def _nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [{"k": 2**70}, {"k": -(2**64)}, _nested(300)], ids=["large", "small", "deep"])
def test_json_that_no_reader_shares_is_refused_at_the_edge(value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="64 bits"):
        NewSession(metadata=value)
    with pytest.raises(ValidationError, match="64 bits"):
        NewDecision(decision=Decision.APPROVE, arguments=value)


async def test_an_unknown_agent_is_refused(service: SessionService) -> None:
    with pytest.raises(InvalidInput) as caught:
        await service.create(NewSession(agent_id="nobody"), ANN, idempotency_key=None)

    assert caught.value.errors[0]["field"] == "agent_id"


async def test_a_first_message_tells_that_the_session_is_active_and_then_of_itself(service: SessionService) -> None:
    session_id = await _new(service)

    posted = await service.post_message(session_id, NewMessage(content="hi"), ANN, idempotency_key=None)

    assert posted.start
    events = envelopes(posted.messages)
    assert [(event["seq"], event["type"]) for event in events] == [(2, "session.activated"), (3, "message.created")]
    assert events[1]["data"]["content"] == "hi"
    assert events[1]["turn_id"] == posted.result.turn.id


async def test_a_repeated_post_starts_nothing_and_tells_nothing(service: SessionService) -> None:
    session_id, key = await _new(service), new_id()
    first = await service.post_message(session_id, NewMessage(content="hi"), ANN, idempotency_key=key)

    again = await service.post_message(session_id, NewMessage(content="hi"), ANN, idempotency_key=key)

    assert (again.start, again.messages) == (False, [])
    assert again.result.turn.id == first.result.turn.id


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", ErrorCode.INVALID_MESSAGE),
        (" \n\t", ErrorCode.INVALID_MESSAGE),
        ("a\x00b", ErrorCode.INVALID_MESSAGE),
    ],
)
async def test_messages_that_cannot_be_are_refused(service: SessionService, content: str, code: ErrorCode) -> None:
    session_id = await _new(service, config=SessionConfig(max_context_tokens=256))

    with pytest.raises(InvalidInput) as caught:
        await service.post_message(session_id, NewMessage(content=content), ANN, idempotency_key=None)

    assert caught.value.code is code
    assert (await service.get(session_id, ANN)).session.status is SessionStatus.CREATED


@pytest.mark.parametrize(
    ("window", "longest", "limit"),
    [
        (256, 756, "about 257 tokens; this session's model reads 256"),  # three characters a token, and 4 for itself
        (2_000_000, MAX_CONTENT_CHARS, "may have 400000 characters"),  # whatever the window
    ],
)
async def test_a_message_that_is_too_long_is_told_which_limit_it_met(
    service: SessionService, window: int, longest: int, limit: str
) -> None:
    session_id = await _new(service, config=SessionConfig(max_context_tokens=window, concurrency=Concurrency.ENQUEUE))
    await service.post_message(session_id, NewMessage(content="x" * longest), ANN, idempotency_key=None)

    with pytest.raises(InvalidInput, match=limit) as caught:
        await service.post_message(session_id, NewMessage(content="x" * (longest + 1)), ANN, idempotency_key=None)

    assert caught.value.code is ErrorCode.MESSAGE_TOO_LONG


async def test_an_unknown_attachment_is_refused(service: SessionService) -> None:
    session_id = await _new(service)

    body = NewMessage(content="look", attachment_ids=["nope"])
    with pytest.raises(InvalidInput) as caught:
        await service.post_message(session_id, body, ANN, idempotency_key=None)

    assert caught.value.errors[0]["field"] == "attachment_ids"


async def test_a_stranger_gets_404_everywhere(service: SessionService) -> None:
    session_id = await _new(service)
    posted = await service.post_message(session_id, NewMessage(content="secret"), ANN, idempotency_key=None)
    turn_id = posted.result.turn.id

    attempts = [
        service.get(session_id, MALLORY),
        _move(service, session_id, "suspend", MALLORY),
        _move(service, session_id, "resume", MALLORY),
        service.post_message(session_id, NewMessage(content="x"), MALLORY, idempotency_key=None),
        service.get_turn(session_id, turn_id, MALLORY),
        service.cancel_turn(session_id, turn_id, MALLORY),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.status == 404
    sessions, _ = await service.list_for(MALLORY, SessionFilter(), Page())
    assert session_id not in {session.id for session in sessions}


async def test_interrupting_a_queue_ends_the_closed_turns_in_the_event_stream(service: SessionService) -> None:
    session_id = await _new(service)
    choices = [Concurrency.REJECT, Concurrency.ENQUEUE, Concurrency.INTERRUPT]
    first, queued, newest = [
        await service.post_message(session_id, NewMessage(content="x", concurrency=choice), ANN, idempotency_key=None)
        for choice in choices
    ]

    ended = [event for event in envelopes(newest.messages) if event["type"] == "stream.ended"]

    assert [(event["turn_id"], event["data"]["status"]) for event in ended] == [(queued.result.turn.id, "cancelled")]
    assert first.start
    assert not newest.start


async def test_resuming_starts_the_turn_that_could_not_be_handed_over(service: SessionService) -> None:
    session_id = await _new(service)
    first = await service.post_message(session_id, NewMessage(content="one"), ANN, idempotency_key=None)
    body = NewMessage(content="two", concurrency=Concurrency.ENQUEUE)
    second = await service.post_message(session_id, body, ANN, idempotency_key=None)
    await _move(service, session_id, "suspend")
    await service.finish_turn(first.result.turn.id, status=TurnStatus.COMPLETED, error=None)

    changed = await _move(service, session_id, "resume")

    assert changed.next_turn_id == second.result.turn.id


async def test_a_failed_turn_tells_why_and_a_repeat_says_the_same(service: SessionService) -> None:
    session_id = await _new(service)
    posted = await service.post_message(session_id, NewMessage(content="hi"), ANN, idempotency_key=None)
    error = TurnError(code=ErrorCode.LLM_TIMEOUT, detail="Too slow.")

    first = await service.finish_turn(posted.result.turn.id, status=TurnStatus.FAILED, error=error)
    # Whoever closed it may have been killed before it could say so; what was stored first stands.
    repeat = await service.finish_turn(posted.result.turn.id, status=TurnStatus.COMPLETED, error=None)

    assert [finished.closed_now for finished, _ in (first, repeat)] == [True, False]
    for _, messages in (first, repeat):
        events = envelopes(messages)
        assert [event["type"] for event in events] == ["stream.chunk", "error.occurred", "stream.ended"]
        assert events[0]["data"]["frame"] == {"type": "error", "code": "LLM_TIMEOUT", "detail": "Too slow."}
        assert events[2]["data"]["status"] == "failed"
    assert (await service.post_message(session_id, NewMessage(content="again"), ANN, idempotency_key=None)).start


async def test_cancelling_a_queued_turn_ends_it_and_a_running_one_is_asked(service: SessionService) -> None:
    session_id = await _new(service)
    running = await service.post_message(session_id, NewMessage(content="one"), ANN, idempotency_key=None)
    body = NewMessage(content="two", concurrency=Concurrency.ENQUEUE)
    queued = await service.post_message(session_id, body, ANN, idempotency_key=None)

    asked = await service.cancel_turn(session_id, running.result.turn.id, ANN)
    closed = await service.cancel_turn(session_id, queued.result.turn.id, ANN)
    again = await service.cancel_turn(session_id, queued.result.turn.id, ANN)

    assert (asked[0].status, asked[1].turn_ids, asked[2]) == (TurnStatus.QUEUED, [running.result.turn.id], [])
    assert closed[0].status is TurnStatus.CANCELLED
    assert [event["type"] for event in envelopes(closed[2])] == ["stream.ended"]
    assert (again[0].status, again[2]) == (TurnStatus.CANCELLED, [])


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcé"), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=st.lists(st.dictionaries(st.sampled_from(["x", "y", "ž"]), _JSON, max_size=3), min_size=8, max_size=8))
def test_what_was_approved_has_the_same_digest_when_it_comes_back_from_the_database(
    postgres_url: str, batch: list[dict[str, Any]]
) -> None:
    """jsonb writes numbers its own way (1e17 becomes an integer, -0.0 loses its sign); the approval still holds."""
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SELECT (%s::jsonb)::text", [orjson.dumps(batch).decode()]).fetchone()
    assert row is not None
    for before, after in zip(batch, orjson.loads(row[0]), strict=True):
        assert arguments_digest("t", before) == arguments_digest("t", after)


async def test_errors_of_the_service_survive_a_process_border(service: SessionService) -> None:
    with pytest.raises(AppError) as caught:
        await service.get("no-such-session", ANN)

    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.code, again.safe_message) == (NotFound, caught.value.code, caught.value.safe_message)
