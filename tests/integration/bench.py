"""A bench for whole turns: the bridge and the tools on real stores, with the offline model as a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from devhost.model.server import ModelOptions, start_server
from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode, Transient
from shared.principal import AuthMode
from shared.sessions.bridge import SessionAgentBridge, StepReport
from shared.sessions.context.compaction import INSTRUCTIONS, Compactor
from shared.sessions.events import EventType, SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.limits.budgets import NO_DAILY_LIMITS, DailyLimits
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEvent, ModelRequest
from shared.sessions.llm.registry import ModelApi, ModelRegistry
from shared.sessions.models import Message, MessageRole, Turn, TurnError, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import FinishedTurn, PostedMessage
from shared.sessions.service import SessionService
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import FetchRequest, FetchResponse, ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.patience import Spent
from shared.settings import Settings
from tests.integration.domain import (
    WAIT_S,
    RecordingSender,
    Stores,
    envelopes,
    plan,
    session_service,
)

BOTH_APIS = list(ModelApi)
CALCULATE = {"name": "calculate", "arguments": {"expression": "1 + 1"}}
FETCH = {"name": "fetch_url", "arguments": {"url": "http://outside.test/page"}}


def settings_for(model_url: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "OPENAI_BASE_URL": f"{model_url}/v1",
        "OPENAI_API_KEY": "none",
        "OPENAI_MODEL": "scripted",
        "POSTGRES_URL": "postgresql://unused",
        "REDIS_URL": "redis://unused",
        "PUBLIC_BASE_URL": "http://localhost",
        "APPROVAL_LINK_SECRET": "s" * 32,
        "AUTH_MODE": AuthMode.DEV,
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
    }
    return Settings(**values | changes)


@dataclass
class Asked:
    """The model service with everything that it was asked, and how often that was longer than the model's window."""

    service: ModelService
    requests: list[ModelRequest] = field(default_factory=list)
    overflows: int = 0
    summarises: bool = True
    """False: what is asked for a summary fails as a server that is overloaded does."""

    @property
    def summaries(self) -> list[ModelRequest]:
        return [request for request in self.requests if request.instructions == INSTRUCTIONS]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        self.requests.append(request)
        if not self.summarises and request.instructions == INSTRUCTIONS:
            raise Transient(ErrorCode.LLM_ERROR, "The model failed.")
        try:
            async for event in self.service.stream(request):
                yield event
        except ContextOverflow:
            self.overflows += 1
            raise


@dataclass
class Pages:
    """An `HttpFetcher` that has one page, whatever is asked for."""

    text: str = "a page"

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return FetchResponse(200, request.url, {}, self.text, len(self.text), False, False)


@dataclass(frozen=True)
class Ran:
    """A turn that was run to its end. events: those that its end sent."""

    posted: PostedMessage
    outcome: StepOutcome
    finished: FinishedTurn
    turn: Turn
    events: list[dict[str, Any]]


@dataclass
class Bench:
    """One process: its bridge, and what it sent."""

    stores: Stores
    bridge: SessionAgentBridge
    sender: RecordingSender
    publisher: SessionEventPublisher
    model_url: str
    model: Asked
    service: SessionService
    tools: ToolCallHandler
    pages: Pages

    async def run(self, posted: PostedMessage, step: int = 1, *, tries: int = 1) -> StepReport:
        async with asyncio.timeout(WAIT_S * 2):
            report = await self.bridge.run_step(posted.turn.id, step, Spent(tries))
        await self.sender.send(report.messages)
        return report

    async def run_calls(self, report: StepReport) -> None:
        for tool_call_id, _ in report.calls:
            async with asyncio.timeout(WAIT_S):
                await self.tools.handle_tool_call(tool_call_id)

    async def finish(self, posted: PostedMessage, report: StepReport) -> Ran:
        """As the orchestrator ends a turn that its last step has not closed."""
        if report.finished is not None:
            turn = await self.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
            ends = [event for event in envelopes(report.messages) if event["type"] == EventType.STREAM_ENDED]
            return Ran(posted, report.outcome, report.finished, turn, ends)
        status = {
            StepOutcome.FINAL: TurnStatus.COMPLETED,
            StepOutcome.CANCELLED: TurnStatus.CANCELLED,
            StepOutcome.FAILED: TurnStatus.FAILED,
        }[report.outcome]
        error = None if report.code is None else TurnError(code=report.code, detail=report.detail)
        finished, messages = await self.service.finish_turn(posted.turn.id, status=status, error=error)
        turn = await self.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
        return Ran(posted, report.outcome, finished, turn, envelopes(messages))

    async def go_on(self, posted: PostedMessage, step: int = 1) -> Ran:
        """A turn from a step on to its end, with its tool calls, as the orchestrator runs it."""
        tries = 0
        while True:
            tries += 1
            report = await self.run(posted, step, tries=tries)
            if report.outcome is StepOutcome.RETRY:
                continue
            if report.outcome not in {StepOutcome.TOOL_CALLS, StepOutcome.JOINED}:
                return await self.finish(posted, report)
            await self.run_calls(report)
            step, tries = step + 1, 0

    async def say(self, session_id: str, content: str, **plan_changes: Any) -> Ran:
        """Post a message and run its turn to its end."""
        return await self.go_on(await self.stores.post(session_id, content, turn_plan=plan(**plan_changes)))

    async def answer(self, posted: PostedMessage) -> Message:
        """The newest assistant message of the turn."""
        rows = await self.stores.rows(
            b"SELECT id FROM messages WHERE turn_id = %(turn)s AND role = 'assistant' ORDER BY step DESC LIMIT 1",
            turn=posted.turn.id,
        )
        return await self.stores.turns.get_message(posted.turn.session_id, rows[0]["id"])

    async def messages(self, session_id: str, role: MessageRole | None = None) -> list[Message]:
        """Of all branches, oldest first."""
        found = await self.stores.turns.list_messages(session_id, MessageFilter(role=role), Page(limit=200))
        return [message for _, message in found]

    async def calls(self, key: str) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.model_url}/__calls?key={key}") as answer:
            return dict(await answer.json())

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [event["data"]["frame"] for event in self.sender.events if event["type"] == "stream.chunk"]

    @property
    def names(self) -> list[str]:
        """Event types; frames by their own type."""
        return [
            event["data"]["frame"]["type"] if event["type"] == "stream.chunk" else event["type"]
            for event in self.sender.events
        ]


type MakeBench = Callable[..., Awaitable[Bench]]


@asynccontextmanager
async def bench_maker(stores: Stores, publisher: SessionEventPublisher) -> AsyncIterator[MakeBench]:
    """Benches on the same stores, each a process of its own, with a model server of its own unless one is named.

    Options of the server: those of `ModelOptions`; of the app: registry, limits, compacts; others are settings.
    """
    async with AsyncExitStack() as stack:

        async def make(
            *,
            model_url: str | None = None,
            server: ModelOptions | None = None,
            registry: ModelRegistry | None = None,
            limits: DailyLimits = NO_DAILY_LIMITS,
            compacts: bool = False,
            **settings: Any,
        ) -> Bench:
            if model_url is None:
                options = server or ModelOptions(scripted=True, first_s=0, token_s=0, context_tokens=200_000)
                runner, port = await start_server(options, host="127.0.0.1", port=0)
                stack.push_async_callback(runner.cleanup)
                model_url = f"http://127.0.0.1:{port}"
            service = ModelService(settings_for(model_url, **{"LLM_TIMEOUT_SECONDS": 5} | settings))
            stack.push_async_callback(service.aclose)
            model, sender, watch = Asked(service), RecordingSender(), CancelWatch(stores.turns.cancel_requested)
            registry = registry or ModelRegistry()
            executor = AgentExecutor(
                model,
                limits=limits,
                registry=registry,
                compactor=Compactor(model, stores.steps, registry) if compacts else None,
                reservations=stores.steps,
            )
            pages = Pages()
            return Bench(
                stores,
                SessionAgentBridge(stores.steps, executor, publisher, sender, watch),
                sender,
                publisher,
                model_url,
                model,
                session_service(stores, publisher, limits=limits, registry=registry),
                ToolCallHandler(stores.tool_calls, publisher, ToolServices(http=pages), watch),
                pages,
            )

        yield make


def read_by(request: ModelRequest) -> str:
    """The words of the conversation that a model was asked to go on with."""
    texts: list[str] = []
    for said in request.conversation:
        texts += [*(said.before if isinstance(said, UserSaid) else ()), said.text]
    return "\n".join(texts)
