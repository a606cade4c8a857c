"""The real @microsoft/signalr client under Node, as a console would use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.devhost.signalr.signalr_harness import NodeClients
from tests.e2e.support.client import Api, Json

CLIENT_METHOD = "event"


class Listener:
    """One connection of one user; what it heard, in order of arrival."""

    def __init__(self, clients: NodeClients, name: str, connection_id: str) -> None:
        self._clients = clients
        self._name = name
        self.connection_id = connection_id

    async def next(self) -> Json:
        """The next envelope."""
        [envelope] = await self._clients.message(self._name)
        return dict(envelope)

    async def until(self, kind: str) -> list[Json]:
        """Envelopes up to and with the first of a type."""
        found = [await self.next()]
        while found[-1]["type"] != kind:
            found.append(await self.next())
        return found

    def unread(self) -> list[Any]:
        return [event for event in self._clients.unread(self._name) if event["event"] == "message"]

    async def reconnected(self) -> None:
        """Wait until a broken connection is back."""
        await self._clients.expect(self._name, "reconnected")

    async def stop(self) -> None:
        await self._clients.command(self._name, "stop")
        await self._clients.expect(self._name, "closed")


class Console:
    """Makes listeners."""

    def __init__(self, clients: NodeClients) -> None:
        self._clients = clients
        self._count = 0

    async def connect(
        self, api: Api, *, subscribe_to: str | None = None, reconnect: list[int] | None = None
    ) -> Listener:
        """Negotiate and connect as the client's user; then join a session's group with that connection.

        reconnect: pauses in ms before each try to come back after the connection broke.
        """
        self._count += 1
        name = f"client-{self._count}"
        url = f"{api.base_url}/api/v1/realtime"
        options: Json = {"headers": dict(api.headers), "targets": [CLIENT_METHOD], "reconnect": reconnect}
        connection_id = await self._clients.connect(name, url, **options)
        if subscribe_to is not None:
            path = f"/api/v1/sessions/{subscribe_to}/subscribe"
            assert (await api.post(path, {"connection_id": connection_id})).status_code == 200
        return Listener(self._clients, name, connection_id)


@asynccontextmanager
async def running_console() -> AsyncIterator[Console]:
    clients = NodeClients()
    await clients.start()
    try:
        yield Console(clients)
    finally:
        await clients.stop()
