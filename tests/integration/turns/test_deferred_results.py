"""Tools whose results come later: stored as a wait, posted once by whoever holds the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest

from parley.tools import Completion, Later, ToolContext, tool
from shared.errors import AppError, Conflict, ErrorCode, Gone, NotFound
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import MessageRole, NewToolResult, SessionStatus, ToolCallStatus, TurnStatus, WaitKind
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools import of_plan
from shared.sessions.tools.base import Tool
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.services import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.waits.service import ToolWaits
from shared.signing import CompletionTokens
from tests.integration.domain import OWNER, WAIT_S, Stores, call, envelopes, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

HIDDEN_TEXT = "tok-5f1e-6c2d"
JOB = Principal("render-farm", frozenset({Role.USER}))
TOKENS = CompletionTokens("s" * 32, "https://app.test/")
HOUR_S = 3_600.0


@dataclass
class Workshop:
    stores: Stores
    handler: ToolCallHandler
    waits: ToolWaits
    given: list[Completion] = field(default_factory=list)

    async def asked(self) -> tuple[PostedMessage, str]:
        """A turn whose model has called the tool, which has returned."""
        proposal = call("render", {})
        posted = await self.stores.proposed(proposal)
        assert (await self.handle(proposal.id)).wait is not None
        return posted, proposal.id

    async def handle(self, call_id: str, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(call_id, **options)

    async def post(self, call_id: str, token: str | None = None, **told: Any) -> Any:
        body = NewToolResult(token=token or self.given[-1].token, **(told or {"content": "done"}))
        return await self.waits.complete(call_id, body, JOB)

    async def told(self, posted: PostedMessage) -> Any:
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return orjson.loads(message.content)


@pytest.fixture
async def workshop(stores: Stores, publisher: SessionEventPublisher, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    secrets = SettingSecrets({"TOOL_SECRET_CRM_TOKEN": HIDDEN_TEXT})
    watch = CancelWatch(stores.turns.cancel_requested)
    handler = ToolCallHandler(
        stores.tool_calls,
        publisher,
        ToolServices(secrets=secrets),
        watch,
        grace_s=0,
        mask=secrets.mask(),
        waits=stores.waits,
        completions=TOKENS,
    )
    made = Workshop(stores, handler, ToolWaits(stores.waits, publisher, TOKENS))
    of_name: Callable[[str], Tool | None] = {"render": _render(made.given)}.get
    monkeypatch.setattr(of_plan, "find_tool", of_name)
    return made


def _render(given: list[Completion]) -> Tool:
    @tool(risks=())
    async def render(call: ToolContext) -> Later:
        """Render a film."""
        given.append(call.completion)
        return Later(HOUR_S)

    return render


async def test_the_turn_waits_as_long_as_the_tool_says(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()

    turn = await workshop.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    (wait,) = turn.waits
    assert (turn.status, wait.kind, wait.tool_call_id) == (TurnStatus.WAITING_INPUT, WaitKind.RESULT, call_id)
    assert wait.expires_at - wait.opened_at == timedelta(seconds=HOUR_S)
    assert workshop.given[0].url == f"https://app.test/api/v1/tool-calls/{call_id}/result"
    assert workshop.given[0].token not in repr(workshop.given[0])


async def test_who_was_told_of_a_wait_is_not_told_again(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()
    again = await workshop.handle(call_id)
    assert again.wait is not None

    known, other = [await workshop.handle(call_id, told_wait=told) for told in (again.wait.id, "another")]

    assert [event["type"] for event in envelopes(again.messages)] == ["tool_call.waiting"]
    assert (known.messages, known.wait) == ([], again.wait)
    assert [event["type"] for event in envelopes(other.messages)] == ["tool_call.waiting"]


@pytest.mark.parametrize("days", [0, 31])
def test_a_result_comes_within_thirty_days_or_not_at_all(days: int) -> None:
    with pytest.raises(ValueError, match="1 to 2592000 seconds"):
        Later(days * 86_400)


async def test_what_is_posted_is_the_result_masked_and_bounded(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()

    completed = await workshop.post(call_id, content=f"film.mp4 {HIDDEN_TEXT}", data={"seconds": 9})
    report = await workshop.handle(call_id)

    assert completed.wait.ended_by == JOB.user_id
    assert report.status is ToolCallStatus.COMPLETED
    assert envelopes(report.messages)[0]["data"]["tool_call"]["result"] == {"seconds": 9}
    told = await workshop.told(posted)
    assert told["status"] == "completed"
    assert "film.mp4" in told["untrusted_output"]
    assert HIDDEN_TEXT not in str(told)
    assert len(workshop.given) == 1, "the tool does not run again"


async def test_an_error_is_told_to_the_model(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()
    await workshop.post(call_id, error="The disk is full.")

    assert (await workshop.handle(call_id)).status is ToolCallStatus.FAILED
    assert await workshop.told(posted) == {"status": "failed", "error": "The disk is full."}


async def test_progress_is_told_and_the_call_goes_on_waiting(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()

    told = await workshop.post(call_id, progress={"text": "half", "fraction": 0.5})

    (event,) = envelopes(told.messages)
    assert (event["type"], event["data"]["text"], event["data"]["fraction"]) == ("tool_call.progress", "half", 0.5)
    assert event["data"]["tool_call"]["id"] == call_id
    turn = await workshop.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert [wait.tool_call_id for wait in turn.waits] == [call_id]


async def test_a_token_is_good_for_one_result(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()

    said = await asyncio.gather(
        *(workshop.post(call_id, content=f"result {n}") for n in range(4)), return_exceptions=True
    )

    assert sum(isinstance(one, Conflict) for one in said) == 3
    await workshop.handle(call_id)
    for told in ({"content": "another"}, {"progress": {"text": "late"}}):
        with pytest.raises(Conflict):
            await workshop.post(call_id, **told)


async def test_the_same_result_again_changes_nothing(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()
    first = await workshop.post(call_id)
    await workshop.handle(call_id)

    assert (await workshop.post(call_id)).wait == first.wait


async def test_a_token_of_another_call_or_of_nobody_finds_nothing(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()
    await workshop.asked()
    other = workshop.given[-1].token
    forged = CompletionTokens("x" * 32, "").token(call_id, expires_at=utc_now() + timedelta(days=1))

    for token in (other, forged, "x", "."):
        with pytest.raises(NotFound) as caught:
            await workshop.post(call_id, token)
        assert caught.value.code is ErrorCode.TOOL_NOT_FOUND


async def test_a_token_whose_time_is_over_is_refused(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()

    with pytest.raises(Gone):
        await workshop.post(call_id, TOKENS.token(call_id, expires_at=utc_now() - timedelta(seconds=1)))


async def test_a_result_after_the_deadline_is_too_late_and_the_model_is_told(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()
    sql = b"UPDATE tool_waits SET expires_at = now() - interval '1 second' WHERE tool_call_id = %(id)s RETURNING id"
    ((wait_id,),) = [tuple(row.values()) for row in await workshop.stores.rows(sql, id=call_id)]

    with pytest.raises(Gone):
        await workshop.post(call_id)
    assert (await workshop.handle(call_id, late_wait=wait_id)).status is ToolCallStatus.FAILED

    assert "did not come in time" in (await workshop.told(posted))["error"]


async def test_a_result_that_is_faster_than_its_tool_waits_for_it(workshop: Workshop) -> None:
    proposal = call("render", {})
    await workshop.stores.proposed(proposal)
    token = TOKENS.token(proposal.id, expires_at=utc_now() + timedelta(days=1))

    posting = asyncio.create_task(workshop.post(proposal.id, token))
    await asyncio.sleep(0)
    await workshop.handle(proposal.id)

    async with asyncio.timeout(WAIT_S):
        await posting
    assert (await workshop.handle(proposal.id)).status is ToolCallStatus.COMPLETED


async def test_after_a_cancel_or_an_erasure_nothing_takes_it(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()
    await workshop.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    with pytest.raises(Conflict):
        await workshop.post(call_id)
    await workshop.stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=posted.turn.session_id)
    with pytest.raises(AppError):
        await workshop.post(call_id)


async def test_a_suspended_session_takes_it_and_goes_on_when_it_is_resumed(workshop: Workshop) -> None:
    posted, call_id = await workshop.asked()
    await workshop.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)
    await workshop.post(call_id)

    assert (await workshop.handle(call_id)).is_held
    await workshop.stores.move(posted.turn.session_id, SessionStatus.ACTIVE)
    assert (await workshop.handle(call_id)).status is ToolCallStatus.COMPLETED


@pytest.mark.parametrize(
    "told",
    [{}, {"content": "a", "error": "b"}, {"data": {}, "progress": {"text": "a"}}, {"progress": {"text": "a" * 201}}],
)
def test_a_body_says_one_thing(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give a result|200 characters"):
        NewToolResult(token="t", **told)
