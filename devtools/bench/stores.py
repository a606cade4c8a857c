"""`python -m devtools.bench.stores`: what the store's calls of one turn cost in processor time, here and in PostgreSQL.

One connection, one call at a time, and no clock: the time of PostgreSQL is what the kernel says its backend ran
(`/proc/PID/schedstat`, so on Linux only), and that of this process what its thread ran. So a busy machine shows nearly
the same figures as an idle one, which no benchmark of throughput does.

    python -m devtools.bench.stores                    # medians over 300 turns, each in a young session
    python -m devtools.bench.stores --history 99       # in sessions that had 99 turns before
    python -m devtools.bench.stores --analyzed         # by plans for tables that are known to be large
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean, median

from devhost.servers.postgres import Postgres
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.sessions import PostgresSessions
from shared.adapters.postgres.turns.steps import PostgresSteps
from shared.adapters.postgres.turns.turns import PostgresTurns
from shared.adapters.sql.migrate import migrate
from shared.ids import new_id
from shared.sessions.limits.budgets import usage_day
from shared.sessions.models import (
    ApprovalMode,
    Concurrency,
    FinishReason,
    Message,
    MessageRole,
    MessageStatus,
    Session,
    SessionConfig,
    SessionStatus,
    Usage,
)
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import StepResult, StepStart
from shared.sessions.records.turns import queued_turn

_USERS = 20
_USERS_WITH_HISTORY = 3
_WARM = 25
_ANSWER = (
    "the quiet river turns below naïve hills while 東京 sleeps and a small lamp writes 'one more line', then Žofie " * 3
)
_PLAN = TurnPlan(
    agent_id="assistant",
    agent_version=1,
    instructions="You are a helpful assistant. Be brief and exact. Use the tools you are offered when they help.",
    model="offline-demo",
    temperature=None,
    max_output_tokens=None,
    max_steps=8,
    tools=["calculate", "current_time", "fetch_url", "http_request", "read_attachment", "search_history"],
    approval_mode=ApprovalMode.POLICY,
    approval_timeout_seconds=86_400,
    tool_timeout_seconds=60,
    max_context_tokens=100_000,
    roles=["user"],
)


@dataclass(slots=True)
class Costs:
    """Milliseconds by call: of the backend, of this process."""

    backend: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    here: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def table(self) -> str:
        lines = [f"{'postgres ms':>12} {'mean':>6} {'python ms':>10}  call"]
        for name, backend in self.backend.items():
            own = median(self.here[name])
            lines.append(f"{median(backend):12.3f} {mean(backend):6.3f} {own:10.3f}  {name}")
        sums = [sum(median(values) for values in each.values()) for each in (self.backend, self.here)]
        lines.append(f"{sums[0]:12.3f} {sum(map(mean, self.backend.values())):6.3f} {sums[1]:10.3f}  a turn")
        return "\n".join(lines)


class Turns:
    """Turns as a plain message makes them, through the stores."""

    def __init__(self, pool: PostgresPool, pid: int) -> None:
        self._sessions, self._turns, self._steps = PostgresSessions(pool), PostgresTurns(pool), PostgresSteps(pool)
        self._runtime = Path(f"/proc/{pid}/schedstat")
        self.costs = Costs()

    async def session(self, owner: str) -> str:
        now = datetime.now(UTC)
        session = Session(
            id=new_id(),
            name=None,
            status=SessionStatus.CREATED,
            agent_id=None,
            config=SessionConfig(),
            tags=[],
            metadata={},
            created_at=now,
            updated_at=now,
        )
        await self._sessions.create(session, owner, idempotency=None)
        return session.id

    async def turn(self, session_id: str, owner: str) -> None:
        now = datetime.now(UTC)
        await self._measured(
            "session_for_posting", lambda: self._sessions.get_for_posting(session_id, owner, day=usage_day(now))
        )
        message_id, turn_id = new_id(), new_id()
        message = Message(
            id=message_id,
            session_id=session_id,
            turn_id=turn_id,
            role=MessageRole.USER,
            content="How do boats find their way home?",
            author=owner,
            status=MessageStatus.COMPLETED,
            created_at=now,
        )
        turn = queued_turn(turn_id, session_id, message_id, now=now, plan=_PLAN)
        await self._measured(
            "post_message",
            lambda: self._turns.post_message(
                message, turn, _PLAN, user_id=owner, tokens=12, concurrency=Concurrency.ENQUEUE, idempotency=None
            ),
        )
        await self._measured("readable_turn", lambda: self._turns.readable_turn(session_id, turn_id, owner))
        start = await self._measured(
            "begin_step",
            lambda: self._steps.begin_step(
                turn_id, 1, message_id=new_id(), now=now, quiet_until=now + timedelta(minutes=8)
            ),
        )
        assert isinstance(start, StepStart)
        result = StepResult(
            message_id=start.message_id,
            attempt=start.attempt,
            content=_ANSWER,
            status=MessageStatus.COMPLETED,
            calls=[],
            usage=Usage(input_tokens=1_068, output_tokens=64),
            tokens=127,
            ended_at=datetime.now(UTC),
            finish_reason=FinishReason.STOP,
        )
        saved = await self._measured("save_last_step", lambda: self._steps.save_last_step(turn_id, result))
        assert saved.finished is not None

    async def _measured[Value](self, name: str, call: Callable[[], Awaitable[Value]]) -> Value:
        ran, here = self._ran_ns(), time.thread_time_ns()
        value = await call()
        self.costs.here[name].append((time.thread_time_ns() - here) / 1e6)
        self.costs.backend[name].append((self._ran_ns() - ran) / 1e6)
        return value

    def _ran_ns(self) -> int:
        return int(self._runtime.read_text().split(maxsplit=1)[0])


def main(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-stores-") as folder:
        # When we are root, PostgreSQL runs under another account, which must be able to reach the folder.
        Path(folder).chmod(0o711)
        return asyncio.run(_run(Path(folder), options))


async def _run(folder: Path, options: argparse.Namespace) -> int:
    async with Postgres(folder / "postgres") as postgres:
        await asyncio.to_thread(migrate, postgres.url)
        pool = PostgresPool(postgres.url, size=1)
        try:
            print((await _measure(pool, options)).table())
        finally:
            await pool.aclose()
    return 0


async def _measure(pool: PostgresPool, options: argparse.Namespace) -> Costs:
    row = await pool.fetch_one(b"SELECT pg_backend_pid() AS pid", {})
    assert row is not None
    turns = Turns(pool, row["pid"])
    users = _USERS_WITH_HISTORY if options.history else _USERS
    sessions = [(await turns.session(f"user-{number}"), f"user-{number}") for number in range(users)]
    for number in range(_WARM):
        await turns.turn(*sessions[number % users])
    for _ in range(options.history):
        for session in sessions:
            await turns.turn(*session)
    if options.analyzed:
        for session in [(await turns.session(f"user-{number % 99}"), f"user-{number % 99}") for number in range(2_000)]:
            await turns.turn(*session)
        await pool.execute(b"ANALYZE", {})
        for number in range(_WARM):
            await turns.turn(*sessions[number % users])
    turns.costs = Costs()
    for number in range(options.turns):
        place = number % users
        if not options.history and number % 100 < users:  # young again
            owner = f"user-{place}"
            sessions[place] = (await turns.session(owner), owner)
        await turns.turn(*sessions[place])
    return turns.costs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.bench.stores", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--history", type=int, default=0, help="turns that each session had before")
    parser.add_argument("--analyzed", action="store_true", help="with thousands of sessions and statistics of them")
    return parser


if __name__ == "__main__":
    sys.exit(main(_parser().parse_args()))
