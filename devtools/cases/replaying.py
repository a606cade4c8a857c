"""Plays cases against today's agents: the app's own services and activities on a database of their own.

Of the app, only what leaves the machine is replaced: the model, the tools' functions, MCP servers, live delivery, the
archive of the audit trail. The clock stands at each recorded moment.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import time_machine

import activities
import orchestrators
from devtools.cases.case import Case, Json, Turn, Unusable
from devtools.cases.family import Activity, Family, Stuck
from devtools.cases.masking import Masking
from devtools.cases.of_wire import Wire, case_of
from devtools.cases.people import People
from devtools.cases.playing import Played, ReplayedModel, ReplayedTools, Seen, WatchedModel
from shared.composition.services import Services, services
from shared.durable.names import TURN
from shared.errors import AppError, NotFound
from shared.principal import Principal, Role
from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.files import read_agents
from shared.sessions.events import SessionEventPublisher
from shared.sessions.mcp.asking import Asked
from shared.sessions.mcp.definitions import Offered
from shared.sessions.mcp.pins import McpPin, PinnedTool
from shared.sessions.mcp.results import McpResult
from shared.sessions.mcp.servers import McpServer
from shared.sessions.metrics import metrics
from shared.sessions.models import NewMessage, NewParticipant, NewSession, SessionConfig
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, MessageFilter, Page, decode_cursor
from shared.sessions.tools.registry import all_tools, problems

_ADMIN = Principal("replay", frozenset({Role.USER, Role.ADMIN}))
_HUB = "replay"
_CLIENT = json.dumps(
    {
        "taskHubName": _HUB,
        "creationUrls": {},
        "managementUrls": {},
        "baseUrl": "http://127.0.0.1:1",
        "requiredQueryStringParameters": "",
        "rpcBaseUrl": "http://127.0.0.1:1/",
    }
)
"""Nothing listens there, and nothing that is played calls it."""


class _Clock:
    def __init__(self, traveller: time_machine.Traveller) -> None:
        self._traveller = traveller

    def now(self) -> datetime:
        return datetime.now(UTC)

    def move(self, to: datetime) -> None:
        if to > self.now():
            self._traveller.move_to(to)


class _Silent:
    """Nobody listens: live delivery, and the forwarder of audit lines."""

    async def send(self, messages: Sequence[bytes]) -> None: ...

    def committed(self, lines: object) -> None: ...

    def set(self, text: str) -> None: ...


@dataclass
class _RecordedServers:
    """`McpServers` of which only the recorded definitions are known. Their calls never come here."""

    pins: list[McpPin] = field(default_factory=list)

    def check(self, server: McpServer) -> None: ...

    async def offered(self, server: McpServer) -> Offered:
        found = [pin.definition for pin in self.pins if pin.url == server.url]
        return Offered({definition.name: definition for definition in found})

    async def call(
        self, tool: PinnedTool, arguments: Mapping[str, Any], *, tool_call_id: str, **more: object
    ) -> McpResult | Asked:
        raise AssertionError("a call of a replay is answered before")


class Stage:
    """The app, set for replays. Use as `async with Stage.open(...) as stage`."""

    def __init__(self, app: Services, servers: _RecordedServers, *, is_live: bool) -> None:
        self._app = app
        self._servers = servers
        self._is_live = is_live
        self._orchestrators = _registered(orchestrators, "orchestration")
        self._activities = {name: _activity(found) for name, found in _registered(activities, "activity").items()}

    @classmethod
    @asynccontextmanager
    async def open(cls, *, is_live: bool = False) -> AsyncIterator[Stage]:
        """The settings are in the environment. is_live: the model is the one that they name.

        Raises Unusable for a folder of agents with a fault: what is left out of it would be missed by nobody.
        """
        app, servers = services(), _RecordedServers()
        stage = cls(app, servers, is_live=is_live)
        real = app.model if is_live else None
        metrics.on_change = lambda: None
        silent = _Silent()
        vars(app).update(
            model=_Switch(stage, real),
            tool_runner=_Runner(stage),
            mcp=servers,
            sender=silent,
            audit_forwarder=silent,
            publisher=SessionEventPublisher(app.event_log, app.session_rows),
        )
        refuse_faults(Path(app.settings.agents_folder))
        await app.hubs.seen(_HUB, name=_HUB, address="", now=datetime.now(UTC))
        app.task_hub.id, app.task_hub.is_only = _HUB, True
        try:
            yield stage
        finally:
            await app.event_log.aclose()
            await app.redis.aclose()
            await app.listening_redis.aclose()
            await app.pool.aclose()

    async def play(self, case: Case) -> Played:
        """One case in a session of its own."""
        self._servers.pins = [McpPin.model_validate(pin) for pin in case.agent.mcp_pins]
        seen = Seen(case)
        model: ReplayedModel | WatchedModel
        model = WatchedModel(seen, self._model_now.real) if self._is_live else ReplayedModel(seen)
        self._model_now.model = model
        self._runner.run = ReplayedTools(seen, self._call_of, self._is_live)
        notes: list[str] = []
        with _standing_at(case.turns[0].at if case.turns else case.recorded_at) as clock:
            agent_id = await self._agent(case, notes)
            owner = Principal(case.owner, frozenset({Role.USER}))
            body = NewSession(agent_id=agent_id, config=SessionConfig.model_validate(case.config))
            session, _, _ = await self._app.sessions.create(body, owner, idempotency_key=None)
            people = People(self._app, case, session.id, owner, self._call_of, clock.now)
            broke_off: str | None = None
            for number, each in enumerate(case.turns):
                model.begin_turn(number)
                clock.move(each.at)
                try:
                    await self._turn(session.id, owner, each, clock, people)
                except (AppError, Stuck) as error:
                    said = error.safe_message if isinstance(error, AppError) else str(error)
                    broke_off = f"turn {number + 1}: {said}"
                if broke_off is not None or seen.unanswered:
                    break
            wire = await self._wire(session.id, owner, agent_id)
        today = case_of(wire, case.name, _AsItIs(), now=case.recorded_at)
        return Played(today.case, seen, people.refused, notes, broke_off)

    @property
    def _model_now(self) -> _Switch:
        found: _Switch = vars(self._app)["model"]
        return found

    @property
    def _runner(self) -> _Runner:
        found: _Runner = vars(self._app)["tool_runner"]
        return found

    async def _call_of(self, tool_call_id: str) -> str:
        return (await self._app.tool_call_rows.tool_execution(tool_call_id)).provider_call_id

    async def _agent(self, case: Case, notes: list[str]) -> str:
        """Today's agent of that id; where there is none, the recorded one is made."""
        try:
            await self._app.agents.get(case.agent.id)
        except NotFound:
            notes.append(
                f"there is no agent {case.agent.id!r} today: the recorded version {case.agent.version} was used"
            )
            body = NewAgent.model_validate(case.agent.content)
            await self._app.agents.put(case.agent.id, body, _ADMIN, if_match=None)
        return case.agent.id

    async def _turn(self, session_id: str, owner: Principal, recorded: Turn, clock: _Clock, people: People) -> None:
        who = Principal(recorded.by, frozenset({Role.USER}))
        if who.user_id != owner.user_id:
            await self._app.lifecycle.put_participant(session_id, who.user_id, NewParticipant(access="write"), owner)
        body = NewMessage.model_validate(
            {
                "content": recorded.message,
                "approval_mode": recorded.approval_mode,
                "output_schema": recorded.output_schema,
            }
        )
        posted = await self._app.sessions.post_message(session_id, body, who, idempotency_key=None)
        family = Family(self._orchestrators, self._activities, clock, people)
        await family.run(TURN, posted.result.turn.id)

    async def _wire(self, session_id: str, owner: Principal, agent_id: str) -> Wire:
        """What the API would say of the session."""
        app = self._app
        record = await app.sessions.get(session_id, owner)
        turns = await _all(lambda page: app.lifecycle.list_turns(session_id, owner, page), int)
        approvals = await _all(
            lambda page: app.approvals.of_session(session_id, owner, ApprovalFilter(), page), datetime
        )
        messages = await _all(lambda page: app.history.list_messages(session_id, owner, MessageFilter(), page), int)
        agent = await self._app.agents.get(agent_id)
        return Wire(
            session=record.session.model_dump(mode="json"),
            owner=owner.user_id,
            agent=agent.model_dump(mode="json"),
            tools=[tool.function_schema for tool in all_tools()],
            turns=[each.model_dump(mode="json") for each in reversed(turns)],
            messages=[each.model_dump(mode="json") for each in messages],
            approvals=[each.model_dump(mode="json") for each in reversed(approvals)],
        )


async def _all[Item](
    read: Callable[[Page], Awaitable[tuple[list[Item], str | None]]], key: type[int] | type[datetime]
) -> list[Item]:
    """Every item of a list of the domain."""
    items: list[Item] = []
    page = Page(limit=MAX_LIMIT)
    while True:
        found, cursor = await read(page)
        items += found
        if cursor is None:
            return items
        page = Page(limit=MAX_LIMIT, after=decode_cursor(cursor, key))


class _AsItIs(Masking):
    """A case is masked when it is recorded; its users have their names."""

    def user(self, user_id: str) -> str:
        return user_id

    def text(self, text: str) -> str:
        return text

    def value(self, value: Any, key: str = "") -> Any:
        return value


@dataclass
class _Switch:
    """The app's model, which is another one for each case."""

    stage: Stage
    real: Any
    model: Any = None

    def stream(self, request: Any) -> Any:
        return self.model.stream(request)


@dataclass
class _Runner:
    stage: Stage
    run: Any = None

    async def __call__(self, *given: Any, **more: Any) -> Any:
        return await self.run(*given, **more)


def refuse_faults(folder: Path) -> None:
    """Raises Unusable."""
    all_tools()  # imports them
    _, faults = read_agents(folder)
    told = [str(fault) for fault in (*problems(), *faults)]
    if told:
        raise Unusable(f"the agents cannot be read: {told[0]}" + (f" (and {len(told) - 1} more)" if told[1:] else ""))


@contextmanager
def _standing_at(moment: datetime) -> Iterator[_Clock]:
    with time_machine.travel(moment, tick=False) as traveller:
        yield _Clock(traveller)


def _registered(package: ModuleType, kind: str) -> dict[str, Any]:
    """Every function that the app registers of a kind (`orchestration`, `activity`), by its name in histories."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__):
        blueprint = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "bp", None)
        for builder in getattr(blueprint, "_function_builders", ()):
            for binding in builder._function.get_bindings():
                if binding.type == f"{kind}Trigger":
                    found[binding.get_dict_repr().get(kind) or builder._function._name] = builder
    return found


def _activity(builder: Any) -> Activity:
    function = builder._function.get_user_function()
    bound = {"events": _Silent(), "client": _CLIENT}
    more = {name: value for name, value in bound.items() if name in inspect.signature(function).parameters}

    async def run(payload: Json) -> Any:
        return await function(payload=payload, **more)

    return run
