"""Reads and calls the tools of MCP servers. Implements `McpServers`.

Every call reads the server's list first and compares the definition with the pin: one request more, and the shortest
time that the protocol allows between look and call. What a server says about how long its list holds is not believed.

Invariant: the call itself is sent once, after the definition was found to be the pinned one; again only when the server
asks for that, with what it asked for. An error after it was sent says that it may have been carried out.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeIs

import aiohttp
from yarl import URL

from shared.adapters.azure.entra import TokenUnavailable
from shared.adapters.http.connecting import Lookup, SystemLookup
from shared.adapters.mcp.allowed import AllowedServers
from shared.adapters.mcp.exchange import Endpoint, Era, Exchange, Refusal, era_of, opened
from shared.adapters.mcp.wire import BadAnswer, header_value, large_answers
from shared.errors import ErrorCode, ToolFailed, ToolRefused
from shared.sessions.mcp.asking import Asked
from shared.sessions.mcp.definitions import Definition, Offered, headers_of, read_offered
from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.mcp.reading import Answered, DefinitionChanged, OnProgress
from shared.sessions.mcp.results import McpResult, read_result
from shared.sessions.mcp.servers import Credentials, HeaderCredential, McpServer
from shared.sessions.models import JsonObject
from shared.visible import visible_text

log = logging.getLogger(__name__)

MAX_OFFERED = 1_000
MAX_PAGES = 20
READ_S = 20.0
MAX_AGAIN = 5
"""Calls that a server asks for without asking the user anything."""
AGAIN_S = 0.1
_MAX_CURSOR_CHARS = 4_096
_MAX_ERAS = 1_000
_MIN_HIDDEN = 8
"""A shorter credential is not looked for in answers: it would be found in words."""

type Secret = Callable[[str], str]
"""The value of a secret by its name. Raises ToolFailed."""
type Token = Callable[[str], Awaitable[str]]
"""A token of the app's identity for a scope. Raises TokenUnavailable."""


class McpClient:
    """Implements `McpServers`. Holds nothing open between exchanges."""

    def __init__(
        self,
        allowed: AllowedServers,
        *,
        secret: Secret,
        token: Token,
        lookup: Lookup | None = None,
        read_s: float = READ_S,
    ) -> None:
        """lookup: None: the operating system's. read_s: for all that a server offers, handshake included."""
        self._allowed = allowed
        self._secret = secret
        self._token = token
        self._lookup = lookup or SystemLookup()
        self._read_s = read_s
        self._large = large_answers()
        self._eras: dict[str, Era] = {}
        """By address. A server that was replaced by one of the other era is asked again."""

    def check(self, server: McpServer) -> None:
        self._allowed.check(URL(server.url), server.credentials)

    async def offered(self, server: McpServer) -> Offered:
        with _told(server.name, " Nothing was called."):
            endpoint = await self._endpoint(server.url, server.credentials)
            async with asyncio.timeout(self._read_s):
                return await self._in_era(endpoint, _list)

    async def call(
        self,
        tool: PinnedTool,
        arguments: Mapping[str, Any],
        *,
        tool_call_id: str,
        on_progress: OnProgress | None = None,
        answered: Answered | None = None,
    ) -> McpResult | Asked:
        sent = _Sent()

        async def compared_and_called(exchange: Exchange) -> McpResult | Asked:
            async with asyncio.timeout(self._read_s):
                offered = await _list(exchange)
            current = offered.definitions.get(tool.definition.name)
            if current is None or current.digest != tool.digest:
                raise DefinitionChanged(tool, None if current is None else current.digest)
            sent.at_all = True
            if answered is not None and exchange.era is not Era.MODERN:
                raise BadAnswer("asked for input, and now speaks a version of MCP that takes no answers")
            key = tool_call_id if answered is None else f"{tool_call_id}.{answered.round}"
            return await _until_it_asks(exchange, current, arguments, key, on_progress, answered)

        with _told(tool.server, " The call was not made.", sent):
            endpoint = await self._endpoint(tool.url, tool.credentials)
            return await self._in_era(endpoint, compared_and_called, sent)

    async def _in_era[T](
        self, endpoint: Endpoint, act: Callable[[Exchange], Awaitable[T]], sent: _Sent | None = None
    ) -> T:
        """Act in the server's era; where a known era proves wrong before anything was called, ask and act again."""
        address = str(endpoint.url)
        known = self._eras.get(address)
        if known is not None:
            try:
                async with opened(endpoint, known) as exchange:
                    return await act(exchange)
            except Refusal as refusal:
                if (sent is not None and sent.at_all) or refusal.status not in {400, 404, 405}:
                    raise
                self._eras.pop(address, None)
        async with asyncio.timeout(self._read_s):
            era = await era_of(endpoint)
        async with opened(endpoint, era) as exchange:
            done = await act(exchange)
        if len(self._eras) >= _MAX_ERAS:
            self._eras.clear()
        self._eras[address] = era
        return done

    async def _endpoint(self, address: str, credentials: Credentials | None) -> Endpoint:
        """Raises ToolRefused."""
        url = URL(address)
        self._allowed.check(url, credentials)
        headers: dict[str, str] = {}
        value = ""
        if isinstance(credentials, HeaderCredential):
            value = self._secret(credentials.secret)
            if not value.isascii() or not value.isprintable():
                message = f"The secret {credentials.secret} holds characters that no header can carry."
                raise ToolRefused(message)
            headers[credentials.name] = value
        elif credentials is not None:
            try:
                value = await self._token(credentials.scope)
            except TokenUnavailable as exc:
                raise ToolFailed(f"The app's identity has no token for {credentials.scope}.") from exc
            headers["Authorization"] = f"Bearer {value}"
        hidden = value.rpartition(" ")[2]
        return Endpoint(
            url,
            self._allowed.addresses,
            self._lookup,
            headers,
            hidden.encode() if len(hidden) >= _MIN_HIDDEN else b"",
            self._large,
        )


class _Sent:
    """Whether the call was sent, for what an error has to say."""

    def __init__(self) -> None:
        self.at_all = False


async def _list(exchange: Exchange) -> Offered:
    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        result = await exchange.request("tools/list", {} if cursor is None else {"cursor": cursor})
        page = result.get("tools")
        if not isinstance(page, list):
            raise BadAnswer("gives a list of tools that is not a list")
        tools += page
        if len(tools) > MAX_OFFERED:
            raise BadAnswer(f"offers more than {MAX_OFFERED} tools")
        following = result.get("nextCursor")
        if following is None:
            return read_offered(tools, exchange.version)
        if not isinstance(following, str) or len(following) > _MAX_CURSOR_CHARS:
            raise BadAnswer("gives a cursor that is not one")
        cursor = following
    raise BadAnswer(f"gives its list in more than {MAX_PAGES} pages")


async def _until_it_asks(
    exchange: Exchange,
    definition: Definition,
    arguments: Mapping[str, Any],
    key: str,
    on_progress: OnProgress | None,
    answered: Answered | None,
) -> McpResult | Asked:
    """The result or a question. A server that names a state and asks nothing wants to be called again with it."""
    for again in range(MAX_AGAIN + 1):
        more: JsonObject = {}
        if answered is not None:
            more = {"inputResponses": dict(answered.responses)} if answered.responses else {}
            more |= {} if answered.state is None else {"requestState": answered.state}
        result = await _call(
            exchange, definition, arguments, f"{key}.again-{again}" if again else key, on_progress, more
        )
        if isinstance(result, McpResult) or result.questions:
            return result
        answered = Answered(0, {}, result.state)
        await asyncio.sleep(AGAIN_S * 2**again)
    raise BadAnswer(f"wants to be called again more than {MAX_AGAIN} times")


async def _call(
    exchange: Exchange,
    definition: Definition,
    arguments: Mapping[str, Any],
    key: str,
    on_progress: OnProgress | None,
    more: JsonObject,
) -> McpResult | Asked:
    """key: the same for a repeat of this request. more: what answers an earlier question."""
    headers = {"Idempotency-Key": key}
    if exchange.era is Era.MODERN:
        headers |= dict(_mirrored(definition, arguments))

    def notified(method: str, params: Mapping[str, Any]) -> None:
        done, total, message = params.get("progress"), params.get("total"), params.get("message")
        if method == "notifications/progress" and on_progress is not None and _is_number(done):
            told = visible_text(message) if isinstance(message, str) else ""
            on_progress(float(done), float(total) if _is_number(total) else None, told)

    raw = await exchange.request(
        "tools/call",
        {"name": definition.name, "arguments": dict(arguments), **more},
        name=definition.name,
        headers=headers,
        notified=None if on_progress is None else notified,
    )
    try:
        result = read_result(raw)
    except ValueError as exc:
        raise BadAnswer(f"gives an answer that {exc}") from None
    if isinstance(result, Asked) and exchange.era is not Era.MODERN:
        raise BadAnswer("gives an answer that is of a kind that is not known")
    return result


def _is_number(value: object) -> TypeIs[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _mirrored(definition: Definition, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Arguments that the server wants repeated as headers."""
    for name, path in headers_of(definition).items():
        value: Any = arguments
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            yield f"Mcp-Param-{name}", str(value).lower()
        elif isinstance(value, int | str):
            yield f"Mcp-Param-{name}", header_value(str(value))


@contextmanager
def _told(server: str, before: str, sent: _Sent | None = None) -> Iterator[None]:
    """Failures as errors that the model may read. before: what they add while nothing was called."""

    def failed(message: str, code: ErrorCode = ErrorCode.TOOL_EXECUTION_FAILED) -> ToolFailed:
        may = sent is not None and sent.at_all
        return ToolFailed(message + (" The call may have been carried out anyway." if may else before), code=code)

    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
        raise failed(f"No connection to the MCP server {server} could be made.") from exc
    except TimeoutError as exc:
        raise failed(f"The MCP server {server} did not answer in time.", ErrorCode.TOOL_TIMEOUT) from exc
    except (Refusal, BadAnswer) as exc:
        raise failed(f"The MCP server {server} {visible_text(str(exc))}.") from exc
    except (aiohttp.ClientError, OSError, ValueError) as exc:
        raise failed(f"The exchange with the MCP server {server} broke off or was not valid HTTP.") from exc
