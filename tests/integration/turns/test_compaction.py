"""Summaries in the place of older turns, on real stores: made once, read where they hold, never shown as a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.adapters.postgres.history.search import PostgresSearch
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.context.compaction import Compactor
from shared.sessions.context.window import SUMMARY_HEAD
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import FileFormat
from shared.sessions.history.export import ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.llm.conversation import AssistantSaid, UserSaid
from shared.sessions.llm.protocol import ModelEnd, ModelRequest, ModelText
from shared.sessions.llm.registry import Model, ModelApi, ModelRegistry
from shared.sessions.models import ApprovalMode, FinishReason, MessageRole, TurnStatus, Usage
from shared.sessions.records.pages import Page
from shared.sessions.records.steps import SUMMARY_ROLE, StepStart, Summary
from tests.integration.bench import FETCH, Bench, MakeBench, Ran, read_by
from tests.integration.branches.branching import Conversation, conversation
from tests.integration.domain import OWNER, WRITER, Stores, erase_session, plan, script, until, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ANN = Principal(OWNER, frozenset({Role.USER}))
SMALL: dict[str, Any] = {"tools": [], "compact_at": 0.8, "max_context_tokens": 2_000}
"""A plan with a window of a few turns."""


@pytest.fixture
async def bench(benches: MakeBench) -> Bench:
    return await benches(compacts=True)


async def _summaries(stores: Stores, session_id: str) -> list[tuple[int, int, str]]:
    """(branch, turn, text), oldest first."""
    rows = await stores.rows(
        b"SELECT branch, turn_number, content FROM conversation_summaries WHERE session_id = %(s)s"
        b" ORDER BY turn_number, branch",
        s=session_id,
    )
    return [(row["branch"], row["turn_number"], row["content"]) for row in rows]


async def _summarise(
    stores: Stores, posted_turn_id: str, *, branch: int = 0, turn: int, text: str = "what was"
) -> None:
    summary = Summary(branch, turn, text, tokens=5, sources=frozenset(), model="scripted")
    await stores.steps.save_summary(posted_turn_id, summary, now=utc_now())


async def _talk_until_summarised(bench: Bench, session_id: str, **changes: Any) -> list[Ran]:
    ran: list[Ran] = []
    while not await _summaries(bench.stores, session_id):
        assert len(ran) < 40
        ran.append(await bench.say(session_id, f"Tell me of topic {len(ran)}. " + "And more. " * 20, **SMALL | changes))
    return ran


# What it is for. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("api", "turns"), [(ModelApi.CHAT, 200), (ModelApi.RESPONSES, 40)])
async def test_what_was_said_in_the_second_turn_is_known_in_the_last_of_many(
    bench: Bench, api: ModelApi, turns: int
) -> None:
    session = await bench.stores.session()
    plan_of_all = SMALL | {"model_api": api}
    await bench.say(session.id, "Hello there.", **plan_of_all)
    await bench.say(session.id, "My dog is Rex.", **plan_of_all)
    for number in range(3, turns):
        await bench.say(session.id, f"Tell me something of topic {number}.", **plan_of_all)

    asked = await bench.say(session.id, "What is my dog?", **plan_of_all)

    assert "Your dog is Rex." in (await bench.answer(asked.posted)).content
    request = bench.model.requests[-1]
    assert SUMMARY_HEAD in read_by(request)
    assert "You said: \u201cMy dog is Rex" not in read_by(request), "the turn itself is no longer read"
    kept = await _summaries(bench.stores, session.id)
    assert 3 < len(kept) < turns / 2
    assert len(bench.model.summaries) == len(kept), "each is asked for once"
    rows = await bench.stores.rows(b"SELECT DISTINCT status FROM turns WHERE session_id = %(s)s", s=session.id)
    assert [row["status"] for row in rows] == ["completed"]


async def test_without_summaries_it_is_forgotten(bench: Bench) -> None:
    """The rule that the test above tries is not one that would hold anyway."""
    session = await bench.stores.session()
    forgetful = SMALL | {"compact_at": None}
    await bench.say(session.id, "My dog is Rex.", **forgetful)
    for number in range(30):
        await bench.say(session.id, f"Tell me something of topic {number}.", **forgetful)

    asked = await bench.say(session.id, "What is my dog?", **forgetful)

    assert "not mentioned" in (await bench.answer(asked.posted)).content
    assert await _summaries(bench.stores, session.id) == []


async def test_people_see_every_message_and_no_summary_of_them(bench: Bench, stores: Stores) -> None:
    session = await stores.session()
    first = await bench.say(session.id, "My needle is in the haystack.", **SMALL)
    ran = [first, *await _talk_until_summarised(bench, session.id)]
    ran.append(await bench.say(session.id, "And then?", **SMALL))

    shown = await bench.messages(session.id)

    assert [message.role for message in shown] == ["user", "assistant"] * len(ran)
    assert shown[0].content == "My needle is in the haystack."
    ((_, _, text), *_) = await _summaries(stores, session.id)
    assert all(text not in message.content and SUMMARY_HEAD not in message.content for message in shown)
    (hit,), _ = await SearchService(PostgresSearch(stores.pool)).search(
        ANN, "needle haystack", SearchFilter(session_id=session.id, role=MessageRole.USER), Page()
    )
    assert hit.message_id == first.posted.message.id
    exports = ExportService(stores.sessions, HistoryManager(stores.sessions, stores.turns), FileGenerator())
    export = await exports.export(session.id, ANN, FileFormat.MD)
    exported = b"".join([piece async for piece in export.pieces]).decode()
    assert all(message.content[:40] in exported for message in shown if message.role == "user")
    assert text.splitlines()[0] not in exported


# Made once. --------------------------------------------------------------------------------------


async def test_a_kill_between_the_summary_and_the_answer_does_not_make_it_twice(
    benches: MakeBench, bench: Bench, stores: Stores
) -> None:
    session = await stores.session()
    for number in range(6):
        await bench.say(session.id, f"Topic {number}. " + "And more. " * 60, **SMALL | {"compact_at": None})
    key = new_id()
    posted = await stores.post(
        session.id, script(key=key, fail=[{"hang": True}], content="alive"), turn_plan=plan(**SMALL)
    )
    dying = asyncio.create_task(bench.run(posted))

    async def is_asked() -> bool:
        return bool((await bench.calls(key))["calls"])

    await until(is_asked)
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    made = await _summaries(stores, session.id)
    fresh = await benches(model_url=bench.model_url, compacts=True)
    ran = await fresh.go_on(posted)

    assert (ran.turn.status, (await fresh.answer(posted)).content) == (TurnStatus.COMPLETED, "alive")
    assert await _summaries(stores, session.id) == made
    assert (len(made), len(bench.model.summaries), len(fresh.model.summaries)) == (1, 1, 0)
    assert made[0][2] in read_by(fresh.model.requests[-1])


async def test_the_next_step_and_the_next_turns_read_the_summary_that_is_there(bench: Bench, stores: Stores) -> None:
    session = await stores.session()
    await _talk_until_summarised(bench, session.id, tools=["calculate"])
    asked = len(bench.model.summaries)
    calls = [[{"name": "calculate", "arguments": {"expression": "1"}}]]

    await bench.say(session.id, script(tool_calls=calls, content="1"), **SMALL | {"tools": ["calculate"]})

    ((_, _, text),) = await _summaries(stores, session.id)
    for request in bench.model.requests[-2:]:
        assert text in read_by(request)
    assert len(bench.model.summaries) == asked


async def test_of_two_that_summarise_the_same_turns_the_first_one_counts(stores: Stores) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "ab"]

    await asyncio.gather(
        *(_summarise(stores, posted[1].turn.id, turn=1, text=f"version {number}") for number in range(4))
    )

    ((branch, turn, text),) = await _summaries(stores, talk.id)
    assert (branch, turn) == (0, 1)
    await _summarise(stores, posted[1].turn.id, turn=1, text="another")
    assert await _summaries(stores, talk.id) == [(0, 1, text)]


async def test_what_a_summary_cost_counts_for_the_turn_the_session_and_the_day(benches: MakeBench) -> None:
    priced = ModelRegistry({"scripted": Model(name="scripted", input_usd=1.0, output_usd=4.0)})
    bench = await benches(compacts=True, registry=priced)
    user = new_id()
    session = await bench.stores.session(owner=user)
    usages: list[Usage] = []
    while not bench.model.summaries:
        posted = await bench.stores.post(session.id, "Tell me more. " * 30, user=user, turn_plan=plan(**SMALL))
        usages.append((await bench.go_on(posted)).turn.usage)

    told = [frame["usage"]["input_tokens"] for frame in bench.frames if frame["type"] == "message_end"]
    assert [usage.input_tokens for usage in usages[:-1]] == told[:-1]
    # What was summarised came to most of a window; the answer's own reading is what is left of it.
    assert usages[-1].input_tokens - told[-1] > 500
    total = sum(usage.input_tokens + usage.output_tokens for usage in usages)
    record = await bench.stores.sessions.get(session.id, user)
    assert record.used_tokens == total
    assert float(record.used_cost_usd) == pytest.approx(sum(usage.cost_usd or 0 for usage in usages))
    day = b"SELECT sum(input_tokens + output_tokens) FROM token_usage WHERE user_id = %(u)s"
    assert await bench.stores.value(day, u=user) == total


async def test_a_summary_that_cannot_be_had_fails_no_turn(bench: Bench, stores: Stores) -> None:
    session = await stores.session()
    bench.model.summarises = False

    ran = [await bench.say(session.id, f"Topic {n}. " + "And more. " * 60, **SMALL) for n in range(8)]

    assert [one.turn.status for one in ran] == [TurnStatus.COMPLETED] * 8
    assert await _summaries(stores, session.id) == []
    assert bench.model.summaries
    bench.model.summarises = True
    await bench.say(session.id, "Once more.", **SMALL)
    assert await _summaries(stores, session.id)


# Branches. ---------------------------------------------------------------------------------------


async def _read(stores: Stores, turn_id: str) -> list[str]:
    """What a turn reads, oldest first; a summary with its role before it."""
    context = (await stores.started(turn_id)).context
    return [f"summary: {m.content}" if m.role == SUMMARY_ROLE else m.content for m in reversed(context)]


async def test_branches_that_fork_behind_a_summary_read_it_and_those_that_fork_before_it_do_not(
    stores: Stores,
) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "abcd"]
    await _summarise(stores, posted[3].turn.id, turn=2)

    after = await talk.regenerate(posted[3].message.id)
    assert await _read(stores, after.turn.id) == ["summary: what was", "c", "C", "d"]
    await talk.finish_started(after.turn.id, "D1")
    at = await talk.regenerate(posted[2].message.id)
    assert await _read(stores, at.turn.id) == ["summary: what was", "c"]
    await talk.finish_started(at.turn.id, "C1")
    before = await talk.regenerate(posted[1].message.id)
    assert await _read(stores, before.turn.id) == ["a", "A", "b"]
    await talk.finish_started(before.turn.id, "B1")
    await talk.activate(0)
    there = await stores.post(talk.id, "e")
    assert await _read(stores, there.turn.id) == ["summary: what was", "c", "C", "d", "D", "e"]


async def test_a_branch_reads_the_newest_summary_on_its_own_way(stores: Stores) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "abcd"]
    await _summarise(stores, posted[3].turn.id, turn=1, text="old")
    await _summarise(stores, posted[3].turn.id, turn=3, text="new")
    again = await talk.answer_again(posted[2].message.id, "C1")
    posted_there = await stores.post(talk.id, "e")
    assert await _read(stores, posted_there.turn.id) == ["summary: old", "b", "B", "c", "C1", "e"]
    await talk.finish_started(posted_there.turn.id, "E")

    await _summarise(stores, posted_there.turn.id, branch=again.turn.branch, turn=5, text="of the branch")
    last = await stores.post(talk.id, "f")

    assert await _read(stores, last.turn.id) == ["summary: of the branch", "e", "E", "f"]


async def test_a_fork_and_a_recovered_session_take_the_summaries_of_what_they_take(stores: Stores) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "abcd"]
    await _summarise(stores, posted[3].turn.id, turn=1, text="first")
    await _summarise(stores, posted[3].turn.id, turn=3, text="second")

    everything = await talk.fork()
    two_turns = await talk.fork(message_id=(await _answer_of(talk, posted[1].turn.id)))

    assert await _summaries(stores, everything.id) == [(0, 1, "first"), (0, 3, "second")]
    assert await _summaries(stores, two_turns.id) == [(0, 1, "first")]
    later = await stores.post(everything.id, "e")
    assert await _read(stores, later.turn.id) == ["summary: second", "d", "D", "e"]
    later = await stores.post(two_turns.id, "e")
    assert await _read(stores, later.turn.id) == ["summary: first", "b", "B", "e"]
    # Each checkpoint is the one before its turn: the third one has two turns before it.
    await talk.recover((await talk.listed_checkpoints())[2].id)
    recovered = await stores.post(talk.id, "e")
    assert await _read(stores, recovered.turn.id) == ["summary: first", "b", "B", "e"]


async def test_a_fork_of_a_branch_reads_as_the_branch_did(stores: Stores) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "abc"]
    await _summarise(stores, posted[2].turn.id, turn=1, text="of both")
    again = await talk.answer_again(posted[1].message.id, "B1")
    ahead = await talk.ask("d")
    await _summarise(stores, ahead.turn.id, branch=again.turn.branch, turn=4, text="of the branch")
    await _summarise(stores, posted[2].turn.id, turn=2, text="of the other branch")

    fork = await talk.fork()

    assert await _summaries(stores, fork.id) == [(0, 1, "of both"), (0, 4, "of the branch")]
    later = await stores.post(fork.id, "e")
    assert await _read(stores, later.turn.id) == ["summary: of the branch", "d", "D", "e"]


class _Counting:
    """An LLM that summarises by naming the words it was shown."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def stream(self, request: ModelRequest) -> Any:
        shown = read_by(request)
        self.asked.append(shown)
        words = sorted({word for word in shown.replace("\n", " ").split(" ") if word.startswith("word-")})
        yield ModelText(" ".join(words))
        yield ModelEnd(FinishReason.STOP, Usage(input_tokens=1, output_tokens=1))


def _sized(word: str, tokens: int) -> str:
    return f"word-{word} " + "x" * (tokens * 3 - len(word) - 6)


@pytest.mark.parametrize("way", ["regenerated", "recovered"])
async def test_a_summary_never_ends_where_a_branch_begins(stores: Stores, way: str) -> None:
    """There the turn goes on differently on either side: neither may take the other's words for its own."""
    talk = await conversation(stores)
    await talk.ask(_sized("q1", 430), _sized("a1", 5))
    second = await talk.ask(_sized("q2", 540), _sized("a2", 6))
    if way == "regenerated":
        await talk.answer_again(second.message.id, _sized("a3", 7))
    else:
        kept = await talk.checkpoint()
        await talk.ask("elsewhere")
        await talk.recover(kept.id)
        await talk.ask(_sized("q3", 6), _sized("a3", 7))
    posted = await stores.post(talk.id, _sized("q4", 230), turn_plan=plan(**SMALL))
    model = _Counting()
    compactor = Compactor(model, stores.steps, ModelRegistry())

    start = await stores.started(posted.turn.id)
    compacted = await compactor.compact(start, room=1_500, api=ModelApi.CHAT)
    again = await stores.started(posted.turn.id)

    def roles_and_words(step: StepStart) -> list[tuple[str, str]]:
        return [(message.role, message.content) for message in step.context]

    assert len(model.asked) == 1
    assert roles_and_words(again) == roles_and_words(compacted), "what was made is found, by the step that is run again"
    # The other side reads all of its own words, in a summary or as they were.
    await talk.finish_started(posted.turn.id, "done")
    await talk.activate(0)
    other = await stores.post(talk.id, "and here?")
    there = " ".join(message.content for message in (await stores.started(other.turn.id)).context)
    for word in ("word-q1", "word-a1", "word-q2", "word-a2"):
        assert word in there, word
    assert "word-a3" not in there


# What else holds. --------------------------------------------------------------------------------


async def test_a_page_that_was_read_in_a_summarised_turn_still_contains_a_call_outward(
    bench: Bench, stores: Stores
) -> None:
    outward = {"name": "http_request", "arguments": {"method": "POST", "url": "http://outside.test/take", "body": "{}"}}
    free = SMALL | {"tools": ["fetch_url", "http_request", "search_history"], "approval_mode": ApprovalMode.AUTO}
    free |= {"approval_floor": {"http_request": ApprovalMode.AUTO}}
    session = await stores.session()
    await bench.say(session.id, script(tool_calls=[[FETCH]], content="read"), **free)
    await _talk_until_summarised(bench, session.id, **free)
    # The answers carry it on, too: what is tried here is the summary by itself.
    await stores.sql(b"UPDATE messages SET sources = NULL WHERE session_id = %(s)s", s=session.id)
    posted = await stores.post(session.id, script(tool_calls=[[outward]]), turn_plan=plan(**free))

    start = await stores.started(posted.turn.id)
    report = await bench.run(posted, tries=2)

    summary = start.context[-1]
    assert (summary.role, summary.sources) == (SUMMARY_ROLE, ["fetch_url"])
    assert [message for message in start.context if message.role == "tool"] == []
    assert [waits for _, waits in report.calls] == [True]


async def test_a_summary_is_somebody_elses_words_to_whoever_did_not_write_all_of_them(stores: Stores) -> None:
    """Whoever had it written: Ann's turn summarises what Ann said, and then Will's turn reads it."""
    session = await stores.shared_session()

    async def ask(user: str, *, summarised: int | None = None) -> bool:
        posted = await stores.post(session.id, "what is said", user=user)
        if summarised is not None:
            await _summarise(stores, posted.turn.id, turn=summarised)
        start = await stores.started(posted.turn.id)
        await stores.answer(posted.turn.id)
        await stores.finish(posted.turn.id)
        return start.context[-1].by_other

    await ask(OWNER)
    assert await ask(OWNER, summarised=1) is False
    assert await ask(WRITER) is True
    assert await ask(OWNER) is False
    assert await ask(OWNER, summarised=3) is True, "Will's message is in this one"

    fork = await Conversation(stores, session.id).fork()
    rows = await stores.rows(
        b"SELECT authors FROM conversation_summaries WHERE session_id = ANY(%(s)s) ORDER BY session_id, turn_number",
        s=[session.id, fork.id],
    )
    authors = [sorted(row["authors"]) for row in rows]
    assert authors == [[OWNER], sorted([OWNER, WRITER])] * 2


async def test_calls_of_summarised_turns_are_not_sent_and_nothing_is_parted_from_its_result(
    bench: Bench, stores: Stores
) -> None:
    session = await stores.session()
    calls = [[{"name": "calculate", "arguments": {"expression": "1"}}]] * 2
    for number in range(12):
        await bench.say(
            session.id,
            script(tool_calls=calls, content=f"answer {number} " + "so " * 60),
            **SMALL | {"tools": ["calculate"], "max_context_tokens": 3_000},
        )

    assert await _summaries(stores, session.id)
    for request in bench.model.requests:
        if request in bench.model.summaries:
            assert all(isinstance(said, UserSaid) for said in request.conversation)
            continue
        called = [call.id for said in request.conversation if isinstance(said, AssistantSaid) for call in said.calls]
        told = [said.call_id for said in request.conversation if not isinstance(said, UserSaid | AssistantSaid)]
        assert called == told
        assert isinstance(request.conversation[0], UserSaid)


async def test_summaries_are_erased_with_their_session(stores: Stores, erasing: SessionErasure) -> None:
    talk = await conversation(stores)
    posted = [await talk.ask(word) for word in "ab"]
    await _summarise(stores, posted[1].turn.id, turn=1)

    await erase_session(erasing, talk.id)

    assert await _summaries(stores, talk.id) == []


async def _answer_of(talk: Conversation, turn_id: str) -> str:
    """The id of a turn's answer."""
    return str(
        await talk.stores.value(b"SELECT id FROM messages WHERE turn_id = %(t)s AND role = 'assistant'", t=turn_id)
    )
