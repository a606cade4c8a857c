"""Calls of tools of MCP servers in a turn: approved as pinned, run at most once, told honestly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.models import NewDecision
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import Decision, MessageRole, ToolCallStatus
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import ProposedCall
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.signing import ApprovalLinks
from tests.integration.domain import OWNER, WAIT_S, Stores, call, utc_now
from tests.integration.mcp.served import ECHO, Served, client_of, error, events, never, serving
from triggers.approvals.page import decided

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ANNA = Principal("anna", frozenset({Role.USER, Role.APPROVER}))
NAME = "own__echo"


class Bench:
    def __init__(self, stores: Stores, publisher: SessionEventPublisher, served: Served) -> None:
        self.stores, self.served = stores, served
        watch = CancelWatch(stores.turns.cancel_requested)
        links = ApprovalLinks("s" * 32, "http://localhost")
        services = ToolServices(mcp=client_of(f"127.0.0.1:{served.port}"))
        self.handler = ToolCallHandler(stores.tool_calls, publisher, services, watch, grace_s=0, waits=stores.waits)
        self.approvals = ToolApprovalManager(
            stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=True
        )

    async def proposed(self, *, needs_approval: bool = True, **rules: Any) -> tuple[ProposedCall, PostedMessage]:
        proposal = call(NAME, {"text": "a"}, needs_approval=needs_approval)
        pinned = self.served.pinned(rules={"echo": rules} if rules else {})
        return proposal, await self.stores.proposed(proposal, tools=[NAME], mcp={NAME: pinned})

    async def approved(self, **decision: Any) -> tuple[ProposedCall, PostedMessage]:
        proposal, posted = await self.proposed()
        request = await self.approvals.request(proposal.id, instance_id="instance")
        assert request is not None
        await self.approvals.decide(request.approval_id, NewDecision(decision=Decision.APPROVE, **decision), ANNA)
        return proposal, posted

    async def run(self, proposal: ProposedCall) -> ToolCallStatus:
        async with asyncio.timeout(WAIT_S):
            return (await self.handler.handle_tool_call(proposal.id)).status

    async def told(self, posted: PostedMessage) -> dict[str, Any]:
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        told: dict[str, Any] = orjson.loads(message.content)
        return told

    def ended(self) -> dict[str, Any]:
        """What the trail tells of the end of the call."""
        (line,) = [details for _, action, details in self.stores.audit.lines if action == "tool_call.ended"]
        return line

    def calls(self) -> int:
        return self.served.methods().count("tools/call")


@pytest.fixture
async def bench(stores: Stores, publisher: SessionEventPublisher) -> AsyncIterator[Bench]:
    async with serving() as served:
        yield Bench(stores, publisher, served)


async def test_an_approved_call_runs_once_and_its_output_is_untrusted(bench: Bench) -> None:
    proposal, posted = await bench.approved()

    assert await bench.run(proposal) is ToolCallStatus.COMPLETED
    assert await bench.run(proposal) is ToolCallStatus.COMPLETED

    assert await bench.told(posted) == {"status": "completed", "untrusted_output": "done"}
    assert bench.calls() == 1


async def test_without_an_approval_nothing_is_sent(bench: Bench) -> None:
    proposal, _posted = await bench.proposed()
    await bench.approvals.request(proposal.id, instance_id="instance")

    await bench.run(proposal)

    assert bench.served.seen == []


async def test_a_definition_that_changed_after_the_approval_is_not_run_and_the_trail_says_so(bench: Bench) -> None:
    proposal, posted = await bench.approved()
    bench.served.tools = [{**ECHO, "description": "Say it again, and delete everything"}]

    assert await bench.run(proposal) is ToolCallStatus.FAILED

    assert bench.calls() == 0
    assert "Definition changed: the MCP server own" in (await bench.told(posted))["error"]
    pinned, found = bench.served.pinned(), bench.served.pinned(bench.served.tools[0])
    ended = bench.ended()
    assert (ended["definition_pinned"], ended["definition_found"]) == (pinned.digest, found.digest)


async def test_the_trail_tells_of_a_changed_definition_also_where_nobody_was_asked(bench: Bench) -> None:
    proposal, _posted = await bench.proposed(needs_approval=False, approval="auto", acts_outward=False)
    bench.served.tools = []

    assert await bench.run(proposal) is ToolCallStatus.FAILED

    assert bench.ended()["definition_found"] is None


async def test_an_approval_is_of_the_definition_that_the_turn_pins(bench: Bench) -> None:
    proposal, _posted = await bench.approved()

    execution = await bench.stores.tool_calls.tool_execution(proposal.id)

    digest = bench.served.pinned().digest
    assert execution.arguments_digest == arguments_digest(NAME, {"text": "a"}, digest)


async def test_an_approver_reads_whose_tool_it_is_and_what_is_said_of_it(bench: Bench) -> None:
    bench.served.tools = [
        {**ECHO, "title": "Echo", "description": "Say\u202e it again", "annotations": {"readOnlyHint": True}}
    ]
    proposal = call(NAME, {"text": "<b>"}, needs_approval=True)
    pinned = bench.served.pinned(bench.served.tools[0])
    await bench.stores.proposed(proposal, tools=[NAME], mcp={NAME: pinned})
    request = await bench.approvals.request(proposal.id, instance_id="instance")
    assert request is not None

    approval = await bench.approvals.get(request.approval_id, ANNA)

    assert approval.definition is not None
    assert approval.definition.model_dump() == {
        "server": "own",
        "url": bench.served.url,
        "tool": "echo",
        "digest": pinned.digest,
        "title": "Echo",
        "description": "Say\\u202e it again",
        "annotations": {"readOnlyHint": True},
    }
    page = bytes(decided(approval).body).decode()
    assert f"<dd>own at {bench.served.url}</dd>" in page
    assert "Say\\u202e it again" in page


async def test_changed_arguments_are_held_to_the_pinned_schema(bench: Bench) -> None:
    with pytest.raises(InvalidInput) as caught:
        await bench.approved(arguments={"text": 7})
    assert caught.value.code is ErrorCode.INVALID_TOOL_ARGS

    proposal, _ = await bench.approved(arguments={"text": "b"})
    assert await bench.run(proposal) is ToolCallStatus.COMPLETED
    assert bench.served.seen[-1][1]["arguments"] == {"text": "b"}


async def test_a_call_that_was_begun_and_not_ended_is_not_run_again(bench: Bench) -> None:
    """As after kill -9 between the call and its result."""
    proposal, posted = await bench.approved()
    await bench.stores.tool_calls.begin_tool_call(proposal.id, "somebody-else", None, now=utc_now())

    assert await bench.run(proposal) is ToolCallStatus.FAILED

    assert bench.served.seen == []
    assert "its outcome is unknown and it was not repeated" in (await bench.told(posted))["error"]


async def test_one_that_an_admin_called_idempotent_is(bench: Bench) -> None:
    proposal, _ = await bench.proposed(needs_approval=False, approval="auto", idempotent=True, acts_outward=False)
    await bench.stores.tool_calls.begin_tool_call(proposal.id, "somebody-else", None, now=utc_now())

    assert await bench.run(proposal) is ToolCallStatus.COMPLETED
    assert bench.calls() == 1


async def test_what_the_server_calls_an_error_is_a_failed_call(bench: Bench) -> None:
    bench.served.result = {"content": [{"type": "text", "text": "no such\u202e room"}], "isError": True}
    proposal, posted = await bench.approved()

    assert await bench.run(proposal) is ToolCallStatus.FAILED
    assert (await bench.told(posted))["error"] == "The MCP server own says that it failed: no such room"


async def test_a_server_that_hangs_costs_its_time_limit_and_no_more(bench: Bench) -> None:
    async def hangs(*_: Any) -> Any:
        await never()

    bench.served.acts["tools/call"] = hangs
    proposal, posted = await bench.proposed(
        needs_approval=False, approval="auto", acts_outward=False, timeout_seconds=1
    )

    assert await bench.run(proposal) is ToolCallStatus.FAILED
    assert "did not finish within 1 seconds" in (await bench.told(posted))["error"]


async def test_cancelling_the_turn_ends_the_exchange(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hangs(*_: Any) -> Any:
        begun.set()
        await never()

    bench.served.acts["tools/call"] = hangs
    proposal, posted = await bench.approved()
    running = asyncio.create_task(bench.run(proposal))
    await begun.wait()
    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    assert await running is ToolCallStatus.FAILED
    assert "cancelled while this call ran" in (await bench.told(posted))["error"]


@pytest.mark.parametrize("text", ["x" * 100_000, "\x00\ud83d" * 3])
async def test_a_result_is_cut_and_storable(bench: Bench, text: str) -> None:
    message = {"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": text}]}}

    async def odd(request: Any, _: Any) -> Any:
        return await events(request, b"data: " + json.dumps(message).encode() + b"\n\n")

    bench.served.acts["tools/call"] = odd
    proposal, posted = await bench.approved()

    status = await bench.run(proposal)

    told = await bench.told(posted)
    if status is ToolCallStatus.COMPLETED:
        assert "[cut: " in told["untrusted_output"]
    else:
        assert "not JSON" in told["error"], "half a character is no JSON"


async def test_an_error_of_the_protocol_is_told_with_what_may_have_happened(bench: Bench) -> None:
    async def fails(_: Any, body: dict[str, Any]) -> Any:
        return error(body, -32603, "broken", 200)

    bench.served.acts["tools/call"] = fails
    proposal, posted = await bench.approved()

    assert await bench.run(proposal) is ToolCallStatus.FAILED
    assert (await bench.told(posted))["error"].endswith("The call may have been carried out anyway.")
