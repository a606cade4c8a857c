"""Any tree of posts, regenerations, recoveries, forks and changes of branch, against a model that keeps lists."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.sessions.approvals.containment import sources_read
from tests.integration.branches.branching import Conversation, conversation, own_stores
from tests.integration.branches.tree import Model, Said
from tests.integration.domain import Stores

pytestmark = pytest.mark.integration

_KINDS = ["post", "tool", "page", "cancelled", "regenerate", "activate", "checkpoint", "recover", "fork"]
# An action and a number that chooses among what there is to act on.
ACTIONS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(0, 1_000)),
    min_size=3,
    max_size=16,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
@example(actions=[("page", 0), ("post", 0), ("post", 0), ("checkpoint", 0), ("fork", 3)])
def test_every_branch_reads_what_was_said_on_its_way_and_nothing_is_lost(
    postgres_url: str, actions: list[tuple[str, int]]
) -> None:
    async def run() -> None:
        async with own_stores(postgres_url) as stores:
            await _compare(stores, actions)

    asyncio.run(run())


async def _compare(stores: Stores, actions: list[tuple[str, int]]) -> None:
    talk, model = await conversation(stores), Model()
    for number, (action, choice) in enumerate(actions):
        await _apply(talk, model, action, choice, f"m{number}")
    for branch in range(len(model.branches)):
        assert await talk.listed(branch) == model.read(branch), branch
    assert await talk.listed() == model.read(model.active)
    stored = await stores.rows(b"SELECT content FROM messages WHERE session_id = %(s)s", s=talk.id)
    said = [item.text for branch in model.branches for item in branch.own]
    assert sorted(row["content"] for row in stored) == sorted(said)


async def _apply(talk: Conversation, model: Model, action: str, choice: int, text: str) -> None:
    if action == "activate":
        branch = choice % len(model.branches)
        assert await talk.activate(branch) == (branch != model.active)
        model.active = branch
        return
    if action == "checkpoint":
        await talk.checkpoint(text)
        model.note()
        return
    if action == "fork":
        stored = await talk.listed_checkpoints()
        if stored:
            place = choice % len(stored)
            fork = await talk.fork(checkpoint_id=stored[place].id)
            assert await fork.listed() == model.checkpoints[place][2]
            if fork_question := await fork.last_question():
                again = await fork.regenerate(fork_question)
                read = await _read(fork, again.turn.id)
                assert read == model.checkpoints[place][2][: len(read)]
        return
    if action == "recover":
        stored = await talk.listed_checkpoints()
        assert len(stored) == len(model.checkpoints)
        if stored:
            place = choice % len(stored)
            branch, own, read = model.checkpoints[place]
            model.recover(branch, own)
            assert (await talk.recover(stored[place].id)).active_branch == model.active
            assert model.read(model.active) == await talk.listed() == read
        return
    if action == "regenerate":
        questions = model.questions()
        if not questions:
            return
        branch, place = questions[choice % len(questions)]
        message_id = model.branches[branch].own[place].user_message_id
        assert message_id is not None
        model.note()
        posted = await talk.regenerate(message_id)
        model.fork(branch, place + 1)
    elif action in {"tool", "page"}:
        model.note()
        text = f"{action}-{text}"
        posted = await talk.ask_with_a_tool(text, f"{text}-answer", "fetch_url" if action == "page" else "calculate")
        own = model.branches[model.active].own
        own.append(Said(text, posted.message.id))
        own += [Said(f"{text}-answer?"), Said(f"{text}-answer!"), Said(f"{text}-answer")]
        assert posted.turn.branch == model.active
        return
    else:
        model.note()
        posted = await talk.stores.post(talk.id, text)
        model.branches[model.active].own.append(Said(text, posted.message.id))
    assert posted.turn.branch == model.active
    assert await _read(talk, posted.turn.id) == model.read(model.active)
    answer = "" if action == "cancelled" else f"{text}-answer"
    await talk.finish_started(posted.turn.id, answer)
    model.branches[model.active].own.append(Said(answer))


async def _read(talk: Conversation, turn_id: str) -> list[str]:
    """What a turn's model reads, oldest first; on the way, that it is held to have read a page just when it has.

    The newest answer knows that by itself, for when all before it is too long ago to be read.
    """
    context = (await talk.stores.started(turn_id)).context
    texts = [message.content for message in context][::-1]
    has_read = {"fetch_url"} if any(text.startswith("page-") and text.endswith("!") for text in texts) else set()
    last = next((number for number, message in enumerate(context) if message.role == "assistant"), len(context))
    assert sources_read(context) == sources_read(context[: last + 1]) == has_read
    return texts
