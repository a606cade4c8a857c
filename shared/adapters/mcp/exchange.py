"""One exchange with an MCP server: the requests of one list or one call, in the server's era of the protocol.

Modern servers (2026-07-28) take each request by itself. Older ones (2025-03-26 to 2025-11-25) want `initialize` first
and may give a session id; a session lasts for one exchange, since the next one may run on another instance of the app.

Invariant: each request is sent once. What a server asks of us in between gets a refusal, never an action.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any

import aiohttp
import orjson
from yarl import URL

from shared import tracing
from shared.adapters.http.connecting import Lookup, guarded_session
from shared.adapters.http.guard import AllowList
from shared.adapters.mcp.wire import BadAnswer, error_of, header_value, messages_of
from shared.sessions.models import JsonObject

log = logging.getLogger(__name__)

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26")
"""Newest first."""
CLIENT_INFO = {"name": "parley", "version": "1"}

UNSUPPORTED_VERSION = -32022
_MODERN_ERRORS = frozenset({-32020, -32021, UNSUPPORTED_VERSION})
_METHOD_NOT_FOUND = -32601
_META = "io.modelcontextprotocol/"
_GOODBYE_S = 0.8
"""Twice this is less than a cancelled tool is given to clean up (`tools/running/runner.py`)."""
_MAX_SESSION_CHARS = 1_024
_MAX_ASKED = 20
"""Requests of a server within one answer that are refused; one more ends the exchange."""

type Notified = Callable[[str, Mapping[str, Any]], None]
"""(method, params) of a notification that belongs to the request."""


class Era(StrEnum):
    MODERN = "modern"  # each request carries all that it needs
    LEGACY = "legacy"  # `initialize` comes first


class Refusal(Exception):
    """The server answered with a JSON-RPC error, or with a status. Completes "the server ..."."""

    def __init__(self, told: str, *, code: int | None = None, status: int = 200, data: Any = None) -> None:
        super().__init__(told)
        self.code = code
        self.status = status
        self.data = data


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and as whom requests are sent."""

    url: URL
    allow: AllowList
    lookup: Lookup
    headers: Mapping[str, str]
    """The credential."""
    hidden: bytes
    """Its value, which no answer may repeat; empty: none."""
    large: asyncio.Semaphore
    """From `large_answers`."""


class Exchange:
    """Requests to one endpoint. Made by `opened`."""

    def __init__(self, endpoint: Endpoint, era: Era) -> None:
        self._endpoint = endpoint
        self.era = era
        self.version = MODERN if era is Era.MODERN else LEGACY[0]
        self._session_id: str | None = None
        self._ids = count(1)

    async def request(
        self,
        method: str,
        params: JsonObject,
        *,
        name: str | None = None,
        headers: Mapping[str, str] | None = None,
        notified: Notified | None = None,
    ) -> JsonObject:
        """The result. name: of the tool, for modern servers a header. notified: hears of progress.

        Raises Refusal, BadAnswer, aiohttp.ClientError, OSError, ToolRefused.
        """
        request_id = next(self._ids)
        meta: JsonObject = {"progressToken": request_id} if notified is not None else {}
        if self.era is Era.MODERN:
            meta |= {
                f"{_META}protocolVersion": self.version,
                f"{_META}clientInfo": CLIENT_INFO,
                f"{_META}clientCapabilities": {"elicitation": {"form": {}}},
            }
        body = {
            "jsonrpc": "2.0",
            "id": request_id,
            "method": method,
            "params": {**params, **({"_meta": meta} if meta else {})},
        }
        sent = {**self._headers(method, name), **(headers or {})}
        try:
            return await self._answer(body, request_id, sent, notified)
        except asyncio.CancelledError:
            if self.era is Era.LEGACY and method != "initialize":
                # A modern server is told by the end of the connection.
                await self._say("notifications/cancelled", {"requestId": request_id, "reason": "cancelled"})
            raise

    async def initialize(self) -> None:
        """The handshake of legacy servers. Raises as `request`."""
        result = await self.request(
            "initialize", {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT_INFO}
        )
        version = result.get("protocolVersion")
        if version not in LEGACY:
            raise BadAnswer(f"speaks a version of MCP that is not supported: {str(version)[:40]!r}")
        self.version = version
        await self._notify("notifications/initialized", {})

    async def close(self) -> None:
        """Tell a legacy server that its session is over. What becomes of that does not matter."""
        if self._session_id is None:
            return
        try:
            async with asyncio.timeout(_GOODBYE_S), self._open("DELETE", None, self._headers(None, None)):
                pass
        except (aiohttp.ClientError, OSError, ValueError):
            log.info("the MCP server %s did not take the end of a session", self._endpoint.url.host)

    def _headers(self, method: str | None, name: str | None) -> dict[str, str]:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "Parley-mcp/1",
            **tracing.outgoing(),
            **self._endpoint.headers,
        }
        if method != "initialize":
            headers["MCP-Protocol-Version"] = self.version
        if self.era is Era.MODERN and method is not None:
            headers["Mcp-Method"] = method
            if name is not None:
                headers["Mcp-Name"] = header_value(name)
        if self._session_id is not None:
            headers["Mcp-Session-Id"] = self._session_id
        return headers

    @asynccontextmanager
    async def _open(
        self, method: str, body: JsonObject | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        endpoint = self._endpoint
        data = None if body is None else orjson.dumps(body)
        async with (
            guarded_session(endpoint.allow, endpoint.url, endpoint.lookup) as session,
            session.request(method, endpoint.url, headers=headers, data=data, allow_redirects=False) as answer,
        ):
            yield answer

    async def _answer(
        self, body: JsonObject, request_id: int, headers: Mapping[str, str], notified: Notified | None
    ) -> JsonObject:
        async with self._open("POST", body, headers) as answer:
            if 300 <= answer.status < 400:
                raise Refusal("redirects to another address, which is not followed", status=answer.status)
            if answer.status in {401, 403}:
                raise Refusal(f"refuses the credentials that are sent (status {answer.status})", status=answer.status)
            if body["method"] == "initialize" and answer.ok:
                self._session_id = _session_id(answer.headers.get("Mcp-Session-Id"))
            asked = 0
            try:
                async with aclosing(messages_of(answer, self._endpoint.hidden, self._endpoint.large)) as messages:
                    async for message in messages:
                        if "method" not in message:
                            return _result(message, request_id, answer.status)
                        if "id" in message:
                            asked += 1
                            await self._decline(message, asked)
                        elif notified is not None and isinstance(message.get("params"), dict):
                            notified(str(message["method"]), message["params"])
            except BadAnswer:
                if answer.ok:
                    raise
                raise Refusal(f"answers with status {answer.status}", status=answer.status) from None
        raise BadAnswer("ended its stream without an answer")

    async def _decline(self, message: Mapping[str, Any], asked: int) -> None:
        """Older servers may ask in between; nothing was offered to them, so a ping is all they get."""
        if asked > _MAX_ASKED or self.era is Era.MODERN:
            raise BadAnswer("asks for something instead of answering")
        reply: JsonObject = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            reply["result"] = {}
        else:
            reply["error"] = {"code": _METHOD_NOT_FOUND, "message": "Not supported by this client"}
        async with self._open("POST", reply, self._headers(None, None)):
            pass

    async def _notify(self, method: str, params: JsonObject) -> None:
        body = {"jsonrpc": "2.0", "method": method, "params": params}
        async with self._open("POST", body, self._headers(None, None)) as answer:
            if not answer.ok:
                raise Refusal(f"answers with status {answer.status}", status=answer.status)

    async def _say(self, method: str, params: JsonObject) -> None:
        """Tell it, whatever becomes of that."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._notify(method, params)
        except (aiohttp.ClientError, OSError, Refusal, ValueError):
            log.info("the MCP server %s did not take %s", self._endpoint.url.host, method)


@asynccontextmanager
async def opened(endpoint: Endpoint, era: Era) -> AsyncIterator[Exchange]:
    """An exchange in that era, after the handshake where there is one. Raises as `Exchange.request`."""
    exchange = Exchange(endpoint, era)
    try:
        if era is Era.LEGACY:
            await exchange.initialize()
        yield exchange
    finally:
        await exchange.close()


async def era_of(endpoint: Endpoint) -> Era:
    """Asks the server. Raises as `Exchange.request`.

    Source of the rules: MCP 2026-07-28, Versioning and Streamable HTTP, "Backward Compatibility".
    """
    try:
        result = await Exchange(endpoint, Era.MODERN).request("server/discover", {})
    except Refusal as refusal:
        supported = refusal.data.get("supported") if isinstance(refusal.data, Mapping) else None
        if refusal.code == UNSUPPORTED_VERSION and isinstance(supported, list):
            if any(version in LEGACY for version in supported):
                return Era.LEGACY
            raise BadAnswer("speaks no version of MCP that is supported") from None
        if refusal.code in _MODERN_ERRORS or refusal.status in {401, 403} or 300 <= refusal.status < 400:
            raise
        if refusal.status >= 500 and refusal.code is None:
            raise
        return Era.LEGACY
    versions = result.get("supportedVersions")
    return Era.MODERN if isinstance(versions, list) and MODERN in versions else Era.LEGACY


def _session_id(value: str | None) -> str | None:
    """Raises BadAnswer. Source of the characters: MCP 2025-11-25, Transports, "Session Management"."""
    if value is None:
        return None
    if len(value) > _MAX_SESSION_CHARS or not all("!" <= character <= "~" for character in value):
        raise BadAnswer("gives a session id that headers cannot carry")
    return value


def _result(message: Mapping[str, Any], request_id: int, status: int) -> JsonObject:
    """The result of the answer to this request. Raises Refusal, BadAnswer."""
    error = error_of(message)
    if error is not None and (message.get("id") is None or _is_id(message["id"], request_id)):
        code, text, data = error
        raise Refusal(f"answers with error {code}: {text[:500]}", code=code, status=status, data=data)
    if "id" not in message or not _is_id(message["id"], request_id):
        raise BadAnswer("answers another request than the one that it got")
    result = message.get("result")
    if not isinstance(result, dict):
        raise BadAnswer("gives a result that is not an object")
    if not 200 <= status < 300:
        raise Refusal(f"answers with status {status}", status=status)
    return result


def _is_id(told: object, request_id: int) -> bool:
    return type(told) is int and told == request_id
