"""The verification of all audit trails on a real Azurite and PostgreSQL: what nobody opens is found all the same."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from shared.adapters.azure.audit_tables import TablesAuditLines
from shared.adapters.postgres.audit import PostgresVerifiedTrails
from shared.errors import NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.audit.chain import BEING_WRITTEN, ERASED_PREFIX
from shared.sessions.audit.trail import FiledLine
from shared.sessions.audit.verification import DAMAGED_LINE, EVERY, AuditFinding, AuditVerification
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.pages import Page
from tests.integration.approvals.auditing import AuditProcess
from tests.integration.domain import AUDIT_KEY, OWNER, Stores, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ADMIN = Principal("root", frozenset({Role.USER, Role.ADMIN}))


@pytest.fixture
def table(storage_url: str) -> Iterator[TableClient]:
    """A table of its own: the verification reads all of it."""
    with TableServiceClient.from_connection_string(storage_url) as service:
        table = service.create_table(f"audit{uuid4().hex}")
        yield table
        table.delete_table()


@pytest.fixture
async def lines(storage_url: str, table: TableClient) -> AsyncIterator[TablesAuditLines]:
    lines = TablesAuditLines(connection_string=storage_url, endpoint=None, table=table.table_name)
    yield lines
    await lines.aclose()


@pytest.fixture
async def trails(stores: Stores) -> AsyncIterator[PostgresVerifiedTrails]:
    """Where nothing is left of other tests."""
    await stores.sql(b"UPDATE audit_verification SET begun_at = NULL, position = '', completed_at = NULL")
    yield PostgresVerifiedTrails(stores.pool)
    for statement in (
        b"DELETE FROM audit_findings",
        b"DELETE FROM audit_erasures",
        b"DELETE FROM sessions",
        b"DELETE FROM audit_outbox",
    ):
        await stores.sql(statement)


class Clock:
    """Runs with the others' clocks, and as far ahead as a test puts it."""

    def __init__(self) -> None:
        self.ahead = BEING_WRITTEN

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


async def nothing(_session_id: str) -> list[AuditNote]:
    """Of what the trail may have told."""
    return []


class Rig:
    def __init__(self, stores: Stores, lines: TablesAuditLines, trails: PostgresVerifiedTrails) -> None:
        self.stores = stores
        self.clock = Clock()
        self.process = AuditProcess(stores, lines)
        self.verification = AuditVerification(trails, lines, nothing, keys=[AUDIT_KEY], clock=self.clock, ids_at_once=3)

    async def written(self, count: int = 3) -> str:
        """A session with so many lines."""
        session = await self.stores.session()
        for n in range(count):
            await self.process.record(session.id, f"action.{n}", who="ann")
        return session.id

    async def erased(self, session_id: str | None = None) -> str:
        """A session that was erased: the end of its erasure."""
        session_id = session_id or await self.written()
        await self.stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=session_id)
        await self.stores.sql(
            b"INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at, instances)"
            b" VALUES (%(id)s, %(owner)s, now(), now(), '{}')"
            b" ON CONFLICT (session_id) DO UPDATE SET finished_at = NULL",
            id=session_id,
            owner=OWNER,
        )
        await self.process.audit.erase(session_id)
        line = self.process.sealer.erasure(session_id, {"messages": 2}, who=OWNER)
        assert await self.process.erasures.finish(session_id, line, now=utc_now() - BEING_WRITTEN)
        await self.process.forwarder.idle()
        return session_id

    async def verify(self, goes: int = 1_000) -> None:
        """A run that is due, of at most so many parts."""
        self.clock.ahead += EVERY
        left = iter(range(goes - 1))
        await self.verification.run(lambda: next(left, None) is not None)

    async def found(self) -> dict[str, list[str]]:
        """The messages of the findings."""
        await self.verify()
        findings = (await self.verification.findings(ADMIN, Page())).items
        return {finding.session_id: [problem.message for problem in finding.problems] for finding in findings}


@pytest.fixture
def rig(stores: Stores, lines: TablesAuditLines, trails: PostgresVerifiedTrails) -> Rig:
    return Rig(stores, lines, trails)


def _row(number: int) -> str:
    return f"{number:010d}"


def _erasure_row(table: TableClient, session_id: str) -> dict[str, Any]:
    found = table.query_entities("PartitionKey eq @id and RowKey ge 'erased-'", parameters={"id": session_id})
    [row] = [dict(entity) for entity in found]
    return row


async def test_whole_trails_and_erased_sessions_leave_nothing_to_tell(rig: Rig) -> None:
    for _ in range(4):
        await rig.written()
        await rig.erased()
    twice = await rig.erased()
    await rig.erased(twice)
    before = await rig.verification.findings(ADMIN, Page())

    assert await rig.found() == {}

    assert before.verified_at is None
    assert (await rig.verification.findings(ADMIN, Page())).verified_at is not None


async def test_a_removed_line_is_found_in_a_trail_that_nobody_opens_and_told_once(
    rig: Rig, table: TableClient, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = [await rig.written() for _ in range(7)]
    table.delete_entity(sessions[4], _row(2))
    for number in range(1, 4):
        table.delete_entity(sessions[6], _row(number))

    with caplog.at_level(logging.ERROR):
        first, again = await rig.found(), await rig.found()

    assert first == again
    assert {name: told[0].split(":")[0] for name, told in first.items()} == {
        sessions[4]: "Line 2 is missing",
        sessions[6]: "Lines 1 to 3 are missing",
    }
    told = sorted(record.getMessage() for record in caplog.records)
    assert [line.split(",")[0] for line in told] == [f"{DAMAGED_LINE} session {sessions[n]}" for n in (4, 6)]
    table.delete_entity(sessions[4], _row(3))
    with caplog.at_level(logging.ERROR):
        await rig.found()
    assert len(caplog.records) == 3, "a new problem is told as well"


async def test_a_trail_that_is_whole_again_is_no_finding_any_more(rig: Rig, table: TableClient) -> None:
    session_id = await rig.written()
    row = dict(table.get_entity(session_id, _row(2)))
    table.delete_entity(session_id, _row(2))
    assert set(await rig.found()) == {session_id}

    table.create_entity(row)

    assert await rig.found() == {}


@pytest.mark.parametrize("tampering", ["remove", "alter", "move", "forge", "line left"])
async def test_what_is_done_to_the_line_of_an_erased_session_is_found(
    rig: Rig, table: TableClient, tampering: str
) -> None:
    session_id, other = sorted([await rig.erased(), await rig.erased()])
    row = _erasure_row(table, session_id)
    blamed = {session_id: 1}
    match tampering:
        case "remove":
            table.delete_entity(session_id, row["RowKey"])
        case "alter":
            table.update_entity(row | {"who": "eve"}, mode=UpdateMode.MERGE)
            blamed = {session_id: 2}  # the genuine one is missing
        case "move":
            table.delete_entity(session_id, row["RowKey"])
            table.create_entity(row | {"PartitionKey": other})
            blamed = {session_id: 1, other: 1}
        case "forge":
            table.create_entity(row | {"RowKey": f"{ERASED_PREFIX}{new_id()}", "who": "eve"})
        case "line left":
            table.create_entity(row | {"RowKey": _row(1)})

    assert {name: len(messages) for name, messages in (await rig.found()).items()} == blamed


async def test_lines_of_a_session_that_never_was_are_found(rig: Rig, table: TableClient) -> None:
    session_id = await rig.written()
    table.create_entity(dict(table.get_entity(session_id, _row(1))) | {"PartitionKey": "zz-nobody"})

    assert set(await rig.found()) == {"zz-nobody"}


async def test_an_erasure_line_of_an_older_version_is_verified_by_its_seal(rig: Rig) -> None:
    session_id = new_id()
    await rig.process.lines.append(session_id, [rig.process.sealer.erasure(session_id, {}, who=OWNER)])

    assert await rig.found() == {}


class Meanwhile(PostgresVerifiedTrails):
    """Erases a session between the reading of its lines and of its anchor."""

    def __init__(self, rig: Rig, session_id: str) -> None:
        super().__init__(rig.stores.pool)
        self._rig = rig
        self._session_id = session_id

    async def anchored(self, ids: Any, *, since: datetime) -> Any:
        await self._rig.erased(self._session_id)
        # Its end is noted by the clock of whoever erases it.
        return await super().anchored(ids, since=since - timedelta(days=1))


async def test_a_session_that_is_erased_while_its_lines_are_read_is_no_problem(
    rig: Rig, lines: TablesAuditLines
) -> None:
    session_id = await rig.written()
    rig.verification = AuditVerification(Meanwhile(rig, session_id), lines, nothing, keys=[AUDIT_KEY])

    await rig.verification.run(lambda: True)

    assert (await rig.verification.findings(ADMIN, Page())).items == []


async def test_an_erasure_whose_line_may_be_on_its_way_is_not_missed_yet(rig: Rig, table: TableClient) -> None:
    session_id = await rig.erased()
    table.delete_entity(session_id, _erasure_row(table, session_id)["RowKey"])
    await rig.stores.sql(b"UPDATE audit_erasures SET erased_at = now() + interval '1 hour 10 seconds'")

    assert await rig.found() == {}
    assert set(await rig.found()) == {session_id}


async def test_a_run_goes_on_where_the_last_one_ended_and_begins_only_when_it_is_due(
    rig: Rig, table: TableClient, trails: PostgresVerifiedTrails
) -> None:
    sessions = sorted([await rig.written(1) for _ in range(5)])
    for session_id in sessions:
        table.delete_entity(session_id, _row(1))

    async def found() -> list[str]:
        return sorted(finding.session_id for finding in (await rig.verification.findings(ADMIN, Page())).items)

    await rig.verify(goes=1)
    assert await found() == sessions[:3]
    await rig.verification.run(lambda: True)
    assert await found() == sessions[:3], "not due"
    await rig.verify(goes=1)
    assert await found() == sessions
    assert await trails.begin(now=rig.clock() + EVERY, every=EVERY) == "", "from the beginning"


async def test_storage_that_is_away_is_logged_and_costs_no_place(
    rig: Rig, trails: PostgresVerifiedTrails, caplog: pytest.LogCaptureFixture
) -> None:
    away = TablesAuditLines(connection_string=None, endpoint=None)
    session_id = await rig.written()
    rig.verification = AuditVerification(trails, away, nothing, keys=[AUDIT_KEY], clock=rig.clock)

    with caplog.at_level(logging.WARNING):
        await rig.verify()

    assert "the audit trails cannot be verified now" in caplog.text
    assert await trails.completed_at() is None
    assert session_id in await trails.ids_after("", limit=10)


async def test_lines_that_wait_in_the_outbox_are_not_missed_and_one_that_is_taken_out_is(
    rig: Rig, stores: Stores, lines: TablesAuditLines, table: TableClient
) -> None:
    killed = AuditProcess(stores, lines, dies=True)
    waiting = [await killed.written(2) for _ in range(4)]
    whole = await rig.written(1)
    await killed.record(whole, "waits")
    erased = waiting.pop()
    rig.process.erasures = killed.erasures
    await rig.erased(erased)
    assert await rig.found() == {}

    await stores.sql(
        b"DELETE FROM audit_outbox WHERE session_id = %(id)s AND row_key = %(k)s", id=waiting[1], k=_row(1)
    )
    await stores.sql(b"UPDATE audit_outbox SET who = 'eve' WHERE session_id = ANY (%(ids)s)", ids=[waiting[2], erased])

    assert set(await rig.found()) == {waiting[1], waiting[2], erased}
    await stores.sql(b"UPDATE audit_outbox SET due_at = now()")
    await rig.process.forwarder.drain(within_s=10)
    assert set(await rig.found()) == {waiting[1], waiting[2], erased}
    assert [entity["RowKey"] for entity in table.query_entities("PartitionKey eq @id", parameters={"id": whole})] == [
        _row(1),
        _row(2),
    ]


async def test_a_line_that_moves_to_the_table_while_both_are_read_is_not_missed(
    rig: Rig, stores: Stores, lines: TablesAuditLines, trails: PostgresVerifiedTrails
) -> None:
    class Moves(TablesAuditLines):
        """Everything moves just before the table is read."""

        async def read_all(self, after: str, up_to: str | None) -> AsyncGenerator[FiledLine]:
            await stores.sql(b"UPDATE audit_outbox SET due_at = now()")
            assert await rig.process.forwarder.drain(within_s=10) == 3
            async for filed in lines.read_all(after, up_to):
                yield filed

    await AuditProcess(stores, lines, dies=True).written(3)
    moving = Moves(connection_string=None, endpoint=None)
    rig.verification = AuditVerification(trails, moving, nothing, keys=[AUDIT_KEY], clock=rig.clock)

    assert await rig.found() == {}


async def test_findings_are_for_admins_and_come_in_pages(rig: Rig, table: TableClient) -> None:
    for _ in range(3):
        table.delete_entity(await rig.written(1), _row(1))
    await rig.verify()

    seen: list[AuditFinding] = []
    page: Page | None = Page(limit=2)
    while page is not None:
        findings = await rig.verification.findings(ADMIN, page)
        seen += findings.items
        last = seen[-1]
        page = Page(2, (last.found_at, last.session_id)) if findings.next_cursor else None

    assert len({finding.session_id for finding in seen}) == 3
    with pytest.raises(NotFound):
        await rig.verification.findings(Principal(OWNER, frozenset({Role.USER, Role.APPROVER})), Page())
