"""A task hub in Azure Storage, written as the Durable extension writes one.

By AzureTableTrackingStore.cs and TableEntityConverter.cs of Azure/durabletask (2026-06): every field of an event is a
column, without those that are null; enumerations by name; what has parts as JSON, `null` too; times as such.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from tests.devhost.real.episodes import NAMES

_NAMED = {int(kind): name for kind, name in NAMES.items()}
_TIMES = {"Timestamp": "_Timestamp", "FireAt": "FireAt", "ScheduledStartTime": "ScheduledStartTime"}
_JSON = ("OrchestrationInstance", "ParentInstance", "ParentTraceContext", "FailureDetails", "Tags")


class WrittenHub:
    """Its two tables and the container of its large messages."""

    def __init__(self, name: str, connection: str) -> None:
        tables = TableServiceClient.from_connection_string(connection)
        self._instances = tables.create_table(f"{name}Instances")
        self._history = tables.create_table(f"{name}History")
        blobs = BlobServiceClient.from_connection_string(connection)
        self._large = blobs.create_container(f"{name}-largemessages")

    def write(
        self,
        key: str,
        orchestration: str,
        events: Sequence[dict[str, Any]],
        *,
        status: str = "Running",
        former: Sequence[dict[str, Any]] = (),
        large: str = "",
    ) -> None:
        """An instance. former: rows of an older generation, of which those behind the newest one's still stand.

        large: the field whose texts lie in blobs.
        """
        self._instances.create_entity(
            {"PartitionKey": key, "RowKey": "", "Name": orchestration, "RuntimeStatus": status, "ExecutionId": "new"}
        )
        rows = [self._row(key, n, "old", event, "") for n, event in enumerate(former)][len(events) :]
        rows += [self._row(key, n, "new", event, large) for n, event in enumerate(events)]
        if events:
            rows.append({"PartitionKey": key, "RowKey": "sentinel", "ExecutionId": "new", "IsCheckpointComplete": True})
        for start in range(0, len(rows), 99):
            self._history.submit_transaction([("upsert", row) for row in rows[start : start + 99]])

    def _row(self, key: str, number: int, execution: str, event: dict[str, Any], large: str) -> dict[str, Any]:
        row: dict[str, Any] = {"PartitionKey": key, "RowKey": f"{number:016X}", "ExecutionId": execution}
        for field, value in event.items():
            if field == "EventType":
                row[field] = _NAMED.get(value, value)
            elif field in _JSON:
                row[field] = json.dumps(value)
            elif value is None:
                continue
            elif field in _TIMES:
                row[_TIMES[field]] = datetime.fromisoformat(value)
            elif field == large:
                row |= {field: "", f"{field}BlobName": f"{key}/history-{number}-{field}.json.gz"}
                self._large.upload_blob(row[f"{field}BlobName"], gzip.compress(value.encode()))
            else:
                row[field] = value
        return row
