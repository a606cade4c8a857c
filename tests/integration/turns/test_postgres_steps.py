"""Model steps and tool calls on a real PostgreSQL: attempts, fencing, what the model reads, history pages."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from shared.errors import ErrorCode, InvalidInput, NotFound
from shared.ids import new_id
from shared.sessions.context.window import fit, to_conversation
from shared.sessions.llm.conversation import AssistantSaid, ToolAnswered, UserSaid
from shared.sessions.models import (
    Concurrency,
    MessageRole,
    MessageStatus,
    SessionStatus,
    ToolCallStatus,
    TurnStatus,
)
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import StepClosed, StepHeld, StepStart, StoredStep
from shared.sessions.records.tool_calls import CallStart
from tests.integration.domain import OWNER, WRITER, Stores, call, result_of, utc_now

pytestmark = pytest.mark.integration


async def _save_result(stores: Stores, tool_call_id: str, content: str = '{"ok":true}') -> bool:
    return await stores.tool_result(tool_call_id, result={"n": 1}, content=content)


async def test_a_step_begins_with_everything_it_needs(stores: Stores) -> None:
    posted = await stores.turn("What is new?")

    start = await stores.started(posted.turn.id)

    assert (start.attempt, start.step, start.requested_by) == (1, 1, OWNER)
    assert [(message.role, message.content) for message in start.context] == [("user", "What is new?")]
    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert (turn.status, turn.steps, turn.started_at is not None) == (TurnStatus.RUNNING, 1, True)
    message = await stores.turns.get_message(posted.turn.session_id, start.message_id)
    assert (message.status, message.content, message.role) == (MessageStatus.STREAMING, "", MessageRole.ASSISTANT)


async def test_no_step_begins_for_somebody_who_may_no_longer_write(stores: Stores) -> None:
    # Their message was on its way while they were taken out: nothing has cancelled its turn.
    session = await stores.shared_session()
    posted = await stores.post(session.id, user=WRITER)
    await stores.started(posted.turn.id)
    await stores.sql(b"UPDATE session_participants SET access = 'read' WHERE session_id = %(s)s", s=session.id)

    assert isinstance(await stores.begin(posted.turn.id), StepClosed)


async def test_a_step_begun_again_is_a_higher_attempt_of_the_same_message(stores: Stores) -> None:
    posted = await stores.turn()

    first, second = await stores.started(posted.turn.id), await stores.started(posted.turn.id)

    assert (first.attempt, second.attempt) == (1, 2)
    assert (second.message_id, second.message_created_at) == (first.message_id, first.message_created_at)


async def test_only_the_newest_attempt_may_store(stores: Stores) -> None:
    posted = await stores.turn()
    old, new = await stores.started(posted.turn.id), await stores.started(posted.turn.id)

    assert await stores.steps.save_step(result_of(old, content="old", calls=[call()])) is False
    assert await stores.steps.save_step(result_of(new, content="new")) is True
    assert await stores.steps.save_step(result_of(new, content="newer")) is False

    message = await stores.turns.get_message(posted.turn.session_id, new.message_id)
    assert (message.content, message.status, message.tool_calls) == ("new", MessageStatus.COMPLETED, [])


async def test_a_stored_step_comes_back_and_is_not_begun_again(stores: Stores) -> None:
    posted = await stores.turn()
    calls = [call(ordinal=0), call("http_request", {"a": 1}, ordinal=1, needs_approval=True)]
    start = await stores.answer(posted.turn.id, calls=calls)

    for attempt in (2, 3):  # each repeat may send the whole once more, above what was sent before
        again = await stores.begin(posted.turn.id)
        assert isinstance(again, StoredStep)
        assert (again.message_id, again.status) == (start.message_id, MessageStatus.COMPLETED)
        assert again.attempt == attempt
        assert [(item.id, item.name, item.arguments, item.needs_approval) for item in again.calls] == [
            (item.id, item.name, item.arguments, item.needs_approval) for item in calls
        ]
    message = await stores.turns.get_message(posted.turn.session_id, start.message_id)
    assert [(item.id, item.name, item.arguments) for item in message.tool_calls] == [
        (item.id, item.name, item.arguments) for item in calls
    ]


async def test_starts_at_once_are_numbered_and_one_stores(stores: Stores) -> None:
    posted = await stores.turn()

    starts = await asyncio.gather(*(stores.started(posted.turn.id) for _ in range(5)))
    saved = await asyncio.gather(*(stores.steps.save_step(result_of(start)) for start in starts))

    assert sorted(start.attempt for start in starts) == [1, 2, 3, 4, 5]
    assert sum(saved) == 1
    assert next(start.attempt for start, won in zip(starts, saved, strict=True) if won) == 5


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_turn_that_is_over_begins_no_step(stores: Stores, cancelled: bool) -> None:
    posted = await stores.turn()
    if cancelled:
        await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    else:
        await stores.finish(posted.turn.id)

    assert await stores.begin(posted.turn.id) == StepClosed(cancelled=cancelled)


async def test_a_suspended_session_begins_no_step_and_no_call_and_goes_on_when_it_is_resumed(stores: Stores) -> None:
    posted, proposed = await stores.turn(), call("http_request", {"a": 1})
    session_id = posted.message.session_id
    await stores.answer(posted.turn.id, calls=[proposed])
    await stores.move(session_id, SessionStatus.SUSPENDED)

    assert await stores.begin(posted.turn.id, 2) == StepHeld()
    assert await stores.tool_calls.begin_tool_call(proposed.id, new_id(), now=utc_now()) is CallStart.HELD
    assert isinstance(await stores.begin(posted.turn.id, 1), StoredStep)

    await stores.move(session_id, SessionStatus.ACTIVE)
    assert await stores.tool_calls.begin_tool_call(proposed.id, new_id(), now=utc_now()) is CallStart.NOW
    assert isinstance(await stores.begin(posted.turn.id, 2), StepStart)


async def test_a_call_of_an_ended_session_does_not_begin(stores: Stores) -> None:
    posted, proposed = await stores.turn(), call("http_request", {"a": 1})
    await stores.answer(posted.turn.id, calls=[proposed])
    await stores.sql(b"UPDATE sessions SET status = 'ENDED' WHERE id = %(s)s", s=posted.message.session_id)

    assert await stores.tool_calls.begin_tool_call(proposed.id, new_id(), now=utc_now()) is CallStart.CANCELLED


async def test_a_cancelled_turn_still_returns_the_steps_it_stored(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id)
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    assert isinstance(await stores.begin(posted.turn.id, 1), StoredStep)
    assert await stores.begin(posted.turn.id, 2) == StepClosed(cancelled=True)


async def test_a_turn_that_does_not_exist_is_not_found(stores: Stores) -> None:
    with pytest.raises(NotFound):
        await stores.begin("no-such-turn")
    with pytest.raises(NotFound):
        await stores.finish("no-such-turn")
    with pytest.raises(NotFound):
        await stores.tool_calls.tool_execution("no-such-call")


async def test_usage_adds_up_over_the_steps(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id, 1, calls=[call()])
    await stores.answer(posted.turn.id, 2)

    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

    assert (turn.usage.input_tokens, turn.usage.output_tokens, turn.steps) == (20, 10, 2)


async def test_the_model_reads_a_step_before_its_results_in_the_order_of_the_calls(stores: Stores) -> None:
    posted = await stores.turn("sum up")
    calls = [call(ordinal=ordinal) for ordinal in range(3)]
    await stores.answer(posted.turn.id, calls=calls)
    for item in reversed(calls):  # they end in any order
        await _save_result(stores, item.id, f'"{item.provider_call_id}"')

    start = await stores.started(posted.turn.id, 2)

    asked, called, *told = to_conversation(fit(start.context, 100_000))
    assert asked == UserSaid("sum up")
    ids = [item.provider_call_id for item in calls]
    assert isinstance(called, AssistantSaid)
    assert [item.id for item in called.calls] == ids
    assert told == [ToolAnswered(call_id, f'"{call_id}"') for call_id in ids]


async def test_a_message_queued_behind_a_turn_is_read_after_that_turns_answer(stores: Stores) -> None:
    first = await stores.turn("one")
    start = await stores.started(first.turn.id)
    second = await stores.post(first.message.session_id, "two", concurrency=Concurrency.ENQUEUE)
    await stores.steps.save_step(result_of(start, content="first answer"))
    await stores.finish(first.turn.id)

    begun = await stores.started(second.turn.id)

    assert [message.content for message in reversed(begun.context)] == ["one", "first answer", "two"]
    # ... and the running turn does not read what was posted after it.
    assert [message.content for message in start.context] == ["one"]
    listed = await stores.turns.list_messages(first.message.session_id, MessageFilter(), Page())
    assert [message.content for _, message in listed] == ["one", "first answer", "two", ""]


async def test_a_tool_call_is_begun_once(stores: Stores) -> None:
    proposal = call()
    await stores.proposed(proposal)

    begun = await asyncio.gather(
        *(stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now()) for _ in range(5))
    )

    assert sorted(begun) == [CallStart.BEFORE] * 4 + [CallStart.NOW]


async def test_a_tool_call_with_a_result_is_not_begun(stores: Stores) -> None:
    proposal = call()
    await stores.proposed(proposal)
    assert await _save_result(stores, proposal.id)

    assert await stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now()) is CallStart.BEFORE


@pytest.mark.parametrize("over", [False, True], ids=["cancelled", "ended"])
@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun before"])
async def test_a_tool_call_of_a_cancelled_turn_is_not_begun(stores: Stores, over: bool, begun: bool) -> None:
    proposal = call()
    posted = await stores.proposed(proposal)
    if begun:
        assert await stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now()) is CallStart.NOW
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    if over:
        await stores.finish(posted.turn.id, TurnStatus.CANCELLED)

    assert await stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now()) is CallStart.CANCELLED


async def test_a_tool_result_is_stored_once_with_one_message(stores: Stores) -> None:
    proposal = call()
    posted = await stores.proposed(proposal)

    saved = await asyncio.gather(*(_save_result(stores, proposal.id, f'"{n}"') for n in range(5)))

    assert sum(saved) == 1
    messages = await stores.turns.list_messages(posted.turn.session_id, MessageFilter(role=MessageRole.TOOL), Page())
    assert [(message.tool_call_id, message.content) for _, message in messages] == [
        (proposal.id, f'"{saved.index(True)}"')
    ]
    execution = await stores.tool_calls.tool_execution(proposal.id)
    assert (execution.status, execution.result) == (ToolCallStatus.COMPLETED, {"n": 1})


async def test_a_call_knows_its_turn_plan_and_that_it_was_cancelled(stores: Stores) -> None:
    proposal = call()
    posted = await stores.proposed(proposal, tool_timeout_seconds=7)

    before = await stores.tool_calls.tool_execution(proposal.id)
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    after = await stores.tool_calls.tool_execution(proposal.id)

    assert (before.plan.tool_timeout_seconds, before.requested_by, before.cancelled) == (7, OWNER, False)
    assert (before.turn_id, before.session_id) == (posted.turn.id, posted.turn.session_id)
    assert after.cancelled is True


async def test_a_row_of_a_turn_that_ended_asks_those_who_watch_it_to_stop(stores: Stores) -> None:
    running, ended = await stores.turn(), await stores.turn()
    await stores.finish(ended.turn.id)

    assert await stores.turns.cancel_requested([running.turn.id, ended.turn.id]) == {ended.turn.id}
    assert await stores.turns.cancel_requested([]) == set()


class TestHistory:
    async def _walk(self, stores: Stores, session_id: str, wanted: MessageFilter) -> list[int]:
        numbers: list[int] = []
        page = Page(limit=3)
        while True:
            found = await stores.turns.list_messages(session_id, wanted, page)
            numbers.extend(number for number, _ in found[:3])
            if len(found) <= 3:
                return numbers
            page = Page(limit=3, after=(found[2][0], found[2][1].id))

    async def _session(self, stores: Stores, turns: int) -> str:
        first = await stores.turn("message 0")
        await stores.answer(first.turn.id)
        await stores.finish(first.turn.id)
        for number in range(1, turns):
            await self._exchange(stores, first.message.session_id, number)
        return first.message.session_id

    async def _exchange(self, stores: Stores, session_id: str, number: int) -> None:
        posted = await stores.post(session_id, f"message {number}")
        await stores.answer(posted.turn.id)
        await stores.finish(posted.turn.id)

    @pytest.mark.parametrize("descending", [False, True])
    async def test_pages_hold_every_message_once_in_order(self, stores: Stores, descending: bool) -> None:
        session_id = await self._session(stores, 4)

        numbers = await self._walk(stores, session_id, MessageFilter(descending=descending))

        assert numbers == sorted(set(numbers), reverse=descending)
        assert len(numbers) == 8

    @pytest.mark.parametrize(("descending", "seen"), [(False, 6), (True, 4)])
    async def test_messages_that_arrive_while_paging_stand_at_the_new_end(
        self, stores: Stores, descending: bool, seen: int
    ) -> None:
        session_id = await self._session(stores, 2)
        wanted = MessageFilter(descending=descending)
        first = await stores.turns.list_messages(session_id, wanted, Page(limit=3))

        await self._exchange(stores, session_id, 2)
        rest = await stores.turns.list_messages(session_id, wanted, Page(limit=50, after=(first[2][0], "")))

        numbers = [number for number, _ in [*first[:3], *rest]]
        assert numbers == sorted(set(numbers), reverse=descending)
        assert len(numbers) == seen

    async def test_filters_narrow_by_role_text_and_time(self, stores: Stores) -> None:
        session_id = await self._session(stores, 3)
        everything = [message for _, message in await stores.turns.list_messages(session_id, MessageFilter(), Page())]
        middle = everything[2].created_at

        async def contents(wanted: MessageFilter) -> list[str]:
            found = await stores.turns.list_messages(session_id, wanted, Page())
            return [message.content for _, message in found]

        assert await contents(MessageFilter(role=MessageRole.USER)) == ["message 0", "message 1", "message 2"]
        assert await contents(MessageFilter(q="SAGE 1")) == ["message 1"]
        assert await contents(MessageFilter(q="100%")) == []
        assert len(await contents(MessageFilter(since=middle))) == 4
        assert len(await contents(MessageFilter(until=middle))) == 2
        assert await contents(MessageFilter(since=utc_now() + timedelta(hours=1))) == []

    async def test_a_text_is_found_in_any_case_of_any_script(self, stores: Stores) -> None:
        session_id = await self._session(stores, 1)
        await stores.post(session_id, "Grüße aus ÖSTERREICH", concurrency=Concurrency.ENQUEUE)
        for q, count in (("GRÜßE aus öster", 1), ("grüsse", 0)):
            assert len(await stores.turns.list_messages(session_id, MessageFilter(q=q), Page())) == count


async def test_content_comes_back_byte_for_byte(stores: Stores) -> None:
    posted = await stores.turn()
    content = "a\r\n\u2028\ufffd\ufeff e\u0301 🙂\x7f\t\x01 \\u0000 '\"$1 %s"

    start = await stores.answer(posted.turn.id, content=content)

    assert (await stores.turns.get_message(posted.turn.session_id, start.message_id)).content == content


async def test_a_call_that_the_database_cannot_hold_is_an_error_with_a_code(stores: Stores) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    assert isinstance(start, StepStart)

    with pytest.raises(InvalidInput) as caught:
        await stores.steps.save_step(result_of(start, calls=[call(arguments={"x": "\x00"})]))

    assert caught.value.code is ErrorCode.VALIDATION_ERROR
    assert await stores.steps.save_step(result_of(start))
