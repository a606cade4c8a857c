"""Posting messages on a real PostgreSQL: concurrency choices, idempotency, the hand-over to the next turn."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from shared.adapters.postgres.turns.posting import MAX_OPEN_TURNS
from shared.errors import BudgetExceeded, Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.sessions.models import Concurrency, SessionStatus, TurnError, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page
from tests.integration.domain import (
    ANSWER_SECONDS,
    OWNER,
    READER,
    STRANGER,
    WRITER,
    Stores,
    call,
    key,
    plan,
    result_of,
    utc_now,
)

pytestmark = pytest.mark.integration

_ANY, _PAGE = MessageFilter(), Page()


async def test_the_first_message_activates_the_session_and_its_turn_is_next(stores: Stores) -> None:
    session = await stores.session()

    posted = await stores.post(session.id, "hi\n🙂")

    assert (posted.activated, posted.dispatched, posted.replayed, posted.interrupted) == (True, True, False, None)
    assert (await stores.sessions.get(session.id, OWNER)).session.status is SessionStatus.ACTIVE
    assert await stores.turns.get_message(session.id, posted.message.id) == posted.message
    assert await stores.turns.get_turn(session.id, posted.turn.id) == posted.turn


async def test_a_second_message_after_the_first_turn_ended_does_not_activate_again(stores: Stores) -> None:
    first = await stores.turn()
    await stores.finish(first.turn.id)

    posted = await stores.post(first.message.session_id)

    assert (posted.activated, posted.dispatched) == (False, True)


async def test_reject_refuses_while_a_turn_is_open(stores: Stores) -> None:
    first = await stores.turn()

    with pytest.raises(Conflict) as caught:
        await stores.post(first.message.session_id)

    assert caught.value.code is ErrorCode.CONFLICT


async def test_a_full_queue_takes_no_more_until_a_turn_has_ended(stores: Stores) -> None:
    first = await stores.turn()
    session_id = first.message.session_id
    for _ in range(MAX_OPEN_TURNS - 1):
        await stores.post(session_id, concurrency=Concurrency.ENQUEUE)

    with pytest.raises(BudgetExceeded) as caught:
        await stores.post(session_id, concurrency=Concurrency.ENQUEUE)
    again = key("full", "once")
    with pytest.raises(BudgetExceeded):
        await stores.post(session_id, concurrency=Concurrency.ENQUEUE, idempotency=again)
    await stores.finish(first.turn.id)
    taken = await stores.post(session_id, concurrency=Concurrency.ENQUEUE, idempotency=again)

    assert (caught.value.code, caught.value.status) == (ErrorCode.RATE_LIMITED, 429)
    assert caught.value.retry_after_s is not None
    assert taken.replayed is False, "a refusal uses up no key"


async def test_enqueue_waits_behind_the_open_turn(stores: Stores) -> None:
    first = await stores.turn()

    posted = await stores.post(first.message.session_id, concurrency=Concurrency.ENQUEUE)

    assert posted.dispatched is False
    assert (await stores.finish(first.turn.id)).next_turn_id == posted.turn.id


async def test_interrupt_asks_the_running_turn_to_stop_and_waits_for_it(stores: Stores) -> None:
    first = await stores.turn()

    posted = await stores.post(first.message.session_id, concurrency=Concurrency.INTERRUPT)

    assert posted.dispatched is False
    assert posted.interrupted is not None
    assert posted.interrupted.turn_ids == [first.turn.id]
    assert await stores.turns.cancel_requested([first.turn.id, posted.turn.id]) == {first.turn.id}
    assert (await stores.finish(first.turn.id, TurnStatus.CANCELLED)).next_turn_id == posted.turn.id


async def test_interrupt_closes_what_was_queued_and_had_not_begun(stores: Stores) -> None:
    first = await stores.turn()
    session_id = first.message.session_id
    queued = await stores.post(session_id, concurrency=Concurrency.ENQUEUE)

    posted = await stores.post(session_id, concurrency=Concurrency.INTERRUPT)

    assert posted.interrupted is not None
    assert posted.interrupted.closed_turn_ids == [queued.turn.id]
    assert (await stores.turns.get_turn(session_id, queued.turn.id)).status is TurnStatus.CANCELLED


async def test_interrupt_with_only_queued_turns_starts_at_once(stores: Stores) -> None:
    first = await stores.turn()
    session_id = first.message.session_id
    queued = await stores.post(session_id, concurrency=Concurrency.ENQUEUE)
    # The hand-over was cut: the first turn ended while the session could not hand over.
    await stores.move(session_id, SessionStatus.SUSPENDED)
    await stores.finish(first.turn.id)
    await stores.move(session_id, SessionStatus.ACTIVE)

    posted = await stores.post(session_id, concurrency=Concurrency.INTERRUPT)

    assert posted.dispatched is True
    assert posted.interrupted is not None
    assert (posted.interrupted.turn_ids, posted.interrupted.closed_turn_ids) == ([], [queued.turn.id])


async def test_interrupting_a_wait_for_approval_releases_the_approval(stores: Stores) -> None:
    proposal = call("http_request", needs_approval=True)
    waiting = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)

    posted = await stores.post(waiting.message.session_id, concurrency=Concurrency.INTERRUPT)

    assert posted.interrupted is not None
    assert posted.interrupted.approvals == [(approval.id, approval.instance_id)]


@pytest.mark.parametrize("choice", list(Concurrency))
async def test_of_messages_posted_at_once_exactly_one_runs(stores: Stores, choice: Concurrency) -> None:
    session = await stores.session()

    outcomes = await asyncio.gather(
        *(stores.post(session.id, concurrency=choice) for _ in range(5)), return_exceptions=True
    )

    posted = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert sum(outcome.dispatched for outcome in posted) == 1
    assert sum(outcome.activated for outcome in posted) == 1
    assert len(posted) == (1 if choice is Concurrency.REJECT else 5)
    assert all(isinstance(outcome, Conflict) for outcome in refused)
    open_turns = await stores.rows(
        b"SELECT number FROM turns WHERE session_id = %(s)s AND ended_at IS NULL", s=session.id
    )
    # Interrupt: the running one (asked to stop) and the newest. Steer: all others join the first.
    left = {Concurrency.REJECT: 1, Concurrency.ENQUEUE: 5, Concurrency.INTERRUPT: 2, Concurrency.STEER: 1}
    assert len(open_turns) == left[choice]


async def test_the_same_key_and_body_post_one_message(stores: Stores) -> None:
    session = await stores.session()
    claim = key(new_id())

    first = await stores.post(session.id, idempotency=claim)
    again = await stores.post(session.id, idempotency=claim)

    assert (again.replayed, again.dispatched) == (True, False)
    assert (again.message, again.turn) == (first.message, first.turn)


async def test_a_replay_answers_even_when_a_new_message_would_be_refused(stores: Stores) -> None:
    session = await stores.session()
    claim = key(new_id())
    first = await stores.post(session.id, idempotency=claim)
    await stores.move(session.id, SessionStatus.ENDED)

    again = await stores.post(session.id, idempotency=claim)

    assert again.replayed
    assert again.turn.id == first.turn.id


async def test_the_same_key_with_another_body_is_a_conflict(stores: Stores) -> None:
    session = await stores.session()
    name = new_id()
    await stores.post(session.id, idempotency=key(name, "one"))

    with pytest.raises(Conflict):
        await stores.post(session.id, concurrency=Concurrency.ENQUEUE, idempotency=key(name, "two"))


async def test_concurrent_posts_with_one_key_make_one_message(stores: Stores) -> None:
    session = await stores.session()
    claim = key(new_id())

    posted = await asyncio.gather(*(stores.post(session.id, idempotency=claim) for _ in range(6)))

    assert sorted(outcome.replayed for outcome in posted) == [False] + [True] * 5
    assert len({outcome.turn.id for outcome in posted}) == 1


async def test_a_refused_post_leaves_its_key_unclaimed(stores: Stores) -> None:
    first = await stores.turn()
    claim = key(new_id())
    with pytest.raises(Conflict):
        await stores.post(first.message.session_id, idempotency=claim)
    await stores.finish(first.turn.id)

    assert (await stores.post(first.message.session_id, idempotency=claim)).replayed is False


@pytest.mark.parametrize("user", [STRANGER, READER])
async def test_those_who_may_not_write_find_no_session(stores: Stores, user: str) -> None:
    session = await stores.shared_session()

    with pytest.raises(NotFound) as caught:
        await stores.post(session.id, user=user)

    assert caught.value.code is ErrorCode.SESSION_NOT_FOUND


async def test_a_participant_may_post_and_the_turn_says_who(stores: Stores) -> None:
    session = await stores.shared_session()

    posted = await stores.post(session.id, user=WRITER)

    assert (await stores.started(posted.turn.id)).requested_by == WRITER


@pytest.mark.parametrize("status", [SessionStatus.SUSPENDED, SessionStatus.ENDED])
async def test_a_session_that_takes_no_messages_says_so(stores: Stores, status: SessionStatus) -> None:
    session = await stores.session()
    await stores.move(session.id, status)

    with pytest.raises(InvalidState):
        await stores.post(session.id)


async def test_a_nul_character_is_refused_and_stores_nothing(stores: Stores) -> None:
    session = await stores.session()

    with pytest.raises(InvalidInput):
        await stores.post(session.id, "a\x00b")

    assert (await stores.sessions.get(session.id, OWNER)).session.status is SessionStatus.CREATED
    assert (await stores.post(session.id)).dispatched


async def test_of_many_finishers_one_closes_and_all_name_the_turn_that_was_handed_over_to(stores: Stores) -> None:
    first = await stores.turn()
    queued = await stores.post(first.message.session_id, concurrency=Concurrency.ENQUEUE)

    finished = await asyncio.gather(*(stores.finish(first.turn.id) for _ in range(4)))

    assert sum(outcome.closed_now for outcome in finished) == 1
    assert {outcome.next_turn_id for outcome in finished} == {queued.turn.id}


async def test_finishing_again_changes_nothing(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id)
    first = await stores.finish(posted.turn.id)
    before = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

    again = await stores.turns.finish(
        posted.turn.id,
        status=TurnStatus.FAILED,
        error=TurnError(code=ErrorCode.LLM_ERROR, detail="late"),
        now=utc_now() + timedelta(seconds=1),
    )

    assert (first.closed_now, first.steps, first.usage.output_tokens) == (True, 1, 5)
    assert again.closed_now is False
    assert await stores.turns.get_turn(posted.turn.session_id, posted.turn.id) == before


async def test_a_failed_turn_keeps_its_error_and_closes_what_hung_open(stores: Stores) -> None:
    proposal = call()
    posted = await stores.proposed(proposal)
    open_step = await stores.started(posted.turn.id, 2)

    await stores.turns.finish(
        posted.turn.id,
        status=TurnStatus.FAILED,
        error=TurnError(code=ErrorCode.LLM_TIMEOUT, detail="Too slow."),
        now=utc_now(),
    )

    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.error == TurnError(code="LLM_TIMEOUT", detail="Too slow.")
    assert [tool_call.status for tool_call in turn.tool_calls] == ["failed"]
    message = await stores.turns.get_message(posted.turn.session_id, open_step.message_id)
    assert message.status == "failed"


async def test_a_suspended_session_does_not_hand_over_until_it_is_resumed(stores: Stores) -> None:
    first = await stores.turn()
    session_id = first.message.session_id
    queued = await stores.post(session_id, concurrency=Concurrency.ENQUEUE)
    await stores.move(session_id, SessionStatus.SUSPENDED)

    assert (await stores.finish(first.turn.id)).next_turn_id is None
    assert await stores.turns.claim_next(session_id, now=utc_now()) is None
    assert await stores.turns.sessions_with_idle_queue(before=utc_now(), limit=100) == []

    await stores.move(session_id, SessionStatus.ACTIVE)
    assert await stores.turns.sessions_with_idle_queue(before=utc_now(), limit=100) == [session_id]
    assert await stores.turns.claim_next(session_id, now=utc_now()) == queued.turn.id
    assert await stores.turns.claim_next(session_id, now=utc_now()) is None


async def test_of_many_who_claim_the_next_turn_exactly_one_gets_it(stores: Stores) -> None:
    for _ in range(5):
        first = await stores.turn()
        session_id = first.message.session_id
        await stores.post(session_id, concurrency=Concurrency.ENQUEUE)
        await stores.move(session_id, SessionStatus.SUSPENDED)
        await stores.finish(first.turn.id)
        await stores.move(session_id, SessionStatus.ACTIVE)

        claims = await asyncio.gather(*(stores.turns.claim_next(session_id, now=utc_now()) for _ in range(6)))

        assert sum(claim is not None for claim in claims) == 1


async def test_turns_hand_over_in_the_order_they_were_posted(stores: Stores) -> None:
    current = await stores.turn()
    queued = [
        (await stores.post(current.message.session_id, concurrency=Concurrency.ENQUEUE)).turn.id for _ in range(3)
    ]

    ran = []
    next_id: str | None = current.turn.id
    while next_id is not None:
        ran.append(next_id)
        next_id = (await stores.finish(next_id)).next_turn_id

    assert ran == [current.turn.id, *queued]


async def test_turns_to_look_at_are_those_dispatched_long_ago_in_active_sessions(stores: Stores) -> None:
    stuck, suspended, ended = await stores.turn(), await stores.turn(), await stores.turn()
    queued = await stores.post(stuck.message.session_id, concurrency=Concurrency.ENQUEUE)
    await stores.move(suspended.message.session_id, SessionStatus.SUSPENDED)
    await stores.finish(ended.turn.id)

    found = {
        turn.turn_id
        for turn in await stores.turns.to_look_at(running_before=utc_now(), waiting_before=utc_now(), limit=1_000)
    }

    assert stuck.turn.id in found
    assert found.isdisjoint({suspended.turn.id, ended.turn.id, queued.turn.id})
    await stores.turns.touch_dispatch(stuck.turn.id, now=utc_now() + timedelta(minutes=1))
    later = await stores.turns.to_look_at(running_before=utc_now(), waiting_before=utc_now(), limit=1_000)
    assert stuck.turn.id not in {turn.turn_id for turn in later}


async def _quiet_until(stores: Stores, turn_id: str) -> datetime:
    """How long a turn may be silent, as the sweep is told."""
    later = utc_now() + timedelta(hours=1)
    turns = await stores.turns.to_look_at(running_before=later, waiting_before=later, limit=1_000)
    [found] = [turn.quiet_until for turn in turns if turn.turn_id == turn_id]
    return found


async def test_a_turn_may_be_silent_for_as_long_as_what_it_does_may_take(stores: Stores) -> None:
    begun = utc_now()
    posted, proposed = await stores.turn(), call("http_request", {"a": 1})
    assert begun <= await _quiet_until(stores, posted.turn.id) <= utc_now(), "it starts at once"
    start = await stores.started(posted.turn.id)
    answering = await _quiet_until(stores, posted.turn.id)
    assert timedelta(seconds=ANSWER_SECONDS) <= answering - begun < timedelta(seconds=ANSWER_SECONDS + 60)
    await stores.steps.save_step(result_of(start, calls=[proposed]))
    assert await _quiet_until(stores, posted.turn.id) <= utc_now(), "its calls begin at once"
    await stores.begin(posted.turn.id)
    assert await _quiet_until(stores, posted.turn.id) <= utc_now(), "also when the step is only said again"
    now = utc_now()
    await stores.tool_calls.begin_tool_call(proposed.id, new_id(), now=now)
    limit = timedelta(seconds=start.plan.tool_timeout_seconds)
    assert abs(await _quiet_until(stores, posted.turn.id) - now - limit) < timedelta(seconds=1)
    await stores.tool_result(proposed.id)
    assert await _quiet_until(stores, posted.turn.id) <= utc_now()


async def test_a_late_repeat_of_an_earlier_step_takes_no_time_from_the_one_that_runs(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id, 1, calls=[call()])
    await stores.started(posted.turn.id, 2)
    before = await _quiet_until(stores, posted.turn.id)
    await stores.begin(posted.turn.id, 1)
    assert await _quiet_until(stores, posted.turn.id) == before


async def test_what_a_restarted_turn_says_again_takes_no_time(stores: Stores) -> None:
    posted = await stores.turn()
    for step in (1, 2):
        await stores.answer(posted.turn.id, step, calls=[call()])
    for step in (1, 2):
        await stores.begin(posted.turn.id, step)
        assert await _quiet_until(stores, posted.turn.id) <= utc_now()


async def test_a_pause_that_a_model_asked_for_is_no_silence(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.started(posted.turn.id)
    until = utc_now() + timedelta(hours=1)
    await stores.steps.note_pause(posted.turn.id, until)
    assert await _quiet_until(stores, posted.turn.id) == until


async def test_what_a_process_of_an_older_version_runs_is_not_missed(stores: Stores) -> None:
    """It writes no time when it begins a step, nor when it makes a turn."""
    streams, fresh = await stores.turn(), await stores.turn()
    await stores.started(streams.turn.id)
    await stores.sql(b"UPDATE turns SET quiet_until = now() - interval '1 hour' WHERE id = %(t)s", t=streams.turn.id)
    await stores.sql(
        b"UPDATE turns SET quiet_until = NULL, created_at = created_at - interval '3 hours' WHERE id = %(t)s",
        t=fresh.turn.id,
    )
    for turn in (streams, fresh):
        assert await _quiet_until(stores, turn.turn.id) > utc_now() + timedelta(seconds=ANSWER_SECONDS)


async def test_a_turn_may_wait_for_a_place_until_a_later_one_has_begun(stores: Stores) -> None:
    waiting, running = await stores.turn(), await stores.turn()
    ready = utc_now()
    await asyncio.sleep(0.01)
    later = await stores.turn()
    await stores.started(running.turn.id)
    assert await stores.turns.may_be_queued(ready, now=utc_now())
    await stores.started(later.turn.id)
    assert not await stores.turns.may_be_queued(ready, now=utc_now())
    found = await stores.turns.look_again(waiting.turn.id)
    assert found is not None
    await stores.finish(waiting.turn.id)
    assert await stores.turns.look_again(waiting.turn.id) is None
    assert not await stores.turns.touch_dispatch(waiting.turn.id, now=utc_now())


async def test_a_stored_step_ends_the_count_of_restarts(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.turns.note_restart(posted.turn.id, most=5, now=utc_now())
    await stores.answer(posted.turn.id)
    found = await stores.turns.look_again(posted.turn.id)
    assert found is not None
    assert found.restarts == 0


async def test_a_turn_that_waits_for_people_may_be_silent_until_the_deadline_and_then_only_until_the_decision(
    stores: Stores,
) -> None:
    proposed = call("http_request", {"a": 1}, needs_approval=True)
    await stores.proposed(proposed)
    approval = await stores.request_approval(proposed)
    assert await _quiet_until(stores, approval.turn_id) == approval.expires_at
    await stores.sql(
        b"UPDATE approvals SET status = 'approved', decided_at = %(now)s WHERE id = %(id)s",
        now=utc_now(),
        id=approval.id,
    )
    assert await _quiet_until(stores, approval.turn_id) <= utc_now()


async def test_a_resumed_turn_is_not_missed_for_the_time_it_was_suspended(stores: Stores) -> None:
    posted = await stores.turn()
    session_id = posted.message.session_id
    await stores.sql(b"UPDATE turns SET quiet_until = now() - interval '1 day' WHERE id = %(t)s", t=posted.turn.id)
    await stores.move(session_id, SessionStatus.SUSPENDED)
    await stores.move(session_id, SessionStatus.ACTIVE)
    later = utc_now() + timedelta(hours=1)
    turns = await stores.turns.to_look_at(running_before=later, waiting_before=later, limit=1_000)
    assert posted.turn.id not in {turn.turn_id for turn in turns}, "nobody has told its orchestration yet"
    hold = await stores.sessions.hold(session_id)
    assert hold is not None
    told_at = utc_now()
    await stores.sessions.told_hold(session_id, hold.version, now=told_at)
    assert await _quiet_until(stores, posted.turn.id) == told_at


async def test_restarts_are_counted_and_bounded_and_end_with_the_turn(stores: Stores) -> None:
    posted = await stores.turn()
    counts = [await stores.turns.note_restart(posted.turn.id, most=2, now=utc_now()) for _ in range(3)]
    assert counts == [1, 2, None]
    await stores.turns.forget_restart(posted.turn.id)
    assert await stores.turns.note_restart(posted.turn.id, most=2, now=utc_now()) == 2
    await stores.finish(posted.turn.id)
    assert await stores.turns.note_restart(posted.turn.id, most=9, now=utc_now()) is None


async def test_calls_that_wait_are_those_of_the_turn_that_people_are_asked_for(stores: Stores) -> None:
    posted = await stores.turn()
    asked = call("http_request", {"a": 1}, ordinal=1, needs_approval=True)
    await stores.answer(posted.turn.id, calls=[call(ordinal=0), asked])
    assert await stores.turns.calls_that_wait(posted.turn.id) == [asked.id]


async def test_cancelling_a_running_turn_asks_and_a_second_time_asks_again(stores: Stores) -> None:
    posted = await stores.turn()

    for _ in range(2):
        interruption, target = await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
        assert interruption.turn_ids == [posted.turn.id]
        assert target.session_id == posted.turn.session_id
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)
    interruption, _ = await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    assert (interruption.turn_ids, interruption.closed_turn_ids) == ([], [])


@pytest.mark.parametrize("user", [STRANGER, READER])
async def test_those_who_may_not_write_cannot_cancel(stores: Stores, user: str) -> None:
    session = await stores.shared_session()
    posted = await stores.post(session.id)

    with pytest.raises(NotFound):
        await stores.turns.cancel(session.id, posted.turn.id, user, now=utc_now())
    assert await stores.turns.cancel_requested([posted.turn.id]) == set()


async def test_a_turn_is_only_found_in_its_own_session(stores: Stores) -> None:
    posted, other = await stores.turn(), await stores.session()

    with pytest.raises(NotFound):
        await stores.turns.get_turn(other.id, posted.turn.id)
    with pytest.raises(NotFound):
        await stores.turns.get_message(other.id, posted.message.id)
    with pytest.raises(NotFound):
        await stores.turns.cancel(other.id, posted.turn.id, OWNER, now=utc_now())
    assert await stores.turns.list_messages(other.id, _ANY, _PAGE) == []


async def test_the_plan_is_frozen_when_the_message_is_posted(stores: Stores) -> None:
    frozen = plan(instructions="Sing.", temperature=0.5, max_steps=3, tools=["calculate"])
    session = await stores.session()
    posted = await stores.post(session.id, turn_plan=frozen)

    assert (await stores.started(posted.turn.id)).plan == frozen
