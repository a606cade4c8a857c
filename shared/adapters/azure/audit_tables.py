"""The audit trail in Azure Tables: one partition per session, one entity per line. Implements `AuditLines`.

Lines are only inserted, never changed; they are deleted only when the session is erased. A line's RowKey is its number,
so the table itself refuses a second line with the same number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from shared.adapters.azure.entra import credential
from shared.sessions.audit.chain import ERASED_PREFIX, SealedLine
from shared.sessions.audit.trail import AuditUnavailable

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

TABLE = "parleyaudit"

_BATCH = 100
"""Most entities of one transaction (Azure Tables)."""
_BATCH_CHARS = 300_000
"""Of details: a transaction holds 4 MiB, and a character takes up to 12 bytes in it (escaped twice)."""


class TablesAuditLines:
    """Opened on first use. If no storage is configured, lines stay in the outbox."""

    def __init__(self, *, connection_string: str | None, endpoint: str | None, table: str = TABLE) -> None:
        self._connection_string = connection_string
        self._endpoint = endpoint
        self._name = table
        self._table: TableClient | None = None
        self._opening = asyncio.Lock()

    async def append(self, session_id: str, lines: Sequence[SealedLine]) -> list[SealedLine]:
        """Insert the lines. It is no error that a line is there already: somebody else may have written it, and the
        driver's own retry can find what its first try wrote. Returns those whose place another row has."""
        from azure.core.exceptions import ResourceExistsError
        from azure.data.tables import TableTransactionError

        refused: list[SealedLine] = []
        with _errors():
            table = self._table or await self._open()
            for some in _transactions(lines):
                try:
                    if len(some) == 1:
                        await table.create_entity(_entity(session_id, some[0]))
                    else:
                        await table.submit_transaction([("create", _entity(session_id, line)) for line in some])
                except (ResourceExistsError, TableTransactionError):
                    # Of a transaction that holds one line that is there, none is written.
                    refused += await _append_each(table, session_id, some)
        return refused

    async def remove(self, session_id: str, lines: Sequence[SealedLine]) -> None:
        """Delete exactly these lines: another row in the place of one stays."""
        from azure.core.exceptions import ResourceNotFoundError

        with _errors():
            table = self._table or await self._open()
            for line in lines:
                with suppress(ResourceNotFoundError):
                    if _line(await table.get_entity(session_id, line.row_key)) == line:
                        await table.delete_entity(session_id, line.row_key)

    async def read(self, session_id: str) -> AsyncGenerator[SealedLine]:
        """In the order of their row keys."""
        with _errors():
            table = self._table or await self._open()
            async for entity in table.query_entities(
                # Spaces inside the brackets: the driver recognises a parameter only as a separate word.
                "PartitionKey eq @session and ( RowKey lt @erased or RowKey gt @beyond )",
                parameters=_bounds(session_id),
            ):
                yield _line(entity)

    async def read_all(self, after: str, up_to: str | None) -> AsyncGenerator[tuple[str, SealedLine]]:
        """By session, then by row key."""
        with _errors():
            table = self._table or await self._open()
            end = "" if up_to is None else " and PartitionKey le @up_to"
            async for entity in table.query_entities(
                f"PartitionKey gt @after{end}", parameters={"after": after, "up_to": up_to or ""}
            ):
                yield str(entity["PartitionKey"]), _line(entity)

    async def erase(self, session_id: str) -> None:
        """Delete the trail. Idempotent; does nothing if no storage is configured."""
        if not (self._connection_string or self._endpoint):
            return
        with _errors():
            table = self._table or await self._open()
            keys: list[str] = []
            async with aclosing(self.read(session_id)) as lines:
                async for line in lines:
                    keys.append(line.row_key)
                    if len(keys) == _BATCH:
                        await _delete(table, session_id, keys)
                        keys = []
            await _delete(table, session_id, keys)

    async def ping(self) -> None:
        """Raises AzureError or ValueError when the table cannot be read."""
        table = self._table or await self._open()
        async for _ in table.query_entities("PartitionKey eq 'ping'", results_per_page=1):
            return

    async def _open(self) -> TableClient:
        from azure.core.exceptions import ResourceExistsError
        from azure.data.tables.aio import TableClient

        async with self._opening:
            if self._table is None:
                if self._endpoint:
                    table = TableClient(self._endpoint, self._name, credential=credential())
                else:
                    table = TableClient.from_connection_string(self._connection_string or "", self._name)
                try:
                    with suppress(ResourceExistsError):
                        await table.create_table()
                except BaseException:
                    await table.close()
                    raise
                self._table = table
            return self._table

    async def aclose(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            await table.close()


@contextmanager
def _errors() -> Iterator[None]:
    """Translate the driver's errors, including an invalid connection string, without their text: it may hold keys."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except (AzureError, ValueError) as exc:
        raise AuditUnavailable(type(exc).__name__) from exc


def _transactions(lines: Sequence[SealedLine]) -> Iterator[list[SealedLine]]:
    """As many lines at once as the service takes."""
    some: list[SealedLine] = []
    chars = 0
    for line in lines:
        if some and (len(some) == _BATCH or chars + len(line.details) > _BATCH_CHARS):
            yield some
            some, chars = [], 0
        some.append(line)
        chars += len(line.details)
    if some:
        yield some


async def _append_each(table: TableClient, session_id: str, lines: Sequence[SealedLine]) -> list[SealedLine]:
    """Insert one by one what is not there; returns the lines whose place another row has."""
    from azure.core.exceptions import ResourceExistsError

    refused: list[SealedLine] = []
    for line in lines:
        try:
            await table.create_entity(_entity(session_id, line))
        except ResourceExistsError:
            if _line(await table.get_entity(session_id, line.row_key)) != line:
                refused.append(line)
    return refused


def _bounds(session_id: str) -> dict[str, str]:
    # "." sorts directly after "-", so exactly the keys with the prefix are between the two bounds.
    return {"session": session_id, "erased": ERASED_PREFIX, "beyond": f"{ERASED_PREFIX[:-1]}."}


async def _delete(table: TableClient, session_id: str, keys: Sequence[str]) -> None:
    from azure.core.exceptions import ResourceNotFoundError
    from azure.data.tables import TableTransactionError

    if not keys:
        return
    try:
        await table.submit_transaction([("delete", {"PartitionKey": session_id, "RowKey": key}) for key in keys])
    except (TableTransactionError, ResourceNotFoundError):
        # A concurrent erasure: one missing row fails the whole transaction.
        for key in keys:
            with suppress(ResourceNotFoundError):
                await table.delete_entity(session_id, key)


def _entity(session_id: str, line: SealedLine) -> dict[str, Any]:
    return {
        "PartitionKey": session_id,
        "RowKey": line.row_key,
        "at": line.at,
        "who": line.who,
        "action": line.action,
        "details": line.details,
        "previous": line.previous,
        "hash": line.hash,
    }


def _line(entity: Mapping[str, Any]) -> SealedLine:
    """Reads any row, also one that somebody altered: a value that is not text fails verification later."""
    fields = {name: str(entity.get(name, "")) for name in ("at", "who", "action", "details", "previous", "hash")}
    return SealedLine(row_key=str(entity["RowKey"]), **fields)
