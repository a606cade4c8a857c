"""The embedded SignalR service: its keys, its hubs and the keep-alive of its connections.

Invariant: once `stop` has begun, new clients are refused and connected clients are told to reconnect later.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devhost.signalr.service import tokens
from devhost.signalr.service.client import Client
from devhost.signalr.service.connection import Connection, Flusher, Limits, Wire
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.memberships import UserGroups
from devhost.signalr.service.negotiation import Negotiated, Negotiations, new_connection_id
from devhost.signalr.service.upstream import Telling, Upstream, Who

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
        self._negotiations = Negotiations(lifetime_s=self.limits.negotiated_s, most=self.limits.negotiated)
        self._clients: dict[str, Client] = {}
        self._carer: asyncio.Task[None] | None = None
        self._stopping = False
        self.nobody = asyncio.Event()
        """Set while no client is connected."""
        self.nobody.set()
        self._somebody = asyncio.Event()
        self.upstream: Upstream | None = None
        """Who hears what clients call; None: they may only listen."""
        self._tellings: set[asyncio.Task[None]] = set()

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
        """Tell all clients to reconnect later, and wait until they have disconnected. Idempotent.

        The upstream is told nothing of it: the app that ends with this service cannot hear it.
        """
        self._stopping = True
        for telling in tuple(self._tellings):
            telling.cancel()
        await asyncio.gather(*self._tellings, return_exceptions=True)
        if self.upstream is not None:
            await self.upstream.close()
        if self._carer is not None:
            self._carer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._carer
            self._carer = None
        for client in tuple(self._clients.values()):
            client.connection.close("The dev host is stopping.", allow_reconnect=True)
        # Each closing connection is cut after its grace period, so this wait ends.
        await self.nobody.wait()

    # -- clients

    @property
    def is_full(self) -> bool:
        return len(self._clients) >= self.limits.clients

    def negotiate(self, hub: Hub, user_id: str | None, version: int) -> Negotiated:
        """Issue a connection, which the client may open within a short time. version: of the negotiation."""
        now = asyncio.get_running_loop().time()
        return self._negotiations.issue(hub.name, user_id, version=version, now=now)

    def open(
        self,
        hub: Hub,
        user_id: str | None,
        token: str | None,
        wire: Wire,
        *,
        claims: Mapping[str, Any] | None = None,
        query: str = "",
    ) -> Client | None:
        """A new client, or None when its token is not, or no longer, good for this hub and user.

        token: what the negotiation gave it; None when it skipped that. claims, query: what an upstream is told.
        """
        now = asyncio.get_running_loop().time()
        connection_id = new_connection_id()
        if token is not None:
            negotiated = self._negotiations.take(token, hub.name, user_id, now=now)
            if negotiated is None:
                return None
            connection_id = negotiated.connection_id
        connection = Connection(connection_id, user_id, wire, flusher=self.flusher, limits=self.limits)
        who = Who(hub.name, connection_id, user_id, claims or {}, query)
        client = Client(
            token or connection_id,
            hub,
            connection,
            handshake_s=self.limits.handshake_timeout_s,
            on_end=self._forget,
            tell=lambda client: self._begin_telling(client, who),
        )
        self._clients[client.token] = client
        self.nobody.clear()
        self._somebody.set()
        return client

    def _begin_telling(self, client: Client, who: Who) -> Telling | None:
        if self.upstream is None or self._stopping:
            return None
        telling = Telling(self.upstream, who, client.answer, client.connection.close)
        self._tellings.add(telling.task)
        telling.task.add_done_callback(self._tellings.discard)
        return telling

    def client(self, token: str) -> Client | None:
        """The connected client with this token."""
        return self._clients.get(token)

    def _forget(self, client: Client) -> None:
        del self._clients[client.token]
        if not self._clients:
            self.nobody.set()
            self._somebody.clear()

    def client_claims(self, token: str | None, *, hub: str, origin: str) -> Mapping[str, Any]:
        """Check a client's token. origin: the origin that the request used, which may be an alias of ours.

        Raises TokenRefused.
        """
        audiences = {
            f"{address}/client/?hub={name}" for address in (self.endpoint, origin) for name in (hub, hub.lower())
        }
        return tokens.verify(token, keys=self.keys, audiences=audiences)

    async def _care(self) -> None:
        """Ping idle clients, drop silent ones, end expired memberships; asleep while nobody is connected."""
        limits = self.limits
        loop = asyncio.get_running_loop()
        while True:
            await self._somebody.wait()
            await asyncio.sleep(min(1.0, limits.ping_interval_s / 4, limits.client_timeout_s / 4))
            now = loop.time()
            for hub in self._hubs.values():
                for connection in tuple(hub.connections.values()):
                    if connection.wire.is_awaited:
                        connection.heard_at = now
                    elif now - connection.heard_at > limits.client_timeout_s:
                        connection.close("The client has been silent for too long.", allow_reconnect=True)
                    elif (
                        connection.wire.needs_pings
                        and connection.protocol is not None
                        and now - connection.sent_at >= limits.ping_interval_s
                    ):
                        connection.enqueue(connection.protocol.ping)
            for name, user_id, group in self._user_groups.take_expired():
                self.hub(name).remove_user_from_group(user_id, group)
