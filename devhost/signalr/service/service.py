"""The embedded SignalR service: its keys, its hubs and the keep-alive of its connections.

Invariant: once `stop` has begun, new clients are refused and connected clients are told to reconnect later.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devhost.signalr.service import tokens
from devhost.signalr.service.connection import Connection, Flusher, Limits
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.memberships import UserGroups
from devhost.signalr.service.protocol import PING

_HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")


def is_hub_name(name: str) -> bool:
    """Letters, digits and underscores, beginning with a letter, as Azure requires."""
    return _HUB_NAME.fullmatch(name) is not None


def load_access_key(folder: Path) -> str:
    """The service's own key. It is stored at the first start, so that tokens stay valid after a restart."""
    path = folder / "access-key"
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        pass
    key = base64.b64encode(secrets.token_bytes(32)).decode("ascii")
    temporary = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(key)
    temporary.replace(path)
    return key


class SignalRService:
    """One endpoint. Lives on the host's event loop.

    endpoint: the audience of tokens.
    keys: keys that verify tokens; the first one signs.
    """

    def __init__(
        self, endpoint: str, keys: Sequence[str], user_groups: UserGroups, limits: Limits | None = None
    ) -> None:
        self.endpoint = endpoint
        self.keys = tuple(keys)
        self.limits = limits or Limits()
        self.flusher = Flusher()
        self._user_groups = user_groups
        self._hubs: dict[str, Hub] = {}
        self._carer: asyncio.Task[None] | None = None
        self._stopping = False
        self.nobody = asyncio.Event()
        """Set while no client is connected."""
        self.nobody.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping

    def hub(self, name: str) -> Hub:
        """The hub of a name, created on first use. Case does not matter."""
        name = name.lower()
        hub = self._hubs.get(name)
        if hub is None:
            hub = self._hubs[name] = Hub(name, self._user_groups)
        return hub

    def hubs(self) -> list[Hub]:
        """The hubs used so far."""
        return list(self._hubs.values())

    def start(self) -> None:
        self._carer = asyncio.create_task(self._care(), name="signalr-keepalive")

    async def stop(self) -> None:
        """Tell all clients to reconnect later, and wait until they have disconnected. Idempotent."""
        self._stopping = True
        if self._carer is not None:
            self._carer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._carer
            self._carer = None
        for hub in self._hubs.values():
            for connection in hub.connections.values():
                connection.close("The dev host is stopping.", allow_reconnect=True)
        # Each closing connection is cut after its grace period, so this wait ends.
        await self.nobody.wait()

    # -- clients

    def admit(self, hub: Hub, connection: Connection) -> None:
        self.nobody.clear()
        hub.connect(connection)

    def dismiss(self, hub: Hub, connection: Connection) -> None:
        hub.disconnect(connection)
        if not any(other.connections for other in self._hubs.values()):
            self.nobody.set()

    def client_claims(self, token: str | None, *, hub: str, origin: str) -> Mapping[str, Any]:
        """Check a client's token. origin: the origin that the request used, which may be an alias of ours.

        Raises TokenRefused.
        """
        audiences = {
            f"{address}/client/?hub={name}" for address in (self.endpoint, origin) for name in (hub, hub.lower())
        }
        return tokens.verify(token, keys=self.keys, audiences=audiences)

    def connection_token(self, hub: Hub, connection_id: str) -> str:
        """The token with which a client opens its negotiated connection. It is signed, so no state is kept."""
        message = f"{hub.name}\n{connection_id}".encode()
        digest = hmac.digest(self.keys[0].encode(), message, hashlib.sha256)
        return f"{connection_id}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def connection_id_of(self, hub: Hub, connection_token: str) -> str | None:
        """The negotiated id, or None when the token is not ours."""
        connection_id = connection_token.partition(".")[0]
        expected = self.connection_token(hub, connection_id)
        is_ours = hmac.compare_digest(expected.encode(), connection_token.encode())
        return connection_id if is_ours else None

    async def _care(self) -> None:
        """Ping idle clients, drop silent ones, end expired memberships."""
        limits = self.limits
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, limits.ping_interval_s / 4, limits.client_timeout_s / 4))
            now = loop.time()
            for hub in self._hubs.values():
                for connection in tuple(hub.connections.values()):
                    if now - connection.heard_at > limits.client_timeout_s:
                        connection.close("The client has been silent for too long.", allow_reconnect=True)
                    elif now - connection.sent_at >= limits.ping_interval_s:
                        connection.enqueue(PING)
            for name, user_id, group in self._user_groups.take_expired():
                self.hub(name).remove_user_from_group(user_id, group)


def new_connection_id() -> str:
    return secrets.token_urlsafe(16)
