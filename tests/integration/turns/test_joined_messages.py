"""Steering: a message joins the turn that runs, before its next model step, or begins a turn of its own; never both,
never neither."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import AppError
from shared.sessions.context.window import fit, to_conversation
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import (
    ApprovalMode,
    ClientTool,
    Concurrency,
    Message,
    MessageRole,
    MessageStatus,
    TurnStatus,
)
from shared.sessions.posting.joining import MAX_JOINED
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import SavedStep, StepClosed, StepOutcome, StepStart, StoredStep
from shared.sessions.records.turns import PostedMessage
from tests.integration.bench import BOTH_APIS, Bench
from tests.integration.branches.branching import Conversation
from tests.integration.domain import WRITER, Stores, call, key, plan, result_of, script, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def _steer(stores: Stores, session_id: str, content: str = "wait", **options: Any) -> PostedMessage:
    return await stores.post(session_id, content, concurrency=Concurrency.STEER, **options)


async def _save_last(stores: Stores, start: StepStart, **changes: Any) -> SavedStep:
    return await stores.steps.save_last_step(start.turn_id, replace(result_of(start), **changes))


async def _listed(stores: Stores, session_id: str) -> list[Message]:
    found = await stores.turns.list_messages(session_id, MessageFilter(), Page(100))
    return [message for _, message in found]


def _read(start: StepStart) -> list[str]:
    """Oldest first."""
    return [message.content for message in reversed(start.context)]


async def test_it_stands_after_the_results_of_the_step_that_it_followed_and_the_next_step_reads_it(
    stores: Stores,
) -> None:
    posted = await stores.turn("question")
    session_id, turn_id = posted.turn.session_id, posted.turn.id
    start = await stores.started(turn_id)

    joined = await _steer(stores, session_id, "and in euros")

    assert (joined.turn.id, joined.message.turn_id, joined.message.joined) == (turn_id, turn_id, True)
    assert (joined.dispatched, joined.replayed, joined.message.joined_after) == (False, False, start.message_id)
    proposal = call()
    assert await stores.steps.save_step(result_of(start, content="let me see", calls=[proposal]))
    assert await stores.tool_result(proposal.id, content="42")
    second = await stores.started(turn_id, 2)
    assert _read(second) == ["question", "let me see", "42", "and in euros"]
    assert [message.is_joined for message in reversed(second.context)] == [False, False, False, True]
    saved = await _save_last(stores, second, content="42 euros")
    assert saved.finished is not None
    assert not saved.is_joined
    listed = await _listed(stores, session_id)
    assert [message.content for message in listed] == ["question", "let me see", "42", "and in euros", "42 euros"]
    assert [message.joined for message in listed] == [False, False, False, True, False]
    assert listed[3] == joined.message
    numbers = await stores.rows(b"SELECT number FROM messages WHERE session_id = %(s)s", s=session_id)
    assert sorted(row["number"] for row in numbers) == [1, 2, 3, 4, 5]


async def test_two_join_a_turn_that_has_not_begun_and_its_first_step_reads_all_three(stores: Stores) -> None:
    posted = await stores.turn("one")
    for content in ("two", "three"):
        joined = await _steer(stores, posted.turn.session_id, content)
        assert (joined.turn.id, joined.message.joined_after) == (posted.turn.id, None)

    assert _read(await stores.started(posted.turn.id)) == ["one", "two", "three"]


async def test_an_answer_during_which_a_message_came_does_not_end_its_turn(stores: Stores) -> None:
    posted = await stores.turn("question")
    session_id, turn_id = posted.turn.session_id, posted.turn.id
    start = await stores.started(turn_id)
    await _steer(stores, session_id, "in French")

    saved = await _save_last(stores, start, content="answer")

    assert saved == SavedStep(is_stored=True, is_joined=True)
    assert await stores.steps.stored_by(start.message_id, start.attempt) == saved, "a save whose reply was lost"
    again = await stores.begin(turn_id)
    assert isinstance(again, StoredStep)
    assert again.is_joined, "the step that is said again goes on as before"
    assert (await _steer(stores, session_id, "and short")).turn.id == turn_id, "the next step has not begun"
    second = await stores.started(turn_id, 2)
    assert _read(second) == ["question", "answer", "in French", "and short"]
    assert (await _save_last(stores, second)).finished is not None
    assert not (await stores.steps.stored_by(second.message_id, second.attempt)).is_joined


async def test_after_the_last_step_it_begins_a_turn_of_its_own(stores: Stores) -> None:
    """That step is stored, and its turn has still to be closed: by `finish_turn`."""
    posted = await stores.turn()
    await stores.answer(posted.turn.id)

    own = await _steer(stores, posted.turn.session_id)

    assert own.turn.id != posted.turn.id
    assert (own.message.joined, own.turn.status) == (False, TurnStatus.QUEUED)
    assert (await stores.finish(posted.turn.id)).next_turn_id == own.turn.id


@pytest.mark.parametrize("status", [MessageStatus.FAILED, MessageStatus.CANCELLED])
async def test_nor_does_it_join_what_fails_or_is_cancelled(stores: Stores, status: MessageStatus) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    await _steer(stores, posted.turn.session_id, "with it")
    assert await stores.steps.save_step(result_of(start, status=status))

    own = await _steer(stores, posted.turn.session_id, "after it")

    assert own.turn.id != posted.turn.id
    assert (await stores.finish(posted.turn.id, TurnStatus.FAILED)).next_turn_id == own.turn.id
    read = _read(await stores.started(own.turn.id))
    assert [text for text in read if text != "answer"] == ["hello", "with it", "after it"]


async def test_after_a_cancel_it_begins_a_turn_of_its_own(stores: Stores) -> None:
    posted = await stores.turn()
    session_id = posted.turn.session_id
    await stores.started(posted.turn.id)
    await _steer(stores, session_id, "before")
    await stores.turns.cancel(session_id, posted.turn.id, "ann", now=posted.turn.created_at)

    own = await _steer(stores, session_id, "after")

    assert own.turn.id != posted.turn.id
    assert isinstance(await stores.begin(posted.turn.id, 2), StepClosed)
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)
    assert [text for text in _read(await stores.started(own.turn.id)) if text] == ["hello", "before", "after"]


async def test_without_a_turn_it_is_a_message_as_any(stores: Stores) -> None:
    session = await stores.session()
    posted = await _steer(stores, session.id)
    assert (posted.dispatched, posted.message.joined) == (True, False)


async def test_it_is_asked_again_with_its_key_and_joins_once(stores: Stores) -> None:
    posted = await stores.turn()
    session_id = posted.turn.session_id
    first = await _steer(stores, session_id, idempotency=key("k"))
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)

    again = await _steer(stores, session_id, idempotency=key("k"))

    assert again.replayed
    assert (again.message, again.turn.id) == (first.message, posted.turn.id)
    assert len(await _listed(stores, session_id)) == 3


async def _waiting(stores: Stores, count: int) -> bool:
    waiting = await stores.value(b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return bool(waiting >= count)


@pytest.mark.parametrize("is_first", [True, False], ids=["message first", "answer first"])
async def test_a_message_and_the_last_answer_at_once(stores: Stores, *, is_first: bool) -> None:
    """Both wait for the session; whoever comes first decides, and the other one sees what it did."""
    posted = await stores.turn()
    session_id, turn_id = posted.turn.session_id, posted.turn.id
    start = await stores.started(turn_id)
    acts = [lambda: _steer(stores, session_id), lambda: _save_last(stores, start)]
    tasks: list[asyncio.Task[Any]] = []
    async with stores.pool.transaction() as holder:
        await holder.execute(b"SELECT FROM sessions WHERE id = %(s)s FOR UPDATE", {"s": session_id})
        for count, act in enumerate(acts if is_first else reversed(acts), start=1):
            tasks.append(asyncio.create_task(act()))
            await until(lambda count=count: _waiting(stores, count))  # type: ignore[misc]
    done = [await task for task in tasks]
    message, saved = done if is_first else reversed(done)

    assert saved.is_stored
    assert (message.turn.id == turn_id) == saved.is_joined == (saved.finished is None)
    assert message.message.joined == saved.is_joined
    if saved.is_joined:
        assert "wait" in _read(await stores.started(turn_id, 2))
    else:
        assert message.dispatched or saved.finished.next_turn_id == message.turn.id
        assert message.dispatched != (saved.finished.next_turn_id == message.turn.id), "started once"


def _tool(name: str = "ask_page") -> ClientTool:
    return ClientTool(name=name)


@pytest.mark.parametrize(
    ("of_turn", "of_message", "joins"),
    [
        ({"approval_mode": ApprovalMode.AUTO}, {"approval_mode": ApprovalMode.MANUAL}, False),
        ({"approval_mode": ApprovalMode.MANUAL}, {"approval_mode": ApprovalMode.AUTO}, True),
        ({"roles": ["user"]}, {"roles": []}, False),
        ({"roles": []}, {"roles": ["user"]}, True),
        ({"agent_id": "one"}, {"agent_id": "two"}, False),
        ({}, {"output_schema": {"type": "object"}}, False),
        ({"output_schema": {"type": "object"}}, {}, True),
        ({}, {"client_tools": {"ask_page": _tool()}}, False),
        ({"client_tools": {"ask_page": _tool()}}, {"client_tools": {"ask_page": _tool()}}, True),
        ({"max_steps": 1}, {}, False),
        ({"max_context_tokens": 20}, {}, False),
    ],
    ids=[
        "stricter",
        "looser",
        "unattended",
        "attended",
        "other agent",
        "schema",
        "of schema",
        "new tool",
        "same tool",
        "no step left",
        "no room",
    ],
)
async def test_a_turn_keeps_what_it_began_with(
    stores: Stores, of_turn: dict[str, Any], of_message: dict[str, Any], joins: bool
) -> None:
    posted = await stores.turn("hello", **of_turn)
    await stores.started(posted.turn.id)
    asked: TurnPlan = plan(**of_message)

    message = await _steer(stores, posted.turn.session_id, "a longer text than some have room for", turn_plan=asked)

    assert (message.turn.id == posted.turn.id) == joins


async def test_a_participant_does_not_steer_the_turn_of_somebody_else(stores: Stores) -> None:
    session = await stores.shared_session()
    posted = await stores.post(session.id)

    own = await _steer(stores, session.id, user=WRITER)

    assert own.turn.id != posted.turn.id


async def test_so_many_join_one_turn(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.started(posted.turn.id)
    turns = [(await _steer(stores, posted.turn.session_id, "x")).turn.id for _ in range(MAX_JOINED + 1)]
    assert [turn == posted.turn.id for turn in turns] == [True] * MAX_JOINED + [False]


async def test_turns_that_it_begins_are_bounded_as_those_that_are_queued(stores: Stores) -> None:
    posted = await stores.turn("hello", max_steps=1)
    await stores.started(posted.turn.id)
    for _ in range(31):
        await _steer(stores, posted.turn.session_id)
    with pytest.raises(AppError, match="32 open turns"):
        await _steer(stores, posted.turn.session_id)


async def test_a_message_on_another_branch_is_none_of_the_turn(stores: Stores) -> None:
    """The turn runs on the branch that was active when it was posted."""
    conversation = Conversation(stores, (await stores.session()).id)
    first = await conversation.ask("a")
    running = await stores.post(conversation.id, "b")
    await stores.started(running.turn.id)
    await conversation.regenerate(first.message.id, concurrency=Concurrency.ENQUEUE)

    assert (await _steer(stores, conversation.id)).turn.id != running.turn.id


async def _steered(stores: Stores) -> tuple[Conversation, PostedMessage, PostedMessage]:
    """question, let me see, 42, [and in euros], 42 euros."""
    conversation = Conversation(stores, (await stores.session()).id)
    posted = await stores.post(conversation.id, "question")
    proposal = call()
    await stores.answer(posted.turn.id, content="let me see", calls=[proposal])
    joined = await _steer(stores, conversation.id, "and in euros")
    assert await stores.tool_result(proposal.id, content="42")
    await stores.answer(posted.turn.id, 2, content="42 euros")
    await stores.finish(posted.turn.id)
    return conversation, posted, joined


async def test_it_is_answered_again_from_where_it_joined(stores: Stores) -> None:
    conversation, _, joined = await _steered(stores)

    again = await conversation.regenerate(joined.message.id)

    start = await stores.started(again.turn.id)
    assert _read(start) == ["question", "let me see", "42", "and in euros"]
    assert not start.context[0].is_joined, "it is what this turn answers"
    assert (await _save_last(stores, start, content="EUR 42")).finished is not None
    shown = await conversation.listed(1)
    assert shown == ["question", "let me see", "42", "and in euros", "EUR 42"]


async def test_the_question_is_answered_again_without_what_joined_later(stores: Stores) -> None:
    conversation, posted, _ = await _steered(stores)
    again = await conversation.regenerate(posted.message.id)
    assert _read(await stores.started(again.turn.id)) == ["question"]


async def test_a_fork_has_it_in_its_place(stores: Stores) -> None:
    conversation, posted, joined = await _steered(stores)
    await conversation.ask("thanks")
    whole = await conversation.fork()
    upto = await conversation.fork(message_id=joined.message.id)
    listed = await _listed(stores, whole.id)
    assert [one.content for one in listed] == [
        "question", "let me see", "42", "and in euros", "42 euros", "thanks", "THANKS",
    ]  # fmt: skip
    assert len({one.turn_id for one in listed[:5]}) == 1
    assert listed[3].joined
    assert [one.content for one in await _listed(stores, upto.id)] == ["question", "let me see", "42", "and in euros"]
    assert posted.turn.id not in {one.turn_id for one in listed}


async def test_no_fork_is_made_at_one_whose_turn_still_runs(stores: Stores) -> None:
    posted = await stores.turn()
    joined = await _steer(stores, posted.turn.session_id)
    with pytest.raises(AppError, match="still running"):
        await Conversation(stores, posted.turn.session_id).fork(message_id=joined.message.id)


async def test_what_joined_is_read_however_long_its_turn_becomes(stores: Stores) -> None:
    posted = await stores.turn("question")
    for step in range(1, 6):
        proposal = call()
        await stores.answer(posted.turn.id, step, content=f"step {step}", calls=[proposal])
        if step == 2:
            await _steer(stores, posted.turn.session_id, "in euros")
        assert await stores.tool_result(proposal.id, content=f"result {step} " + "x" * 3_000, tokens=1_010)
    context = (await stores.started(posted.turn.id, 6)).context

    kept = fit(context, 1_500)

    assert [one.content[:8] for one in kept] == ["question", "in euros", "step 5", "result 5"]
    said = to_conversation(kept)
    assert [one.text for one in said if isinstance(one, UserSaid)] == ["question", "in euros"]


async def test_whoever_approves_a_call_reads_what_joined_before_it(stores: Stores) -> None:
    posted = await stores.turn("question")
    first = call()
    await stores.answer(posted.turn.id, calls=[first])
    await _steer(stores, posted.turn.session_id, "and post it")
    await stores.tool_result(first.id)
    asked = call("http_request", {"url": "http://a.test/"}, needs_approval=True)
    await stores.answer(posted.turn.id, 2, calls=[asked])
    await _steer(stores, posted.turn.session_id, "too late")

    context = await stores.approvals.context((await stores.request_approval(asked)).id)

    assert context is not None
    assert context.question is not None
    assert context.question.text == "question\n\nand post it"


async def test_one_that_the_filter_refuses_is_left_out_and_the_turn_stays_readable(stores: Stores) -> None:
    posted = await stores.turn("question")
    start = await stores.started(posted.turn.id)
    joined = await _steer(stores, posted.turn.session_id, "something bad")
    assert (await _save_last(stores, start, content="answer")).is_joined
    second = await stores.started(posted.turn.id, 2)

    assert await stores.steps.leave_out(posted.turn.id, 2, second.attempt) == [(joined.message.id, MessageRole.USER)]

    kept = fit((await stores.started(posted.turn.id, 2)).context, 1_000)
    assert [one.content for one in kept] == ["question", "answer", "something bad"]
    texts = [one.text for one in to_conversation(kept) if isinstance(one, UserSaid)]
    assert texts[0] == "question"
    assert "left out" in texts[1]


@pytest.mark.parametrize("api", BOTH_APIS)
async def test_a_model_that_has_answered_reads_what_came_meanwhile_and_answers_again(
    bench: Bench, api: ModelApi
) -> None:
    posted = await bench.stores.turn(script(tokens=40, token_ms=20), model_api=api)
    first = asyncio.create_task(bench.run(posted))

    async def has_begun() -> bool:
        return bool(
            await bench.stores.rows(b"SELECT FROM messages WHERE turn_id = %(t)s AND step = 1", t=posted.turn.id)
        )

    await until(has_begun)
    await _steer(bench.stores, posted.turn.session_id, script(content="in French"))
    report = await first
    again = await bench.run(posted)

    assert (report.outcome, report.finished) == (StepOutcome.JOINED, None)
    assert "stream.ended" not in bench.names
    assert again.outcome is StepOutcome.JOINED, "said again, it goes on as before"
    ran = await bench.go_on(posted, 2)
    assert (ran.turn.status, ran.turn.steps) == (TurnStatus.COMPLETED, 2)
    assert (await bench.answer(posted)).content == "in French"


async def test_a_question_that_was_left_out_and_is_asked_again_takes_a_message_too(
    bench: Bench, stores: Stores
) -> None:
    """That step stores its answer first, puts the question back, and leaves the end to `finish_turn`."""
    posted = await stores.turn(script(tokens=40, token_ms=20))
    await stores.sql(b"UPDATE messages SET left_out = 'content_filter' WHERE id = %(m)s", m=posted.message.id)
    first = asyncio.create_task(bench.run(posted))

    async def has_begun() -> bool:
        return bool(await stores.rows(b"SELECT FROM messages WHERE turn_id = %(t)s AND step = 1", t=posted.turn.id))

    await until(has_begun)
    await _steer(stores, posted.turn.session_id, script(content="read"))
    assert (await first).outcome is StepOutcome.JOINED
    assert (await stores.turns.get_message(posted.turn.session_id, posted.message.id)).left_out is None
    await bench.go_on(posted, 2)
    assert (await bench.answer(posted)).content == "read"
