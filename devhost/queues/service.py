"""The queue service's REST API: what a queue trigger and a queue output need of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from devhost.queues.account import QueueAccount

if TYPE_CHECKING:
    import aiohttp

API_VERSION = "2021-12-02"
_TIMEOUT_S = 60.0


class QueueFailed(Exception):
    """The service refused or cannot be reached. status: 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Message:
    """A message that was received. Aware UTC instants; pop_receipt and next_visible_at change when it is updated."""

    id: str
    pop_receipt: str
    text: str
    """As stored: encoded or not."""
    dequeue_count: int
    inserted_at: datetime
    expires_at: datetime
    next_visible_at: datetime


class QueueService:
    """One kept-alive HTTP session for all accounts."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self, account: QueueAccount, method: str, path: str, query: Mapping[str, str], body: str | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of a good answer. path: percent-encoded. Raises QueueFailed."""
        # Imported late: every host loads this module's package, and few have queues.
        import aiohttp
        from yarl import URL

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        url, data = f"{account.url}{path}", None if body is None else body.encode()
        headers = {"x-ms-date": format_datetime(datetime.now(UTC), usegmt=True), "x-ms-version": API_VERSION}
        if data:
            headers |= {"content-type": "application/xml", "content-length": str(len(data))}
        headers["authorization"] = account.signed(method, url, query, headers)
        target = URL(f"{url}?{urlencode(query)}" if query else url, encoded=True)
        try:
            async with self._session.request(
                method, target, headers=headers, data=data, skip_auto_headers=("content-type",), allow_redirects=False
            ) as response:
                answer = await response.read()
                if response.status >= 300:
                    code = response.headers.get("x-ms-error-code", "")
                    raise QueueFailed(f"{method} {path} answered {response.status} {code}".rstrip(), response.status)
                return response.headers, answer
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise QueueFailed(f"{method} {path} failed: {exc or type(exc).__name__}") from exc


class Queue:
    """One queue."""

    def __init__(self, service: QueueService, account: QueueAccount, name: str) -> None:
        self.name = name
        self._service = service
        self._account = account

    async def exists(self) -> bool:
        """Raises QueueFailed."""
        try:
            await self._call("GET", "", {"comp": "metadata"})
        except QueueFailed as failed:
            if failed.status == 404:
                return False
            raise
        return True

    async def receive(self, count: int, *, invisible_s: int) -> list[Message]:
        """At most `count` (1 to 32), which nobody else gets for that time. Raises QueueFailed."""
        query = {"numofmessages": str(count), "visibilitytimeout": str(invisible_s)}
        _, answer = await self._call("GET", "/messages", query)
        try:
            # The service is the user's own.
            return [_message(one) for one in ET.fromstring(answer).iter("QueueMessage")]  # noqa: S314
        except (ET.ParseError, ValueError) as exc:
            raise QueueFailed(f"GET /{self.name}/messages answered what cannot be read: {exc}") from exc

    async def send(self, text: str) -> None:
        """Put a message, as it is, into the queue, which is made if it does not exist. Raises QueueFailed."""
        body = f"<QueueMessage><MessageText>{escape(text)}</MessageText></QueueMessage>"
        try:
            await self._call("POST", "/messages", {}, body)
        except QueueFailed as failed:
            if failed.status != 404:
                raise
            await self.create()
            await self._call("POST", "/messages", {}, body)

    async def create(self) -> None:
        """Make the queue; one that exists stays. Raises QueueFailed."""
        await self._call("PUT", "", {})

    async def update(self, message: Message, *, invisible_s: int) -> None:
        """Set when it can be received again. Raises QueueFailed: also when it has been received by another."""
        query = {"popreceipt": message.pop_receipt, "visibilitytimeout": str(invisible_s)}
        headers, _ = await self._call("PUT", f"/messages/{quote(message.id, safe='')}", query)
        message.pop_receipt = headers["x-ms-popreceipt"]
        message.next_visible_at = parsedate_to_datetime(headers["x-ms-time-next-visible"])

    async def delete(self, message: Message) -> None:
        """Raises QueueFailed: also when it has been received by another."""
        await self._call("DELETE", f"/messages/{quote(message.id, safe='')}", {"popreceipt": message.pop_receipt})

    async def _call(
        self, method: str, path: str, query: Mapping[str, str], body: str | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        return await self._service.call(self._account, method, f"/{self.name}{path}", query, body)


def _message(element: ET.Element) -> Message:
    def of(name: str) -> str:
        return element.findtext(name) or ""

    return Message(
        id=of("MessageId"),
        pop_receipt=of("PopReceipt"),
        text=of("MessageText"),
        dequeue_count=int(of("DequeueCount")),
        inserted_at=parsedate_to_datetime(of("InsertionTime")),
        expires_at=parsedate_to_datetime(of("ExpirationTime")),
        next_visible_at=parsedate_to_datetime(of("TimeNextVisible")),
    )
