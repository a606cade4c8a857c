"""`python -m devtools.measure_turn`: counts what one turn costs in calls, rows and bytes.

Runs the app on the local host with its own servers, one kind of turn at a time, and reads the servers' own counters
before and after: PostgreSQL's transactions, Redis' commands (also inside scripts), the requests in Azurite's access
log, the functions that the host ran and the histories that it stored. The result is `docs/measured-turn.json`, from
which `devtools.figures` computes the tables of `docs/operations.md` and `infra/README.md`. Each kind is measured where
nobody listens through SignalR and where somebody does (`per_turn_heard`), which is what makes relay calls.

`--delivery rest` writes nothing, and prints what turns cost with `REALTIME_DELIVERY=rest`. `--statements` writes
nothing, and prints which transactions a turn is made of. `--kind` measures one kind, and leaves the others as they are
written.

What a process asks for all its turns together, however many there are, is no transaction of a turn: what timers ask,
and the look for cancel requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
from redis.asyncio import Redis

from devhost.durable.store.history import EventType
from devhost.servers import Report, enter_all
from devhost.servers.azurite import Azurite
from devhost.servers.folder import free_port
from devhost.servers.postgres import Postgres
from devhost.servers.process import Command
from devtools.local.programs import AppHost, OfflineModel
from devtools.local.stack import ROOT, Stack
from devtools.local.up import migrate
from devtools.measured_kinds import AGENTS_FOLDER, KINDS, Kind, end_wait, make_agents
from devtools.statement_log import Transaction, log_statements, table, transactions
from shared.durable.names import KEEPER_INSTANCE

RESULT = ROOT / "docs" / "measured-turn.json"
TURNS = 20
_EVENT_TYPE = re.compile(r'"EventType": ?(\d+)')
_TIMER = re.compile(rf'"EventType": ?{int(EventType.TIMER_CREATED)}\b')
_QUEUED = {
    EventType.EXECUTION_STARTED,
    EventType.TASK_SCHEDULED,
    EventType.TASK_COMPLETED,
    EventType.TASK_FAILED,
    EventType.SUB_COMPLETED,
    EventType.SUB_FAILED,
    EventType.TIMER_FIRED,
    EventType.EVENT_RAISED,
}
"""Events that are a queue message to an orchestration or an activity when the task hub is in Azure Storage. A
sub-orchestration counts once, as the start of the child."""
_WORK = {"turn", "approval", "wait", "call_model", "execute_tool", "request_approval", "finish_turn", "relay"}
_WORK |= {"begin_workflow", "end_workflow", "one_step", "take_step"}
_MY_COMMANDS = {"info", "scan", "memory|usage", "hello", "client|setinfo", "config|resetstat"}
"""What the measurement itself asks Redis, and connections that are made."""
_DELIVERY = "binding"
"""`REALTIME_DELIVERY` as it is deployed."""
_ENDED = ("Completed", "Failed", "Terminated")
_LOOKS = [0.05] * 600
_LOGGED_S = 0.3
_REQUEST = re.compile(r'"(?:GET|HEAD|PUT|POST|PATCH|MERGE|DELETE) /\S+ HTTP/1')


async def main(arguments: argparse.Namespace) -> int:
    kinds: list[str] = arguments.kind or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="measure-turn-") as folder:
        async with measuring(Path(folder), report=_report, delivery=arguments.delivery) as measurement:
            if arguments.statements:
                for kind in kinds:
                    measured = await measurement.of(kind, turns=TURNS)
                    print(f"{kind}:\n{table(measured.transactions, TURNS)}")
                return 0
            unheard, heard = [
                {kind: (await measurement.of(kind, turns=TURNS, is_heard=is_heard)).per_turn for kind in kinds}
                for is_heard in (False, True)
            ]
    kept = json.loads(RESULT.read_text("utf-8")) if arguments.kind else {"per_turn": {}, "per_turn_heard": {}}
    unheard, heard = kept["per_turn"] | unheard, kept["per_turn_heard"] | heard
    result = {"turns_each": TURNS, "per_turn": unheard, "per_turn_heard": heard}
    if arguments.delivery == _DELIVERY:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    return 0


@dataclass(frozen=True, slots=True)
class Measured:
    """Some turns of one kind. per_turn: averages. transactions: all that the server ran meanwhile."""

    per_turn: dict[str, float]
    transactions: list[Transaction]


@contextlib.asynccontextmanager
async def measuring(
    folder: Path, *, report: Report, delivery: str = _DELIVERY, at_once: bool = False
) -> AsyncIterator[Measurement]:
    """A stack of its own in an empty folder. at_once: the model answers without delays."""
    async with contextlib.AsyncExitStack() as running:
        storage = _Azurite(folder / "azurite", report=report)
        model = (
            _QuickModel(folder / "model", report=report) if at_once else OfflineModel(folder / "model", report=report)
        )
        await enter_all(running, [storage, model])
        own = {
            "AzureWebJobsStorage": storage.url,
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": "offline",
            "OPENAI_MODEL": "offline-demo",
            "REALTIME_DELIVERY": delivery,
            "AGENTS_FOLDER": AGENTS_FOLDER,
            # Relay calls are counted by their log lines, which host.json silences.
            "AzureFunctionsJobHost__logging__logLevel__Function.relay": "Information",
        }
        port = free_port()
        stack = Stack(folder, own, port=port, report=report)
        await enter_all(running, list(stack.servers))
        assert stack.postgres is not None
        assert stack.notes is not None
        await migrate(stack.postgres.url)
        log_statements(stack.postgres.superuser_url)
        environment = stack.app_environment(port=port) | own
        health_path = "/api/v1/health/ready"
        host = _Host(folder / "host", port=port, env=environment, verbose=False, report=report, health_path=health_path)
        await running.enter_async_context(host)
        async with _client(host) as client:
            await make_agents(client)
        yield Measurement(host, storage, stack.postgres, environment, notes_port=stack.notes.port)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A running stack, on which one kind of turn after the other is counted."""

    host: AppHost
    storage: Azurite
    postgres: Postgres
    environment: dict[str, str]
    notes_port: int

    async def of(self, kind: str, *, turns: int, is_heard: bool = False) -> Measured:
        """Counts of `turns` turns, one after another, each in a session of its own that was there before. is_heard: to
        which its user has subscribed."""
        wanted = KINDS[kind]
        message: dict[str, Any] = {"content": wanted.text.format(notes_port=self.notes_port)}
        if wanted.client_tools:
            message["client_tools"] = [{"name": name} for name in wanted.client_tools]
        async with _client(self.host) as client:
            # Connections, prepared statements and imports do not count.
            await self._turn(client, await _session(client, wanted, is_heard=is_heard), message)
            sessions = [await _session(client, wanted, is_heard=is_heard) for _ in range(turns)]
            await self._is_still()
            before, log_began = await self._counters(), self.postgres.folder.log_file.stat().st_size
            usages = [await self._turn(client, session, message) for session in sessions]
            await self._is_still()
            ran = transactions(_rest_of(self.postgres.folder.log_file, log_began))
            after = await self._counters()
            events = sum([await _events(client, session) for session in sessions])
        counted = {name: after[name] - before[name] for name in after} | {
            "events": events,
            "input_tokens": sum(usage["input_tokens"] for usage in usages),
            "output_tokens": sum(usage["output_tokens"] for usage in usages),
            "postgres_transactions": sum(not one.is_of_process for one in ran),
        }
        return Measured({name: round(value / turns, 1) for name, value in sorted(counted.items())}, ran)

    async def _turn(self, client: httpx.AsyncClient, session_id: str, message: dict[str, Any]) -> dict[str, int]:
        """Run a turn to its end, as a caller who waits for it; returns its usage."""
        url = f"/sessions/{session_id}/messages"
        posted = await client.post(url, json=message, headers={"prefer": "wait=60"})
        turn = posted.raise_for_status().json()["turn"]
        if turn["waits"]:
            await self._rests(turn["id"])
        if turn["status"] != "completed":
            await end_wait(client, turn, self.environment["APPROVAL_LINK_SECRET"])
            turn = await _ended(client, posted.headers["location"])
        called = {call["status"] for call in turn["tool_calls"]}
        if turn["status"] != "completed" or called - {"completed"}:
            raise RuntimeError(f"a turn ended {turn['status']}, its calls {called}: {posted.text}")
        usage: dict[str, int] = turn["usage"]
        return usage

    async def _rests(self, turn_id: str) -> None:
        """Wait until the orchestration of a call waits for its event: an answer that is faster costs less."""
        for pause_s in _LOOKS:
            if any(_TIMER.search(row) for row in _rows(self.host.folder.path / "data", f"{turn_id}:%")):
                return
            await asyncio.sleep(pause_s)

    async def _is_still(self) -> None:
        """Wait until the orchestrations of all turns have ended, and the server has logged what it ran."""
        for pause_s in _LOOKS:
            await asyncio.sleep(pause_s)
            if all(status in _ENDED for status in _statuses(self.host.folder.path / "data")):
                break
        await asyncio.sleep(_LOGGED_S)

    async def _counters(self) -> dict[str, float]:
        async with Redis.from_url(self.environment["REDIS_URL"]) as redis:
            commands = await redis.info("commandstats")
            memory = await redis.info("memory")
            streams = [await redis.memory_usage(key) or 0 async for key in redis.scan_iter("parley:*")]
        with psycopg.connect(self.environment["POSTGRES_URL"], autocommit=True) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert row is not None
        return {
            "redis_commands": float(
                sum(
                    entry["calls"]
                    for name, entry in commands.items()
                    if name.removeprefix("cmdstat_") not in _MY_COMMANDS
                )
            ),
            "redis_bytes_of_keys": float(sum(streams)),
            "redis_bytes_used": float(memory["used_memory"]),
            "postgres_bytes": float(row[0]),
            "storage_requests_of_app": float(len(_REQUEST.findall(self.storage.folder.log_file.read_text("utf-8")))),
            **_history(self.host.folder.path / "data"),
            **_functions(self.host.folder.log_file),
        }


def _client(host: AppHost) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"{host.url}/api/v1", trust_env=False, timeout=120)


async def _session(client: httpx.AsyncClient, kind: Kind, *, is_heard: bool) -> str:
    body = {} if kind.agent_id is None else {"agent_id": kind.agent_id}
    session_id = str((await client.post("/sessions", json=body)).raise_for_status().json()["id"])
    if is_heard:
        (await client.post(f"/sessions/{session_id}/subscribe", json={})).raise_for_status()
    return session_id


async def _events(client: httpx.AsyncClient, session_id: str) -> int:
    """Beside the one that tells of the session."""
    found = await client.get(f"/sessions/{session_id}/events?after=1")
    return len(found.raise_for_status().json()["items"])


def _rest_of(log: Path, began: int) -> str:
    with log.open("rb") as file:
        file.seek(began)
        return file.read().decode("utf-8", "replace")


async def _ended(client: httpx.AsyncClient, location: str) -> dict[str, Any]:
    """The turn when it has ended."""
    url = client.base_url.join(location)
    # Watch the stream, which ends with the turn: polling would be counted.
    (await client.get(f"{url}/stream")).raise_for_status()
    ended: dict[str, Any] = (await client.get(url)).raise_for_status().json()
    return ended


def _statuses(folder: Path) -> list[str]:
    """Of all orchestrations but the one that keeps the hub's identity."""
    found: list[str] = []
    for path in folder.glob("durable-*.sqlite3"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            query = "SELECT status FROM instances WHERE instance_id <> ?"
            found += [row[0] for row in database.execute(query, (KEEPER_INSTANCE,))]
    return found


def _rows(folder: Path, instances: str = "%") -> list[str]:
    """The events of episodes, as JSON. instances: a LIKE pattern of ids."""
    rows: list[str] = []
    for path in folder.glob("durable-*.sqlite3"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            query = (
                "SELECT events FROM history JOIN instances USING (gen) WHERE instance_id <> ? AND instance_id LIKE ?"
            )
            rows += [row[0] for row in database.execute(query, (KEEPER_INSTANCE, instances))]
    return rows


def _history(folder: Path) -> dict[str, float]:
    """Counts from the durable engine's history: each event is a row of the hub, each scheduled task an activity.

    Without the orchestration that keeps the hub's identity, which is started once.
    """
    rows = _rows(folder)
    kinds = Counter(kind for row in rows for kind in _EVENT_TYPE.findall(row))
    return {
        "orchestrator_episodes": float(len(rows)),
        "history_events": float(kinds.total()),
        "history_bytes": float(sum(map(len, rows))),
        "instances": float(kinds[str(int(EventType.EXECUTION_STARTED))]),
        "activities": float(kinds[str(int(EventType.TASK_SCHEDULED))]),
        "queue_messages": float(sum(kinds[str(int(kind))] for kind in _QUEUED)),
    }


def _functions(log: Path) -> dict[str, float]:
    """Functions that the host ran, by its log, without timers and those of the measurement itself."""
    runs = re.findall(r"INFO +(\w+) ok in ([\d.]+) ms", log.read_text("utf-8"))
    names = Counter(name for name, _ in runs)
    mine = {"create_session", "subscribe", "read_events", "ready", "live"}
    mine |= {"sweep", "watch", "purge_histories", "retire_sessions"}
    return {
        "functions": float(sum(count for name, count in names.items() if name not in mine)),
        "functions_relay": float(names["relay"]),
        # Only functions that do the turn's work: a caller's waiting request or stream uses no processor.
        "work_seconds": sum(float(ms) for name, ms in runs if name in _WORK) / 1000,
    }


class _Azurite(Azurite):
    """Azurite that logs each request it serves."""

    def command(self) -> Command:
        command = super().command()
        return replace(command, argv=tuple(argument for argument in command.argv if argument != "--silent"))


class _QuickModel(OfflineModel):
    def command(self) -> Command:
        command = super().command()
        return replace(command, argv=(*command.argv, "--tokens-per-second", "0", "--first-token-ms", "0"))


class _Host(AppHost):
    """The app's host with its output in a file, so that log lines can be counted."""

    def command(self) -> Command:
        return replace(super().command(), log_file=self.folder.log_file)


def _report(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m devtools.measure_turn", description=__doc__)
    parser.add_argument("--delivery", choices=[_DELIVERY, "rest"], default=_DELIVERY)
    parser.add_argument("--statements", action="store_true")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="measure these; the others stay")
    sys.exit(asyncio.run(main(parser.parse_args())))
