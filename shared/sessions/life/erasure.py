"""SessionErasure: the deletion of a session from every store, asked for by its owner or by `retention.py`.

What a deletion erases, in this order:

1. PostgreSQL (`mark`): the session ends, its open turns and pending approvals are cancelled, and the erasure is put on
   record. From here on the sweep goes on with an erasure that is cut (`claim_cut`).
2. PostgreSQL (`erase_stores`): the session's row, every row that refers to it (participants, turns, messages and their
   search index, tool calls, approvals and votes, bookmarks, branches, checkpoints, summaries, attachments,
   subscriptions, cards, audit lines in the outbox), the idempotency keys of requests about it, and deliveries to
   webhooks but one on its way that tells of its end, which is forgotten with its outcome. The rows go before the
   other stores: without them no event gets a number and no file is taken, so what is erased next stays erased. The
   cache entry that says who may read the session goes with them.
3. Redis (`erase_stores`): the events of the session's feed, their counter, and who has it open.
4. Each `ErasableStore` (`erase_stores`), in the order of the composition root: the session's statistics (Redis), the
   bytes of its attachments (Azure Blobs; bytes that the row of a fork names stay), the lines of its audit trail (Azure
   Tables).
5. The durable task hub: the histories of the session's turns, approvals and notices. `activities/erasure.py` purges
   them; their ids are in the record since step 2.
6. PostgreSQL (`finish`), when all of it is gone: the record is finished, with one audit line that stays, in the outbox
   first. The sweep drops the record later (`forget_finished`).

What stays is that audit line, what the turns count for their users' days, and the sessions that were forked from it.

Invariant: an erasure is on record before anything is erased, each of its steps may run again, and it is finished when
every store has forgotten the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shared.errors import Transient
from shared.principal import Principal
from shared.sessions.audit.chain import SealedLine
from shared.sessions.audit.sealing import Sealer
from shared.sessions.cache import SessionChanges
from shared.sessions.events import (
    Event,
    EventLogUnavailable,
    EventType,
    SessionEventPublisher,
    closed_turn_events,
    feed_name,
)
from shared.sessions.life.lifecycle import check_match
from shared.sessions.models import JsonObject, Session
from shared.sessions.records.audit import SYSTEM
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import Interruption

log = logging.getLogger(__name__)

CUT_AFTER = timedelta(seconds=30)
"""An erasure that nobody has worked on for this long was cut."""
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ErasureMark:
    """An erasure on record, and who must hear that the session's turns are cancelled."""

    record: SessionRecord
    interruption: Interruption
    ended_now: bool
    """False when the session had ended before."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an unfinished erasure has done and has left."""

    session_id: str
    owner_id: str
    requested_at: datetime
    told_at: datetime | None
    """When instances were told to end, the last time."""
    instances: list[str]
    """Durable instances that may still exist."""
    messages: int
    turns: int
    by_retention: bool
    """Nobody asked: it was too old."""
    incarnation: str | None

    @property
    def feed(self) -> str:
        return feed_name(self.session_id, self.incarnation)


class ErasureRepository(Protocol):
    """The rows of a session, and the records of erasures."""

    async def mark(
        self, session_id: str, user_id: str, check: Callable[[Session], None], *, now: datetime
    ) -> ErasureMark | None:
        """End the session and put its erasure on record; None when that was done and its rows are gone.

        Raises NotFound unless the user owns it or owned it, and what `check` raises.
        """
        ...

    async def has_open_turns(self, session_id: str) -> bool: ...

    async def erase_rows(self, session_id: str) -> Erasure | None:
        """Delete every row of the session; None when its erasure is finished or was never asked for."""
        ...

    async def note_gone(self, session_id: str, instances: Sequence[str]) -> None:
        """Take durable instances off what is left."""
        ...

    async def note_told(self, session_id: str, *, now: datetime) -> None:
        """Durable instances were told to end."""
        ...

    async def finish(self, session_id: str, line: SealedLine, *, now: datetime) -> bool:
        """Finish, and store the line that remains. False while instances are left or when it is finished."""
        ...

    async def claim_cut(self, *, before: datetime, now: datetime, limit: int) -> list[str]:
        """Claim erasures that nobody has worked on since `before`."""
        ...

    async def forget_finished(self, *, before: datetime) -> int: ...


class ErasableStore(Protocol):
    """A store beside the database that keeps something of a session."""

    async def erase(self, session_id: str) -> None:
        """Forget all of it; harmless when there is nothing.

        Raises EventLogUnavailable or Transient while the store is away.
        """
        ...


class SessionErasure:
    """The steps of a deletion, in the order of its methods. `mark` checks access."""

    def __init__(
        self,
        rows: ErasureRepository,
        publisher: SessionEventPublisher,
        stores: Sequence[ErasableStore],
        sealer: Sealer,
        changes: SessionChanges,
    ) -> None:
        """stores: what beside the database and the event log must forget the session. changes: who is told that its
        access is gone."""
        self._rows = rows
        self._publisher = publisher
        self._stores = stores
        self._sealer = sealer
        self._changes = changes

    async def mark(
        self, session_id: str, principal: Principal, *, if_match: str | None
    ) -> tuple[ErasureMark | None, list[bytes]]:
        """End the session and cancel its turns, for good: from here on the sweep would erase it too.

        Also the events to send; no mark when a request before this one erased the rows. Raises NotFound, Conflict.
        """
        mark = await self._rows.mark(
            session_id, principal.user_id, lambda session: check_match(session, if_match), now=datetime.now(UTC)
        )
        if mark is None:
            return None, []
        events = closed_turn_events(mark.interruption.closed_turn_ids)
        if mark.ended_now:
            session = mark.record.session.model_dump(mode="json")
            events.insert(0, Event(EventType.SESSION_ENDED, {"session": session}))
        return mark, await self._publisher.publish(mark.record.target, events) if events else []

    async def turns_over(self, session_id: str, *, within_s: float) -> bool:
        """Wait until no turn is open: then nothing of the session runs and nothing more is started."""
        try:
            async with asyncio.timeout(within_s):
                while await self._rows.has_open_turns(session_id):  # noqa: ASYNC110  # another process ends them
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return False
        return True

    async def erase_stores(self, session_id: str) -> tuple[Erasure, bool] | None:
        """Erase the rows, then the events, then each of the other stores, which may be away.

        Returns what is left, and whether every store has forgotten the session; None when there is nothing to do.
        """
        async with self._changes.changing(session_id):
            erasure = await self._rows.erase_rows(session_id)
        if erasure is None:
            return None
        forgotten = await self._is_forgotten(session_id, self._publisher.forget(erasure.feed))
        for store in self._stores:
            forgotten &= await self._is_forgotten(session_id, store.erase(session_id))
        return erasure, forgotten

    @staticmethod
    async def _is_forgotten(session_id: str, erasing: Awaitable[None]) -> bool:
        try:
            await erasing
        except (EventLogUnavailable, Transient) as exc:
            log.warning("erasing session %s waits for a store: %s", session_id, exc)
            return False
        return True

    async def told(self, session_id: str, *, now: datetime) -> None:
        """Durable instances were told to end; until that has arrived, none is purged."""
        await self._rows.note_told(session_id, now=now)

    async def finish(self, erasure: Erasure, gone: Sequence[str], *, stores_forgot: bool) -> bool:
        """Note which durable instances are gone; when all is, write the audit line. Whether it is finished."""
        await self._rows.note_gone(erasure.session_id, gone)
        if not stores_forgot:
            return False
        details: JsonObject = {
            "requested_at": erasure.requested_at.isoformat(),
            "messages": erasure.messages,
            "turns": erasure.turns,
        }
        if erasure.by_retention:
            details["reason"] = "retention"
        who = SYSTEM if erasure.by_retention else erasure.owner_id
        line = self._sealer.erasure(erasure.session_id, details, who=who)
        return await self._rows.finish(erasure.session_id, line, now=datetime.now(UTC))

    async def claim_cut(self, *, now: datetime, limit: int) -> list[str]:
        """Sessions whose erasure was cut; theirs is the sweep's to go on with."""
        return await self._rows.claim_cut(before=now - CUT_AFTER, now=now, limit=limit)

    async def forget_finished(self, *, before: datetime) -> int:
        """Drop the records of erasures finished before then."""
        return await self._rows.forget_finished(before=before)
