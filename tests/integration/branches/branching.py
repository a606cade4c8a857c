"""What the tests of branches share: a session's conversation written in short, read back as a model and a reader do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints
from shared.adapters.postgres.branches.forks import PostgresForks
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.manager import HistoryManager
from shared.sessions.life.forks import ForkPlace
from shared.sessions.models import Concurrency, MessageRole, Session, Turn
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.pages import MessageFilter, Page, decode_cursor
from shared.sessions.records.turns import PostedMessage, queued_turn
from shared.sessions.recovery import Checkpoint
from tests.integration.domain import OWNER, Stores, call, plan, result_of, utc_now

ANN = Principal(OWNER, frozenset({Role.USER}))


def queued(session_id: str, message_id: str) -> Turn:
    """A turn of `plan()` that has not begun."""
    return queued_turn(new_id(), session_id, message_id, now=utc_now(), plan=plan())


@dataclass(frozen=True)
class Conversation:
    """One session."""

    stores: Stores
    id: str

    @property
    def rows(self) -> PostgresBranches:
        return PostgresBranches(self.stores.pool)

    @property
    def checkpoints(self) -> PostgresCheckpoints:
        return PostgresCheckpoints(self.stores.pool)

    async def ask(self, content: str, answer: str | None = None) -> PostedMessage:
        """A whole turn, answered with the same text in capitals unless said otherwise."""
        posted = await self.stores.post(self.id, content)
        await self.finish(posted.turn.id, content.upper() if answer is None else answer)
        return posted

    async def finish(self, turn_id: str, answer: str) -> None:
        await self.stores.answer(turn_id, content=answer)
        await self.stores.finish(turn_id)

    async def finish_started(self, turn_id: str, answer: str) -> None:
        """As `finish`, of a turn whose first step was begun to look at its context."""
        start = await self.stores.started(turn_id)
        assert await self.stores.steps.save_step(result_of(start, content=answer))
        await self.stores.finish(turn_id)

    async def ask_with_a_tool(self, content: str, answer: str, tool: str = "calculate") -> PostedMessage:
        """A turn of two steps: a call with its result, then the answer."""
        posted = await self.stores.post(self.id, content)
        proposal = call(tool)
        await self.stores.answer(posted.turn.id, content=f"{answer}?", calls=[proposal])
        assert await self.stores.tool_result(proposal.id, result={"value": answer}, content=f"{answer}!", tokens=5)
        await self.stores.answer(posted.turn.id, 2, content=answer)
        await self.stores.finish(posted.turn.id)
        return posted

    async def regenerate(
        self,
        message_id: str,
        *,
        user: str = OWNER,
        concurrency: Concurrency = Concurrency.REJECT,
        idempotency: Idempotency | None = None,
    ) -> PostedMessage:
        return await self.rows.regenerate(
            queued(self.id, message_id), plan(), user_id=user, concurrency=concurrency, idempotency=idempotency
        )

    async def answer_again(self, message_id: str, answer: str) -> PostedMessage:
        posted = await self.regenerate(message_id)
        await self.finish(posted.turn.id, answer)
        return posted

    async def activate(self, branch: int) -> bool:
        _, changed = await self.rows.activate(self.id, OWNER, branch, now=utc_now())
        return changed

    async def context(self, turn_id: str, step: int = 1) -> list[str]:
        """What a model would read, oldest first."""
        return [message.content for message in (await self.stores.started(turn_id, step)).context][::-1]

    async def listed(self, branch: int | None = None, *, limit: int = 50, descending: bool = False) -> list[str]:
        """What a reader of a branch is shown, page by page."""
        history = HistoryManager(self.stores.sessions, self.stores.turns)
        wanted = MessageFilter(branch=branch, descending=descending)
        found: list[str] = []
        page = Page(limit=limit)
        while True:
            messages, cursor = await history.list_messages(self.id, ANN, wanted, page)
            found += [message.content for message in messages]
            if cursor is None:
                return found
            page = Page(limit=limit, after=decode_cursor(cursor, int))

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        return await self.checkpoints.create(new_id(), self.id, OWNER, label, now=utc_now())

    async def listed_checkpoints(self) -> list[Checkpoint]:
        """Oldest first."""
        return (await self.checkpoints.list_for(self.id, Page(limit=200)))[::-1]

    async def recover(self, checkpoint_id: str, *, user: str = OWNER) -> Session:
        recovered = await self.checkpoints.recover(self.id, user, checkpoint_id, now=utc_now())
        return recovered.record.session

    async def fork(self, *, message_id: str | None = None, checkpoint_id: str | None = None) -> Conversation:
        place = ForkPlace(self.id, message_id, checkpoint_id)
        record, _ = await PostgresForks(self.stores.pool).fork(place, new_id(), OWNER, idempotency=None, now=utc_now())
        return Conversation(self.stores, record.session.id)

    async def last_question(self) -> str | None:
        """The id of the newest user message of the active branch."""
        wanted = MessageFilter(role=MessageRole.USER, descending=True, branch=await self.active_branch())
        found = await self.stores.turns.list_messages(self.id, wanted, Page(limit=1))
        return found[0][1].id if found else None

    async def active_branch(self) -> int:
        return (await self.stores.sessions.get(self.id, OWNER)).session.active_branch


async def conversation(stores: Stores) -> Conversation:
    return Conversation(stores, (await stores.session()).id)


@asynccontextmanager
async def own_stores(postgres_url: str) -> AsyncIterator[Stores]:
    """Stores for one example of a property, in the loop it runs in."""
    from shared.adapters.postgres.pool import PostgresPool

    pool = PostgresPool(postgres_url, size=2)
    try:
        yield Stores.over(pool)
    finally:
        await pool.aclose()
