"""AuditForwarder: brings lines from the outbox to the trail's store.

The process that committed a line writes it at once, from its memory: what somebody does to the outbox meanwhile does
not change what is written. What it could not write, or did not live to write, the sweep takes from the outbox.

Invariant: a line leaves the outbox when the store has confirmed it. Lines are inserted and never replaced, so any
number of forwarders may write one line.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from hashlib import sha256
from typing import Protocol

import orjson

from shared.errors import Transient
from shared.ids import is_valid_id
from shared.sessions.audit.chain import ERASED_PREFIX, SealedLine, is_genuine, is_genuine_erasure
from shared.sessions.audit.trail import AuditLines, AuditUnavailable, FiledLine

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""For writing the lines of one session, the driver's own retries included."""
LEASE_S = 30.0
"""How long lines are one forwarder's to write. Longer than what it may take: BEGIN_S and TIMEOUT_S."""
BEGIN_S = 15.0
"""A forwarder that gets to a line only so long after it was leased leaves it to the sweep."""
REFUSED_S = 3_600.0
"""How long a line is left alone whose place is taken, or that is not what was sealed. The verification tells of it."""

LATE_S = 300.0
"""An outbox that is older than this is told in health and by an alert."""
LATE_LINE = "audit lines wait:"
"""Beginning of a log line; the alert `audit-outbox` in `infra/` looks for the same words."""

_SESSIONS_AT_ONCE = 16
_FAILURES = 16
"""Of one round: a store that hangs costs one time limit, since so many are asked at once."""
_MEMORY = 2_000
"""Most lines that a process keeps to write by itself; the sweep writes what is beyond."""
_LEASED = 500


class AuditOutbox(Protocol):
    """The lines that the store may not have yet. Every method raises Transient."""

    async def lease(self, *, limit: int) -> list[FiledLine]:
        """Lines that are nobody's to write; ours for LEASE_S."""
        ...

    async def confirm(self, written: Sequence[FiledLine]) -> list[FiledLine]:
        """The store has them. Returns those whose session was erased meanwhile: they must not stay there."""
        ...

    async def refuse(self, lines: Sequence[FiledLine]) -> None:
        """They cannot be written; leave them for REFUSED_S."""
        ...

    async def is_late(self) -> bool:
        """Whether a line waits for longer than LATE_S."""
        ...


class AuditOutboxLate(Exception):
    """Lines wait for the store for too long."""


class AuditForwarder:
    """One of each process. keys: all that may have sealed a line."""

    def __init__(
        self,
        outbox: AuditOutbox,
        lines: AuditLines,
        *,
        keys: Sequence[bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds from any beginning."""
        self._outbox = outbox
        self._lines = lines
        self._keys = keys
        self._clock = clock
        self._own: list[tuple[float, FiledLine]] = []
        """With when they were committed."""
        self._task: asyncio.Task[None] | None = None

    def committed(self, lines: Sequence[FiledLine]) -> None:
        """Write lines that this process has just committed. Returns at once and never raises."""
        now = self._clock()
        self._own += [(now, line) for line in lines[: max(0, _MEMORY - len(self._own))]]
        if self._task is None:
            # In a context of its own: it is no part of the request that committed first.
            self._task = asyncio.create_task(self._write_own(), name="audit", context=Context())

    async def idle(self) -> None:
        """Wait until everything that was committed is written, or left to the sweep."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _write_own(self) -> None:
        try:
            while self._own:
                own, self._own = self._own, []
                try:
                    await self._write([line for _, line in own], until=own[0][0] + BEGIN_S, left=_tell_left)
                except Transient as exc:
                    log.warning("audit lines are written and stay in the outbox: %s", exc)
        finally:
            self._task = None

    async def drain(self, *, within_s: float) -> int:
        """Write what is in the outbox and nobody's; how many lines were. Raises Transient.

        Ends when nothing is left, when the store is away, and after about `within_s`.
        """
        written, until = 0, self._clock() + within_s
        while self._clock() < until:
            leased = await self._outbox.lease(limit=_LEASED)
            genuine: list[FiledLine] = []
            forged: list[FiledLine] = []
            for line in leased:
                (genuine if self._is_genuine(line) else forged).append(line)
            if forged:
                log.warning("%d lines in the audit outbox are not what was sealed", len(forged))
                await self._outbox.refuse(forged)
            done = await self._write(genuine, until=self._clock() + BEGIN_S)
            written += done
            if len(leased) < _LEASED or done == 0:
                break
        return written

    async def check_age(self) -> None:
        """Raises AuditOutboxLate when lines wait for too long, Transient."""
        if await self._outbox.is_late():
            raise AuditOutboxLate(f"lines wait for longer than {LATE_S:.0f} s")

    async def _write(
        self, lines: Sequence[FiledLine], *, until: float, left: Callable[[Sequence[FiledLine]], None] | None = None
    ) -> int:
        """Write and confirm; how many lines. After some failures the rest is left: the store is away. One alone may be
        about a single session. left: gets what was not written."""
        taken: list[FiledLine] = []
        written: list[FiledLine] = []
        given_up: list[FiledLine] = []
        failures = 0
        gate = asyncio.Semaphore(_SESSIONS_AT_ONCE)

        async def write(session_id: str, some: Sequence[SealedLine]) -> None:
            nonlocal failures
            filed = [(session_id, line) for line in some]
            async with gate:
                if failures >= _FAILURES or self._clock() >= until:
                    given_up.extend(filed)
                    return
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        refused = await self._lines.append(session_id, some)
                except (AuditUnavailable, TimeoutError) as exc:
                    if not failures:
                        log.warning("the audit trail's store is away: %s %s", type(exc).__name__, exc)
                    failures += 1
                    given_up.extend(filed)
                    return
            taken.extend(line for line in filed if line[1] in refused)
            written.extend(line for line in filed if line[1] not in refused)

        await asyncio.gather(*(write(session_id, some) for session_id, some in _by_session(lines)))
        if given_up and left is not None:
            left(given_up)
        if taken:
            log.warning("%d audit lines find another row in their place", len(taken))
            await self._outbox.refuse(taken)
        if written:
            erased = await self._outbox.confirm(written)
            for session_id, some in _by_session(erased):
                await _quietly(self._lines.remove(session_id, some))
        return len(written)

    def _is_genuine(self, filed: FiledLine) -> bool:
        session_id, line = filed
        if line.row_key.startswith(ERASED_PREFIX):
            return is_genuine_erasure(self._keys, session_id, line)
        return is_genuine(self._keys, session_id, line)


async def _quietly(removing: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await removing
    except (AuditUnavailable, TimeoutError) as exc:
        # The verification finds them.
        log.warning("lines of an erased session stay in the audit trail's store: %s %s", type(exc).__name__, exc)


def _by_session(lines: Iterable[FiledLine]) -> Iterable[tuple[str, list[SealedLine]]]:
    found: dict[str, list[SealedLine]] = defaultdict(list)
    for session_id, line in lines:
        found[session_id].append(line)
    return found.items()


def _tell_left(lines: Sequence[FiledLine]) -> None:
    """Log lines that are in the database alone for a while, so that another place knows of them, without user content
    such as comments and arguments. The digest shows whether a text found elsewhere is the line's."""
    for session_id, line in lines:
        ids = " ".join(
            f"{name}={value}"
            for name, value in orjson.loads(line.details).items()
            if name.endswith("_id") and isinstance(value, str) and is_valid_id(value)
        )
        digest = sha256(line.details.encode()).hexdigest()
        what = f"{line.action} of session {session_id}, line {line.row_key}, {ids or 'no ids'}"
        log.warning("audit line stays in the outbox: %s, seal %s, details %s", what, line.hash, digest)
