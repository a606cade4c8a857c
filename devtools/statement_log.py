"""What a PostgreSQL server ran, read from its log: the named queries, each with its transaction and its time.

For `python -m devtools.measure_turn --statements`: which transactions one turn is made of, and which part of the app
asked for each.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from devtools.setup.places import ROOT
from shared.adapters.postgres.queries import load_queries

_QUERIES = Path(ROOT) / "shared" / "adapters" / "postgres"
_PARAMETER = re.compile(r"%\(\w+\)s|\$\d+")
_ENTRY = re.compile(r"^@(\d+)@(\S*)@ LOG: +duration: ([\d.]+) ms +(parse|bind|execute|statement)[^:]*: ", re.MULTILINE)
_LINES = {"log_min_duration_statement": "0", "log_line_prefix": "'@%p@%v@ '", "log_parameter_max_length": "0"}
_FIRST_WORDS = 60
_OF_CONNECTION = "SET statement_timeout"
OF_PROCESS = {
    "cancel_requested",
    "still_readable",
    "note_hub",
    "idle_sessions_with_queue",
    "turns_to_look_at",
    "unsettled_holds",
    "undelivered_approvals",
    "stopped_children",
    "overdue_background",
    "results_to_tell",
    "workflows_to_look_at",
    "claim_unsettled_notices",
    "expired_sessions",
    "ended_subscriptions",
    "forget_subscriptions",
    "claim_cut_erasures",
    "claim_untitled",
    "forget_finished_erasures",
    "claim_loose_blobs",
    "forget_idempotency_keys",
    "claim_old",
    "lease_audit_lines",
    "count_expiring_approvals",
    "audit_outbox_is_late",
    "begin_audit_verification",
    "audited_ids_after",
    "audit_anchors",
    "erasure_anchors",
    "erased_since",
    "audit_lines_waiting_between",
    "note_audit_findings",
    "drop_audit_findings",
    "move_audit_verification",
    "audit_verification_completed",
    "hubs",
    "undelivered_waits",
    "claim_deliveries",
    "claim_cards",
    "forget_deliveries",
    "lock_due_schedules",
    "move_schedule",
    "insert_runs",
    "forget_old_runs",
    "claim_runs",
    "BEGIN",
    "SELECT 1",
}
"""Queries of timers, of health checks, and of watches over all turns or streams of a process."""


@dataclass(slots=True)
class Transaction:
    """Statements in order, and the server's time for all of them."""

    queries: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    ms: float = 0.0

    @property
    def is_of_process(self) -> bool:
        """Whether no turn asked for it: a process would ask the same with one turn and with a hundred."""
        return all(query in OF_PROCESS or query.startswith(_OF_CONNECTION) for query in self.queries)


def log_statements(superuser_url: str) -> None:
    """Let the server write each statement into its log, also on connections that are open."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        for name, value in _LINES.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")


def transactions(log: str) -> list[Transaction]:
    """Of a log that `log_statements` asked for, in the order in which they began."""
    names = _names()
    found: dict[tuple[str, str], Transaction] = {}
    newest: dict[str, Transaction] = {}
    for process, virtual_id, ms, phase, text in _entries(log):
        said = names.get(_bare(text), " ".join(text.split())[:_FIRST_WORDS])
        if said == "COMMIT":
            # It is logged when its transaction is over, without a number.
            if process in newest:
                newest[process].ms += ms
            continue
        transaction = newest[process] = found.setdefault((process, virtual_id), Transaction())
        transaction.ms += ms
        if phase in {"execute", "statement"}:
            transaction.queries.append(said)
        elif phase == "parse":
            transaction.prepared.append(said)
    return list(found.values())


def table(found: Iterable[Transaction], turns: int) -> str:
    """Transactions of equal statements together: how many a turn has of them, and the milliseconds of one."""
    counts: Counter[str] = Counter()
    total_ms: defaultdict[str, float] = defaultdict(float)
    for transaction in found:
        said = " + ".join(transaction.queries) or f"(prepared {' + '.join(transaction.prepared)})"
        counts[said] += 1
        total_ms[said] += transaction.ms
    lines = [f"{n / turns:6.2f} a turn  {total_ms[said] / n:7.2f} ms  {said}" for said, n in counts.most_common()]
    return "\n".join([*lines, f"{counts.total() / turns:6.2f} a turn in all"])


def _entries(log: str) -> Iterator[tuple[str, str, float, str, str]]:
    """(process, virtual transaction, milliseconds, phase, text)."""
    found = list(_ENTRY.finditer(log))
    for entry, following in zip(found, [*(match.start() for match in found[1:]), len(log)], strict=True):
        # A line of the log that is no statement ends a text, too.
        text = re.split(r"\n(?!\t)", log[entry.end() : following], maxsplit=1)[0]
        yield entry[1], entry[2], float(entry[3]), entry[4], text


def _names() -> dict[str, str]:
    return {_bare(text): name for name, text in texts()}


def texts() -> Iterator[tuple[str, str]]:
    """(name, text) of all named queries of the app, as psycopg reads them."""
    for path in _QUERIES.rglob("*.sql"):
        queries = load_queries(path.relative_to(_QUERIES).with_suffix("").as_posix())
        yield from ((name, text.decode().replace("%%", "%")) for name, text in queries.items())


def _bare(text: str) -> str:
    """A statement without its parameters and white space, as the app has it and as the server logs it."""
    return "".join(_PARAMETER.sub("?", text).split())
