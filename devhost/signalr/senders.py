"""Two ways to perform an action on a hub: in the embedded service, or by REST on another one.

Invariant: when `perform` returns, the service has accepted the action; actions keep their order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

from devhost.signalr.connection_string import ConnectionString
from devhost.signalr.outputs import GroupChange, GroupVerb, HubAction, HubMessage
from devhost.signalr.service import tokens
from devhost.signalr.service.hub import Hub

if TYPE_CHECKING:
    import aiohttp

API_VERSION = "2022-06-01"


class SendFailed(Exception):
    """The SignalR service did not accept an action; the text names the action and the answer."""


class Sender(Protocol):
    """Sends to one hub of one service."""

    async def perform(self, action: HubAction) -> None:
        """Raises ValueError for an invalid action, SendFailed when the service cannot be reached."""
        ...


class EmbeddedSender:
    """Calls the embedded hub directly, without HTTP or copies."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def perform(self, action: HubAction) -> None:
        hub = self._hub
        if isinstance(action, HubMessage):
            receivers = hub.receivers(connection_id=action.connection_id, user_id=action.user_id, group=action.group)
            hub.send(action.target, action.arguments, receivers)
            return
        change_group(hub, action)


def change_group(hub: Hub, change: GroupChange) -> None:
    """Apply a change. An unknown connection is not an error, since it may have just disconnected."""
    connection_id, user_id, group = change.connection_id, change.user_id, change.group
    if connection_id is not None:
        if group is None:
            # removeAll with only a connection does nothing in the real binding either.
            return
        if change.verb is GroupVerb.ADD:
            hub.add_connection_to_group(connection_id, group)
        elif change.verb is GroupVerb.REMOVE:
            hub.remove_connection_from_group(connection_id, group)
    elif user_id is not None:
        if change.verb is GroupVerb.REMOVE_ALL:
            hub.remove_user_from_all_groups(user_id)
        elif group is not None and change.verb is GroupVerb.ADD:
            hub.add_user_to_group(user_id, group)
        elif group is not None:
            hub.remove_user_from_group(user_id, group)


class RestClient:
    """One kept-alive HTTP session for all services the app sends to."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def call(self, method: str, service: ConnectionString, path: str, body: object = None) -> None:
        """One REST call. path: percent-encoded, without query. Raises SendFailed."""
        # Imported late: every host loads this module, few send to another service, and it reads all certificates.
        import aiohttp

        if self._session is None:
            # As the real binding: it waits for 100 seconds and does not send again (its retries are off by default).
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100))
        url = f"{service.server_endpoint}{path}"
        # The audience is the service's own endpoint, even when calls go through a proxy.
        token = tokens.sign(service.access_key, audience=f"{service.endpoint}{path}")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
        query = urlencode({"api-version": API_VERSION})
        try:
            async with self._session.request(
                method, f"{url}?{query}", headers=headers, data=data, allow_redirects=False
            ) as response:
                if response.status >= 300 and response.status != 404:
                    text = (await response.text())[:300]
                    raise SendFailed(f"{method} {url} answered {response.status} {text}".rstrip())
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise SendFailed(f"{method} {url} failed: {exc or type(exc).__name__}") from exc

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class RemoteSender:
    """The data-plane REST API of a real Azure SignalR Service or of another emulator."""

    def __init__(self, client: RestClient, service: ConnectionString, hub: str) -> None:
        self._client = client
        self._service = service
        self._base = f"/api/hubs/{hub.lower()}"

    async def perform(self, action: HubAction) -> None:
        if isinstance(action, HubMessage):
            body = {"target": action.target, "arguments": action.arguments}
            await self._client.call("POST", self._service, f"{self._base}{_address(action)}/:send", body)
            return
        path = self._group_path(action)
        if path is not None:
            method = "PUT" if action.verb is GroupVerb.ADD else "DELETE"
            await self._client.call(method, self._service, path)

    def _group_path(self, change: GroupChange) -> str | None:
        group = None if change.group is None else quote(change.group, safe="")
        if change.connection_id is not None:
            if group is None or change.verb is GroupVerb.REMOVE_ALL:
                return None  # nothing to do, as in the embedded hub
            return f"{self._base}/groups/{group}/connections/{quote(change.connection_id, safe='')}"
        user = quote(change.user_id or "", safe="")
        if change.verb is GroupVerb.REMOVE_ALL:
            return f"{self._base}/users/{user}/groups"
        return f"{self._base}/users/{user}/groups/{group}"


def _address(message: HubMessage) -> str:
    if message.connection_id is not None:
        return f"/connections/{quote(message.connection_id, safe='')}"
    if message.user_id is not None:
        return f"/users/{quote(message.user_id, safe='')}"
    if message.group is not None:
        return f"/groups/{quote(message.group, safe='')}"
    return ""
