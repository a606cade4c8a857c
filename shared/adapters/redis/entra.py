"""Entra authentication of Redis connections, renewed before tokens expire.

Implements no port of the domain: it is the credential provider of the Redis client.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.auth.token import JWToken
from redis.credentials import StreamingCredentialProvider

from shared.adapters.azure.entra import REDIS_SCOPE, credential, token_for

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

log = logging.getLogger(__name__)

_RENEW_BEFORE_S = 240.0
"""Managed Redis requires a new AUTH three minutes before a token expires; azure-identity renews it from five on."""
_TRY_AGAIN_S = 30.0


class EntraRedisCredentials(StreamingCredentialProvider):
    """User and password of every Redis connection, renewed while connections are open.

    The user is the identity's object id from the token. A client passed to `keep` sends AUTH again on all its
    connections when there is a new token. A subscribed connection cannot send AUTH (RESP2), so its owner registers
    with `on_next` and moves to a new connection.
    """

    def __init__(self, made: Callable[[], AsyncTokenCredential] = credential) -> None:
        self._made = made
        self._callbacks: list[Callable[[JWToken], Awaitable[None]]] = []
        self._renewing: asyncio.Task[None] | None = None

    async def get_credentials_async(self) -> tuple[str, str]:
        token = await self._token()
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(token))
        return str(token.try_get("oid")), token.get_value()

    def get_credentials(self) -> tuple[str, str]:
        raise NotImplementedError("the app's Redis clients are asynchronous")

    def keep(self, client: Redis) -> Redis:
        """Renew this client's connections; a client made from a URL does not register for that itself."""
        self._callbacks.append(client.connection_pool.re_auth_callback)
        return client

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        self._callbacks.append(callback)

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        """Not used: failed renewals are retried here, and a dropped connection reconnects."""

    def is_streaming(self) -> bool:
        return True

    async def aclose(self) -> None:
        """Stop renewing."""
        task, self._renewing = self._renewing, None
        if task is not None:
            task.cancel()

    async def _token(self) -> JWToken:
        return JWToken(await token_for(REDIS_SCOPE, self._made))

    async def _renew(self, token: JWToken) -> None:
        while True:
            await asyncio.sleep(max(token.get_expires_at_ms() / 1000 - time.time() - _RENEW_BEFORE_S, 1.0))
            try:
                fresh = await self._token()
                if fresh.get_value() == token.get_value():
                    # azure-identity hides a failed refresh while the old token is still valid.
                    await asyncio.sleep(_TRY_AGAIN_S)
                    continue
                token = fresh
                for callback in self._callbacks:
                    await callback(token)
            except Exception as exc:  # never give up: without renewal all connections fail within the hour
                log.warning("Redis credentials could not be renewed, trying again: %s", type(exc).__name__)
                await asyncio.sleep(_TRY_AGAIN_S)
