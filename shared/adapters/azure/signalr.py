"""Live delivery while a function runs: through the relay function's output binding, or the SignalR data plane.

Both senders implement `RealtimeSender` and keep one connection alive. The relay sender batches the messages of all
streams of this process into one call at a time, so its cost does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote

import aiohttp
import jwt
import orjson
from yarl import URL

from shared.adapters.azure.entra import TokenUnavailable
from shared.batching import Batcher
from shared.sessions.live.realtime import DeliveryFailed
from shared.signing import RelayTokens

HUB = "parley"

RELAY_ROUTE = "internal/relay"
MOST_RELAYED_BYTES = 4 * 1024 * 1024
"""Of one request to the relay, unless one message is larger; it takes twice as much."""

_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_TOKEN_SECONDS = 600
_PING_GROUP = "health"
_ARGUMENTS = b'"arguments":'
"""Within a text its quotes would be escaped, so the first is the message's own."""
_PLACES = {"groupName": "groups", "userId": "users", "connectionId": "connections"}


class _Session:
    """A client session, created on first use."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self._session

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class RelaySender:
    """`RealtimeSender` through our own relay function."""

    def __init__(self, internal_base_url: str, tokens: RelayTokens) -> None:
        self._url = f"{internal_base_url}/api/{RELAY_ROUTE}"
        self._tokens = tokens
        self._session = _Session(limit=1)
        self._batcher = Batcher[Sequence[bytes], None](self._post)

    async def send(self, messages: Sequence[bytes]) -> None:
        await self._batcher.submit(messages)

    async def _post(self, batch: Sequence[Sequence[bytes]]) -> Sequence[None]:
        part: list[bytes] = []
        size_bytes = 0
        for message in (message for messages in batch for message in messages):
            if part and size_bytes + len(message) > MOST_RELAYED_BYTES:
                await self._post_part(part)
                part, size_bytes = [], 0
            part.append(message)
            size_bytes += len(message)
        await self._post_part(part)
        return [None] * len(batch)

    async def _post_part(self, messages: Sequence[bytes]) -> None:
        body = b"[" + b",".join(messages) + b"]"
        headers = {"Authorization": f"Bearer {self._tokens.current()}", "Content-Type": "application/json"}
        try:
            async with self._session.get().post(self._url, data=body, headers=headers) as response:
                if response.status >= 300:
                    raise DeliveryFailed(f"the relay answered {response.status}")
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise DeliveryFailed(f"{type(exc).__name__}: {exc}") from exc

    async def aclose(self) -> None:
        await self._session.aclose()


class RestSender:
    """`RealtimeSender` directly to the SignalR data plane, one call per message.

    token: returns the bearer token for a URL.
    """

    def __init__(self, endpoint: str, token: Callable[[str], Awaitable[str]]) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._session = _Session(limit=32)

    @classmethod
    def with_key(cls, connection_string: str) -> RestSender:
        """From a connection string with an access key, which signs a token per URL."""
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
        endpoint = parts["Endpoint"].rstrip("/")
        return cls(f"{endpoint}:{parts['Port']}" if "Port" in parts else endpoint, _KeyTokens(parts["AccessKey"]))

    async def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            place, body = _addressed(message)
            status = await self._request("POST", place, body)
            if status >= 300:
                raise _refused(status)

    async def change_group(self, action: bytes) -> None:
        """Do a group action (`groups.group_action`) now. Raises DeliveryFailed, also for a connection that
        is gone and is to be added."""
        fields = orjson.loads(action)
        kind, member = (
            ("connections", fields.get("connectionId")) if "connectionId" in fields else ("users", fields["userId"])
        )
        group, member = quote(fields["groupName"], safe=""), quote(member, safe="")
        method = "PUT" if fields["action"] == "add" else "DELETE"
        status = await self._request(method, f"groups/{group}/{kind}/{member}")
        is_gone = status == 404 and method == "DELETE"
        if status >= 300 and not is_gone:
            raise _refused(status)

    async def is_empty(self, group: str) -> bool:
        """Whether a group has no connection now. Raises DeliveryFailed."""
        return not await self._exists(f"groups/{quote(group, safe='')}")

    async def is_member(self, group: str, user_id: str) -> bool:
        """Whether a user is in a group with all their connections. Raises DeliveryFailed."""
        return await self._exists(f"groups/{quote(group, safe='')}/users/{quote(user_id, safe='')}")

    async def _exists(self, place: str) -> bool:
        status = await self._request("GET", place)
        if status not in {200, 404}:
            raise _refused(status)
        return status == 200

    async def _request(self, method: str, place: str, body: bytes | None = None) -> int:
        """The status of the answer. Raises DeliveryFailed when there is none.

        https://learn.microsoft.com/azure/azure-signalr/swagger/signalr-data-plane-rest-v1
        """
        url = f"{self._endpoint}/api/v1/hubs/{HUB}/{place}"
        try:
            headers = {"Authorization": f"Bearer {await self._token(url)}"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            # As it was signed: aiohttp would write an encoded `@` or `:` of a user's id out again.
            signed = URL(url, encoded=True)
            async with self._session.get().request(method, signed, data=body, headers=headers) as response:
                await response.read()
                return response.status
        except (aiohttp.ClientError, TimeoutError, TokenUnavailable) as exc:
            raise DeliveryFailed(f"{type(exc).__name__}: {exc}") from exc

    async def ping(self) -> None:
        """Ask about a group of our hub, which requires a valid key or role. Raises DeliveryFailed."""
        await self.is_empty(_PING_GROUP)

    async def aclose(self) -> None:
        await self._session.aclose()


def _refused(status: int) -> DeliveryFailed:
    return DeliveryFailed(f"the SignalR service answered {status}")


def _addressed(message: bytes) -> tuple[str, bytes]:
    """Where the data plane takes an encoded message, and the message as it takes it: without its receiver.

    The event in it is large and is not encoded again.
    """
    place = message.index(_ARGUMENTS)
    fields = orjson.loads(message[:place] + b'"":0}')
    kind, receiver = next((kind, fields[field]) for field, kind in _PLACES.items() if field in fields)
    body = b'{"target":%b,%b' % (orjson.dumps(fields["target"]), message[place:])
    return f"{kind}/{quote(receiver, safe='')}", body


class _KeyTokens:
    """Tokens signed with the service's access key, each cached for half of its lifetime."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._tokens: dict[str, tuple[str, float]] = {}

    async def __call__(self, url: str) -> str:
        token, renew_at = self._tokens.get(url, ("", 0.0))
        now = time.time()
        if now >= renew_at:
            token = jwt.encode({"aud": url, "exp": int(now) + _TOKEN_SECONDS}, self._key, algorithm="HS256")
            if len(self._tokens) > 10_000:
                self._tokens.clear()
            self._tokens[url] = (token, now + _TOKEN_SECONDS / 2)
        return token


def user_of_connection(connection: str) -> str | None:
    """The SignalR user id in a client's connection info; None if there is none or it cannot be read.

    connection: `{"url", "accessToken"}` as JSON, as the `signalRConnectionInfo` binding gives it. The signature is not
    checked: the text comes from our own host. Source: the claim's name is that of the Azure SignalR management SDK.
    """
    try:
        claims = jwt.decode(orjson.loads(connection)["accessToken"], options={"verify_signature": False})
    except (ValueError, KeyError, TypeError, jwt.PyJWTError):
        return None
    user = claims.get("asrs.s.uid")
    return user if isinstance(user, str) else None
