"""Who wrote what, and what was read on the way, in any tree of sessions that several people copy, branch and share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints
from shared.adapters.postgres.branches.forks import PostgresForks
from shared.adapters.postgres.turns.steps import PostgresSteps
from shared.ids import new_id
from shared.sessions.approvals.containment import PEOPLE, sources_read
from shared.sessions.approvals.proposals import Standing, propose
from shared.sessions.context.compaction import split
from shared.sessions.life.forks import ForkPlace
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, Concurrency, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import StepStart, Summary
from tests.integration.branches.branching import own_stores, queued
from tests.integration.branches.tree import Model, Said
from tests.integration.domain import OWNER, READER, WRITER, Stores, call, plan, result_of, utc_now

pytestmark = pytest.mark.integration

VICTIM = "vera"
PEOPLE_THERE = [OWNER, WRITER, READER, VICTIM]
SEND = ModelToolCall("id", "http_request", orjson.dumps({"method": "POST", "url": "http://outside.test/"}).decode())
FREE = plan(
    approval_mode=ApprovalMode.AUTO,
    approval_floor={"http_request": ApprovalMode.AUTO},
    tools=["http_request", "search_history"],
)
NEWEST = 4
"""Rows that a step reads in the small windows: a question, a call and its result are always read together."""


@dataclass
class Fact:
    """What is known of a text, wherever it is copied to."""

    author: str | None = None
    """Of a user's message."""
    sources: frozenset[str] = frozenset()
    """Of an answer: those that it passes on; of a result: the tool's."""


@dataclass
class There:
    """A session."""

    id: str
    owner: str
    access: dict[str, str]
    model: Model = field(default_factory=Model)

    @property
    def writers(self) -> list[str]:
        return [self.owner, *sorted(user for user, access in self.access.items() if access == "write")]

    @property
    def readers(self) -> list[str]:
        return [self.owner, *sorted(self.access)]


@dataclass
class World:
    """All sessions, and what is known of all texts."""

    stores: Stores
    sessions: list[There]
    facts: dict[str, Fact] = field(default_factory=dict)

    def expected(self, user: str, texts: Sequence[str]) -> frozenset[str]:
        """The sources that a turn of this user reads."""
        facts = [self.facts[text] for text in texts]
        by_other = {PEOPLE} if any(fact.author not in (None, user) for fact in facts) else set[str]()
        return frozenset(by_other.union(*(fact.sources for fact in facts)))

    async def check_turn(self, start: StepStart, user: str, texts: Sequence[str]) -> None:
        """A turn of this user that reads these texts: its sources, and whether a call outward waits in mode `auto`."""
        expected = self.expected(user, texts)
        sources = sources_read(start.context)
        assert sources == expected, (user, texts)
        proposed = propose(SEND, 0, FREE, Standing(sources=sources, context=start.context))
        assert proposed.needs_approval is bool(expected)

    async def check(self, there: There) -> None:
        """Every message of every branch has its author, and a new turn of each who may write reads what it should."""
        for branch in range(len(there.model.branches)):
            found = await self.stores.turns.list_messages(there.id, MessageFilter(branch=branch), Page(limit=200))
            shown = [(message.content, message.author) for _, message in found]
            assert shown == [(text, self.facts[text].author) for text in there.model.read(branch)]
        for user in there.writers:
            text = f"probe-{new_id()}"
            await self.post(there, user, text)
            there.model.branches[there.model.active].own.append(Said(text))

    async def post(self, there: There, user: str, text: str) -> None:
        """A message whose turn reads and is cancelled."""
        posted = await self.stores.post(there.id, text, user=user, turn_plan=FREE)
        self.facts[text] = Fact(user)
        start = await self.stores.started(posted.turn.id)
        await self.check_turn(start, user, [*there.model.read(there.model.active), text])
        # As a cancel that comes before anything was said: the empty answer is no message of the model.
        await self.stores.sql(b"DELETE FROM messages WHERE id = %(m)s", m=start.message_id)
        await self.stores.finish(posted.turn.id, TurnStatus.CANCELLED)


KINDS = [
    "say",
    "say",
    "read",
    "long",
    "regenerate",
    "activate",
    "checkpoint",
    "recover",
    "fork",
    "fork",
    "invite",
    "summarise",
]
# An action, and numbers that choose the session, the user and the place among what there is.
ACTIONS = st.lists(
    st.tuples(st.sampled_from([*KINDS, "erase"]), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100)),
    min_size=4,
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS, is_small=st.booleans())
# A guest's words in a copy that its owner makes, after the original is gone.
@example(actions=[("say", 0, 1, 0), ("fork", 0, 0, 0), ("erase", 0, 0, 0), ("fork", 0, 0, 0)], is_small=False)
# A reader's copy, with the victim invited; a page that is far back, behind a summary.
@example(
    actions=[
        ("read", 0, 0, 0),
        ("fork", 0, 2, 0),
        ("invite", 1, 3, 1),
        *[("say", 1, 1, 0)] * 3,
        ("summarise", 1, 0, 0),
    ],
    is_small=True,
)
# A guest's long turn, whose question is too far back to be read; and its copy.
@example(actions=[("long", 0, 1, 0)], is_small=True)
@example(actions=[("long", 0, 1, 0), ("fork", 0, 0, 0), ("erase", 0, 0, 0)], is_small=True)
# A page that is too far back, in a copy.
@example(actions=[("read", 0, 0, 0), ("say", 0, 0, 0), ("say", 0, 0, 0), ("fork", 0, 0, 0)], is_small=True)
# Somebody else's question, answered again for its owner, and copied.
@example(actions=[("say", 0, 1, 0), ("regenerate", 0, 0, 0), ("fork", 0, 0, 0), ("say", 1, 0, 0)], is_small=True)
def test_authors_and_sources_follow_every_copy(
    postgres_url: str, actions: list[tuple[str, int, int, int]], is_small: bool
) -> None:
    async def run() -> None:
        async with own_stores(postgres_url) as stores:
            if is_small:
                stores = replace(stores, steps=PostgresSteps(stores.pool, context_rows=NEWEST))
            await _walk(stores, actions)

    asyncio.run(run())


async def _walk(stores: Stores, actions: list[tuple[str, int, int, int]]) -> None:
    session = await stores.shared_session()
    first = There(session.id, OWNER, {WRITER: "write", READER: "read"})
    world = World(stores, [first])
    for number, (action, which, who, place) in enumerate(actions):
        there = world.sessions[which % len(world.sessions)]
        await ACTS[action](world, there, who, place, f"m{number}")
    for there in world.sessions:
        await world.check(there)


async def _say(world: World, there: There, who: int, place: int, text: str) -> None:
    user = there.writers[who % len(there.writers)]
    posted = await world.stores.post(there.id, text, user=user, turn_plan=FREE)
    world.facts[text] = Fact(user)
    own = there.model.branches[there.model.active].own
    there.model.note()
    own.append(Said(text))
    await _answered(world, there, posted.turn.id, user, text)


async def _answered(world: World, there: There, turn_id: str, user: str, text: str, *, step: int = 1) -> None:
    start = await world.stores.started(turn_id, step)
    texts = there.model.read(there.model.active)
    await world.check_turn(start, user, texts)
    assert await world.stores.steps.save_step(result_of(start, content=f"{text}-answer"))
    await world.stores.finish(turn_id)
    there.model.branches[there.model.active].own.append(Said(f"{text}-answer"))
    world.facts[f"{text}-answer"] = Fact(sources=world.expected(user, texts))


async def _read(world: World, there: There, who: int, place: int, text: str) -> None:
    """A turn that reads a page."""
    await _with_calls(world, there, who, text, ["fetch_url"])


async def _long(world: World, there: There, who: int, place: int, text: str) -> None:
    """A turn of more messages than the small windows hold, which reads nothing."""
    await _with_calls(world, there, who, text, ["calculate"] * 3)


async def _with_calls(world: World, there: There, who: int, text: str, tools: list[str]) -> None:
    user = there.writers[who % len(there.writers)]
    posted = await world.stores.post(there.id, text, user=user, turn_plan=FREE)
    world.facts[text] = Fact(user)
    there.model.note()
    own = there.model.branches[there.model.active].own
    own.append(Said(text))
    for step, tool in enumerate(tools, start=1):
        start = await world.stores.started(posted.turn.id, step)
        texts = there.model.read(there.model.active)
        await world.check_turn(start, user, texts)
        made = call(tool)
        said = [f"{text}-call{step}", f"{text}-result{step}"]
        assert await world.stores.steps.save_step(result_of(start, content=said[0], calls=[made]))
        assert await world.stores.tool_result(made.id, content=said[1])
        own += map(Said, said)
        world.facts[said[0]] = Fact(sources=world.expected(user, texts))
        world.facts[said[1]] = Fact(sources=frozenset({tool} - {"calculate"}))
    await _answered(world, there, posted.turn.id, user, text, step=len(tools) + 1)


async def _regenerate(world: World, there: There, who: int, place: int, text: str) -> None:
    questions = [
        (number, at)
        for number, branch in enumerate(there.model.branches)
        for at, said in enumerate(branch.own)
        if world.facts[said.text].author is not None
    ]
    if not questions:
        return
    user = there.writers[who % len(there.writers)]
    branch, at = questions[place % len(questions)]
    question = there.model.branches[branch].own[at].text
    message_id = await world.stores.value(
        b"SELECT id FROM messages WHERE session_id = %(s)s AND content = %(c)s", s=there.id, c=question
    )
    turn = queued(there.id, message_id)
    there.model.note()
    posted = await PostgresBranches(world.stores.pool).regenerate(
        turn, FREE, user_id=user, concurrency=Concurrency.REJECT, idempotency=None
    )
    there.model.fork(branch, at + 1)
    await _answered(world, there, posted.turn.id, user, text)


async def _activate(world: World, there: There, who: int, place: int, text: str) -> None:
    branch = place % len(there.model.branches)
    await PostgresBranches(world.stores.pool).activate(there.id, there.owner, branch, now=utc_now())
    there.model.active = branch


async def _checkpoint(world: World, there: There, who: int, place: int, text: str) -> None:
    await PostgresCheckpoints(world.stores.pool).create(new_id(), there.id, there.owner, None, now=utc_now())
    there.model.note()


async def _checkpoints(world: World, there: There) -> list[str]:
    """Ids, oldest first."""
    found = await PostgresCheckpoints(world.stores.pool).list_for(there.id, Page(limit=200))
    assert len(found) == len(there.model.checkpoints)
    return [checkpoint.id for checkpoint in found][::-1]


async def _recover(world: World, there: There, who: int, place: int, text: str) -> None:
    stored = await _checkpoints(world, there)
    if not stored:
        return
    at = place % len(stored)
    await PostgresCheckpoints(world.stores.pool).recover(there.id, there.owner, stored[at], now=utc_now())
    branch, own, _ = there.model.checkpoints[at]
    there.model.recover(branch, own)


async def _fork(world: World, there: There, who: int, place: int, text: str) -> None:
    """By whoever may read it: of the active branch, of a checkpoint, or up to a message."""
    user = there.readers[who % len(there.readers)]
    message_id = checkpoint_id = None
    copy = there.model.copy(there.model.active)
    stored = await _checkpoints(world, there)
    own = there.model.branches[there.model.active].own
    if place % 3 == 1 and stored:
        at = place % len(stored)
        checkpoint_id = stored[at]
        branch, taken, _ = there.model.checkpoints[at]
        copy = there.model.copy(branch, taken)
    elif place % 3 == 2 and own and world.facts[own[place % len(own)].text].author is not None:
        at = place % len(own)
        message_id = await world.stores.value(
            b"SELECT id FROM messages WHERE session_id = %(s)s AND content = %(c)s", s=there.id, c=own[at].text
        )
        copy = there.model.copy(there.model.active, at + 1)
    record, _ = await PostgresForks(world.stores.pool).fork(
        ForkPlace(there.id, message_id, checkpoint_id), new_id(), user, idempotency=None, now=utc_now()
    )
    world.sessions.append(There(record.session.id, user, {}, copy))


async def _invite(world: World, there: There, who: int, place: int, text: str) -> None:
    user = PEOPLE_THERE[who % len(PEOPLE_THERE)]
    if user in there.readers:
        return
    access = ("read", "write")[place % 2]
    await world.stores.share(there.id, user, access)
    there.access[user] = access


async def _summarise(world: World, there: There, who: int, place: int, text: str) -> None:
    """A turn whose model reads a summary from now on, as a compaction would choose it."""
    user = there.writers[who % len(there.writers)]
    posted = await world.stores.post(there.id, text, user=user, turn_plan=FREE)
    world.facts[text] = Fact(user)
    there.model.note()
    there.model.branches[there.model.active].own.append(Said(text))
    start = await world.stores.started(posted.turn.id)
    older, _ = split(start.context, keep_tokens=0)
    if older:
        last = older[0]
        summary = Summary(last.branch, last.turn_number, "what was", 5, sources_read(older), "scripted")
        await world.stores.steps.save_summary(posted.turn.id, summary, now=utc_now())
    await _answered(world, there, posted.turn.id, user, text)


async def _erase(world: World, there: There, who: int, place: int, text: str) -> None:
    if len(world.sessions) > 1:
        await world.stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=there.id)
        world.sessions.remove(there)


ACTS = {
    "say": _say,
    "read": _read,
    "long": _long,
    "regenerate": _regenerate,
    "activate": _activate,
    "checkpoint": _checkpoint,
    "recover": _recover,
    "fork": _fork,
    "invite": _invite,
    "summarise": _summarise,
    "erase": _erase,
}
