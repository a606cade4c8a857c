"""What a service tells an app of its clients: that they come, call and go.

Each event is a signed POST to the app's webhook. Those of one client follow each other, and an answer that a client
waits for is written in its protocol.
Invariant: an app that does not answer holds up the events of the clients that call it, and nothing else.

Source: the emulator of azure-signalr, `HttpUpstreamTrigger` and `HttpServerlessMessageHandler`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devhost.signalr.service.protocol import INVOCATION, SEPARATOR, ClientMessage, ProtocolError

if TYPE_CHECKING:
    import aiohttp

CONNECTIONS, MESSAGES = "connections", "messages"
CONNECTED, DISCONNECTED = "connected", "disconnected"
HEADER_PREFIX = "X-ASRS-"
JSON_TYPE, PACK_TYPE = "application/json", "application/x-msgpack"

_OPEN, _CLOSED = 10, 11
_MOST_WAITING = 1_000
"""Calls of one client that wait for the app; above that the client is closed."""
_SYSTEM_CLAIMS = "asrs.s."

logger = logging.getLogger("devhost.signalr")


def signature(key: str, connection_id: str) -> str:
    """`X-ASRS-Signature`, in lower case."""
    digest = hmac.new(key.encode(), connection_id.encode(), hashlib.sha256).hexdigest()
    return f"sha256={digest}"


@dataclass(frozen=True, slots=True)
class Who:
    """A client as the app is told of it."""

    hub: str
    connection_id: str
    user_id: str | None
    claims: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    """Of its connection, without its token."""


class Upstream:
    """The app that is told. url: with `{hub}`, `{category}` and `{event}` as Azure's templates have them. keys: each
    signs, so that the app may know any of them."""

    def __init__(self, url: str, keys: Sequence[str]) -> None:
        self._url = url
        self._keys = keys
        self._session: aiohttp.ClientSession | None = None

    async def post(self, who: Who, category: str, event: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """(status, body) of the app's answer; status 0 when there is none."""
        # Imported late, as in ../senders.py.
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100))
        url = self._url.replace("{hub}", who.hub).replace("{category}", category).replace("{event}", event)
        headers = {
            "Content-Type": JSON_TYPE,
            f"{HEADER_PREFIX}Connection-Id": who.connection_id,
            f"{HEADER_PREFIX}Hub": who.hub,
            f"{HEADER_PREFIX}Category": category,
            f"{HEADER_PREFIX}Event": event,
            f"{HEADER_PREFIX}Signature": ",".join(signature(key, who.connection_id) for key in self._keys),
            f"{HEADER_PREFIX}Client-Query": who.query,
            f"{HEADER_PREFIX}User-Claims": _claims(who.claims),
            f"{HEADER_PREFIX}User-Id": who.user_id or "",
        }
        sent = {name: value for name, value in headers.items() if value}
        data = json.dumps(body, default=as_text).encode()
        try:
            async with self._session.post(url, data=data, headers=sent, allow_redirects=False) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            logger.warning("the upstream %s was not told of %s/%s: %s", self._url, category, event, exc)
            return 0, b""

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


type Answer = Callable[[str, Any, str | None], None]
"""Writes (invocation id, result, error) to the client."""


class Telling:
    """Tells of one client, in order. refuse: closes the client with a reason."""

    def __init__(self, upstream: Upstream, who: Who, answer: Answer, refuse: Callable[[str], None]) -> None:
        self._upstream = upstream
        self._who = who
        self._answer = answer
        self._refuse = refuse
        self._calls: asyncio.Queue[ClientMessage | None] = asyncio.Queue(_MOST_WAITING)
        self.task = asyncio.create_task(self._tell(), name="signalr-upstream")

    def call(self, message: ClientMessage) -> None:
        """Raises ProtocolError when the client calls faster than the app answers."""
        if not isinstance(message.target, str):
            raise ProtocolError("a call must name its target")
        try:
            self._calls.put_nowait(message)
        except asyncio.QueueFull:
            raise ProtocolError("too many calls wait for the app") from None

    def end(self) -> None:
        """The client has gone."""
        if self._calls.full():
            self._calls.get_nowait()
        self._calls.put_nowait(None)

    async def _tell(self) -> None:
        status, _ = await self._upstream.post(self._who, CONNECTIONS, CONNECTED, {"type": _OPEN})
        if status == 0:
            self._refuse("The app could not be told of the connection.")
        elif status not in {200, 204, 404}:
            # It stays connected, as in the emulator of Azure's.
            logger.warning("hub %s: the app answered %d to a new connection", self._who.hub, status)
        while (message := await self._calls.get()) is not None:
            await self._pass_on(message)
        await self._upstream.post(self._who, CONNECTIONS, DISCONNECTED, {"type": _CLOSED})

    async def _pass_on(self, message: ClientMessage) -> None:
        target, invocation_id = str(message.target), message.invocation_id
        body = {
            "type": INVOCATION,
            "target": target,
            "arguments": message.arguments,
            **({"invocationId": invocation_id} if invocation_id else {}),
        }
        status, answer = await self._upstream.post(self._who, MESSAGES, target, body)
        if not invocation_id:
            return
        if status == 0:
            self._answer(invocation_id, None, "Invocation failed, the app was not reached")
        elif status == 204 or (status == 200 and not answer):
            self._answer(invocation_id, None, None)
        elif status != 200:
            self._answer(invocation_id, None, f"Invocation failed, status code {status}")
        else:
            self._answer(invocation_id, *_completion(answer))


def _completion(answer: bytes) -> tuple[Any, str | None]:
    """(result, error)."""
    try:
        message = json.loads(answer.decode().rstrip(SEPARATOR))
        error = message.get("error")
    except (ValueError, AttributeError):
        return None, "Invocation failed, the answer is not a completion."
    return message.get("result"), None if error is None else str(error)


def _claims(claims: Mapping[str, Any]) -> str:
    told = {name: value for name, value in claims.items() if not name.startswith(_SYSTEM_CLAIMS)}
    text = ", ".join(f"{name}: {value}" for name, value in told.items() if isinstance(value, str | int))
    return text.encode("ascii", "ignore").decode().replace("\r", "").replace("\n", "")


def as_text(value: object) -> str:
    """Binary data as JSON has it. Raises TypeError for anything else."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} cannot be written in JSON")
