"""Instances of a deployed task hub in Azure Storage, from the tables that the Durable extension keeps.

`{hub}Instances` has a row for each instance, `{hub}History` one for each event of its newest generation: the event's
fields are columns, its type and status are names, what has parts is JSON, `Timestamp` is `_Timestamp`, and a text of
more than 60 KB lies in a blob that `{column}BlobName` names. Source: Azure/durabletask, AzureTableTrackingStore.cs,
TableEntityConverter.cs and MessageManager.cs (2026-06).

Only for Azure Storage: the Scheduler gives its histories to nobody but workers.

Invariant: nothing is written, and a hub is read while the app works on it.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from devhost.durable.store.history import EventType
from devhost.durable.store.records import Status
from devtools.histories.stored import STORAGE, Json, Stored, Unreadable, status_of

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.data.tables import TableServiceClient
    from azure.storage.blob import BlobServiceClient

_NAMES = {
    "SubOrchestrationInstanceCreated": EventType.SUB_CREATED,
    "SubOrchestrationInstanceCompleted": EventType.SUB_COMPLETED,
    "SubOrchestrationInstanceFailed": EventType.SUB_FAILED,
    "GenericEvent": EventType.GENERIC,
}
"""Types whose name is not the one here without its underscores."""
_TYPES = {kind.name.title().replace("_", ""): kind for kind in EventType} | _NAMES
_OF_THE_TABLE = frozenset({"PartitionKey", "RowKey", "Timestamp", "ExecutionId"})
_SENTINEL = "sentinel"
"""Row of `{hub}History` that names the newest generation; rows of an older one may still stand behind it."""
_JSON = frozenset({"OrchestrationInstance", "ParentInstance", "ParentTraceContext", "FailureDetails", "Tags"})
_BLOB = "BlobName"
_WAITING = (Status.PENDING, Status.RUNNING, Status.SUSPENDED, Status.CONTINUED_AS_NEW)
_ESCAPED = {"0": "/", "1": "\\", "2": "#", "3": "?", "^": "^"}
_PAUSE_S = 10.0
_PROGRAM_S = 60
"""`az` itself may take longer to start than the ten seconds that azure-identity gives it."""
_ROLES = "Storage Table Data Reader on the hub's tables, Storage Blob Data Reader on its large messages"


class Hub:
    """A task hub. patience_s: for how long to try again while access is refused: a new role takes minutes to count."""

    def __init__(
        self, name: str, tables: TableServiceClient, blobs: BlobServiceClient, *, patience_s: float = 0
    ) -> None:
        self._name, self._tables, self._patience_s = name, tables, patience_s
        self._large = blobs.get_container_client(f"{name.lower()}-largemessages")

    @classmethod
    def of_connection(cls, name: str, connection: str, *, patience_s: float = 0) -> Hub:
        """By a connection string, with its key."""
        from azure.data.tables import TableServiceClient
        from azure.storage.blob import BlobServiceClient

        try:
            tables = TableServiceClient.from_connection_string(connection)
            blobs = BlobServiceClient.from_connection_string(connection)
        except ValueError as error:
            raise Unreadable(f"the storage account's connection string is not valid: {error}") from error
        return cls(name, tables, blobs, patience_s=patience_s)

    @classmethod
    def of_account(cls, name: str, account: str, *, patience_s: float = 0) -> Hub:
        """By the account's name, as whoever is signed in with `az` or `azd`."""
        from azure.data.tables import TableServiceClient
        from azure.storage.blob import BlobServiceClient

        tables, blobs = (f"https://{account}.{kind}.core.windows.net" for kind in ("table", "blob"))
        credential = _credential()
        return cls(
            name,
            TableServiceClient(tables, credential=credential),
            BlobServiceClient(blobs, credential=credential),
            patience_s=patience_s,
        )

    def waiting(self) -> list[Stored]:
        """Every orchestration that has not ended, with its history. Raises Unreadable."""
        from azure.core.exceptions import AzureError

        try:
            rows = self._when_allowed(self._rows)
            found = [self._when_allowed(lambda row=row: self._instance(row)) for row in rows]  # type: ignore[misc]
        except AzureError as error:
            raise Unreadable(f"task hub {self._name}: {_why(error)}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"task hub {self._name}: not as the extension writes it: {error}") from error
        return [stored for stored in found if stored.waits]

    def _rows(self) -> list[Json]:
        statuses = " or ".join(f"RuntimeStatus eq '{status}'" for status in _WAITING)
        columns = ["PartitionKey", "Name", "RuntimeStatus"]
        rows = self._tables.get_table_client(f"{self._name}Instances").query_entities(statuses, select=columns)
        # An entity is an instance, too, which never ends and whose code is not replayed.
        return [dict(row) for row in rows if not row["PartitionKey"].startswith("@")]

    def _instance(self, row: Json) -> Stored:
        key = row["PartitionKey"]
        history = self._tables.get_table_client(f"{self._name}History")
        rows = [dict(one) for one in history.query_entities("PartitionKey eq @key", parameters={"key": key})]
        newest = next((one["ExecutionId"] for one in rows if one["RowKey"] == _SENTINEL), None)
        events = [
            self._event(one) for one in rows if one["RowKey"] != _SENTINEL and one["ExecutionId"] in (newest, None)
        ]
        # It may have ended since its row was read.
        status = row["RuntimeStatus"] if status_of(events) == Status.RUNNING else status_of(events)
        return Stored(row["Name"], _unescaped(key), events, status, STORAGE)

    def _event(self, row: Json) -> Json:
        event: Json = {
            "EventType": _TYPES[row["EventType"]],
            "EventId": row["EventId"],
            "IsPlayed": row["IsPlayed"],
            "Timestamp": _told(row["_Timestamp"]),
        }
        for column, value in row.items():
            if column.endswith(_BLOB):
                event[column.removesuffix(_BLOB)] = self._large_text(value)
            elif column not in _OF_THE_TABLE and column != "_Timestamp" and column not in event:
                event[column] = json.loads(value) if column in _JSON and value else _told(value)
        return event

    def _large_text(self, name: str) -> str:
        return gzip.decompress(self._large.download_blob(name).readall()).decode()

    def _when_allowed[T](self, read: Callable[[], T]) -> T:
        from azure.core.exceptions import HttpResponseError

        until = time.monotonic() + self._patience_s
        while True:
            try:
                return read()
            except HttpResponseError as error:
                if error.status_code != 403 or time.monotonic() + _PAUSE_S > until:
                    raise
            time.sleep(_PAUSE_S)


def _credential() -> TokenCredential:
    from azure.identity import AzureCliCredential, AzureDeveloperCliCredential, ChainedTokenCredential

    of_az = AzureCliCredential(process_timeout=_PROGRAM_S)
    return ChainedTokenCredential(of_az, AzureDeveloperCliCredential(process_timeout=_PROGRAM_S))


def _told(value: Any) -> Any:
    """Times as the extension tells them: to seven digits, as they are stored."""
    stored = getattr(value, "tables_service_value", None)
    return value if stored is None else stored


def _unescaped(key: str) -> str:
    """The instance id of a partition key, in which some characters cannot stand (KeySanitation.cs)."""
    return re.sub(r"\^(.)", lambda one: _ESCAPED.get(one[1]) or chr(ord(one[1]) - ord("À")), key)


def _why(error: Exception) -> str:
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

    if isinstance(error, ResourceNotFoundError) and not str(getattr(error, "error_code", "")).startswith(
        ("Blob", "Container")
    ):
        return "the account has no such hub: name it with --hub"
    if isinstance(error, HttpResponseError) and error.status_code == 403:
        return f"the account refuses to be read: you need {_ROLES}, and a way through its network rules"
    if isinstance(error, ClientAuthenticationError):
        return "nobody is signed in: az login"
    return " ".join(str(error).split())[:200]
