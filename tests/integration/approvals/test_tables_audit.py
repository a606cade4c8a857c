"""The audit trail on a real Azurite and PostgreSQL: tampering, lines at once, storage that is away, erasure."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from shared.adapters.azure.audit_tables import TABLE, TablesAuditLines
from shared.adapters.postgres.audit import PostgresAuditAnchors
from shared.errors import NotFound, Transient
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.audit.chain import BEING_WRITTEN, ERASED_PREFIX
from shared.sessions.audit.trail import MAX_DETAILS_CHARS, AuditLines, AuditPage, ChainedAudit
from shared.sessions.events import EventLogUnavailable
from shared.sessions.records.pages import MAX_LIMIT, Page, decode_cursor
from tests.integration.domain import OWNER, READER, STRANGER, Stores, new_session, session_erasure, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

KEY = b"k" * 32
ANN = Principal(OWNER, frozenset({Role.USER}))


@pytest.fixture
async def lines(storage_url: str) -> AsyncIterator[TablesAuditLines]:
    lines = TablesAuditLines(connection_string=storage_url, endpoint=None)
    yield lines
    await lines.aclose()


@pytest.fixture
def trail(stores: Stores, lines: TablesAuditLines) -> ChainedAudit:
    return _over(stores, lines)


def _over(stores: Stores, lines: AuditLines, *, ahead: timedelta = timedelta()) -> ChainedAudit:
    """As another process has it: nothing in common but the stores. ahead: of the clock of the others."""
    return ChainedAudit(
        PostgresAuditAnchors(stores.pool), lines, stores.sessions.get, keys=[KEY], clock=lambda: utc_now() + ahead
    )


@pytest.fixture
def table(storage_url: str) -> Iterator[TableClient]:
    """The hand of somebody who may write the table."""
    with TableServiceClient.from_connection_string(storage_url) as service:
        yield service.get_table_client(TABLE)


async def _written(stores: Stores, trail: ChainedAudit, count: int = 4) -> str:
    """A session with so many lines."""
    session = await stores.session()
    for n in range(count):
        await trail.record(session.id, f"action.{n}", {"n": n, "text": "žluť\x00"}, who="ann")
    return session.id


async def _report(trail: ChainedAudit, session_id: str, page: Page | None = None) -> AuditPage:
    return await trail.report(session_id, ANN, page or Page())


async def _later(stores: Stores, trail: ChainedAudit, session_id: str, page: Page | None = None) -> AuditPage:
    """The report of a process that looks when nothing can be on its way any more."""
    return await _report(_over(stores, trail._lines, ahead=BEING_WRITTEN), session_id, page)


async def test_lines_are_numbered_chained_and_whole(stores: Stores, trail: ChainedAudit) -> None:
    session_id = await _written(stores, trail)

    report = await _report(trail, session_id)

    assert (report.verified, report.problems, report.next_cursor) == (True, [], None)
    assert [(line.number, line.action, line.who) for line in report.items] == [
        (n + 1, f"action.{n}", "ann") for n in range(4)
    ]
    assert report.items[1].details == {"n": 1, "text": "žluť\x00"}
    assert [line.previous_hash for line in report.items] == ["", *(line.hash for line in report.items[:3])]


async def test_lines_written_at_once_by_two_processes_are_dense(
    stores: Stores, lines: TablesAuditLines, storage_url: str
) -> None:
    session_id = (await stores.session()).id
    elsewhere = TablesAuditLines(connection_string=storage_url, endpoint=None)
    trails = [_over(stores, lines), _over(stores, elsewhere)]

    await asyncio.gather(*(trails[n % 2].record(session_id, f"action.{n}", {}) for n in range(12)))

    report = await _report(trails[0], session_id)
    await elsewhere.aclose()
    assert report.verified
    assert sorted(line.action for line in report.items) == sorted(f"action.{n}" for n in range(12))


async def test_pages_follow_each_other_and_each_judges_the_whole(
    stores: Stores, trail: ChainedAudit, table: TableClient
) -> None:
    session_id = await _written(stores, trail, 5)
    table.delete_entity(session_id, f"{2:010d}")

    seen: list[int] = []
    cursor = None
    while True:
        page = Page(2, decode_cursor(cursor, int) if cursor else None)
        report = await _later(stores, trail, session_id, page)
        assert [problem.line for problem in report.problems] == [2]
        seen += [line.number for line in report.items]
        cursor = report.next_cursor
        if cursor is None:
            break

    assert seen == [1, 3, 4, 5]


async def test_a_page_of_large_lines_ends_early_and_the_next_goes_on(stores: Stores, trail: ChainedAudit) -> None:
    session_id = (await stores.session()).id
    for n in range(60):
        await trail.record(session_id, f"action.{n}", {"text": "x" * (MAX_DETAILS_CHARS - 100)})

    first = await _report(trail, session_id, Page(MAX_LIMIT))
    assert first.next_cursor is not None
    second = await _report(trail, session_id, Page(MAX_LIMIT, decode_cursor(first.next_cursor, int)))

    # 53 lines of almost 20 kB are the first to have a MiB.
    assert [line.number for line in first.items] == list(range(1, 54))
    assert [line.number for line in second.items] == list(range(54, 61))
    assert (first.verified, second.verified, second.next_cursor) == (True, True, None)


def _update(table: TableClient, session_id: str, number: int, **changes: Any) -> None:
    entity = {"PartitionKey": session_id, "RowKey": f"{number:010d}", **changes}
    table.update_entity(entity, mode=UpdateMode.MERGE)


def _swap(table: TableClient, session_id: str) -> None:
    second, third = (dict(table.get_entity(session_id, f"{n:010d}")) for n in (2, 3))
    second["RowKey"], third["RowKey"] = third["RowKey"], second["RowKey"]
    for entity in (second, third):
        table.upsert_entity(entity, mode=UpdateMode.REPLACE)


@pytest.mark.parametrize(
    ("tampering", "blamed"),
    [
        ("remove", {2}),
        ("alter", {2}),
        ("reseal", {2}),
        ("insert", {5}),
        ("stray", {None}),
        ("reorder", {2, 3}),
        ("truncate", {4}),
        ("empty", {1}),
        ("retype", {2}),
    ],
)
async def test_whoever_tampers_with_the_table_is_found_out(
    stores: Stores, trail: ChainedAudit, table: TableClient, tampering: str, blamed: set[int | None]
) -> None:
    session_id = await _written(stores, trail)
    assert (await _report(trail, session_id)).verified
    match tampering:
        case "remove":
            table.delete_entity(session_id, f"{2:010d}")
        case "alter":
            _update(table, session_id, 2, who="eve")
        case "reseal":
            _update(table, session_id, 2, who="eve", hash="f" * 64)
        case "insert":
            table.create_entity({**table.get_entity(session_id, f"{4:010d}"), "RowKey": f"{5:010d}"})
        case "stray":
            table.create_entity({"PartitionKey": session_id, "RowKey": "x"})
        case "reorder":
            _swap(table, session_id)
        case "truncate":
            table.delete_entity(session_id, f"{4:010d}")
        case "empty":
            for n in range(1, 5):
                table.delete_entity(session_id, f"{n:010d}")
        case "retype":
            _update(table, session_id, 2, details=7, at="no time", action=True)

    report = await _later(stores, trail, session_id)

    assert not report.verified
    assert {problem.line for problem in report.problems} >= blamed


async def test_a_line_that_was_lost_is_a_gap_and_not_silence(
    stores: Stores, trail: ChainedAudit, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = await _written(stores, trail, 2)
    away = TablesAuditLines(connection_string=_storage_at(1), endpoint=None)
    with caplog.at_level(logging.ERROR):
        await _over(stores, away).record(session_id, "approval.decided", {"approval_id": "a1"})
    await trail.record(session_id, "tool_call.started", {})

    report = await _report(trail, session_id)

    assert "audit line lost: approval.decided" in caplog.text
    assert [line.number for line in report.items] == [1, 2, 4]
    assert (report.verified, report.being_written) == (True, [3]), "it may be on its way"
    assert [problem.line for problem in (await _later(stores, trail, session_id)).problems] == [3]


async def test_a_removed_line_is_told_however_often_one_looks_and_whatever_is_written(
    stores: Stores, trail: ChainedAudit, table: TableClient
) -> None:
    """Each look at an approval writes a line; that line must not buy the removed one any time."""
    session_id = await _written(stores, trail, 3)
    table.delete_entity(session_id, f"{2:010d}")
    ahead = BEING_WRITTEN

    for n in range(3):
        later = _over(stores, trail._lines, ahead=ahead)
        await later.record(session_id, "approval.viewed", {})
        for _ in range(2):
            assert [problem.line for problem in (await _report(later, session_id)).problems] == [2], n
        ahead += timedelta(seconds=3)


async def test_when_the_newest_lines_were_claimed_is_kept_no_longer_than_it_counts(
    stores: Stores, trail: ChainedAudit
) -> None:
    session_id = await _written(stores, trail, 3)
    await _over(stores, trail._lines, ahead=3 * BEING_WRITTEN).record(session_id, "later", {})

    anchor = await PostgresAuditAnchors(stores.pool).anchor(session_id)

    assert anchor is not None
    assert set(anchor.claims) == {4}


async def test_a_line_lost_as_the_last_is_missed_too(stores: Stores, trail: ChainedAudit) -> None:
    session_id = await _written(stores, trail, 2)
    away = TablesAuditLines(connection_string=_storage_at(1), endpoint=None)
    await _over(stores, away).record(session_id, "approval.decided", {})
    assert (await _report(trail, session_id)).verified, "it may be on its way"

    assert [problem.line for problem in (await _later(stores, trail, session_id)).problems] == [3]


async def test_a_place_that_somebody_has_taken_is_not_overwritten(
    stores: Stores, trail: ChainedAudit, table: TableClient, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = await _written(stores, trail, 1)
    table.create_entity({**table.get_entity(session_id, f"{1:010d}"), "RowKey": f"{2:010d}", "who": "eve"})

    with caplog.at_level(logging.ERROR):
        await trail.record(session_id, "approval.decided", {})

    assert "is taken" in caplog.text
    report = await _report(trail, session_id)
    assert [problem.line for problem in report.problems] == [2]


async def test_the_trail_is_for_its_owner_and_for_admins(stores: Stores, trail: ChainedAudit) -> None:
    session = await stores.shared_session()
    await trail.record(session.id, "action", {})

    assert (await trail.report(session.id, Principal("root", frozenset({Role.ADMIN})), Page())).verified
    for user in (READER, STRANGER):
        with pytest.raises(NotFound):
            await trail.report(session.id, Principal(user, frozenset({Role.USER, Role.APPROVER})), Page())
    with pytest.raises(NotFound):
        await trail.report(new_id(), Principal("root", frozenset({Role.ADMIN})), Page())


async def test_an_erased_session_leaves_one_line_that_its_successor_does_not_see(
    stores: Stores, trail: ChainedAudit, table: TableClient
) -> None:
    session_id = await _written(stores, trail, 3)
    await stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=session_id)

    await trail.erase(session_id)
    await trail.erase(session_id)
    await trail.record(session_id, "approval.viewed", {})
    await trail.write_erasure(session_id, trail.seal_erasure(session_id, {"messages": 2}, who=OWNER))

    def rows() -> list[dict[str, Any]]:
        found = table.query_entities("PartitionKey eq @session", parameters={"session": session_id})
        return [dict(entity) for entity in found]

    [left] = rows()
    assert (left["action"], left["who"], left["details"]) == ("session.erased", OWNER, '{"messages":2}')
    assert left["RowKey"].startswith(ERASED_PREFIX)
    await stores.create(new_session(id=session_id), STRANGER)
    heir = Principal(STRANGER, frozenset({Role.USER}))
    assert (await trail.report(session_id, heir, Page())).items == []
    await trail.record(session_id, "action", {})
    assert [line.number for line in (await trail.report(session_id, heir, Page())).items] == [1]
    await trail.erase(session_id)
    assert rows() == [left]


async def test_a_long_trail_is_erased_whole(stores: Stores, trail: ChainedAudit, table: TableClient) -> None:
    session_id = await _written(stores, trail, 1)
    for first in (2, 100, 198):  # one transaction holds a hundred
        rows = [{"PartitionKey": session_id, "RowKey": f"{first + n:010d}"} for n in range(98)]
        table.submit_transaction([("create", row) for row in rows])

    await trail.erase(session_id)

    assert [line async for line in trail._lines.read(session_id)] == []


async def test_an_erasure_waits_for_storage_that_is_away_and_not_for_storage_that_is_not_set(stores: Stores) -> None:
    away = _over(stores, TablesAuditLines(connection_string=_storage_at(1), endpoint=None))
    unset = _over(stores, TablesAuditLines(connection_string=None, endpoint=None))

    await unset.erase(new_id())
    with pytest.raises(EventLogUnavailable):
        await away.erase(new_id())
    session = await stores.session()
    with pytest.raises(Transient):
        await _report(away, session.id)


async def test_details_are_cut_to_what_a_property_holds(
    stores: Stores, trail: ChainedAudit, table: TableClient
) -> None:
    session_id = (await stores.session()).id

    for text in ("\U0001f642" * 40_000, '"' * 40_000):
        await trail.record(session_id, "big", {"text": text})

    assert (await _report(trail, session_id)).verified
    for n in (1, 2):
        kept = len(table.get_entity(session_id, f"{n:010d}")["details"].encode("utf-16-le"))
        assert 10_000 < kept <= 64 * 1024


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


_ACCOUNT_KEY = "bm90IGEgcmVhbCBrZXk="


def _storage_at(port: int) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={_ACCOUNT_KEY};"
        f"TableEndpoint=http://127.0.0.1:{port}/a;"
    )


@pytest.mark.parametrize("storage", ["refuses", "silent", "unset", "malformed"])
async def test_storage_that_is_away_costs_the_line_and_not_the_turn(
    stores: Stores, storage: str, silent_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    urls = {"unset": None, "malformed": "nonsense", "silent": _storage_at(silent_port)}
    lines = TablesAuditLines(connection_string=urls.get(storage, _storage_at(1)), endpoint=None)
    session_id = (await stores.session()).id
    details = {
        "tool_call_id": "call-1",
        "comment": "what Ann said",
        "arguments": {"body": "a private letter"},
        "note_id": "text in the place of an id",
    }

    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(20):  # the activity that writes it holds a turn meanwhile
            await _over(stores, lines).record(session_id, "approval.decided", details, within_s=1)
    await lines.aclose()

    (line,) = [record.getMessage() for record in caplog.records if record.name == "shared.sessions.audit.trail"]
    assert line.startswith(f"audit line lost: approval.decided of session {session_id}, number 1, tool_call_id=call-1,")
    assert hashlib.sha256(orjson.dumps(details)).hexdigest() in line
    for kept_out in ("what Ann said", "private letter", "text in the place", _ACCOUNT_KEY):
        assert kept_out not in caplog.text


async def test_deleting_a_session_takes_its_trail_along(stores: Stores, trail: ChainedAudit, publisher: Any) -> None:
    session_id = await _written(stores, trail, 2)
    erasing = session_erasure(stores, publisher, [trail], audit=trail)
    await erasing.mark(session_id, ANN, if_match=None)

    found = await erasing.erase_stores(session_id)

    assert found is not None
    assert found[1]
    assert [line async for line in trail._lines.read(session_id)] == []
