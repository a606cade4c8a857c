"""Tools as users write them, run by ToolCallHandler over PostgreSQL and Redis: who asks, secrets, progress, kill -9."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from parley.tools import ToolContext, ToolOutput, tool
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import MessageRole, ToolCallStatus
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools import of_plan
from shared.sessions.tools.base import Tool
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.running.threads import ToolThreads
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from tests.integration.domain import OWNER, WAIT_S, RecordingSender, Stores, call, envelopes, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

TOKEN = "tok-5f1e-6c2d"


@dataclass
class Workshop:
    stores: Stores
    handler: ToolCallHandler
    sender: RecordingSender
    tools: dict[str, Tool]

    async def asked(self, which: Tool, **plan: Any) -> tuple[PostedMessage, str]:
        """A turn whose model asks for the tool: (turn, call id)."""
        self.tools[which.name] = which
        proposal = call(which.name, {})
        return await self.stores.proposed(proposal, **plan), proposal.id

    async def handle(self, call_id: str) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id)

    async def told(self, posted: PostedMessage) -> Any:
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return orjson.loads(message.content)


@pytest.fixture
async def workshop(stores: Stores, publisher: SessionEventPublisher, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    tools: dict[str, Tool] = {}
    monkeypatch.setattr(of_plan, "find_tool", tools.get)
    secrets = SettingSecrets({"TOOL_SECRET_CRM_TOKEN": TOKEN})
    sender = RecordingSender()
    handler = ToolCallHandler(
        stores.tool_calls,
        publisher,
        ToolServices(secrets=secrets, threads=ToolThreads(4, 4)),
        CancelWatch(stores.turns.cancel_requested),
        grace_s=0,
        sender=sender,
        mask=secrets.mask(),
    )
    return Workshop(stores, handler, sender, tools)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@tool(idempotent=True, risks=())
def whoami(call: ToolContext) -> dict[str, Any]:
    """Say who asks."""
    caller = call.caller
    return {
        "user": caller.user_id,
        "roles": sorted(caller.roles),
        "agent": caller.agent_id,
        "version": caller.agent_version,
        "key": call.idempotency_key,
        "session": caller.session_id,
    }


async def test_a_tool_knows_for_whom_it_runs(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked(whoami, roles=["admin", "user"], agent_id="support", agent_version=3)
    report = await workshop.handle(call_id)

    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"] == {
        "user": OWNER,
        "roles": ["admin", "user"],
        "agent": "support",
        "version": 3,
        "key": call_id,
        "session": posted.turn.session_id,
    }


async def test_a_turn_that_was_posted_before_roles_were_stored_has_none(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked(whoami)
    (stored,) = await workshop.stores.rows(b"SELECT plan FROM turns WHERE id = %(id)s", id=posted.turn.id)
    assert "roles" not in stored["plan"]

    report = await workshop.handle(call_id)

    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"]["roles"] == []


async def test_the_roles_of_who_posts_are_frozen_in_the_plan(stores: Stores) -> None:
    session = await stores.session()
    planner = TurnPlanner(stores.sessions, default_model="m")

    posting = await planner.plan(
        session.id, Principal(OWNER, frozenset({Role.USER, Role.APPROVER})), None, now=utc_now()
    )

    assert posting.plan.roles == ["approver", "user"]
    assert posting.plan.stored()["roles"] == ["approver", "user"]


async def test_a_secret_reaches_the_tool_and_nothing_that_is_stored_or_sent(
    workshop: Workshop, gate: threading.Event
) -> None:
    @tool(secrets=["CRM_TOKEN"], idempotent=True, risks=())
    def crm(call: ToolContext) -> ToolOutput:
        """Look up."""
        token = call.secret("CRM_TOKEN")
        assert token == TOKEN
        call.progress(f"with {token}")
        gate.wait()
        return ToolOutput(f"used {token}", {"token": token})

    posted, call_id = await workshop.asked(crm)
    running = asyncio.create_task(workshop.handle(call_id))
    await until(workshop.sender.sent.is_set)
    gate.set()
    report = await running

    assert report.status is ToolCallStatus.COMPLETED
    assert (await workshop.told(posted))["untrusted_output"] == "used [secret CRM_TOKEN]"
    assert TOKEN.encode() not in b"".join(report.messages)
    assert [told["data"]["text"] for told in workshop.sender.events] == ["with [secret CRM_TOKEN]"]
    rows = await workshop.stores.rows(b"SELECT row_to_json(tool_calls)::text AS row FROM tool_calls")
    assert TOKEN not in str(rows)


async def test_progress_is_told_live_and_before_the_end(workshop: Workshop, gate: threading.Event) -> None:
    @tool(idempotent=True, risks=())
    def reads(call: ToolContext) -> str:
        """Read."""
        call.progress("3 of 10 read", fraction=0.3)
        gate.wait()
        return "read"

    posted, call_id = await workshop.asked(reads)
    running = asyncio.create_task(workshop.handle(call_id))
    await until(workshop.sender.sent.is_set)
    gate.set()
    report = await running

    (told,) = workshop.sender.events
    assert (told["type"], told["turn_id"]) == ("tool_call.progress", posted.turn.id)
    assert told["data"]["text"] == "3 of 10 read"
    assert told["data"]["fraction"] == 0.3
    assert told["data"]["tool_call"]["id"] == call_id
    assert told["seq"] < envelopes(report.messages)[0]["seq"]


def repeats(runs: list[str], gate: asyncio.Event | threading.Event, *, idempotent: bool, is_async: bool) -> Tool:
    """A tool whose first run hangs once it has had its effect."""
    if is_async:
        assert isinstance(gate, asyncio.Event)

        @tool(idempotent=idempotent, risks=())
        async def books(call: ToolContext) -> str:
            """Book."""
            runs.append(call.idempotency_key)
            if len(runs) == 1:
                await gate.wait()
            return "booked"

        return books

    @tool(idempotent=idempotent, risks=())
    def books_sync(call: ToolContext) -> str:
        """Book."""
        runs.append(call.idempotency_key)
        if len(runs) == 1:
            gate.wait()
        return "booked"

    return books_sync


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "not idempotent"])
async def test_a_call_whose_process_was_killed_has_its_effect_once_or_again_with_the_same_key(
    workshop: Workshop, publisher: SessionEventPublisher, gate: threading.Event, idempotent: bool, is_async: bool
) -> None:
    runs: list[str] = []
    books = repeats(runs, asyncio.Event() if is_async else gate, idempotent=idempotent, is_async=is_async)
    posted, call_id = await workshop.asked(books)
    killed = asyncio.create_task(workshop.handle(call_id))
    await until(lambda: len(runs) == 1)
    # What a process leaves that is killed here: the start is on record, and no result.
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)

    report = await workshop.handle(call_id)

    if idempotent:
        assert (report.status, runs) == (ToolCallStatus.COMPLETED, [call_id, call_id])
    else:
        assert (report.status, runs) == (ToolCallStatus.FAILED, [call_id])
        assert "its outcome is unknown and it was not repeated" in (await workshop.told(posted))["error"]


async def test_a_cancel_is_seen_by_a_sync_tool(workshop: Workshop) -> None:
    begun, saw = threading.Event(), threading.Event()

    @tool(risks=())
    def works(call: ToolContext) -> str:
        """Work."""
        begun.set()
        while not call.cancelled:
            saw.wait(0.001)
        saw.set()
        return "stopped"

    posted, call_id = await workshop.asked(works)
    running = asyncio.create_task(workshop.handle(call_id))
    await until(begun.is_set)
    await workshop.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    assert (await running).status is ToolCallStatus.FAILED
    assert "cancelled while" in (await workshop.told(posted))["error"]
    await until(saw.is_set)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110  # threads bring it about
            await asyncio.sleep(0.001)
