"""Epochs of the event log: the times in which Redis has forgotten nothing that it once knew.

Implements no port: the event log numbers under one epoch at a time.

A server that was started again, or a replica that was promoted, may hold older counters than those that numbers were
given from. Either has no scripts: since Redis 7 these are neither kept on disk nor sent to replicas
(https://redis.io/docs/latest/develop/programmability/eval-intro/). So each epoch has a script text of its own, and a
call that finds none tells that the epoch is over, at no cost while it is not.

Invariant: an epoch whose script is gone never comes back, and all processes agree on the one after it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

from shared.ids import new_id

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEY = "parley:events:epoch"
"""The current epoch's id."""

# KEYS: KEY. ARGV: the epoch that was found there (or empty), the one to come. Returns the one that is there now.
_REPLACE = """
local kept = redis.call('GET', KEYS[1]) or ''
if kept ~= ARGV[1] then return kept end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
"""


@dataclass(frozen=True, slots=True)
class Epoch:
    id: str
    """A UUIDv7."""
    sha: str
    """Of its script."""

    @property
    def began_at(self) -> datetime:
        """Aware UTC, by the clock of the process that began it."""
        return datetime.fromtimestamp((UUID(self.id).int >> 80) / 1000, UTC)


class Epochs:
    """script: the log's script, without the epoch that it runs in."""

    def __init__(self, redis: Redis, script: str) -> None:
        self._redis = redis
        self._script = script

    async def agree(self) -> Epoch:
        """The epoch that every process numbers in. A new one begins where the server does not hold the last one's
        script. Raises what the client raises."""
        found: bytes = await cast("Awaitable[bytes | None]", self._redis.get(KEY)) or b""
        if found:
            epoch = self._epoch(found.decode())
            if (await self._redis.script_exists(epoch.sha))[0]:
                return epoch
        made = self._epoch(new_id())
        # Before anybody can read of it: who finds an epoch without its script begins another.
        await self._redis.script_load(self._text(made.id))
        won = await cast("Awaitable[bytes]", self._redis.eval(_REPLACE, 1, KEY, found, made.id))
        return made if won == made.id.encode() else self._epoch(won.decode())

    def _epoch(self, epoch_id: str) -> Epoch:
        return Epoch(epoch_id, hashlib.sha1(self._text(epoch_id).encode(), usedforsecurity=False).hexdigest())

    def _text(self, epoch_id: str) -> str:
        # It is only ever an id of ours or what was stored under KEY, and is not run before it was made a UUID.
        return f"local epoch = '{UUID(epoch_id)}'\n{self._script}"
