"""StatisticsService: statistics of a session or a period, computed on request and cached until a write.

Invariant: an answer always matches the database. Each request reads a marker of the counted state, with one cheap query
that is also the access check; figures cached in Redis are used only if their marker is the same. Writers do not
invalidate anything, so turns pay no cost. Without Redis, the figures are computed again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import orjson
from pydantic import ValidationError

from shared.errors import CacheUnavailable, ErrorCode, InvalidInput, no_such_session
from shared.principal import Principal
from shared.sessions.events import EventLogUnavailable
from shared.sessions.features.models import Figures, PeriodStatistics, SessionStatistics

log = logging.getLogger(__name__)

_SHAPE = 2
"""Format version; raise it when the models change, so that no app version reads another's entries."""


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None:
        """Raises CacheUnavailable."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store it for a limited time. Raises CacheUnavailable."""
        ...

    async def drop(self, key: str) -> None:
        """Raises CacheUnavailable."""
        ...


class StatisticsRepository(Protocol):
    """Each `compute_...` returns the marker of exactly the state that it counted."""

    async def session_marker(self, session_id: str, user_id: str) -> str | None:
        """None when the user may not read the session."""
        ...

    async def compute_session(self, session_id: str, user_id: str) -> tuple[str, SessionStatistics] | None:
        """None when the user may not read the session."""
        ...

    async def period_marker(self, user_id: str) -> str: ...

    async def compute_period(
        self, user_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[str, PeriodStatistics]: ...


class StatisticsService:
    """Statistics of sessions the caller may read, and of periods over the sessions the caller owns."""

    def __init__(self, rows: StatisticsRepository, cache: Cache) -> None:
        self._rows = rows
        self._cache = cache

    async def of_session(self, session_id: str, principal: Principal) -> SessionStatistics:
        """Raises NotFound."""
        user_id = principal.user_id
        marker = await self._rows.session_marker(session_id, user_id)
        if marker is None:
            raise no_such_session()
        return await self._kept_or_computed(
            _key("session", session_id),
            marker,
            SessionStatistics,
            lambda: self._rows.compute_session(session_id, user_id),
        )

    async def of_period(self, principal: Principal, since: datetime | None, until: datetime | None) -> PeriodStatistics:
        """since: inclusive; until: exclusive; None: no bound. Raises InvalidInput."""
        user_id = principal.user_id
        since, until = _utc("from", since), _utc("to", until)
        if since is not None and until is not None and since >= until:
            raise _wrong("from", "must be before `to`")
        return await self._kept_or_computed(
            _key("period", user_id, str(since), str(until)),
            await self._rows.period_marker(user_id),
            PeriodStatistics,
            lambda: self._rows.compute_period(user_id, since, until),
        )

    async def erase(self, session_id: str) -> None:
        """Delete the cached statistics of a session, if any. Raises EventLogUnavailable."""
        try:
            await self._cache.drop(_key("session", session_id))
        except CacheUnavailable as exc:
            raise EventLogUnavailable(str(exc)) from exc  # the erasure retries this error

    async def _kept_or_computed[F: Figures](
        self, key: str, marker: str, kind: type[F], compute: Callable[[], Awaitable[tuple[str, F] | None]]
    ) -> F:
        reachable = True
        try:
            kept = _read(await self._cache.get(key), marker, kind)
        except CacheUnavailable as exc:
            log.info("statistics are computed, the cache is unavailable: %s", exc)
            kept, reachable = None, False
        if kept is not None:
            return kept
        computed = await compute()
        if computed is None:  # deleted or no longer shared since the marker was read
            raise no_such_session()
        # No second attempt: a cache that hangs would cost its timeout twice.
        if reachable:
            await self._keep(key, *computed)
        return computed[1]

    async def _keep(self, key: str, marker: str, figures: Figures) -> None:
        try:
            await self._cache.put(key, marker.encode() + b"\n" + figures.model_dump_json().encode())
        except CacheUnavailable as exc:
            log.info("statistics are not cached, the cache is unavailable: %s", exc)


def _read[F: Figures](entry: bytes | None, marker: str, kind: type[F]) -> F | None:
    """The figures of a cache entry, if it has this marker."""
    if entry is None:
        return None
    kept_marker, _, body = entry.partition(b"\n")
    if kept_marker != marker.encode():
        return None
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        log.warning("the statistics cache holds an invalid entry")
        return None


def _key(*parts: str) -> str:
    """A cache key of fixed length; different parts give different keys."""
    return f"parley:statistics:{hashlib.sha256(orjson.dumps([_SHAPE, *parts])).hexdigest()}"


def _utc(field: str, value: datetime | None) -> datetime | None:
    try:
        return None if value is None else value.astimezone(UTC)
    except OverflowError:
        raise _wrong(field, "is out of range") from None


def _wrong(field: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR, f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
