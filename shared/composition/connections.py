"""The clients of other services, each made once per process and authenticated as the settings say.

Nothing connects until it is used. With Entra a client gets its own tokens; without, the URL or the connection string
holds the credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.entra import POSTGRES_SCOPE, SIGNALR_SCOPE, token_for
from shared.adapters.azure.signalr import RelaySender, RestSender
from shared.adapters.models.service import ModelService
from shared.sessions.live.realtime import RealtimeSender
from shared.settings import RealtimeDelivery, Settings, StoreAuth, without_user
from shared.signing import RelayTokens

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.adapters.postgres.pool import PostgresPool
    from shared.adapters.redis.entra import EntraRedisCredentials
    from shared.adapters.redis.guard import RedisGuard

# Drivers are imported where they are used, here and in the two modules built on this one. Together they import more
# slowly than the rest of the app, and indexing (which a cold start waits for) needs none of them.

_REDIS_TIMEOUT_S = 2.0
"""A connection that gives no answer for so long is closed, unless Redis may be silent for longer
(REDIS_PATIENCE_SECONDS)."""


@dataclass(frozen=True)
class Connections:
    """The connections of one process."""

    settings: Settings

    @cached_property
    def pool(self) -> PostgresPool:
        from shared.adapters.postgres.pool import PostgresPool

        settings = self.settings
        password = (lambda: token_for(POSTGRES_SCOPE)) if settings.postgres_auth is StoreAuth.ENTRA else None
        return PostgresPool(settings.postgres_url, size=settings.postgres_pool_size, password=password)

    @cached_property
    def redis_credentials(self) -> EntraRedisCredentials | None:
        if self.settings.redis_auth is not StoreAuth.ENTRA:
            return None
        from shared.adapters.redis.entra import EntraRedisCredentials

        return EntraRedisCredentials()

    @cached_property
    def redis(self) -> Redis:
        return self._redis(socket_timeout=self._redis_timeout_s)

    @property
    def _redis_timeout_s(self) -> float:
        return max(_REDIS_TIMEOUT_S, self.settings.redis_patience_seconds)

    @cached_property
    def listening_redis(self) -> Redis:
        return self._redis(socket_timeout=None)

    def _redis(self, *, socket_timeout: float | None, max_connections: int | None = None) -> Redis:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        credentials = self.redis_credentials
        url = self.settings.redis_url
        # RESP2 is pinned, since the reply shapes of streams differ between protocol versions. One immediate retry
        # covers a stale connection in the pool; longer outages are handled by the fallback.
        client = Redis.from_url(
            url if credentials is None else without_user(url),
            credential_provider=credentials,
            protocol=2,
            socket_connect_timeout=self._redis_timeout_s,
            socket_timeout=socket_timeout,
            max_connections=max_connections,
            retry=Retry(NoBackoff(), 1),
        )
        return client if credentials is None else credentials.keep(client)

    @cached_property
    def redis_guard(self) -> RedisGuard:
        from shared.adapters.redis.guard import RedisGuard

        return RedisGuard(
            self.redis,
            self._redis(socket_timeout=self._redis_timeout_s, max_connections=1),
            patience_s=self.settings.redis_patience_seconds,
        )

    @cached_property
    def blobs(self) -> AzureBlobStore:
        return AzureBlobStore(
            connection_string=self.settings.azure_web_jobs_storage, endpoint=self.settings.blobs_endpoint
        )

    @cached_property
    def model(self) -> ModelService:
        return ModelService(self.settings)

    @cached_property
    def relay_tokens(self) -> RelayTokens:
        return RelayTokens(self.settings.approval_link_secret)

    @cached_property
    def signalr(self) -> RestSender:
        """The SignalR data plane. With delivery through the binding it is used only for groups and the health check."""
        if self.settings.signalr_service_uri:
            return RestSender(self.settings.signalr_service_uri, lambda _url: token_for(SIGNALR_SCOPE))
        return RestSender.with_key(self.settings.signalr_connection_string or "")

    @cached_property
    def sender(self) -> RealtimeSender:
        if self.settings.realtime_delivery is RealtimeDelivery.REST:
            return self.signalr
        return RelaySender(self.settings.internal_base_url, self.relay_tokens)
