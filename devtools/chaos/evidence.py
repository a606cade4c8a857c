"""Waits until all is quiet, then reads what the stores, the log, the sink and the trails say.

The database is read beside the app, so that what is judged is what is stored; what a fork has copied is judged where it
was made. Everything else is asked of the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import aiohttp
import psycopg
from psycopg.rows import tuple_row

from devhost.threads import in_new_thread
from devtools.chaos.client import Client, World
from devtools.chaos.invariants import CallRow, Evidence, MessageRow, Trail, TurnRow
from devtools.chaos.schedule import Target
from devtools.chaos.stack import Stack
from devtools.chaos.users import Seen, Upload
from shared.durable.names import KEEPER_INSTANCE

_POLL_S = 0.5
_TRAIL_S = 30.0
"""A line is claimed and written, or known to be missing, after ten."""
_AT_ONCE = 8
_OPEN: LiteralString = """
SELECT (SELECT count(*) FROM turns WHERE ended_at IS NULL)
     + (SELECT count(*) FROM session_erasures WHERE finished_at IS NULL)
"""


async def until_quiet(stack: Stack) -> None:
    """Wait until no turn is open, no erasure is owed and no orchestration runs."""
    while True:
        with contextlib.suppress(psycopg.Error):
            [(count,)] = await _rows(stack, _OPEN)
            if not count and not await running_instances(stack):
                return
        await asyncio.sleep(_POLL_S)


async def running_instances(stack: Stack) -> list[str]:
    """Ids of orchestrations that have not ended, without the one that keeps the hub's id."""

    def read(store: Path) -> list[str]:
        with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                "SELECT instance_id FROM instances WHERE status NOT IN ('Completed', 'Failed', 'Terminated')"
                " AND instance_id NOT LIKE '@%' AND instance_id <> ?",
                (KEEPER_INSTANCE,),
            )
            return [str(row[0]) for row in found]

    [store] = stack.host.data.glob("durable-*.sqlite3")
    return await in_new_thread(lambda: read(store))


async def gather(stack: Stack, world: World, seen: Seen, *, struck: frozenset[Target], peak_mib: float) -> Evidence:
    rows = await _rows(stack, "SELECT id, CASE WHEN forked_from IS NULL THEN name ELSE '' END, owner_id FROM sessions")
    sessions = {str(row[0]): str(row[1]) for row in rows}
    owners = {str(row[0]): str(row[2]) for row in rows}
    admin = Client(world, "root;admin")
    limit = asyncio.Semaphore(_AT_ONCE)
    lost: set[str] = set()
    trails: dict[str, Trail] = {}
    uploads: dict[str, bool] = {}

    async def look(session_id: str) -> None:
        async with limit:
            trails[session_id] = await _trail(admin, session_id)
            heard = seen.heard.get(session_id)
            owner = owners.get(session_id)
            if heard is not None and owner is not None and await _replay(Client(world, owner), session_id, seen):
                lost.add(session_id)

    async def download(upload: Upload) -> None:
        async with limit:
            owner = owners.get(upload.session_id)
            uploads[upload.attachment_id] = owner is not None and await _is_same(Client(world, owner), upload)

    await asyncio.gather(*map(look, sessions), *map(download, seen.uploads))
    return Evidence(
        operations=world.history.operations,
        sessions=sessions,
        turns={row[0]: TurnRow(*row[1:]) for row in await _rows(stack, "SELECT id, session_id, status FROM turns")},
        messages={
            row[0]: MessageRow(*row[1:])
            for row in await _rows(
                stack,
                "SELECT m.id, m.session_id, m.turn_id, m.role, m.step, m.content, m.status,"
                " coalesce(jsonb_array_length(m.calls), 0) > 0 FROM messages m JOIN sessions s ON s.id = m.session_id"
                " WHERE s.forked_from IS NULL OR m.created_at >= s.created_at",
            )
        },
        calls={
            row[0]: CallRow(*row[1:])
            for row in await _rows(
                stack,
                "SELECT c.id, c.session_id, c.turn_id, c.name = 'http_request', c.status, c.ended_at IS NOT NULL,"
                " coalesce(m.content, c.result::text, ''), a.status FROM tool_calls c"
                " LEFT JOIN messages m ON m.session_id = c.session_id AND m.tool_call_id = c.id"
                " LEFT JOIN approvals a ON a.tool_call_id = c.id JOIN sessions s ON s.id = c.session_id"
                " WHERE s.forked_from IS NULL OR c.ended_at IS NULL OR c.ended_at >= s.created_at",
            )
        },
        approvals={row[0]: row[1] for row in await _rows(stack, "SELECT id, status FROM approvals")},
        effects={key: sum(paths.values()) for key, paths in stack.sink.effects.items()},
        heard=list(seen.heard.values()),
        lost=frozenset(lost),
        streams=seen.streams,
        turned=seen.turned,
        uploads=uploads,
        upload_sessions={upload.attachment_id: upload.session_id for upload in seen.uploads},
        trails=trails,
        left_over=await running_instances(stack),
        deaf=seen.deaf,
        deaths=list(stack.reports),
        peak_mib=peak_mib,
        struck=struck,
    )


async def _rows(stack: Stack, query: LiteralString) -> Sequence[tuple[Any, ...]]:
    url = stack.postgres.url
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=tuple_row) as connection:
        return await (await connection.execute(query)).fetchall()


async def _trail(admin: Client, session_id: str) -> Trail:
    """As it is once nothing of it is being written."""
    path = f"/sessions/{session_id}/audit?limit=1"
    async with asyncio.timeout(_TRAIL_S * 2):
        for _ in range(int(_TRAIL_S / _POLL_S)):
            found = await admin.read(path)
            if found.status == 200 and not found.body["being_written"]:
                problems = tuple(f"line {one['line']}: {one['message']}" for one in found.body["problems"])
                return Trail(bool(found.body["verified"]), problems)
            await asyncio.sleep(_POLL_S)
    return Trail(False, (f"it could not be read: {found.status}",))


async def _replay(owner: Client, session_id: str, seen: Seen) -> bool:
    """Take the whole log as one more reader; whether it has lost a part."""
    heard = seen.heard[session_id]
    after: str | None = "0"
    gap = False
    while after is not None:
        page = await owner.read(f"/sessions/{session_id}/events?after={after}&limit=200")
        if page.status != 200:
            heard.problems.append(f"its log cannot be read: {page.status}")
            return True
        gap = gap or bool(page.body["gap"])
        for envelope in page.body["items"]:
            heard.take(envelope, "the log")
        after = page.body["next_cursor"]
    return gap


async def _is_same(owner: Client, upload: Upload) -> bool:
    world = owner.world
    url = f"{world.base_url}/attachments/{upload.attachment_id}/content"
    try:
        async with world.http.get(url, headers=owner.headers, timeout=aiohttp.ClientTimeout(total=30)) as response:
            return hashlib.sha256(await response.read()).hexdigest() == upload.digest
    except (aiohttp.ClientError, TimeoutError):
        return False
