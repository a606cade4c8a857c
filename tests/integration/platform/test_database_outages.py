"""PostgreSQL that refuses, hangs, stalls and comes back, behind a proxy that fails as networks do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from devtools.chaos.proxy import Fault, FaultyProxy
from shared.adapters.postgres import outage
from shared.adapters.postgres import pool as pool_module
from shared.adapters.postgres.outage import OutageWatch
from shared.adapters.postgres.pool import PostgresPool
from shared.errors import ErrorCode, Transient

pytestmark = pytest.mark.integration

PATIENCE_S = 20
"""Above every wait of these tests, and below what the pool alone would wait before it connects again."""


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PROBE_LIMIT_S", 0.4)
    monkeypatch.setattr(outage, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(pool_module, "_SLOW_S", 0.05)


@dataclass
class Behind:
    """A pool whose database is reached through a proxy."""

    pool: PostgresPool
    proxy: FaultyProxy

    async def is_refused(self) -> None:
        with pytest.raises(Transient) as caught:
            await self.pool.ping()
        assert caught.value.code is ErrorCode.DATABASE_ERROR

    async def until_away(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.pool._watch.is_away:
                await self.is_refused()
                await asyncio.sleep(0.005)

    async def until_back(self) -> None:
        """The first one who is let in is answered."""
        async with asyncio.timeout(PATIENCE_S):
            assert self.pool._watch._task is not None
            await self.pool._watch._task
            await self.pool.ping()


@pytest.fixture
async def behind(postgres_url: str) -> AsyncIterator[Behind]:
    parts = urlsplit(postgres_url)
    async with FaultyProxy(parts.hostname or "", parts.port or 5432) as proxy:
        login = parts.netloc.rpartition("@")[0]
        pool = PostgresPool(
            urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}".lstrip("@"))),
            size=2,
        )
        await pool.ping()
        yield Behind(pool, proxy)
        await proxy.become(Fault.NONE)
        await pool.aclose()


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG, Fault.RESET])
async def test_whoever_asks_is_refused_at_once_while_it_is_away_and_let_in_when_it_is_back(
    behind: Behind, fault: Fault
) -> None:
    await behind.proxy.become(fault)
    await behind.until_away()
    asked = behind.proxy.accepted
    refusals = await asyncio.gather(*(behind.pool.ping() for _ in range(100)), return_exceptions=True)
    assert {str(refusal) for refusal in refusals} == {"DATABASE_ERROR: The database cannot be reached just now."}
    assert behind.proxy.accepted - asked <= 1, "only the probe asks"

    await behind.proxy.become(Fault.NONE)
    await behind.until_back()


async def test_what_waits_for_an_answer_is_cut_when_the_database_is_away(behind: Behind) -> None:
    async with asyncio.timeout(PATIENCE_S):
        asking = [asyncio.create_task(behind.pool.fetch_one(b"SELECT pg_sleep(600)", {})) for _ in range(2)]
        waiting = asyncio.create_task(behind.pool.ping())
        await asyncio.sleep(0.2)
        assert not behind.pool._watch.is_away, "slow is not away"
        await behind.proxy.become(Fault.HANG)
        behind.pool._watch.suspect()
        for task in (*asking, waiting):
            with pytest.raises(Transient, match="cannot be reached"):
                await task
    await behind.proxy.become(Fault.NONE)
    await behind.until_back()


async def test_a_stalled_connection_is_cut_and_the_next_use_gets_another(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_USE_S", 0.3)
    await behind.proxy.become(Fault.HALF_OPEN)
    async with asyncio.timeout(PATIENCE_S):
        await behind.is_refused()
        await behind.pool.ping()
    assert not behind.pool._watch.is_away


@pytest.fixture
def _brief_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_TRANSACTION_S", 1)


@pytest.mark.usefixtures("_brief_transactions")
async def test_what_a_process_had_locked_that_is_gone_without_a_word_is_free_again(
    behind: Behind, postgres_url: str
) -> None:
    """In the middle of a pipeline the server waits for more of the command: that is neither a statement that takes
    long nor an idle transaction."""
    await behind.pool.execute(b"CREATE TABLE held AS SELECT 1 AS id", {})
    locked = asyncio.Event()

    async def hold() -> None:
        with contextlib.suppress(Transient):
            async with behind.pool.pipelined() as connection:
                await (await connection.execute("SELECT * FROM held FOR UPDATE")).fetchone()
                locked.set()
                await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE_S):
        holding = asyncio.create_task(hold())
        await locked.wait()
        behind.proxy.lose_clients()
        async with await psycopg.AsyncConnection.connect(postgres_url) as another:
            await another.execute("SELECT * FROM held FOR UPDATE")
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_a_statement_ends_at_the_server_before_its_use_is_cut_here(behind: Behind) -> None:
    row = await behind.pool.fetch_one(b"SELECT current_setting('statement_timeout') AS limit", {})
    assert row is not None
    assert row["limit"] == f"{pool_module._STATEMENT_S}s"
    assert pool_module._STATEMENT_S < pool_module._USE_S < pool_module._TRANSACTION_S


async def test_a_server_that_takes_no_writes_is_away(postgres_url: str) -> None:
    """A replica after a failover, before its promotion."""
    pool = PostgresPool(f"{postgres_url}?options=-c%20default_transaction_read_only%3Don", size=1)
    with pytest.raises(Transient, match="cannot be reached"):
        await pool.ping()
    await pool.aclose()


async def test_a_connection_whose_server_takes_no_writes_any_more_is_an_outage(behind: Behind) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pytest.raises(Transient, match="cannot be reached"))
        connection = await stack.enter_async_context(behind.pool.transaction())
        await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute("CREATE TABLE not_here (id integer)")


async def _no_arguments() -> dict[str, object]:
    return {}


async def test_a_token_that_takes_long_or_is_refused_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PROBE_LIMIT_S", 0.05)
    asked: list[float] = []

    async def slow() -> dict[str, object]:
        asked.append(0)
        await asyncio.sleep(0.2)
        return {}

    async def refused() -> dict[str, object]:
        raise RuntimeError("no token")

    async def answers(_: object) -> None:
        return

    for arguments in (slow, refused):
        watch = OutageWatch(arguments, answers, away=lambda: asked.append(1))
        watch.suspect()
        assert watch._task is not None
        await watch._task
        assert not watch.is_away
    assert asked == [0]


@pytest.mark.parametrize(
    ("refusal", "is_away"),
    [
        ("FATAL:  sorry, too many clients already", False),
        ('FATAL:  too many connections for role "parley"', False),
        ("FATAL:  the database system is starting up", True),
        ("connection refused", True),
    ],
)
async def test_a_database_that_is_full_is_not_away(refusal: str, is_away: bool) -> None:
    async def probe(_: object) -> None:
        raise psycopg.OperationalError(refusal)

    left: list[bool] = []
    watch = OutageWatch(_no_arguments, probe, away=lambda: left.append(True))
    watch.suspect()
    await asyncio.sleep(0.05)
    assert (watch.is_away, left) == (is_away, [True] * is_away)
    await watch.aclose()
