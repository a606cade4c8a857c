"""Edited messages over PostgreSQL: what a model and a reader see, what is refused, and that once is once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.adapters.postgres.attachments import PostgresAttachments
from shared.adapters.postgres.branches.edits import PostgresEdits
from shared.errors import AppError, ErrorCode
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.edits import EditService
from shared.sessions.models import Concurrency, NewMessage, SessionStatus
from shared.sessions.posting.models import Posted
from shared.sessions.records.pages import MessageFilter, Page
from tests.integration.branches.branching import ANN, conversation
from tests.integration.domain import OWNER, READER, STRANGER, Stores, Uncached, envelopes, turn_planner

pytestmark = pytest.mark.integration


@pytest.fixture
def service(stores: Stores, publisher: SessionEventPublisher) -> EditService:
    attachments = PostgresAttachments(stores.pool)
    return EditService(PostgresEdits(stores.pool), publisher, turn_planner(stores), attachments, Uncached())


async def _edit(
    service: EditService, session_id: str, message_id: str, content: str, *, key: str | None = None, **more: Any
) -> Posted:
    body = NewMessage(content=content, **more)
    return await service.edit(session_id, message_id, body, ANN, idempotency_key=key)


async def test_an_edited_message_reads_what_stood_before_it_and_the_old_one_stays(
    stores: Stores, service: EditService
) -> None:
    talk = await conversation(stores)
    first = await talk.ask("a")
    asked = await talk.ask("b")
    await talk.ask("c")

    posted = await _edit(service, talk.id, asked.message.id, "b2")

    result = posted.result
    assert (result.turn.branch, result.message.branch, result.message.author) == (1, 1, OWNER)
    assert await talk.context(result.turn.id) == ["a", "A", "b2"]
    await talk.finish_started(result.turn.id, "B2")
    assert await talk.listed() == ["a", "A", "b2", "B2"]
    assert await talk.listed(0) == ["a", "A", "b", "B", "c", "C"]
    told = [(event["type"], event["data"].get("active_branch")) for event in envelopes(posted.messages)]
    assert told == [("session.activated", 1), ("message.created", None)]

    again = await _edit(service, talk.id, result.message.id, "b3")
    await talk.finish(again.result.turn.id, "B3")
    branches = await talk.rows.list_for(talk.id, Page())
    after = branches[1].fork_message_id
    assert after is not None
    assert after != first.message.id, "it stands behind the answer to the first"
    assert [(item.parent_branch, item.fork_message_id) for item in branches] == [(None, None), (0, after), (0, after)]
    assert await talk.listed() == ["a", "A", "b3", "B3"]


async def test_the_first_message_can_be_edited_and_the_checkpoint_before_it_leads_back(
    stores: Stores, service: EditService
) -> None:
    talk = await conversation(stores)
    asked = await talk.ask_with_a_tool("a", "A")
    posted = await _edit(service, talk.id, asked.message.id, "x")
    assert await talk.context(posted.result.turn.id) == ["x"]
    await talk.finish_started(posted.result.turn.id, "X")
    [_, edited] = await talk.rows.list_for(talk.id, Page())
    assert (edited.parent_branch, edited.fork_message_id) == (0, None)
    [before, *_] = await talk.checkpoints.list_for(talk.id, Page())
    assert (before.before_turn_id, before.branch) == (posted.result.turn.id, 0)
    await talk.activate(0)
    await talk.ask("b")
    assert await talk.listed() == ["a", "A?", "A!", "A", "b", "B"]
    assert await talk.listed(1) == ["x", "X"]


async def test_an_edit_is_stored_once_however_often_it_is_sent(stores: Stores, service: EditService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    sent = [_edit(service, talk.id, asked.message.id, "a2", key="once") for _ in range(4)]
    posted = await asyncio.gather(*sent)
    assert {one.result.message.id for one in posted} == {posted[0].result.message.id}
    assert [one.result.replayed for one in posted].count(False) == 1
    assert len(await talk.rows.list_for(talk.id, Page())) == 2


async def test_of_two_edits_at_once_one_is_refused_and_leaves_nothing(stores: Stores, service: EditService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    made = await asyncio.gather(
        *(_edit(service, talk.id, asked.message.id, text) for text in ("x", "y")), return_exceptions=True
    )
    [refused] = [one for one in made if isinstance(one, AppError)]
    assert refused.code is ErrorCode.CONFLICT
    assert len(await talk.rows.list_for(talk.id, Page())) == 2


async def test_what_cannot_be_edited_is_refused(stores: Stores, service: EditService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    other = await conversation(stores)
    foreign = await other.ask("b")
    [_, answer] = (await stores.turns.list_messages(talk.id, MessageFilter(), Page()))[:2]

    async def code(message_id: str, principal: Principal = ANN, content: str = "x", **more: Any) -> ErrorCode:
        body = NewMessage(content=content, **more)
        with pytest.raises(AppError) as caught:
            await service.edit(talk.id, message_id, body, principal, idempotency_key=None)
        return caught.value.code

    assert await code(answer[1].id) is ErrorCode.INVALID_MESSAGE
    assert await code(foreign.message.id) is ErrorCode.MESSAGE_NOT_FOUND
    assert await code(asked.message.id, content=" ") is ErrorCode.INVALID_MESSAGE
    assert await code(asked.message.id, attachment_ids=["nothing"]) is ErrorCode.INVALID_MESSAGE
    for user, refusal in ((STRANGER, ErrorCode.SESSION_NOT_FOUND), (READER, ErrorCode.SESSION_NOT_FOUND)):
        await stores.share(talk.id, READER, "read") if user == READER else None
        assert await code(asked.message.id, Principal(user, frozenset({Role.USER}))) is refusal
    await stores.move(talk.id, SessionStatus.ENDED)
    assert await code(asked.message.id) is ErrorCode.INVALID_STATE
    assert len(await talk.rows.list_for(talk.id, Page())) == 1, "what is refused leaves no branch"


async def test_while_a_turn_runs_concurrency_applies(stores: Stores, service: EditService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    running = await stores.post(talk.id, "b")
    queued = await _edit(service, talk.id, asked.message.id, "a2", concurrency=Concurrency.ENQUEUE)
    assert not queued.start
    await talk.finish(running.turn.id, "B")
    assert await talk.listed(0) == ["a", "A", "b", "B"]
    assert await talk.context(queued.result.turn.id) == ["a2"]
