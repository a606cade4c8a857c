"""The real @microsoft/signalr client under Node, as a console would use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.devhost.signalr.signalr_harness import NodeClients
from tests.e2e.support.client import Api, Json

CLIENT_METHOD = "event"


class Listener:
    """One connection of one user, as it hears a session or what its groups are told.

    Outputs of two functions may overtake each other, so a listener to a session does what `docs/live.md` asks of every
    client: it puts events in the order of their numbers and drops those that it has. It does not fill holes, since what
    is not heard is for the tests to find.
    """

    def __init__(
        self, clients: NodeClients, name: str, connection_id: str, session_id: str = "", after: int = 0
    ) -> None:
        """session_id: whose events are put in order. after: the last number that is not waited for."""
        self._clients = clients
        self._name = name
        self._session_id = session_id
        self._after = after
        self._early: dict[int, Json] = {}
        self.connection_id = connection_id
        self.arrived: list[int] = []
        """Numbers of the session's events as they arrived."""

    async def arrival(self) -> Json:
        """The next envelope in order of arrival, whatever it is."""
        [envelope] = await self._clients.message(self._name)
        if envelope.get("session_id") == self._session_id:
            self.arrived.append(envelope["seq"])
        return dict(envelope)

    async def next(self) -> Json:
        """The session's next envelope by its number; without a session, or of another one, the next that arrives."""
        while (envelope := self._early.pop(self._after + 1, None)) is None:
            envelope = await self.arrival()
            if envelope.get("session_id") != self._session_id:
                return envelope
            if envelope["seq"] > self._after:
                self._early[envelope["seq"]] = envelope
        self._after = envelope["seq"]
        return envelope

    async def until(self, kind: str) -> list[Json]:
        """Envelopes up to and with the first of a type."""
        found = [await self.next()]
        while found[-1]["type"] != kind:
            found.append(await self.next())
        return found

    def unread(self) -> list[Any]:
        """What has arrived and was not asked for."""
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
        self,
        api: Api,
        *,
        subscribe_to: str | None = None,
        reconnect: list[int] | None = None,
        is_in_order: bool = True,
    ) -> Listener:
        """Negotiate and connect as the client's user; then join a session's group with that connection.

        reconnect: pauses in ms before each try to come back after the connection broke. is_in_order: False to hear a
        session's events as they arrive.
        """
        self._count += 1
        name = f"client-{self._count}"
        url = f"{api.base_url}/api/v1/realtime"
        options: Json = {"headers": dict(api.headers), "targets": [CLIENT_METHOD], "reconnect": reconnect}
        connection_id = await self._clients.connect(name, url, **options)
        if subscribe_to is None:
            return Listener(self._clients, name, connection_id)
        path = f"/api/v1/sessions/{subscribe_to}"
        assert (await api.post(f"{path}/subscribe", {"connection_id": connection_id})).status_code == 200
        if not is_in_order:
            return Listener(self._clients, name, connection_id)
        page = (await api.get(f"{path}/events", params={"limit": 1})).json()
        return Listener(self._clients, name, connection_id, subscribe_to, page["last_seq"])


@asynccontextmanager
async def running_console() -> AsyncIterator[Console]:
    clients = NodeClients()
    await clients.start()
    try:
        yield Console(clients)
    finally:
        await clients.stop()
