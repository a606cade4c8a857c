"""Client tools: declared in a message, stored as a wait, answered once by the user who declared them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import pytest

from shared.errors import Conflict, ErrorCode, Gone, NotFound
from shared.principal import Principal, Role
from shared.rights import Access
from shared.sessions.approvals.proposals import propose
from shared.sessions.events import SessionEventPublisher
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import (
    ClientTool,
    JsonObject,
    MessageRole,
    NewToolResult,
    SessionStatus,
    ToolCallStatus,
    TurnStatus,
    WaitKind,
)
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.kinds.client import with_client_tools
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.waits.service import ToolWaits
from shared.signing import CompletionTokens
from tests.integration.domain import OWNER, WAIT_S, Stores, call, envelopes, plan, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ROLES = frozenset({Role.USER})
ME = Principal(OWNER, ROLES)
OTHER = Principal("mallory", ROLES)
TOKENS = CompletionTokens("s" * 32, "https://app.test/")
LOCATE = ClientTool(
    name="locate",
    description="Where the user is.",
    parameters={"type": "object", "properties": {"accuracy": {"type": "integer"}}},
)


@dataclass
class Window:
    """The page of a user that declared a tool."""

    stores: Stores
    handler: ToolCallHandler
    waits: ToolWaits

    async def asked(self, arguments: JsonObject | None = None) -> tuple[PostedMessage, str]:
        proposal = call("locate", arguments or {}, is_client=True)
        declared = with_client_tools(plan(), [LOCATE])
        posted = await self.stores.proposed(proposal, tools=declared.tools, client_tools=declared.client_tools)
        assert (await self.handle(proposal.id)).wait is not None
        return posted, proposal.id

    async def handle(self, call_id: str, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id, **options)

    async def post(self, call_id: str, principal: Principal = ME, **told: Any) -> Any:
        return await self.waits.complete(call_id, NewToolResult(**(told or {"content": "Oslo"})), principal)

    async def told(self, posted: PostedMessage) -> Any:
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return orjson.loads(message.content)


@pytest.fixture
async def window(stores: Stores, publisher: SessionEventPublisher) -> Window:
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(
        stores.tool_calls, publisher, ToolServices(), watch, grace_s=0, waits=stores.waits, completions=TOKENS
    )
    return Window(stores, handler, ToolWaits(stores.waits, publisher, TOKENS))


async def test_the_turn_waits_for_whoever_declared_the_tool(window: Window) -> None:
    posted, _call_id = await window.asked({"accuracy": 5})

    turn = await window.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    (wait,), (called,) = turn.waits, turn.tool_calls
    assert (turn.status, wait.kind, wait.asked_of) == (TurnStatus.WAITING_INPUT, WaitKind.CLIENT, OWNER)
    assert (called.is_client, called.arguments, called.status) == (True, {"accuracy": 5}, ToolCallStatus.PENDING)
    assert wait.expires_at - wait.opened_at == timedelta(seconds=3_600), "as long as people may take to approve"


@pytest.mark.parametrize(
    ("told", "result", "read"),
    [
        ({"content": "Oslo"}, None, "Oslo"),
        ({"data": {"city": "Oslo"}}, {"city": "Oslo"}, '{"city": "Oslo"}'),
        ({"data": [1, "two"]}, [1, "two"], '[1, "two"]'),
        ({"data": "Oslo"}, "Oslo", "Oslo"),
        ({"content": "Oslo", "data": "Oslo"}, "Oslo", "Oslo"),
    ],
)
async def test_what_is_posted_is_the_result(window: Window, told: Any, result: Any, read: str) -> None:
    posted, call_id = await window.asked()

    assert (await window.post(call_id, **told)).wait.ended_by == OWNER
    report = await window.handle(call_id)

    assert report.status is ToolCallStatus.COMPLETED
    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"] == result
    assert await window.told(posted) == {"status": "completed", "untrusted_output": read}


async def test_an_error_is_told_to_the_model(window: Window) -> None:
    posted, call_id = await window.asked()
    await window.post(call_id, error="The user said no.")

    assert (await window.handle(call_id)).status is ToolCallStatus.FAILED
    assert await window.told(posted) == {"status": "failed", "error": "The user said no."}


async def test_of_two_answers_one_counts_and_the_same_again_changes_nothing(window: Window) -> None:
    _posted, call_id = await window.asked()

    said = await asyncio.gather(*(window.post(call_id, content=f"{n}") for n in range(4)), return_exceptions=True)

    assert sum(isinstance(one, Conflict) for one in said) == 3
    (first,) = [one for one in said if not isinstance(one, BaseException)]
    (number,) = [n for n, one in enumerate(said) if one is first]
    await window.handle(call_id)
    assert (await window.post(call_id, content=f"{number}")).wait == first.wait
    with pytest.raises(Conflict):
        await window.post(call_id, content="late")


@pytest.mark.parametrize("access", [None, "read", "write"])
async def test_nobody_else_answers(window: Window, access: Access | None) -> None:
    posted, call_id = await window.asked()
    if access is not None:
        await window.stores.share(posted.turn.session_id, OTHER.user_id, access)

    for principal, token in ((OTHER, None), (ME, TOKENS.token(call_id, expires_at=utc_now() + timedelta(days=1)))):
        with pytest.raises((NotFound, Conflict)) as caught:
            await window.post(call_id, principal, content="forged", token=token)
        assert caught.value.code in {ErrorCode.TOOL_NOT_FOUND, ErrorCode.CONFLICT}
    turn = await window.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert [wait.tool_call_id for wait in turn.waits] == [call_id]


async def test_a_result_after_the_deadline_is_too_late_and_the_model_is_told(window: Window) -> None:
    posted, call_id = await window.asked()
    sql = b"UPDATE tool_waits SET expires_at = now() - interval '1 second' WHERE tool_call_id = %(id)s RETURNING id"
    ((wait_id,),) = [tuple(row.values()) for row in await window.stores.rows(sql, id=call_id)]

    with pytest.raises(Gone):
        await window.post(call_id)
    assert (await window.handle(call_id, late_wait=wait_id)).status is ToolCallStatus.FAILED
    assert "did not come in time" in (await window.told(posted))["error"]


async def test_after_a_cancel_or_an_erasure_nothing_takes_it(window: Window) -> None:
    posted, call_id = await window.asked()
    await window.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    with pytest.raises(Conflict):
        await window.post(call_id)
    await window.stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=posted.turn.session_id)
    with pytest.raises(NotFound):
        await window.waits.of_client(call_id, ME, looks=1)


async def test_a_suspended_session_takes_it_and_goes_on_when_it_is_resumed(window: Window) -> None:
    posted, call_id = await window.asked()
    await window.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)
    await window.post(call_id)

    assert (await window.handle(call_id)).is_held
    await window.stores.move(posted.turn.session_id, SessionStatus.ACTIVE)
    assert (await window.handle(call_id)).status is ToolCallStatus.COMPLETED


async def test_a_client_that_is_faster_than_its_call_waits_for_it(window: Window) -> None:
    proposal = call("locate", {}, is_client=True)
    declared = with_client_tools(plan(), [LOCATE])
    await window.stores.proposed(proposal, tools=declared.tools, client_tools=declared.client_tools)

    posting = asyncio.create_task(window.post(proposal.id))
    await asyncio.sleep(0)
    await window.handle(proposal.id)

    async with asyncio.timeout(WAIT_S):
        await posting
    assert (await window.handle(proposal.id)).status is ToolCallStatus.COMPLETED


async def test_a_call_that_does_not_fit_its_schema_does_not_wait(window: Window) -> None:
    declared = with_client_tools(plan(), [LOCATE])
    proposal = propose(ModelToolCall("c1", "locate", '{"accuracy": "very"}'), 0, declared)
    assert (proposal.is_client, proposal.needs_approval) == (True, False)
    assert "arguments of locate are not valid" in str(proposal.argument_error)
