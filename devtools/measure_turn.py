"""`python -m devtools.measure_turn`: counts what one turn costs in calls, rows and bytes.

Runs the app on the local host with its own servers, one kind of turn at a time, and reads the servers' own counters
before and after: PostgreSQL's transactions, Redis' commands (also inside scripts), the requests in Azurite's access
log, the functions that the host ran and the histories that it stored. The result is `docs/measured-turn.json`, from
which `devtools.figures` computes the tables of `docs/operations.md` and `infra/README.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
from redis.asyncio import Redis

from devhost.durable.store.history import EventType
from devhost.servers import enter_all
from devhost.servers.azurite import Azurite
from devhost.servers.process import Command
from devtools.local.programs import AppHost
from devtools.local.stack import ROOT, Stack
from devtools.local.up import migrate

RESULT = ROOT / "docs" / "measured-turn.json"
TURNS = 20
KINDS = {
    "answer": "Tell me a short story.",
    "one tool": "What is 17 * 23?",
    "approved tool": 'POST {{"n": 1}} to http://localhost:{notes_port}/notes',
}
"""Messages that the offline demo model answers with text only, with an automatic tool call, and with a tool call that
needs an approval (given at once here)."""
_EVENT_TYPE = re.compile(r'"EventType": ?(\d+)')
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
_WORK = {"turn", "approval", "call_model", "execute_tool", "request_approval", "finish_turn", "relay"}
_REQUEST = re.compile(r'"(?:GET|HEAD|PUT|POST|PATCH|MERGE|DELETE) /\S+ HTTP/1')


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="measure-turn-") as folder:
        async with contextlib.AsyncExitStack() as running:
            storage = _Azurite(Path(folder) / "azurite", report=_report)
            await running.enter_async_context(storage)
            stack = Stack(Path(folder), {"AzureWebJobsStorage": storage.url}, port=7171, report=_report)
            await enter_all(running, list(stack.servers))
            assert stack.postgres is not None
            await migrate(stack.postgres.url)
            # Relay calls are counted by their log lines, which host.json silences.
            loud = {"AzureFunctionsJobHost__logging__logLevel__Function.relay": "Information"}
            environment = stack.app_environment(port=7171) | {"AzureWebJobsStorage": storage.url} | loud
            assert stack.notes is not None
            texts = {kind: text.format(notes_port=stack.notes.port) for kind, text in KINDS.items()}
            host = _Host(
                Path(folder) / "host",
                port=7171,
                env=environment,
                verbose=False,
                report=_report,
                health_path="/api/v1/health/ready",
            )
            await running.enter_async_context(host)
            measured = {kind: await _measure(text, host, storage, environment) for kind, text in texts.items()}
    result = {"turns_each": TURNS, "per_turn": measured}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    return 0


async def _measure(text: str, host: AppHost, storage: Azurite, environment: dict[str, str]) -> dict[str, float]:
    """Averages over TURNS turns, one after another, each in a session of its own."""
    async with httpx.AsyncClient(base_url=f"{host.url}/api/v1", trust_env=False, timeout=120) as client:
        await _turn(client, text)  # warm-up: connections, prepared statements and imports do not count
        before = await _counters(host, storage, environment)
        usage = {"input_tokens": 0, "output_tokens": 0}
        events = 0
        for _ in range(TURNS):
            turn, seen = await _turn(client, text)
            events += seen
            for name in usage:
                usage[name] += turn["usage"][name]
        after = await _counters(host, storage, environment)
    counted = {name: after[name] - before[name] for name in after} | {"events": events} | usage
    return {name: round(value / TURNS, 1) for name, value in sorted(counted.items())}


async def _turn(client: httpx.AsyncClient, text: str) -> tuple[dict[str, Any], int]:
    session = (await client.post("/sessions", json={})).raise_for_status().json()
    posted = await client.post(
        f"/sessions/{session['id']}/messages", json={"content": text}, headers={"prefer": "wait=60"}
    )
    answer = posted.raise_for_status().json()
    waits = answer.get("code") == "APPROVAL_REQUIRED"
    turn = await _approved(client, session["id"], posted.headers["location"]) if waits else answer["turn"]
    if turn["status"] != "completed":
        raise RuntimeError(f"a turn ended {turn['status']}: {posted.text}")
    events = (await client.get(f"/sessions/{session['id']}/events?after=0")).raise_for_status().json()["items"]
    return turn, len(events)


async def _approved(client: httpx.AsyncClient, session_id: str, location: str) -> dict[str, Any]:
    """Approve the pending call; returns the turn when it has ended."""
    url = client.base_url.join(location)
    pending = await client.get("/approvals", params={"session_id": session_id, "status": "pending"})
    [approval] = pending.raise_for_status().json()["items"]
    (await client.post(f"/approvals/{approval['id']}/decision", json={"decision": "approve"})).raise_for_status()
    # Watch the stream, which ends with the turn: polling would be counted.
    (await client.get(f"{url}/stream")).raise_for_status()
    ended: dict[str, Any] = (await client.get(url)).raise_for_status().json()
    return ended


async def _counters(host: AppHost, storage: Azurite, environment: dict[str, str]) -> dict[str, float]:
    async with Redis.from_url(environment["REDIS_URL"]) as redis:
        commands = await redis.info("commandstats")
        memory = await redis.info("memory")
        streams = [await redis.memory_usage(key) or 0 async for key in redis.scan_iter("parley:*")]
    with psycopg.connect(environment["POSTGRES_URL"], autocommit=True) as connection:
        # Other connections report their statistics when they are idle.
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT xact_commit, pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
    return {
        "redis_commands": sum(entry["calls"] for entry in commands.values()),
        "redis_bytes_of_keys": float(sum(streams)),
        "redis_bytes_used": float(memory["used_memory"]),
        "postgres_transactions": float(row[0]),
        "postgres_bytes": float(row[1]),
        "storage_requests_of_app": float(len(_REQUEST.findall(storage.folder.log_file.read_text("utf-8")))),
        **_history(host.folder.path / "data"),
        **_functions(host.folder.log_file),
    }


def _history(folder: Path) -> dict[str, float]:
    """Counts from the durable engine's history: each event is a row of the hub, each scheduled task an activity."""
    rows: list[str] = []
    for path in folder.glob("durable-*.sqlite3"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows += [row[0] for row in database.execute("SELECT events FROM history")]
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
    mine = {"create_session", "read_events", "ready", "live", "sweep", "watch", "purge_histories", "retire_sessions"}
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


class _Host(AppHost):
    """The app's host with its output in a file, so that log lines can be counted."""

    def command(self) -> Command:
        return replace(super().command(), log_file=self.folder.log_file)


def _report(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
