"""TablesAuditTrail on a real Azurite, and with storage away."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest
from azure.data.tables import TableServiceClient

from shared.adapters.tables_audit import TABLE, TablesAuditTrail
from shared.ids import new_id

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


async def test_lines_are_appended_to_their_session_in_order(storage_url: str) -> None:
    trail = TablesAuditTrail(connection_string=storage_url, endpoint=None)
    session_id = new_id()

    for n in range(3):
        await trail.record(session_id, f"action.{n}", {"n": n, "text": "žluť\x00"})
    await asyncio.gather(*(trail.record(session_id, "action.x", {}) for _ in range(4)))
    await trail.aclose()

    with TableServiceClient.from_connection_string(storage_url) as service:
        table = service.get_table_client(TABLE)
        entities = sorted(
            table.query_entities("PartitionKey eq @session", parameters={"session": session_id}),
            key=lambda entity: entity["RowKey"],
        )
    assert [entity["action"] for entity in entities] == ["action.0", "action.1", "action.2", *["action.x"] * 4]
    assert entities[1]["details"] == '{"n":1,"text":"žluť\\u0000"}'


async def test_details_are_cut_to_what_a_property_holds(storage_url: str) -> None:
    trail = TablesAuditTrail(connection_string=storage_url, endpoint=None)
    session_id = new_id()

    await trail.record(session_id, "big", {"text": "\U0001f642" * 40_000})
    await trail.aclose()

    with TableServiceClient.from_connection_string(storage_url) as service:
        table = service.get_table_client(TABLE)
        (entity,) = table.query_entities("PartitionKey eq @session", parameters={"session": session_id})
    kept = len(entity["details"].encode("utf-16-le"))
    assert 50_000 < kept <= 64 * 1024


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("storage", ["refuses", "silent", "unset", "malformed"])
async def test_storage_that_is_away_costs_the_line_and_not_the_turn(
    storage: str, silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    port = silent_port if storage == "silent" else 1
    key = "bm90IGEgcmVhbCBrZXk="
    urls = {
        "unset": None,
        "malformed": "nonsense",
    }
    default = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={key};TableEndpoint=http://127.0.0.1:{port}/a;"
    trail = TablesAuditTrail(connection_string=urls.get(storage, default), endpoint=None)

    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(20):  # the activity that writes it holds a turn meanwhile
            await trail.record("session", "tool_call.ended", {"tool_call_id": "call-1"})
    await trail.aclose()

    assert "call-1" in caplog.text
    assert len(caplog.text) < 10_000
    assert key not in caplog.text
