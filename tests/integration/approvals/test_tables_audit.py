"""The audit trail on a real Azurite and PostgreSQL: tampering, lines at once, storage that is away, erasure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from shared.adapters.azure.audit_tables import TABLE, TablesAuditLines
from shared.errors import NotFound, Transient
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.audit.chain import BEING_WRITTEN, ERASED_PREFIX
from shared.sessions.audit.sealing import MAX_DETAILS_CHARS
from shared.sessions.audit.trail import AuditPage
from shared.sessions.events import EventLogUnavailable
from shared.sessions.records.pages import MAX_LIMIT, Page, decode_cursor
from tests.integration.approvals.auditing import ANN, AuditProcess, in_outbox, tables_at
from tests.integration.domain import OWNER, READER, STRANGER, Stores, new_session, session_erasure

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
async def lines(storage_url: str) -> AsyncIterator[TablesAuditLines]:
    lines = TablesAuditLines(connection_string=storage_url, endpoint=None)
    yield lines
    await lines.aclose()


@pytest.fixture
def trail(stores: Stores, lines: TablesAuditLines) -> AuditProcess:
    return AuditProcess(stores, lines)


@pytest.fixture
def table(storage_url: str) -> Iterator[TableClient]:
    """The hand of somebody who may write the table."""
    with TableServiceClient.from_connection_string(storage_url) as service:
        yield service.get_table_client(TABLE)


async def _later(stores: Stores, trail: AuditProcess, session_id: str, page: Page | None = None) -> AuditPage:
    """The report of a process that looks when nothing can be on its way any more."""
    return await AuditProcess(stores, trail.lines, ahead=BEING_WRITTEN).report(session_id, page)


async def test_lines_are_numbered_chained_and_whole(stores: Stores, trail: AuditProcess) -> None:
    session_id = await trail.written()

    report = await trail.report(session_id)

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
    trails = [AuditProcess(stores, lines), AuditProcess(stores, elsewhere)]

    await asyncio.gather(*(trails[n % 2].record(session_id, f"action.{n}", {}) for n in range(12)))

    report = await trails[0].report(session_id)
    await elsewhere.aclose()
    assert report.verified
    assert sorted(line.action for line in report.items) == sorted(f"action.{n}" for n in range(12))


async def test_pages_follow_each_other_and_each_judges_the_whole(
    stores: Stores, trail: AuditProcess, table: TableClient
) -> None:
    session_id = await trail.written(5)
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


async def test_a_page_of_large_lines_ends_early_and_the_next_goes_on(stores: Stores, trail: AuditProcess) -> None:
    session_id = (await stores.session()).id
    for n in range(60):
        await trail.record(session_id, f"action.{n}", {"text": "x" * (MAX_DETAILS_CHARS - 100)})

    first = await trail.report(session_id, Page(MAX_LIMIT))
    assert first.next_cursor is not None
    second = await trail.report(session_id, Page(MAX_LIMIT, decode_cursor(first.next_cursor, int)))

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
    stores: Stores, trail: AuditProcess, table: TableClient, tampering: str, blamed: set[int | None]
) -> None:
    session_id = await trail.written()
    assert (await trail.report(session_id)).verified
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


async def test_a_line_that_older_code_lost_is_a_gap_and_not_silence(stores: Stores, trail: AuditProcess) -> None:
    session_id = await trail.written(2)
    await trail.claimed_as_before(session_id, "approval.decided", is_written=False)
    await trail.record(session_id, "tool_call.started", {})

    report = await trail.report(session_id)

    assert [line.number for line in report.items] == [1, 2, 4]
    assert (report.verified, report.being_written) == (True, [3]), "it may be on its way"
    assert [problem.line for problem in (await _later(stores, trail, session_id)).problems] == [3]


async def test_a_line_that_older_code_lost_as_the_last_is_missed_too(stores: Stores, trail: AuditProcess) -> None:
    session_id = await trail.written(2)
    await trail.claimed_as_before(session_id, "approval.decided", is_written=False)
    assert (await trail.report(session_id)).verified, "it may be on its way"

    assert [problem.line for problem in (await _later(stores, trail, session_id)).problems] == [3]


async def test_lines_of_older_code_and_of_this_one_are_one_chain(stores: Stores, trail: AuditProcess) -> None:
    """During a deployment both run."""
    session_id = await trail.written(1)
    for _ in range(3):
        await trail.claimed_as_before(session_id, "old", is_written=True)
        await trail.record(session_id, "new")

    report = await _later(stores, trail, session_id)

    assert (report.verified, [line.action for line in report.items[1:]]) == (True, ["old", "new"] * 3)


async def test_a_removed_line_is_told_however_often_one_looks_and_whatever_is_written(
    stores: Stores, trail: AuditProcess, table: TableClient
) -> None:
    """Each look at an approval writes a line; that line must not buy the removed one any time."""
    session_id = await trail.written(3)
    table.delete_entity(session_id, f"{2:010d}")
    ahead = BEING_WRITTEN

    for n in range(3):
        later = AuditProcess(stores, trail.lines, ahead=ahead)
        await later.record(session_id, "approval.viewed", {})
        for _ in range(2):
            assert [problem.line for problem in (await later.report(session_id)).problems] == [2], n
        ahead += timedelta(seconds=3)


async def test_when_the_newest_lines_were_claimed_is_kept_while_it_counts_and_of_sixteen(
    stores: Stores, trail: AuditProcess
) -> None:
    session_id = await trail.written(3)
    later = AuditProcess(stores, trail.lines, ahead=3 * BEING_WRITTEN)
    for _ in range(16):
        await later.record(session_id, "later")

    anchor = await trail.anchors.anchor(session_id)

    assert anchor is not None
    assert set(anchor.claims) == set(range(4, 20))


async def test_a_place_that_somebody_has_taken_is_not_overwritten_and_the_line_stays(
    stores: Stores, trail: AuditProcess, table: TableClient
) -> None:
    session_id = await trail.written(1)
    table.create_entity({**table.get_entity(session_id, f"{1:010d}"), "RowKey": f"{2:010d}", "who": "eve"})

    for n in (2, 3):
        await trail.record(session_id, "approval.decided", {"n": n})

    assert table.get_entity(session_id, f"{2:010d}")["who"] == "eve"
    assert await in_outbox(stores, session_id) == [f"{2:010d}"]
    report = await trail.report(session_id)
    assert {problem.line for problem in report.problems} == {2}
    assert [line.who for line in report.items if line.number == 2] == ["eve", "system"]
    table.delete_entity(session_id, f"{2:010d}")
    await stores.sql(b"UPDATE audit_outbox SET due_at = now() WHERE session_id = %(id)s", id=session_id)
    await trail.forwarder.drain(within_s=5)
    assert (await trail.report(session_id)).verified
    assert await in_outbox(stores, session_id) == []


async def test_the_trail_is_for_its_owner_and_for_admins(stores: Stores, trail: AuditProcess) -> None:
    session = await stores.shared_session()
    await trail.record(session.id, "action", {})

    assert (await trail.audit.report(session.id, Principal("root", frozenset({Role.ADMIN})), Page())).verified
    for user in (READER, STRANGER):
        with pytest.raises(NotFound):
            await trail.audit.report(session.id, Principal(user, frozenset({Role.USER, Role.APPROVER})), Page())
    with pytest.raises(NotFound):
        await trail.audit.report(new_id(), Principal("root", frozenset({Role.ADMIN})), Page())


async def test_an_erased_session_leaves_one_line_that_its_successor_does_not_see(
    stores: Stores, trail: AuditProcess, table: TableClient
) -> None:
    session_id = await trail.written(3)
    await stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=session_id)

    await trail.audit.erase(session_id)
    await trail.audit.erase(session_id)
    await trail.record(session_id, "approval.viewed", {})
    await trail.lines.append(session_id, [trail.sealer.erasure(session_id, {"messages": 2}, who=OWNER)])

    def rows() -> list[dict[str, Any]]:
        found = table.query_entities("PartitionKey eq @session", parameters={"session": session_id})
        return [dict(entity) for entity in found]

    [left] = rows()
    assert (left["action"], left["who"], left["details"]) == ("session.erased", OWNER, '{"messages":2}')
    assert left["RowKey"].startswith(ERASED_PREFIX)
    await stores.create(new_session(id=session_id), STRANGER)
    heir = Principal(STRANGER, frozenset({Role.USER}))
    assert (await trail.audit.report(session_id, heir, Page())).items == []
    await trail.record(session_id, "action", {})
    assert [line.number for line in (await trail.audit.report(session_id, heir, Page())).items] == [1]
    await trail.audit.erase(session_id)
    assert rows() == [left]


async def test_a_long_trail_is_erased_whole(stores: Stores, trail: AuditProcess, table: TableClient) -> None:
    session_id = await trail.written(1)
    for first in (2, 100, 198):  # one transaction holds a hundred
        rows = [{"PartitionKey": session_id, "RowKey": f"{first + n:010d}"} for n in range(98)]
        table.submit_transaction([("create", row) for row in rows])

    await trail.audit.erase(session_id)

    assert [line async for line in trail.lines.read(session_id)] == []


async def test_an_erasure_waits_for_storage_that_is_away_and_not_for_storage_that_is_not_set(stores: Stores) -> None:
    away = AuditProcess(stores, tables_at(1))
    unset = AuditProcess(stores, TablesAuditLines(connection_string=None, endpoint=None))

    await unset.audit.erase(new_id())
    with pytest.raises(EventLogUnavailable):
        await away.audit.erase(new_id())
    session = await stores.session()
    with pytest.raises(Transient):
        await away.report(session.id)


async def test_details_are_cut_to_what_a_property_holds(
    stores: Stores, trail: AuditProcess, table: TableClient
) -> None:
    session_id = (await stores.session()).id

    for text in ("\U0001f642" * 40_000, '"' * 40_000):
        await trail.record(session_id, "big", {"text": text})

    assert (await trail.report(session_id)).verified
    for n in (1, 2):
        kept = len(table.get_entity(session_id, f"{n:010d}")["details"].encode("utf-16-le"))
        assert 10_000 < kept <= 64 * 1024


async def test_deleting_a_session_takes_its_trail_along(stores: Stores, trail: AuditProcess, publisher: Any) -> None:
    session_id = await trail.written(2)
    erasing = session_erasure(stores, publisher, [trail.audit])
    await erasing.mark(session_id, ANN, if_match=None)

    found = await erasing.erase_stores(session_id)

    assert found is not None
    assert found[1]
    assert [line async for line in trail.lines.read(session_id)] == []
