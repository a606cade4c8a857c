"""The audit outbox on a real PostgreSQL and Azurite: kills between the two, a table service that hangs, forwarders at
once, and hands in either store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
import pytest
from azure.data.tables import TableClient, TableServiceClient, UpdateMode

from devtools.chaos.proxy import Fault, FaultyProxy
from shared.adapters.azure.audit_tables import TABLE, TablesAuditLines
from shared.adapters.postgres.audit import PostgresAuditOutbox, PostgresAuditTrail
from shared.adapters.postgres.metrics import PostgresGauges
from shared.adapters.postgres.turns.approvals import PostgresApprovals
from shared.adapters.postgres.turns.tool_calls import PostgresToolCalls
from shared.errors import ErrorCode, Transient
from shared.ids import new_id
from shared.sessions.audit import forwarding
from shared.sessions.audit.chain import BEING_WRITTEN, SealedLine
from shared.sessions.audit.forwarding import LATE_S, AuditForwarder, AuditOutboxLate
from shared.sessions.audit.sealing import Sealer
from shared.sessions.audit.trail import AuditPage, FiledLine
from shared.sessions.models import ToolCallStatus
from shared.sessions.records.approval_policy import DEFAULT_POLICY, NoticeKind
from shared.sessions.records.approvals import NewApproval
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.tool_calls import CallStart, ToolCallResult
from tests.integration.approvals.auditing import (
    ACCOUNT_KEY,
    AuditProcess,
    in_outbox,
    is_due,
    silent_port,
    storage_at,
)
from tests.integration.domain import AUDIT_KEY, OWNER, Stores, call, utc_now, vote_on

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

NOTE = AuditNote("act", {"a": 1})


@pytest.fixture
async def lines(storage_url: str) -> AsyncIterator[TablesAuditLines]:
    lines = TablesAuditLines(connection_string=storage_url, endpoint=None)
    yield lines
    await lines.aclose()


@pytest.fixture
async def process(stores: Stores, lines: TablesAuditLines) -> AsyncIterator[AuditProcess]:
    """One that lives. What other tests left in the outbox is nobody's business here."""
    await stores.sql(b"DELETE FROM audit_outbox")
    yield AuditProcess(stores, lines)
    await stores.sql(b"DELETE FROM audit_outbox")


@pytest.fixture
def table(storage_url: str) -> Iterator[TableClient]:
    """The hand of somebody who may write the table."""
    with TableServiceClient.from_connection_string(storage_url) as service:
        yield service.get_table_client(TABLE)


def _rows(table: TableClient, session_id: str) -> list[str]:
    found = table.query_entities("PartitionKey eq @id", parameters={"id": session_id})
    return [entity["RowKey"] for entity in found]


def _keys(*numbers: int) -> list[str]:
    return [f"{number:010d}" for number in numbers]


async def _later(process: AuditProcess, session_id: str) -> AuditPage:
    """The report of a process that looks when nothing can be on its way any more."""
    return await AuditProcess(process._stores, process.lines, ahead=BEING_WRITTEN).report(session_id)


# Kills. --------------------------------------------------------------------------------------------


async def test_what_a_process_commits_before_it_dies_is_shown_verified_and_written_by_the_sweep(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    session_id = await process.written(2)
    killed = AuditProcess(stores, process.lines, dies=True)
    for n in range(3):
        await killed.record(session_id, f"killed.{n}")
    await process.record(session_id, "after")

    report = await _later(process, session_id)
    assert (report.verified, report.problems, report.being_written) == (True, [], [])
    assert [line.number for line in report.items] == [1, 2, 3, 4, 5, 6]
    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == (_keys(1, 2, 6), _keys(3, 4, 5))

    assert await process.forwarder.drain(within_s=5) == 0, "for a while they are the writer's"
    await is_due(stores)
    assert await process.forwarder.drain(within_s=5) == 3
    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == (_keys(1, 2, 3, 4, 5, 6), [])
    assert await _later(process, session_id) == report


class Unconfirmed(PostgresAuditOutbox):
    """Its process dies between the table's answer and the database."""

    async def confirm(self, written: Sequence[FiledLine]) -> list[FiledLine]:
        raise Transient(ErrorCode.DATABASE_ERROR, "killed")


async def test_what_was_written_and_not_confirmed_is_there_once_and_written_again_to_no_effect(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    process.forwarder._outbox = Unconfirmed(stores.pool)
    session_id = await process.written(3)
    await process.trail.record(session_id, NOTE)
    await process.forwarder.idle()
    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == (_keys(1, 2, 3, 4), _keys(1, 2, 3, 4))
    report = await _later(process, session_id)
    assert (report.verified, [line.number for line in report.items]) == (True, [1, 2, 3, 4])

    await is_due(stores)
    other = AuditProcess(stores, process.lines)
    assert await other.forwarder.drain(within_s=5) == 4
    assert await in_outbox(stores, session_id) == []
    assert await _later(process, session_id) == report


class Killed(BaseException):
    """The end of a process, where it hurts."""


class DeadSealer(Sealer):
    """Its process dies between the act and its line."""

    def after(self, *_of: object) -> Any:
        raise Killed

    def erasure(self, *_of: object, **_more: object) -> Any:
        raise Killed


class Acts:
    """Every act that leaves a line, over an approved call; each ready to be done once."""

    def __init__(self, stores: Stores, sealer: Sealer, forward: Callable[[Sequence[FiledLine]], None]) -> None:
        self.stores = stores
        self.trail = PostgresAuditTrail(stores.pool, sealer, forward)
        self.approvals = PostgresApprovals(stores.pool, self.trail)
        self.tool_calls = PostgresToolCalls(stores.pool, self.trail)
        self.proposal = call("http_request", {"method": "POST", "url": "http://x"}, needs_approval=True)

    async def ready(self, act: str) -> str:
        """The session, with everything that comes before the act."""
        posted = await self.stores.proposed(self.proposal)
        if act != "request":
            self.approval = await self.stores.request_approval(self.proposal)
        if act in {"begin", "save"}:
            assert await self.stores.decide(self.approval, vote_on(self.approval))
        return posted.turn.session_id

    async def do(self, act: str) -> object:
        now, tool_call_id = utc_now(), self.proposal.id
        match act:
            case "request":
                new = NewApproval(new_id(), tool_call_id, "digest", "instance", DEFAULT_POLICY, now, now)
                return await self.approvals.request(new, lambda _: [NOTE])
            case "vote":
                return await self.approvals.vote(self.approval.id, vote_on(self.approval), lambda *_: [NOTE], now=now)
            case "time out":
                return await self.tool_calls.time_out_approval(tool_call_id, lambda _: [NOTE], now=now)
            case "begin":
                return await self.tool_calls.begin_tool_call(tool_call_id, "one start", NOTE, now=now)
            case "save":
                completed = ToolCallStatus.COMPLETED
                result = ToolCallResult(tool_call_id, completed, {}, None, new_id(), "{}", 1, now)
                return await self.tool_calls.save_tool_result(result, NOTE)
        raise AssertionError(act)

    async def state(self, session_id: str) -> list[Any]:
        """What an act would change."""
        calls = await self.stores.rows(
            b"SELECT status, begun_at, ended_at FROM tool_calls WHERE session_id = %(id)s", id=session_id
        )
        approvals = await self.stores.rows(
            b"SELECT status, votes_of_approval(id) FROM approvals WHERE session_id = %(id)s", id=session_id
        )
        ends = await self.stores.rows(
            b"SELECT audit_lines, last_message_number FROM sessions WHERE id = %(id)s", id=session_id
        )
        return [calls, approvals, ends, await in_outbox(self.stores, session_id)]


@pytest.mark.parametrize("act", ["request", "vote", "time out", "begin", "save"])
async def test_an_act_is_there_with_its_line_or_not_at_all_and_twice_is_once(stores: Stores, act: str) -> None:
    forwarded: list[FiledLine] = []
    acts = Acts(stores, DeadSealer([AUDIT_KEY]), forwarded.extend)
    session_id = await acts.ready(act)
    before = await acts.state(session_id)

    with pytest.raises(Killed):
        await acts.do(act)

    assert (await acts.state(session_id), forwarded) == (before, [])
    acts.trail._sealer = Sealer([AUDIT_KEY])
    await acts.do(act)
    done = await acts.state(session_id)
    assert done[:2] != before[:2] or done[2] != before[2]
    assert (done[3], [line.row_key for _, line in forwarded]) == (_keys(1), _keys(1))
    await acts.do(act)
    assert await acts.state(session_id) == done, "the same message again"
    assert len(forwarded) == 1


async def test_a_start_of_somebody_else_leaves_no_second_line(stores: Stores) -> None:
    acts = Acts(stores, Sealer([AUDIT_KEY]), lambda _: None)
    session_id = await acts.ready("begin")
    await acts.do("begin")

    other = await acts.tool_calls.begin_tool_call(acts.proposal.id, "another start", NOTE, now=utc_now())

    assert (other, await in_outbox(stores, session_id)) == (CallStart.BEFORE, _keys(1))


async def test_each_delivery_of_a_notice_is_told(stores: Stores) -> None:
    acts = Acts(stores, Sealer([AUDIT_KEY]), lambda _: None)
    session_id = await acts.ready("vote")

    for _ in range(2):  # two reminders are two deliveries
        await acts.approvals.settle_notice(acts.approval.id, NoticeKind.REMINDER, NOTE)

    assert await in_outbox(stores, session_id) == _keys(1, 2)


async def test_acts_at_once_leave_one_chain(stores: Stores, process: AuditProcess) -> None:
    """Decisions, starts and looks of several processes, in one session."""
    session_id = (await stores.session()).id
    others = [AuditProcess(stores, process.lines, dies=dies) for dies in (False, True, False)]

    await asyncio.gather(*(others[n % 3].record(session_id, f"action.{n}") for n in range(24)))

    report = await _later(process, session_id)
    assert (report.verified, [line.number for line in report.items]) == (True, list(range(1, 25)))
    assert sorted(line.action for line in report.items) == sorted(f"action.{n}" for n in range(24))


# Tables that hang or refuse. -----------------------------------------------------------------------


@pytest.fixture
async def proxy(storage_url: str) -> AsyncIterator[FaultyProxy]:
    """In front of the table service."""
    endpoint = dict(part.split("=", 1) for part in storage_url.strip(";").split(";"))["TableEndpoint"]
    target = urlsplit(endpoint)
    async with FaultyProxy(target.hostname or "", target.port or 80) as proxy:
        yield proxy
        await proxy.become(Fault.NONE)


@pytest.fixture
async def behind(stores: Stores, process: AuditProcess, storage_url: str, proxy: FaultyProxy) -> Any:
    """A process whose table service is reached through the proxy."""
    parts = dict(part.split("=", 1) for part in storage_url.strip(";").split(";"))
    target = urlsplit(parts["TableEndpoint"])
    parts["TableEndpoint"] = target._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    lines = TablesAuditLines(connection_string=";".join(f"{k}={v}" for k, v in parts.items()), endpoint=None)
    yield AuditProcess(stores, lines)
    await lines.aclose()


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE, Fault.RESET, Fault.HALF_OPEN])
async def test_a_table_service_that_is_away_costs_an_act_nothing_and_the_trail_no_line(
    stores: Stores, process: AuditProcess, behind: AuditProcess, proxy: FaultyProxy, fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(forwarding, "TIMEOUT_S", 0.5)
    session_id = await behind.written(2)
    await proxy.become(fault)

    for _ in range(3):
        await behind.trail.record(session_id, NOTE)
        assert behind.forwarder._task is not None, "it goes on beside; nobody has waited for it"

    report = await process.report(session_id)
    assert (report.verified, [line.number for line in report.items]) == (True, [1, 2, 3, 4, 5])
    await behind.forwarder.idle()
    if fault is not Fault.HALF_OPEN:
        assert await in_outbox(stores, session_id) == _keys(3, 4, 5)
        await is_due(stores)
        assert await behind.forwarder.drain(within_s=5) == 0
    await proxy.become(Fault.NONE)
    await is_due(stores)
    await behind.forwarder.drain(within_s=5)
    assert await in_outbox(stores, session_id) == []
    assert (await _later(process, session_id)).verified


@pytest.mark.parametrize("storage", ["refuses", "silent", "unset", "malformed"])
async def test_a_line_that_stays_is_told_to_the_log_without_what_people_wrote(
    stores: Stores, storage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So another place than the database knows of it."""
    monkeypatch.setattr(forwarding, "TIMEOUT_S", 0.5)
    with silent_port() as port:
        urls = {"unset": None, "malformed": "nonsense", "silent": storage_at(port)}
        lines = TablesAuditLines(connection_string=urls.get(storage, storage_at(1)), endpoint=None)
        session_id = (await stores.session()).id
        details = {
            "tool_call_id": "call-1",
            "comment": "what Ann said",
            "arguments": {"body": "a private letter"},
            "note_id": "text in the place of an id",
        }

        with caplog.at_level(logging.WARNING):
            await AuditProcess(stores, lines).record(session_id, "approval.decided", details)
        await lines.aclose()

    told = [record.getMessage() for record in caplog.records if "stays in the outbox" in record.getMessage()]
    [line] = told
    assert f"approval.decided of session {session_id}, line {1:010d}, tool_call_id=call-1," in line
    assert hashlib.sha256(orjson.dumps(details)).hexdigest() in line
    for kept_out in ("what Ann said", "private letter", "text in the place", ACCOUNT_KEY):
        assert kept_out not in caplog.text
    assert await in_outbox(stores, session_id) == _keys(1)


async def test_a_store_that_is_away_is_asked_a_few_times_for_all_lines_and_what_is_too_old_is_left(
    stores: Stores, process: AuditProcess
) -> None:
    class Away(TablesAuditLines):
        asked = 0

        async def append(self, session_id: str, lines: Sequence[SealedLine]) -> list[SealedLine]:
            self.asked += 1
            await asyncio.sleep(0)
            return await super().append(session_id, lines)

    away = Away(connection_string=None, endpoint=None)
    killed = AuditProcess(stores, away, dies=True)
    for _ in range(60):
        await killed.written(1)
    await is_due(stores)

    assert await AuditProcess(stores, away).forwarder.drain(within_s=5) == 0

    assert away.asked < forwarding._FAILURES + forwarding._SESSIONS_AT_ONCE
    clock = iter([0.0, *[100.0] * 10])
    late = AuditForwarder(process.outbox, away, keys=[AUDIT_KEY], clock=lambda: next(clock))
    asked = away.asked
    late.committed([("s", SealedLine(_keys(1)[0], "", "", "a", "{}", "", ""))])
    await late.idle()
    assert away.asked == asked, "its lease may be over"


async def test_lines_that_the_service_does_not_take_hold_up_no_others(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    killed = AuditProcess(stores, process.lines, dies=True)
    poisoned, *others = [await killed.written(1) for _ in range(5)]
    await killed.record(poisoned, "x" * 40_000)  # more than a property holds
    await is_due(stores)

    assert await process.forwarder.drain(within_s=10) == 4

    assert [_rows(table, session_id) for session_id in others] == [_keys(1)] * 4
    assert "0000000002" in await in_outbox(stores, poisoned)


async def test_an_old_outbox_is_told_and_measured(stores: Stores, process: AuditProcess) -> None:
    gauges = PostgresGauges(stores.pool)
    killed = AuditProcess(stores, process.lines, dies=True)
    await process.forwarder.check_age()
    assert (await gauges.read()).audit_outbox_lines == 0
    session_id = await killed.written(2)
    await process.forwarder.check_age()

    await stores.sql(b"UPDATE audit_outbox SET queued_at = now() - make_interval(secs => %(s)s)", s=LATE_S + 1)

    with pytest.raises(AuditOutboxLate):
        await process.forwarder.check_age()
    read = await gauges.read()
    assert read.audit_outbox_lines == 2
    assert LATE_S < read.audit_outbox_age_s < LATE_S + 240
    await stores.sql(b"UPDATE audit_outbox SET refused = true WHERE session_id = %(id)s", id=session_id)
    await process.forwarder.check_age()
    assert (await gauges.read()).audit_outbox_age_s == 0, "the verification tells of those"


# Forwarders at once, and many lines. ---------------------------------------------------------------


async def test_forwarders_at_once_write_each_line_once(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    killed = AuditProcess(stores, process.lines, dies=True)
    sessions = [await killed.written(5) for _ in range(8)]
    await is_due(stores)
    others = [AuditProcess(stores, process.lines) for _ in range(4)]

    written = await asyncio.gather(*(other.forwarder.drain(within_s=10) for other in others))

    assert sum(written) == 40
    for session_id in sessions:
        assert _rows(table, session_id) == _keys(1, 2, 3, 4, 5)
        assert (await _later(process, session_id)).verified


async def test_the_writer_and_the_sweep_at_once_harm_nothing(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    """The writer was slow, and its lease is over."""
    session_id = (await stores.session()).id
    killed = AuditProcess(stores, process.lines, dies=True)
    memory: list[FiledLine] = []
    killed.trail._forward = memory.extend
    for n in range(6):
        await killed.trail.record(session_id, AuditNote(f"action.{n}", {}))
    await is_due(stores)

    process.forwarder.committed(memory)
    await asyncio.gather(process.forwarder.idle(), AuditProcess(stores, process.lines).forwarder.drain(within_s=10))

    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == (_keys(1, 2, 3, 4, 5, 6), [])
    assert (await _later(process, session_id)).verified


async def test_a_long_backlog_goes_in_transactions_of_what_the_service_takes(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    session_id = (await stores.session()).id
    killed = AuditProcess(stores, process.lines, dies=True)
    for n in range(205):
        await killed.record(session_id, f"action.{n}")
    for text in ("\U0001f642" * 40_000, '"' * 40_000, "\x00" * 40_000):
        for _ in range(12):
            await killed.record(session_id, "big", {"text": text})
    await is_due(stores)

    # One that is there already makes its whole transaction fail.
    [some] = [line for line in await process.anchors.waiting(session_id) if line.number == 50]
    await process.lines.append(session_id, [some])
    assert await process.forwarder.drain(within_s=60) == 241

    assert _rows(table, session_id) == _keys(*range(1, 242))
    report = await _later(process, session_id)
    assert report.verified
    kept = len(table.get_entity(session_id, f"{206:010d}")["details"].encode("utf-16-le"))
    assert 10_000 < kept <= 64 * 1024


# Hands in the database. ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tampering", "blamed"),
    [
        (b"DELETE FROM audit_outbox WHERE session_id = %(id)s AND row_key = %(key)s", {4}),
        (b"UPDATE audit_outbox SET who = 'eve' WHERE session_id = %(id)s AND row_key = %(key)s", {4}),
        (b"UPDATE audit_outbox SET row_key = '0000000009' WHERE session_id = %(id)s AND row_key = %(key)s", {4, 9}),
        (
            b"INSERT INTO audit_outbox SELECT session_id, '0000000006', trail_of, at, who, action, details, previous,"
            b" hash, queued_at, due_at FROM audit_outbox WHERE session_id = %(id)s AND row_key = %(key)s",
            {6},
        ),
    ],
    ids=["remove", "alter", "move", "insert"],
)
async def test_whoever_tampers_with_the_outbox_is_found_out(
    stores: Stores, process: AuditProcess, table: TableClient, tampering: bytes, blamed: set[int]
) -> None:
    session_id = await process.written(3)
    killed = AuditProcess(stores, process.lines, dies=True)
    for _ in range(2):
        await killed.record(session_id, "act")
    await stores.sql(tampering, id=session_id, key=f"{4:010d}")

    report = await _later(process, session_id)
    assert not report.verified
    assert {problem.line for problem in report.problems} >= blamed

    await is_due(stores)
    await process.forwarder.drain(within_s=5)
    assert set(_rows(table, session_id)) <= set(_keys(1, 2, 3, 4, 5)), "what is not what was sealed is not written"
    assert not (await _later(process, session_id)).verified


async def test_who_takes_a_line_out_of_the_database_while_its_writer_lives_does_not_take_it_out_of_the_trail(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    """The end of the trail is set back, too: only the database is not enough to hide what happened."""
    session_id = await process.written(2)
    before = await stores.rows(b"SELECT audit_lines, audit_hash FROM sessions WHERE id = %(id)s", id=session_id)
    memory: list[FiledLine] = []
    process.trail._forward = memory.extend
    await process.trail.record(session_id, NOTE)
    await stores.sql(b"DELETE FROM audit_outbox WHERE session_id = %(id)s", id=session_id)
    await stores.sql(
        b"UPDATE sessions SET audit_lines = %(n)s, audit_hash = %(h)s WHERE id = %(id)s",
        id=session_id,
        n=before[0]["audit_lines"],
        h=before[0]["audit_hash"],
    )

    process.forwarder.committed(memory)
    await process.forwarder.idle()

    assert _rows(table, session_id) == _keys(1, 2, 3)
    assert [problem.line for problem in (await _later(process, session_id)).problems] == [3]


async def test_a_written_line_is_judged_as_before_by_who_has_one_store(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    session_id = await process.written(3)
    assert await in_outbox(stores, session_id) == []
    entity = dict(table.get_entity(session_id, f"{2:010d}"))

    table.update_entity(entity | {"who": "eve"}, mode=UpdateMode.MERGE)
    assert not (await _later(process, session_id)).verified
    table.update_entity(entity, mode=UpdateMode.MERGE)
    await stores.sql(b"UPDATE sessions SET audit_lines = 2 WHERE id = %(id)s", id=session_id)
    assert [problem.line for problem in (await _later(process, session_id)).problems] == [3]


# Erasure. ------------------------------------------------------------------------------------------


async def _erase_rows(stores: Stores, session_id: str) -> None:
    """As an erasure does it, with its record."""
    await stores.sql(
        b"INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at, instances)"
        b" VALUES (%(id)s, %(owner)s, now(), now(), '{}')",
        id=session_id,
        owner=OWNER,
    )
    await stores.sql(b"DELETE FROM sessions WHERE id = %(id)s", id=session_id)


async def test_lines_of_an_erased_session_leave_the_outbox_with_it(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    killed = AuditProcess(stores, process.lines, dies=True)
    session_id = await killed.written(3)

    await _erase_rows(stores, session_id)

    assert await in_outbox(stores, session_id) == []
    await process.forwarder.drain(within_s=5)
    assert _rows(table, session_id) == []


class ErasesMeanwhile(TablesAuditLines):
    """A session is erased, in every store, while its last lines are on their way."""

    stores: Stores

    async def append(self, session_id: str, lines: Sequence[SealedLine]) -> list[SealedLine]:
        await _erase_rows(self.stores, session_id)
        await self.erase(session_id)
        return await super().append(session_id, lines)


async def test_a_line_that_was_on_its_way_while_its_session_was_erased_does_not_stay(
    stores: Stores, storage_url: str, table: TableClient
) -> None:
    lines = ErasesMeanwhile(connection_string=storage_url, endpoint=None)
    lines.stores = stores
    process = AuditProcess(stores, lines)
    session_id = (await stores.session()).id

    await process.record(session_id, "approval.viewed")
    await lines.aclose()

    assert _rows(table, session_id) == []


async def test_the_line_that_remains_is_stored_with_the_end_of_the_erasure(
    stores: Stores, process: AuditProcess, table: TableClient
) -> None:
    session_id = await process.written(1)
    await _erase_rows(stores, session_id)
    await process.audit.erase(session_id)
    killed = AuditProcess(stores, process.lines, dies=True)
    line = killed.sealer.erasure(session_id, {"messages": 2}, who=OWNER)

    assert await killed.erasures.finish(session_id, line, now=utc_now())
    assert not await killed.erasures.finish(session_id, line, now=utc_now())

    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == ([], [line.row_key])
    assert await stores.value(b"SELECT hash FROM audit_erasures WHERE session_id = %(id)s", id=session_id) == line.hash
    await is_due(stores)
    assert await process.forwarder.drain(within_s=5) == 1
    assert (_rows(table, session_id), await in_outbox(stores, session_id)) == ([line.row_key], [])


# Cost. ---------------------------------------------------------------------------------------------


async def test_what_acts_say_to_the_database_with_and_without_a_line(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bytes] = []
    execute = psycopg.AsyncConnection.execute

    async def counted(self: Any, query: Any, *positional: Any, **named: Any) -> Any:
        said.append(query)
        return await execute(self, query, *positional, **named)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)

    async def cost(doing: Awaitable[object]) -> int:
        said.clear()
        await doing
        return len(said)

    acts = Acts(stores, Sealer([AUDIT_KEY]), lambda _: None)
    proposal = call("calculate")
    await stores.proposed(proposal)
    plain = acts.tool_calls
    result = ToolCallResult(proposal.id, ToolCallStatus.COMPLETED, {}, None, new_id(), "{}", 1, utc_now())
    assert await cost(plain.begin_tool_call(proposal.id, "s", now=utc_now())) == 1
    assert await cost(plain.save_tool_result(result)) == 1

    # Before: the act's own statements, and one for each line, in a transaction of its own.
    assert (await acts.ready("request"), await cost(acts.do("request")))[1] == 4  # 2 + 1
    acts = Acts(stores, Sealer([AUDIT_KEY]), lambda _: None)
    assert (await acts.ready("vote"), await cost(acts.do("vote")))[1] == 6  # 3 + 2 lines, and one to read what became
    acts = Acts(stores, Sealer([AUDIT_KEY]), lambda _: None)
    assert (await acts.ready("begin"), await cost(acts.do("begin")))[1] == 3  # 1 + 1
    assert await cost(acts.do("save")) == 2  # 1 + 1
