"""The PostgreSQL pool, and the one place that knows psycopg's errors. Implements no port: every store asks it.

Opened once per process, lazily; prepared statements and pipelines keep a turn to a handful of round trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from shared.adapters.postgres.outage import OutageWatch, Use
from shared.errors import ErrorCode, InvalidInput, Transient

type Connection = AsyncConnection[DictRow]
type Cursor = AsyncCursor[DictRow]
type Row = Mapping[str, Any]

_MAX_LIFETIME_S = 3600.0
"""A connection is replaced after this long: a token is only asked for when one opens, so this bounds how long an
identity that has lost its rights stays in."""

_POOL_TIMEOUT_S = 5.0
"""How long a caller waits for a free connection before it is told to come back."""

_SLOW_S = 2.0
"""A use that takes longer may wait for a database that is gone: ask."""

_STATEMENT_S = 20
"""The server ends a statement after this long, and a transaction in which nothing is said."""

_USE_S = 25.0
"""After this a use is cut here: the server has not even ended its statement."""

_TRANSACTION_S = 30
"""The server ends a transaction after this long, whatever it waits for, later than its use is cut here. In the middle
of a pipeline the other limits do not count: what a machine that is gone had locked there would stay locked until TCP
notices, which takes two hours.
https://www.postgresql.org/docs/17/runtime-config-client.html#GUC-TRANSACTION-TIMEOUT"""

_AWAY_RETRY_S = 1.0

_SOCKET = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}
"""Seconds, the last one milliseconds: a peer that is gone without a word is noticed after 20 s in silence, and after
10 s when something was sent to it. https://www.postgresql.org/docs/current/libpq-connect.html"""


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate driver errors: Transient(DATABASE_ERROR) for what may pass, InvalidInput for values no column takes.

    Everything else (a wrong statement, a broken constraint) is a bug of ours and stays the driver's error.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OSError) as exc:
        raise Transient(ErrorCode.DATABASE_ERROR, _AWAY) from exc
    except (
        psycopg.errors.ReadOnlySqlTransaction,
        psycopg.errors.IdleInTransactionSessionTimeout,
        psycopg.errors.TransactionTimeout,
    ) as exc:
        # A replica that this connection's server has become; a transaction in which this process said nothing for long.
        raise Transient(ErrorCode.DATABASE_ERROR, _AWAY) from exc
    except psycopg.DataError as exc:
        # Text that JSON allows and PostgreSQL does not store (U+0000), numbers out of range.
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The request holds a value that cannot be stored.") from exc


_AWAY = "The database cannot be reached just now."


class _StalePlan(Transient):
    """A statement was prepared before a migration gave its table another column, and has not run."""


class PostgresPool:
    """A lazily opened pool. `size`: most connections this process holds.

    password: asked once per new connection, for passwords that change (Entra tokens); None: what the URL says.
    """

    def __init__(self, url: str, *, size: int, password: Callable[[], Awaitable[str]] | None = None) -> None:
        self._url = url
        self._size = size
        self._password = password
        self._pool: AsyncConnectionPool[Connection] | None = None
        self._opening = asyncio.Lock()
        self._uses: set[Use] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch = OutageWatch(self._arguments, self._probe, away=self._leave)

    async def _open(self) -> AsyncConnectionPool[Connection]:
        async with self._opening:
            if self._pool is None:
                set_json_loads(orjson.loads)
                set_json_dumps(orjson.dumps)
                pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
                    self._url,
                    min_size=1,
                    max_size=self._size,
                    open=False,
                    timeout=_POOL_TIMEOUT_S,
                    max_lifetime=_MAX_LIFETIME_S,
                    kwargs=self._arguments,
                    configure=_configure,
                )
                await pool.open()
                self._pool = pool
            return self._pool

    async def _arguments(self) -> dict[str, Any]:
        """What each new connection is opened with."""
        arguments: dict[str, Any] = {
            "autocommit": True,
            "row_factory": dict_row,
            "application_name": "parley",
            # Not a replica that was promoted late, or the old primary.
            "target_session_attrs": "read-write",
            **_SOCKET,
        }
        if self._password is not None:
            arguments["password"] = await self._password()
        return arguments

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection, autocommit. Raises Transient(DATABASE_ERROR), at once while the database is away."""
        if self._watch.is_away:
            raise Transient(ErrorCode.DATABASE_ERROR, _AWAY, retry_after_s=_AWAY_RETRY_S)
        # Every statement comes through here, so it is one block and not a manager for each part.
        use = Use()
        use.timer = asyncio.get_running_loop().call_later(_SLOW_S, self._is_slow, use)
        self._uses.add(use)
        try:
            with database_errors():
                pool = self._pool or await self._open()
                # Not the pool's own manager: it commits, and in autocommit there is nothing to commit.
                connection = use.connection = await pool.getconn()
                try:
                    yield connection
                finally:
                    await pool.putconn(connection)
        except Transient as exc:
            lost = use.connection is None or use.connection.broken or isinstance(exc.__cause__, PoolTimeout)
            if lost and isinstance(exc.__cause__, psycopg.OperationalError | psycopg.InterfaceError | OSError):
                self._watch.suspect()
            raise
        except psycopg.errors.FeatureNotSupported as exc:
            if exc.diag.source_function != "RevalidateCachedQuery":
                raise
            # A migration ran beside us ("cached plan must not change result type"). Every connection that is open
            # would say so until it is replaced.
            await pool.drain()
            raise _StalePlan(ErrorCode.DATABASE_ERROR, "The database is being changed; try again.") from exc
        finally:
            use.timer.cancel()
            self._uses.discard(use)

    def _is_slow(self, use: Use) -> None:
        self._watch.suspect()
        use.timer = asyncio.get_running_loop().call_later(_USE_S - _SLOW_S, self._is_stuck, use)

    def _is_stuck(self, use: Use) -> None:
        """The server would have ended the statement: the connection is dead, and others that lay idle may be, too."""
        use.cut()
        if self._pool is not None:
            self._beside(self._pool.drain())

    async def _probe(self, arguments: Mapping[str, Any]) -> None:
        connection = await AsyncConnection.connect(self._url, **arguments)
        await connection.close()

    def _leave(self) -> None:
        """The database is away: whoever waits for it is told now, and the next one gets new connections."""
        pool, self._pool = self._pool, None
        for use in self._uses:
            use.cut()
        if pool is not None:
            self._beside(pool.close(timeout=0))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One connection inside a transaction; an exception rolls it back."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def pipelined(self) -> AsyncIterator[Connection]:
        """A transaction whose statements (BEGIN and COMMIT too) travel together until a result is fetched."""
        async with self.connection() as connection, connection.pipeline(), connection.transaction():
            yield connection

    async def fetch_one(self, query: bytes, parameters: Mapping[str, Any]) -> DictRow | None:
        """The first row of one statement in autocommit."""

        async def run(connection: Connection) -> DictRow | None:
            cursor = await connection.execute(query, parameters, binary=True)
            return await cursor.fetchone()

        return await self._run(run)

    async def fetch_all(self, query: bytes, parameters: Mapping[str, Any]) -> list[DictRow]:
        """All rows of one statement in autocommit."""

        async def run(connection: Connection) -> list[DictRow]:
            cursor = await connection.execute(query, parameters, binary=True)
            return await cursor.fetchall()

        return await self._run(run)

    async def execute(self, query: bytes, parameters: Mapping[str, Any]) -> int:
        """Run one statement in autocommit; returns the number of rows it touched."""

        async def run(connection: Connection) -> int:
            return (await connection.execute(query, parameters)).rowcount

        return await self._run(run)

    async def _run[Result](self, run: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Run one statement; again on a connection that knows the schema of now, when the first did not."""
        try:
            async with self.connection() as connection:
                return await run(connection)
        except _StalePlan:
            async with self.connection() as connection:
                return await run(connection)

    async def ping(self) -> None:
        """Raises Transient(DATABASE_ERROR) when the database does not answer."""
        await self.fetch_one(b"SELECT 1", {})

    async def aclose(self) -> None:
        await self._watch.aclose()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
        await asyncio.gather(*self._tasks)


async def _configure(connection: Connection) -> None:
    # Here and not among the arguments: a pooler in between refuses settings in the start-up packet.
    await connection.execute(
        f"SET statement_timeout = '{_STATEMENT_S}s'; SET idle_in_transaction_session_timeout = '{_STATEMENT_S}s';"
        f"SET transaction_timeout = '{_TRANSACTION_S}s'"
    )
    # Every statement of ours is worth preparing the second time a connection sees it.
    connection.prepare_threshold = 1


def json(value: Any) -> Jsonb | None:
    """A jsonb parameter; None stays NULL."""
    return None if value is None else Jsonb(value)
