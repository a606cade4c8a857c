"""Any tree of posts, regenerations and changes of branch, against a model that keeps each branch as a list."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.branching import Conversation, conversation, own_stores
from tests.integration.domain import Stores

pytestmark = pytest.mark.integration


@dataclass
class Said:
    text: str
    user_message_id: str | None = None


@dataclass
class ModelBranch:
    parent: int | None = None
    shared: int = 0
    """How many of the parent's own messages it reads, behind what the parent itself reads of its ancestors."""
    own: list[Said] = field(default_factory=list)


@dataclass
class Model:
    """What a session should be, without turn numbers, steps or SQL."""

    branches: list[ModelBranch] = field(default_factory=lambda: [ModelBranch()])
    active: int = 0

    def read(self, branch: int, own: int | None = None) -> list[str]:
        """The texts of a branch, with the first `own` of its own messages (all by default)."""
        here = self.branches[branch]
        before = [] if here.parent is None else self.read(here.parent, here.shared)
        return before + [said.text for said in here.own[:own]]

    def questions(self) -> list[tuple[int, int]]:
        """(branch, place among its own) of every user message."""
        return [
            (number, place)
            for number, branch in enumerate(self.branches)
            for place, said in enumerate(branch.own)
            if said.user_message_id is not None
        ]

    def fork(self, parent: int, shared: int) -> None:
        self.branches.append(ModelBranch(parent, shared))
        self.active = len(self.branches) - 1


# An action and a number that chooses among what there is to act on.
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["post", "tool", "cancelled", "regenerate", "activate"]), st.integers(0, 1_000)),
    min_size=3,
    max_size=14,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
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
    if action == "regenerate":
        questions = model.questions()
        if not questions:
            return
        branch, place = questions[choice % len(questions)]
        message_id = model.branches[branch].own[place].user_message_id
        assert message_id is not None
        posted = await talk.regenerate(message_id)
        model.fork(branch, place + 1)
    elif action == "tool":
        posted = await talk.ask_with_a_tool(text, f"{text}-answer")
        own = model.branches[model.active].own
        own.append(Said(text, posted.message.id))
        own += [Said(f"{text}-answer?"), Said(f"{text}-answer!"), Said(f"{text}-answer")]
        assert posted.turn.branch == model.active
        return
    else:
        posted = await talk.stores.post(talk.id, text)
        model.branches[model.active].own.append(Said(text, posted.message.id))
    assert posted.turn.branch == model.active
    assert await talk.context(posted.turn.id) == model.read(model.active)
    answer = "" if action == "cancelled" else f"{text}-answer"
    await talk.finish_started(posted.turn.id, answer)
    model.branches[model.active].own.append(Said(answer))
