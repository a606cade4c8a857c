"""The audit trail in Azure Tables: one partition per session, one entity per line, inserts only."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from shared.adapters.entra import credential
from shared.ids import new_id
from shared.sessions.audit import SYSTEM
from shared.sessions.models import JsonObject

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

log = logging.getLogger(__name__)

TABLE = "parleyaudit"

_MAX_DETAILS_BYTES = 60_000
"""A string property holds 64 KiB of UTF-16 (Azure Tables data model)."""

_MAX_LOGGED_CHARS = 500
_TIMEOUT_S = 5.0
"""For one line, with all tries: the turn that it is about waits meanwhile."""


class TablesAuditTrail:
    """`AuditTrail` over Azure Tables, or nothing but a log line where no storage is set."""

    def __init__(self, *, connection_string: str | None, endpoint: str | None) -> None:
        self._connection_string = connection_string
        self._endpoint = endpoint
        self._table: TableClient | None = None
        self._opening = asyncio.Lock()

    async def record(self, session_id: str, action: str, details: JsonObject, *, who: str = SYSTEM) -> None:
        from azure.core.exceptions import AzureError

        entity: dict[str, Any] = {
            "PartitionKey": session_id,
            "RowKey": new_id(),
            "at": datetime.now(UTC),
            "who": who,
            "action": action,
            "details": _cut(orjson.dumps(details).decode()),
        }
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                table = self._table or await self._open()
                await table.create_entity(entity)
        except (AzureError, ValueError, TimeoutError) as exc:
            shown = entity["details"][:_MAX_LOGGED_CHARS]
            log.error(
                "audit line lost: %s %s of session %s: %s: %s", action, shown, session_id, type(exc).__name__, exc
            )

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
                    table = TableClient(self._endpoint, TABLE, credential=credential())
                else:
                    table = TableClient.from_connection_string(self._connection_string or "", TABLE)
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


def _cut(text: str) -> str:
    return text.encode("utf-16-le")[:_MAX_DETAILS_BYTES].decode("utf-16-le", "ignore")
