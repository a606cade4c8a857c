"""An upgrade under turns that wait for a person: begun by an older package, ended by this one.

The older package is the app as a commit deployed it (`older/README.md`): its code, its orchestrators, its migrations.
The task hub, the database and Redis stay while packages change over them. The last one breaks the rule of
`orchestrators/README.md`: its orchestrator asks for something else than the one that began.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from devtools.histories.command import check
from devtools.histories.stored import read
from devtools.package import build
from shared.durable.messages import CHANGED_DETAIL
from tests.e2e.support.client import Api, Json, eventually, open_api, post_call, script, sweep
from tests.e2e.support.processes import ROOT, AppHost, Sink
from tests.e2e.support.stack import own_environment, own_stores
from tests.support.servers import fresh_database

OLDER = Path(__file__).parents[1] / "older" / "19c640b.tar.xz"
FIRST, SECOND = "You are the first.", "You are the second."


@pytest.fixture
def older(tmp_path: Path) -> Path:
    folder = tmp_path / "older"
    with tarfile.open(OLDER) as package:
        package.extractall(folder, filter="data")
    return folder


@pytest.fixture
def incompatible(tmp_path: Path) -> Path:
    """This code, but that a turn asks for its model steps under another name: one that has begun cannot go on."""
    folder = tmp_path / "incompatible"
    build(folder)
    names = folder / "shared" / "durable" / "names.py"
    text = names.read_text("utf-8")
    assert text.count('"call_model"') == 1
    names.write_text(text.replace('"call_model"', '"ask_model"'), "utf-8")
    return folder


@pytest.fixture
def host(tmp_path: Path, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """Not started; its database is empty."""
    with own_stores() as stores, fresh_database(stores.postgres_url, template="template0") as database:
        host = AppHost(tmp_path, own_environment(replace(stores, postgres_url=database), model_url, sink))
        try:
            yield host
        finally:
            host.stop()


@pytest.fixture
async def clients() -> AsyncIterator[list[Api]]:
    """Those opened by the test; closed after it."""
    opened: list[Api] = []
    yield opened
    for api in opened:
        await api.aclose()


async def _deploy(host: AppHost, package: Path, clients: list[Api]) -> Api:
    """As `azd` does it: a package's migrations while the older code runs, then its code in the place of that."""
    migration = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "shared.adapters.sql.migrate"),
        env={**os.environ, **host.environment, "PYTHONPATH": str(package)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await migration.communicate()
    assert migration.returncode == 0, said
    host.stop()
    host.app = package
    host.start()
    clients.append(await open_api(host, is_older=package.name == "older"))
    return clients[-1]


async def _agent(api: Api, instructions: str) -> int:
    """Make the next version of the agent; its number."""
    body = {"name": "Careful", "instructions": instructions}
    made = await api.as_user("root;admin").request("PUT", "/api/v1/agents/careful", json=body)
    assert made.is_success, made.text
    return int(made.json()["version"])


async def _session(api: Api) -> str:
    made = await api.post("/api/v1/sessions", {"agent_id": "careful"})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def _waiting(api: Api, sink: Sink, path: str) -> tuple[str, str]:
    """A session and its turn, which waits for a person."""
    session_id = await _session(api)
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(path))]], echo=True))
    await api.approval(session_id)
    return session_id, turn_id


async def _approve(api: Api, session_id: str) -> None:
    [approval] = await api.approvals(session_id)
    assert (await api.decide(approval["id"], "approve")).status_code == 200


async def _last_answer(api: Api, session_id: str, turn_id: str) -> str:
    return list((await api.answers(session_id, turn_id)).values())[-1]


async def test_a_turn_that_waits_through_an_upgrade_ends_as_it_began_and_one_that_cannot_says_so(
    host: AppHost, older: Path, incompatible: Path, clients: list[Api], sink: Sink
) -> None:
    api = await _deploy(host, older, clients)
    assert await _agent(api, FIRST) == 1
    upgraded, upgraded_turn = await _waiting(api, sink, "/upgraded")
    queued_turn = await api.say(upgraded, script(content="after it"), concurrency="enqueue")
    broken, broken_turn = await _waiting(api, sink, "/broken")

    # This code goes on with what that one began, under the agent's version that it began with.
    api = await _deploy(host, ROOT, clients)
    assert await _agent(api, SECOND) == 2
    await _approve(api, upgraded)
    turn = await api.until(upgraded, upgraded_turn)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "completed")
    assert len(sink.at("/upgraded")) == 1
    assert await _agent_version(host, upgraded_turn) == 1
    told = await _last_answer(api, upgraded, upgraded_turn)
    assert FIRST in told
    assert SECOND not in told
    # What was queued behind it follows, and a session that starts now has the new version.
    assert (await api.until(upgraded, queued_turn))["status"] == "completed"
    fresh = await _session(api)
    fresh_turn = await api.say(fresh, script(echo=True))
    await api.until(fresh, fresh_turn)
    assert SECOND in await _last_answer(api, fresh, fresh_turn)

    # An orchestrator that was changed in place meets a history that is not its own: the turn fails and says why. What
    # runs can be asked before.
    waiting = [stored for stored in read(host.folder / "data") if stored.waits]
    assert [verdict.why for verdict in check(waiting, ROOT)] == [None] * len(waiting)
    stuck = {verdict.stored.instance_id: verdict.why for verdict in check(waiting, incompatible) if verdict.why}
    assert list(stuck) == [broken_turn]
    assert "the package asks for the activity ask_model in its place" in str(stuck[broken_turn])
    api = await _deploy(host, incompatible, clients)
    await _approve(api, broken)
    turn = await eventually(lambda: _swept(host, api, broken, broken_turn), "the sweep to close the turn")
    assert turn["error"] == {"code": "INTERNAL_ERROR", "detail": CHANGED_DETAIL}
    [failed] = [line for line in host.log().splitlines() if "turn failed:" in line]  # what the alert counts
    assert broken_turn in failed
    assert "Non-Deterministic workflow detected" in failed
    [event] = [event for event in await api.events(broken) if event["type"] == "error.occurred"]
    assert event["data"]["detail"] == CHANGED_DETAIL
    # The session takes the next message.
    next_turn = await api.say(broken, script(content="again"))
    await api.until(broken, next_turn)
    assert await _last_answer(api, broken, next_turn) == "again"


async def _agent_version(host: AppHost, turn_id: str) -> int:
    async with await psycopg.AsyncConnection.connect(host.environment["POSTGRES_URL"]) as connection:
        cursor = await connection.execute("SELECT (plan ->> 'agent_version')::int FROM turns WHERE id = %s", (turn_id,))
        found = await cursor.fetchone()
    assert found is not None
    return int(found[0])


async def _swept(host: AppHost, api: Api, session_id: str, turn_id: str) -> Json | None:
    """The turn, once a sweep has closed it; ten minutes pass before each look."""
    url = host.environment["POSTGRES_URL"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "UPDATE turns SET dispatched_at = dispatched_at - interval '11 minutes' WHERE id = %s", (turn_id,)
        )
    await sweep(host)
    turn = await api.turn(session_id, turn_id)
    return turn if turn["status"] == "failed" else None
