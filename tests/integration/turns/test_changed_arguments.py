"""A call that a person approved with changed arguments: the model, the history, copies and files tell what ran."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from shared.adapters.models.chat import request as chat
from shared.adapters.models.responses import request as responses
from shared.sessions.context.compaction import Compactor
from shared.sessions.context.window import fit, to_conversation
from shared.sessions.events import SessionEventPublisher
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import FileFormat
from shared.sessions.history.export import ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.llm.conversation import Said, UserSaid
from shared.sessions.llm.protocol import ModelEnd, ModelEvent, ModelRequest, ModelText
from shared.sessions.llm.registry import ModelApi, ModelRegistry
from shared.sessions.models import FinishReason, ToolCall, ToolCallStatus
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import ContextMessage, ProposedCall
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import FetchRequest, FetchResponse, ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from tests.integration.branches.branching import ANN, Conversation, conversation
from tests.integration.domain import Stores, call, plan, vote_on

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

FIRST = {"method": "POST", "url": "http://outside.test/first", "body": "1"}
SECOND = {"method": "POST", "url": "http://outside.test/second", "body": "2"}
CHANGED = {**SECOND, "body": "42"}
KEPT = [{"type": "reasoning", "id": "r1", "encrypted_content": "sealed"}, {"reasoning_content": "sealed"}]


class Outside:
    """An `HttpFetcher` that answers with what was sent."""

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        body = (request.body or b"").decode()
        return FetchResponse(200, request.url, {}, f"got {body}", len(body), False, False)


@dataclass
class Sent:
    """Two calls of one step, both approved, the second with changed arguments, and both run."""

    talk: Conversation
    turn_id: str
    calls: list[ProposedCall]

    async def context(self) -> list[ContextMessage]:
        return (await self.talk.stores.started(self.turn_id, 2)).context

    async def listed(self) -> list[ToolCall]:
        return await _calls(self.talk)


async def _calls(talk: Conversation) -> list[ToolCall]:
    messages, _ = await HistoryManager(talk.stores.sessions, talk.stores.turns).list_messages(
        talk.id, ANN, MessageFilter(), Page()
    )
    return [found for message in messages for found in message.tool_calls]


def _handler(stores: Stores, publisher: SessionEventPublisher) -> ToolCallHandler:
    watch = CancelWatch(stores.turns.cancel_requested)
    tools = ToolServices(http=Outside())
    return ToolCallHandler(stores.tool_calls, publisher, tools, watch, grace_s=0)


@pytest.fixture
async def sent(stores: Stores, publisher: SessionEventPublisher) -> Sent:
    talk = await conversation(stores)
    posted = await stores.post(talk.id, "Send both.")
    calls = [
        call("http_request", arguments, ordinal=number, provider_call_id=f"call_{number}", needs_approval=True)
        for number, arguments in enumerate((FIRST, SECOND))
    ]
    await stores.answer(posted.turn.id, content="", calls=calls, kept=KEPT)
    handler = _handler(stores, publisher)
    for proposal, arguments in zip(calls, (None, CHANGED), strict=True):
        approval = await stores.request_approval(proposal)
        assert await stores.decide(approval, vote_on(approval, arguments=arguments))
        assert (await handler.handle_tool_call(proposal.id)).status is ToolCallStatus.COMPLETED
    return Sent(talk, posted.turn.id, calls)


def _request(conversation: list[Said], api: ModelApi) -> Any:
    request = ModelRequest(model="m", api=api, instructions="Be brief.", conversation=conversation)
    module = chat if api is ModelApi.CHAT else responses
    return orjson.loads(module.encode(request))


def _results(body: Any) -> dict[str, dict[str, Any]]:
    """By call id, in either API."""
    if "messages" in body:
        return {m["tool_call_id"]: orjson.loads(m["content"]) for m in body["messages"] if m["role"] == "tool"}
    return {
        item["call_id"]: orjson.loads(item["output"])
        for item in body["input"]
        if item.get("type") == "function_call_output"
    }


def _written(body: Any) -> dict[str, dict[str, Any]]:
    """What the model is shown to have written itself, by call id."""
    if "messages" in body:
        calls = [made for message in body["messages"] for made in message.get("tool_calls", ())]
        return {made["id"]: orjson.loads(made["function"]["arguments"]) for made in calls}
    items = [item for item in body["input"] if item.get("type") == "function_call"]
    return {item["call_id"]: orjson.loads(item["arguments"]) for item in items}


@pytest.mark.parametrize("api", ModelApi)
async def test_the_model_is_told_what_ran_and_still_reads_what_it_wrote(sent: Sent, api: ModelApi) -> None:
    body = _request(to_conversation(fit(await sent.context(), 10_000)), api)

    first, second = (_results(body)[made.provider_call_id] for made in sent.calls)
    assert set(first) == {"status", "untrusted_output"}
    assert second["decided_arguments"] == CHANGED
    assert "changed arguments" in second["approved_with_changes"]
    assert second["untrusted_output"].endswith("got 42")
    assert _written(body) == {"call_0": FIRST, "call_1": SECOND}
    assert b"sealed" in orjson.dumps(body), "what the API wants back goes back unchanged"


@pytest.mark.parametrize("api", ModelApi)
async def test_the_model_is_told_in_later_turns_on_branches_and_in_forks(
    sent: Sent, api: ModelApi, stores: Stores
) -> None:
    await stores.answer(sent.turn_id, 2)
    await stores.finish(sent.turn_id)
    fork = await sent.talk.fork()
    question = (await sent.talk.last_question()) or ""
    for talk in (sent.talk, fork, await fork.fork()):
        posted = await stores.post(talk.id, "And?")
        body = _request(to_conversation(fit((await stores.started(posted.turn.id)).context, 10_000)), api)
        assert _results(body)["call_1"]["decided_arguments"] == CHANGED
        assert _written(body)["call_1"] == SECOND
        await stores.finish(posted.turn.id)
    again = await sent.talk.regenerate(question)
    assert [message.role for message in (await stores.started(again.turn.id)).context] == ["user"]


@dataclass
class Summarising:
    """An `LLMServiceProtocol` that keeps what it was asked to summarise."""

    asked: list[ModelRequest] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.asked.append(request)
        yield ModelText("what was")
        yield ModelEnd(FinishReason.STOP, [])


async def test_whoever_summarises_the_turn_is_told_what_ran(sent: Sent, stores: Stores) -> None:
    await stores.answer(sent.turn_id, 2)
    await stores.finish(sent.turn_id)
    posted = await stores.post(sent.talk.id, "And? " * 1_000, turn_plan=plan(compact_at=0.8))
    llm = Summarising()

    start = await Compactor(llm, stores.steps, ModelRegistry()).compact(
        await stores.started(posted.turn.id), room=2_000, api=ModelApi.CHAT
    )

    assert [message.role for message in start.context] == ["user", "summary"]
    (request,) = llm.asked
    (said,) = request.conversation
    assert isinstance(said, UserSaid)
    (told,) = [text for text in said.before if "got 42" in text]
    assert "changed arguments" in told
    assert '"body":"42"' in told


async def test_the_head_of_a_result_that_is_cut_still_tells_what_ran(sent: Sent, stores: Stores) -> None:
    await stores.sql(
        b"UPDATE messages SET content = replace(content, 'got 42', repeat('long ', 10000)), tokens = 20000"
        b" WHERE turn_id = %(t)s AND role = 'tool'",
        t=sent.turn_id,
    )
    (cut,) = [message for message in fit(await sent.context(), 1_000) if message.tool_call_id == "call_1"]
    assert "more bytes" in cut.content
    assert '"body":"42"' in cut.content


async def test_history_shows_what_was_proposed_and_what_ran(sent: Sent, stores: Stores) -> None:
    expected = [(FIRST, None), (SECOND, CHANGED)]
    assert [(made.arguments, made.decided_arguments) for made in await sent.listed()] == expected
    turn = await stores.turns.get_turn(sent.talk.id, sent.turn_id)
    assert [(made.arguments, made.decided_arguments) for made in turn.tool_calls] == expected
    await stores.answer(sent.turn_id, 2)
    await stores.finish(sent.turn_id)
    fork = await sent.talk.fork()
    assert [(made.arguments, made.decided_arguments) for made in await _calls(fork)] == expected


async def test_history_shows_what_was_decided_before_it_ran(stores: Stores) -> None:
    proposal = call("http_request", SECOND, needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    assert await stores.decide(approval, vote_on(approval, arguments=CHANGED))

    (made,) = await _calls(Conversation(stores, posted.turn.session_id))
    assert (made.status, made.arguments, made.decided_arguments) == (ToolCallStatus.APPROVED, SECOND, CHANGED)


async def test_what_older_code_decided_is_stored_with_the_call_when_it_ran(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    proposal = call("http_request", SECOND, needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    assert await stores.decide(approval, vote_on(approval, arguments=CHANGED))
    await stores.sql(b"UPDATE tool_calls SET decided_arguments = NULL WHERE id = %(c)s", c=proposal.id)

    await _handler(stores, publisher).handle_tool_call(proposal.id)

    (made,) = await _calls(Conversation(stores, posted.turn.session_id))
    assert made.decided_arguments == CHANGED


async def test_a_call_that_was_interrupted_says_with_which_arguments(
    sent: Sent, stores: Stores, publisher: SessionEventPublisher
) -> None:
    proposal = call("http_request", SECOND, needs_approval=True)
    await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    assert await stores.decide(approval, vote_on(approval, arguments=CHANGED))
    await stores.sql(b"UPDATE tool_calls SET begun_at = now() WHERE id = %(c)s", c=proposal.id)

    assert (await _handler(stores, publisher).handle_tool_call(proposal.id)).status is ToolCallStatus.FAILED

    execution = await stores.tool_calls.tool_execution(proposal.id)
    content = await stores.value(b"SELECT content FROM messages WHERE id = %(m)s", m=execution.result_message_id)
    told = orjson.loads(content)
    assert content.startswith('{"status":"failed"')
    assert "outcome is unknown" in told["error"]
    assert told["decided_arguments"] == CHANGED


@pytest.mark.parametrize("file_format", [FileFormat.JSON, FileFormat.MD, FileFormat.HTML, FileFormat.CSV])
async def test_an_export_shows_what_was_proposed_and_what_ran(sent: Sent, file_format: FileFormat) -> None:
    stores = sent.talk.stores
    exports = ExportService(stores.sessions, HistoryManager(stores.sessions, stores.turns), FileGenerator())
    export = await exports.export(sent.talk.id, ANN, file_format)
    text = b"".join([piece async for piece in export.pieces]).decode("utf-8-sig")
    if file_format is FileFormat.JSON:
        made = orjson.loads(text)["messages"][1]["tool_calls"]
        assert [(item["arguments"], item["decided_arguments"]) for item in made] == [(FIRST, None), (SECOND, CHANGED)]
    elif file_format is FileFormat.CSV:
        row = list(csv.DictReader(io.StringIO(text, newline="")))[1]
        assert orjson.loads(row["arguments"]) == [FIRST, SECOND]
        assert orjson.loads(row["decided_arguments"]) == [None, CHANGED]
    else:
        text = text.replace("&quot;", '"')
        places = [text.index(words) for words in ('"body": "2"', "Approved with changes by a person", '"body": "42"')]
        assert places == sorted(places)
        assert text.count("Approved with changes by a person") == 1
