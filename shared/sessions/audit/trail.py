"""The audit trail: which approvals were requested, who was notified, who viewed, voted and decided, and what then ran.

Invariant: a line is numbered, sealed and stored in PostgreSQL in the transaction of what it tells, so neither is there
without the other. It waits in the outbox until the trail's store has it (`forwarding.py`); a report reads both. So a
line that is in neither was removed, or was lost by a version of the code that had no outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol

import orjson
from pydantic import Field

from shared.errors import ErrorCode, Transient, no_such_session
from shared.principal import Principal, Role
from shared.rights import Action
from shared.sessions.audit.chain import Anchor, ChainCheck, Reading, SealedLine
from shared.sessions.events import EventLogUnavailable
from shared.sessions.models import JsonObject, Value
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.pages import PAGE_BYTES, CutRows, Page
from shared.sessions.records.sessions import SessionRecord

READ_TIMEOUT_S = 30.0

type FiledLine = tuple[str, SealedLine]
"""(session id, line)."""


class AuditTrail(Protocol):
    """Records what has no transaction of its own. What has one takes its notes along (`repository.py`)."""

    async def record(self, session_id: str, note: AuditNote) -> None:
        """Append a line; nothing when the session is gone. Raises Transient(DATABASE_ERROR)."""
        ...


class AuditUnavailable(Exception):
    """The line store cannot be reached."""


class AuditAnchors(Protocol):
    """What the database knows of a trail."""

    async def anchor(self, session_id: str) -> Anchor | None:
        """None when there is no such session."""
        ...

    async def waiting(self, session_id: str) -> list[SealedLine]:
        """The lines in the outbox, in row key order."""
        ...


class AuditLines(Protocol):
    """The store of the lines. Every method raises AuditUnavailable."""

    async def append(self, session_id: str, lines: Sequence[SealedLine]) -> list[SealedLine]:
        """Insert; never replaces. It is no error that a line is there already.

        Returns the lines whose place another row has. `read` does not return an erasure line.
        """
        ...

    async def remove(self, session_id: str, lines: Sequence[SealedLine]) -> None:
        """Delete exactly these lines."""
        ...

    def read(self, session_id: str) -> AsyncGenerator[SealedLine]:
        """Lines in row key order, without the erasure lines of erased sessions with the same id."""
        ...

    async def erase(self, session_id: str) -> None:
        """Delete the lines that `read` returns."""
        ...

    def read_all(self, after: str, up_to: str | None) -> AsyncGenerator[FiledLine]:
        """Every row, erasure lines too; those of one session in row key order.

        after, up_to: of the session ids, by their bytes. up_to: None: to the end.
        """
        ...


class AuditLine(Value):
    """One line of a session's audit trail."""

    number: int
    at: datetime | None = Field(description="null when it was altered and is unreadable")
    who: str = Field(description="A user id, or `system`")
    action: str
    details: JsonObject
    previous_hash: str
    hash: str


class AuditProblem(Value):
    line: int | None = Field(description="null for a row that is not a line of the trail")
    message: str


class AuditPage(Value):
    """Lines, oldest first, and the result of verifying the whole trail."""

    items: list[AuditLine]
    next_cursor: str | None
    verified: bool = Field(
        description="No line of the trail is altered, moved or added, and none is missing that was claimed ten seconds"
        " ago or earlier"
    )
    being_written: list[int] = Field(description="Numbers of lines claimed in the last ten seconds, not there yet")
    problems: list[AuditProblem]


class ChainedAudit:
    """The trail of a session, from both stores."""

    def __init__(
        self,
        anchors: AuditAnchors,
        lines: AuditLines,
        read: Callable[[str, str], Awaitable[SessionRecord]],
        *,
        keys: Sequence[bytes],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """read: a session for a user, raises NotFound. keys: all that may have sealed a line. clock: aware UTC."""
        self._anchors = anchors
        self._lines = lines
        self._read = read
        self._keys = keys
        self._clock = clock

    async def erase(self, session_id: str) -> None:
        """Delete the trail of an erased session, whose lines in the outbox went with its row.

        Raises EventLogUnavailable while the store is unavailable.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await self._lines.erase(session_id)
        except (AuditUnavailable, TimeoutError) as exc:
            raise EventLogUnavailable(f"the audit trail: {exc}") from exc

    async def report(self, session_id: str, principal: Principal, page: Page) -> AuditPage:
        """Lines after `page.after`, and the problems of the whole trail; for the owner and for admins.

        Raises NotFound, Transient(DATABASE_ERROR) while the trail cannot be read.
        """
        if Role.ADMIN not in principal.roles:
            (await self._read(session_id, principal.user_id)).require(Action.READ_AUDIT_TRAIL)
        after = 0 if page.after is None else page.after[0]
        began = self._clock()
        check = ChainCheck(self._keys, session_id)
        kept: list[SealedLine] = []
        kept_bytes = 0
        # First of all, since a line that moves meanwhile moves into the store that is read next.
        waiting = {session_id: await self._anchors.waiting(session_id)}
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), aclosing(self._stored(session_id)) as stored:
                async for _, line in merged(waiting, stored):
                    check.look_at(line)
                    if line.number <= after or len(kept) > page.limit or isinstance(kept, CutRows):
                        continue
                    if kept_bytes >= PAGE_BYTES:
                        kept = CutRows(kept)
                        continue
                    kept.append(line)
                    kept_bytes += len(line.details.encode())
        except (AuditUnavailable, TimeoutError) as exc:
            raise Transient(ErrorCode.DATABASE_ERROR, "The audit trail cannot be read at the moment.") from exc
        anchor = await self._anchors.anchor(session_id)
        if anchor is None:
            raise no_such_session()
        problems = check.end(anchor, Reading(began, self._clock()))
        kept, cursor = page.cut(kept, lambda line: (line.number, session_id))
        return AuditPage(
            items=[_public(line) for line in kept],
            next_cursor=cursor,
            verified=not problems,
            being_written=check.being_written,
            problems=[AuditProblem(line=problem.line, message=problem.message) for problem in problems],
        )

    async def _stored(self, session_id: str) -> AsyncGenerator[FiledLine]:
        async with aclosing(self._lines.read(session_id)) as lines:
            async for line in lines:
                yield session_id, line


async def merged(
    waiting: Mapping[str, Iterable[SealedLine]], stored: AsyncGenerator[FiledLine]
) -> AsyncGenerator[FiledLine]:
    """The lines of the outbox and of the store: of each session in row key order, and once what is in both.

    Two different lines in one place come both, the stored one first.
    """
    ahead = {session_id: list(reversed(list(lines))) for session_id, lines in waiting.items()}
    async for session_id, line in stored:
        own = ahead.get(session_id, [])
        while own and own[-1].row_key < line.row_key:
            yield session_id, own.pop()
        if own and own[-1] == line:
            own.pop()
        yield session_id, line
    for session_id, own in ahead.items():
        for line in reversed(own):
            yield session_id, line


def _public(line: SealedLine) -> AuditLine:
    """The line as far as it can be read; altered lines are shown too."""
    try:
        at = datetime.fromisoformat(line.at)
    except ValueError:
        at = None
    try:
        details = orjson.loads(line.details)
    except orjson.JSONDecodeError:
        details = None
    return AuditLine(
        number=line.number,
        at=at if at is not None and at.tzinfo is not None else None,
        who=line.who,
        action=line.action,
        details=details if isinstance(details, dict) else {"unreadable": line.details},
        previous_hash=line.previous,
        hash=line.hash,
    )
