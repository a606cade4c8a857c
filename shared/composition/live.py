"""What is told live, and who hears it, over the stores of this process."""

from __future__ import annotations

from functools import cached_property

from shared.composition.stores import Stores
from shared.sessions.cache import SessionCache
from shared.sessions.doors.reader import DoorReader
from shared.sessions.doors.snapshot import TurnSnapshots
from shared.sessions.events import SessionEventPublisher
from shared.sessions.live.audience import Audience
from shared.sessions.live.here import Here
from shared.sessions.live.open_streams import OpenStreams
from shared.sessions.live.presence import Presence
from shared.sessions.live.reading import ReaderMemory
from shared.sessions.live.subscriptions import SubscriptionService
from shared.sessions.streaming import LONGEST_S, StreamingHandler
from shared.sessions.turns.waiting import TurnWaiter


class Live(Stores):
    """Event streams, doors, presence."""

    @cached_property
    def session_cache(self) -> SessionCache:
        from shared.adapters.redis.sessions import RedisSessionEntries

        return SessionCache(RedisSessionEntries(self.redis, self.redis_guard), self.session_rows.entry)

    @cached_property
    def presence(self) -> Presence:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions
        from shared.adapters.redis.presence import RedisPresenceMarks

        return Presence(
            RedisPresenceMarks(self.redis, self.redis_guard),
            lambda group: self.signalr.is_empty(group),
            PostgresSubscriptions(self.pool).on_record,
        )

    @cached_property
    def publisher(self) -> SessionEventPublisher:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        audience = Audience(
            PostgresSubscriptions(self.pool).listeners, lambda group, user_id: self.signalr.is_member(group, user_id)
        )
        return SessionEventPublisher(
            self.event_log, self.session_rows, self.presence, audience, callers=self.child_rows
        )

    @cached_property
    def subscriptions(self) -> SubscriptionService:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        return SubscriptionService(PostgresSubscriptions(self.pool), self.presence)

    @cached_property
    def here(self) -> Here:
        from shared.adapters.redis.here import RedisHere

        return Here(self.session_cache.get, RedisHere(self.redis, self.redis_guard))

    @cached_property
    def readers(self) -> ReaderMemory:
        return ReaderMemory()

    @cached_property
    def streams(self) -> OpenStreams:
        from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions

        rows = PostgresSubscriptions(self.pool)
        return OpenStreams(
            rows.readable, self.readers, per_user=self.settings.streams_per_user or None, longest_s=LONGEST_S
        )

    @cached_property
    def streaming(self) -> StreamingHandler:
        return StreamingHandler(self.event_log, self.turn_rows, self.streams)

    @cached_property
    def waiter(self) -> TurnWaiter:
        return TurnWaiter(self.event_log, self.turn_rows)

    @cached_property
    def doors(self) -> DoorReader:
        return DoorReader(self.streaming, self.approval_rows, self.turn_rows)

    @cached_property
    def snapshots(self) -> TurnSnapshots:
        return TurnSnapshots(self.turn_rows, self.approval_rows)
