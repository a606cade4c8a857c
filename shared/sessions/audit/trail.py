"""The audit trail: which approvals were requested, who was notified, who viewed, voted and decided, and what then ran.

Invariant: a line's number is claimed in the session's row before the line is written to the trail's store. A line that
is then lost leaves a gap, which every later report of the trail shows; nothing is lost silently. A turn never waits
long for an audit line and never fails because of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol

import orjson
from pydantic import Field

from shared.errors import AppError, ErrorCode, Transient, no_such_session
from shared.ids import is_valid_id, new_id
from shared.principal import Principal, Role
from shared.rights import Action
from shared.sessions.audit.chain import Anchor, ChainCheck, Reading, SealedLine, erased_row_key, seal
from shared.sessions.events import EventLogUnavailable
from shared.sessions.models import JsonObject, Value
from shared.sessions.records.pages import PAGE_BYTES, CutRows, Page
from shared.sessions.records.sessions import SessionRecord

log = logging.getLogger(__name__)

SYSTEM = "system"
"""The `who` of actions that no person took."""

TIMEOUT_S = 5.0
"""For writing one line, retries included: its turn waits meanwhile."""

LOST_LINE = "audit line lost:"
"""Beginning of a log line; the alert `audit-trail` in `infra/` looks for the same words."""

READ_TIMEOUT_S = 30.0
_TRIES = 50
"""Attempts to claim a number when other writers of the session claim numbers too."""

_MAX_HEADS = 4_096
MAX_DETAILS_CHARS = 20_000
"""A string property holds 32 Ki UTF-16 units (Azure Tables data model), and escaping may lengthen a cut text."""


class AuditTrail(Protocol):
    """Records audit lines."""

    async def record(
        self, session_id: str, action: str, details: JsonObject, *, who: str = SYSTEM, within_s: float = TIMEOUT_S
    ) -> None:
        """Append one line. Never raises: if the store is unavailable, the line is lost and an error is logged.

        who: the user id of the person who did it. within_s: how long the caller can wait for it.
        """
        ...

    def seal_erasure(self, session_id: str, details: JsonObject, *, who: str) -> SealedLine:
        """The one line that remains of an erased session; its seal is stored with the end of the erasure."""
        ...

    async def write_erasure(self, session_id: str, line: SealedLine) -> None:
        """Write that line. Never raises."""
        ...


class AuditUnavailable(Exception):
    """The line store cannot be reached, or another row already has the line's key."""


class AuditAnchors(Protocol):
    """The anchors of trails, in the sessions' rows."""

    async def anchor(self, session_id: str) -> Anchor | None:
        """None when there is no such session."""
        ...

    async def advance(self, session_id: str, line: SealedLine, *, now: datetime) -> bool:
        """Claim the line's number; False when another has it."""
        ...


class AuditLines(Protocol):
    """The store of the lines. Every method raises AuditUnavailable."""

    async def append(self, session_id: str, line: SealedLine) -> None:
        """Insert; never replaces. `read` does not return an erasure line and `erase` does not delete it."""
        ...

    def read(self, session_id: str) -> AsyncGenerator[SealedLine]:
        """Lines in row key order, without the erasure lines of erased sessions with the same id."""
        ...

    async def erase(self, session_id: str) -> None:
        """Delete the lines that `read` returns."""
        ...

    def read_all(self, after: str, up_to: str | None) -> AsyncGenerator[tuple[str, SealedLine]]:
        """(session id, line) of every row, erasure lines too; those of one session in row key order.

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
    """`AuditTrail` as a chain of sealed lines."""

    def __init__(
        self,
        anchors: AuditAnchors,
        lines: AuditLines,
        read: Callable[[str, str], Awaitable[SessionRecord]],
        *,
        keys: Sequence[bytes],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """read: a session for a user, raises NotFound. keys: the first seals, all verify. clock: aware UTC."""
        self._anchors = anchors
        self._lines = lines
        self._read = read
        self._keys = keys
        self._clock = clock
        # Last lines written by this process. They save a read per line; a stale one makes the claim fail and is reread.
        self._heads: dict[str, Anchor] = {}

    async def record(
        self, session_id: str, action: str, details: JsonObject, *, who: str = SYSTEM, within_s: float = TIMEOUT_S
    ) -> None:
        line: SealedLine | None = None
        text = _bounded(details)
        try:
            async with asyncio.timeout(within_s):
                line = await self._claim(session_id, action, text, who)
                if line is None:
                    log.info("no audit line %s: session %s is gone", action, session_id)
                    return
                await self._lines.append(session_id, line)
        except (AuditUnavailable, AppError, TimeoutError) as exc:
            _log_lost(session_id, action, text, line, exc)

    async def _claim(self, session_id: str, action: str, details: str, who: str) -> SealedLine | None:
        """Claim and seal the next line; None when the session does not exist. Raises AuditUnavailable."""
        head = self._heads.get(session_id) or await self._anchors.anchor(session_id)
        for _ in range(_TRIES):
            if head is None:
                self._heads.pop(session_id, None)
                return None
            now = self._clock()
            line = seal(
                self._keys[0],
                session_id,
                head.number + 1,
                at=now,
                who=who,
                action=action,
                details=details,
                previous=head.hash,
            )
            if await self._anchors.advance(session_id, line, now=now):
                if len(self._heads) >= _MAX_HEADS:
                    self._heads.pop(next(iter(self._heads)))
                self._heads[session_id] = Anchor(line.number, line.hash)
                return line
            head = await self._anchors.anchor(session_id)
        raise AuditUnavailable(f"no line number claimed after {_TRIES} tries")

    def seal_erasure(self, session_id: str, details: JsonObject, *, who: str) -> SealedLine:
        line = seal(
            self._keys[0],
            session_id,
            0,
            at=self._clock(),
            who=who,
            action="session.erased",
            details=_bounded(details),
            previous=new_id(),
        )
        return replace(line, row_key=erased_row_key(line))

    async def write_erasure(self, session_id: str, line: SealedLine) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._lines.append(session_id, line)
        except (AuditUnavailable, TimeoutError) as exc:
            _log_lost(session_id, line.action, line.details, line, exc)

    async def erase(self, session_id: str) -> None:
        """Delete the trail of an erased session. Raises EventLogUnavailable while the store is unavailable."""
        self._heads.pop(session_id, None)
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
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), aclosing(self._lines.read(session_id)) as lines:
                async for line in lines:
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


def _bounded(details: JsonObject) -> str:
    """The details as JSON that fits a table property; longer ones are cut and stored as text."""
    text = orjson.dumps(details).decode()
    limit = MAX_DETAILS_CHARS
    kept = text
    while len(kept.encode("utf-16-le")) // 2 > MAX_DETAILS_CHARS:
        kept = orjson.dumps({"cut": text[:limit]}).decode()
        limit //= 2
    return kept


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


def _log_lost(session_id: str, action: str, details: str, line: SealedLine | None, exc: Exception) -> None:
    """Log a lost line so that an operator can identify it, without user content such as comments and arguments.

    line: set when its number was already claimed. The digest shows whether a text found elsewhere is the lost one.
    """
    number = "no number" if line is None else f"number {line.number}"
    ids = " ".join(
        f"{name}={value}"
        for name, value in orjson.loads(details).items()
        if name.endswith("_id") and isinstance(value, str) and is_valid_id(value)
    )
    digest = sha256(details.encode()).hexdigest()
    log.error(
        "%s %s of session %s, %s, %s, details %s: %s: %s",
        LOST_LINE,
        action,
        session_id,
        number,
        ids or "no ids",
        digest,
        type(exc).__name__,
        exc,
    )
