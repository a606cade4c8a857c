"""Redis with Entra tokens: who each connection is, and how it stays that while tokens end."""

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
"""Managed Redis wants a new AUTH three minutes before a token ends; azure-identity gives a new one from five on."""
_TRY_AGAIN_S = 30.0


class EntraRedisCredentials(StreamingCredentialProvider):
    """User and password of every Redis connection, and their renewal while connections live.

    The user is the identity's object id, as the token states it. A client given to `keep` says AUTH again on all its
    connections when a new token is there. A connection that is subscribed cannot say AUTH (RESP2): who owns one
    registers with `on_next`, and moves to a new connection.
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
        """Renew this client's connections; made from a URL, it does not ask for that by itself."""
        self._callbacks.append(client.connection_pool.re_auth_callback)
        return client

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        self._callbacks.append(callback)

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        """Not used: a renewal that fails is tried again here, and a connection that was dropped connects anew."""

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
                    # azure-identity hides a refresh that failed while the old token still holds.
                    await asyncio.sleep(_TRY_AGAIN_S)
                    continue
                token = fresh
                for callback in self._callbacks:
                    await callback(token)
            except Exception as exc:  # whatever it was, giving up would end in a dead cache within the hour
                log.warning("Redis credentials could not be renewed, trying again: %s", type(exc).__name__)
                await asyncio.sleep(_TRY_AGAIN_S)
