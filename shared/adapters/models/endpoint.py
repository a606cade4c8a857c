"""The model endpoint's address and authentication, with one HTTP session per process, made on first use.

Nothing is tried again here: `shared/sessions/turns/patience.py` decides that, and a durable timer waits. Why this is
not the `openai` client: docs/decisions/0004-lean-parsing-of-the-model-stream.md.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
import truststore

from shared.adapters.azure.entra import OPENAI_SCOPE, TokenUnavailable, token_for
from shared.adapters.models.refusals.refusal import MAX_BODY_BYTES, Refusal, read_refusal
from shared.errors import ErrorCode, Transient
from shared.sessions.llm.registry import ModelApi
from shared.settings import Settings
from shared.work_pool import in_new_thread

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_LIST_S = 5.0
_REFUSAL_S = 10.0
"""Timeout for reading an error's body."""
_LONG_BODY = 256 * 1024
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # compression delays a stream's events and hides the body's length
}

_AZURE_PATH = re.compile(
    r"(?<!/api/projects)/+"  # a project may have any name
    r"(?:openai(?:/v1(?:/.*)?|/deployments/.*|/responses|/chat/completions)?|models(?:/chat/completions)?)/*$"
)
_WIRE_PATH = re.compile(r"/+(?:responses|chat/completions)/*$")


class ModelEndpoint:
    """The model endpoint of the settings."""

    def __init__(self, settings: Settings, token: Callable[[str], Awaitable[str]] = token_for) -> None:
        """token: gets the app's identity token for a scope; called for each request if no key is set."""
        self._settings = settings
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        endpoint = settings.azure_openai_endpoint
        self._resource = azure_root(endpoint) if endpoint else None
        self._root = f"{self._resource}/openai/v1" if endpoint else base_url(settings.openai_base_url or "")
        self._key_header = _key_header(settings)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Keys that must not appear in a log, even if a server's error repeats them."""
        settings = self._settings
        return tuple(key for key in (settings.azure_openai_api_key, settings.openai_api_key) if key and key != "none")

    async def open(self) -> aiohttp.ClientSession:
        """The HTTP session, created if necessary."""
        async with self._opening:
            if self._session is None:
                # In a thread: reading the system's certificates takes some milliseconds.
                context, proxy = await in_new_thread(lambda: (_tls(), _proxy_for(self._root)))
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, limit=0),  # bounded by the number of concurrent turns
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers=_HEADERS,
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=_CONNECT_S, sock_read=self._settings.llm_first_byte_seconds
                    ),
                    proxy=proxy,
                )
            return self._session

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def models(self) -> Any:
        """The server's list of models as JSON; None: it has no list, or it failed."""
        session = self._session or await self.open()
        try:
            async with (
                asyncio.timeout(_LIST_S),
                session.get(f"{self._root}/models", headers=await self._signed(), allow_redirects=False) as response,
            ):
                if not _is_success(response):
                    raise await _refusal_in(response)
                return orjson.loads(await _beginning(response))
        except (TokenUnavailable, Refusal, aiohttp.ClientError, OSError, ValueError) as exc:
            log.info("the model server's list of models is not available: %s", type(exc).__name__)
            return None

    async def send(
        self, api: ModelApi, path: str, model: str, body: bytes, *, traceparent: str | None
    ) -> aiohttp.ClientResponse:
        """Send a request; returns the response with its body unread. The caller closes it.

        Raises Refusal, Transient (LLM_TIMEOUT, LLM_ERROR).
        """
        session = self._session or await self.open()
        try:
            headers = await self._signed()
        except TokenUnavailable as exc:
            log.warning("the app could not sign in at the model endpoint: %s", exc)
            raise Transient(ErrorCode.LLM_ERROR, "The app could not sign in at the model endpoint.") from exc
        if traceparent is not None:
            headers["traceparent"] = traceparent
        try:
            response = await session.post(
                self._url(api, path, model),
                # A long body is sent in pieces; sent at once, it would block the event loop.
                data=body if len(body) < _LONG_BODY else BytesIO(body),
                headers=headers,
                allow_redirects=False,  # never send our key to another address
            )
        except TimeoutError as exc:
            if isinstance(exc, aiohttp.ConnectionTimeoutError):
                raise _unreachable(exc) from exc
            raise unanswered() from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _unreachable(exc) from exc
        if _is_success(response):
            return response
        try:
            refusal = await _refusal_in(response)
        finally:
            response.close()
        raise refusal.without(self.secrets)

    async def _signed(self) -> dict[str, str]:
        """The authentication header. Raises TokenUnavailable."""
        if self._key_header is not None:
            return dict(self._key_header)
        return {"Authorization": f"Bearer {await self._token(OPENAI_SCOPE)}"}

    def _url(self, api: ModelApi, path: str, model: str) -> str:
        version = self._settings.azure_openai_api_version
        if version is None or self._resource is None or api is not ModelApi.CHAT:
            return f"{self._root}{path}"
        # Dated API versions have only chat completions, under the deployment's path.
        return (
            f"{self._resource}/openai/deployments/{quote(model, safe='')}{path}?api-version={quote(version, safe='')}"
        )


def azure_root(endpoint: str) -> str:
    """The URL of the resource, or of the project in it, without any API path after it."""
    return _AZURE_PATH.sub("", endpoint.partition("?")[0].rstrip("/"))


def base_url(url: str) -> str:
    """The URL of a compatible server, up to and including its version, without any API path after it."""
    return _WIRE_PATH.sub("", url.rstrip("/"))


async def read(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of the body; empty at its end. Raises Transient (LLM_TIMEOUT, LLM_ERROR)."""
    try:
        return await response.content.readany()
    except (TimeoutError, aiohttp.ClientError, OSError) as exc:
        # The client forgets what had arrived when the connection broke: perhaps the rest of the answer.
        left = response.content._read_nowait(-1)
        if left:
            return left
        raise _broken(exc) from exc


def _broken(exc: Exception) -> Transient:
    if isinstance(exc, TimeoutError):
        return Transient(ErrorCode.LLM_TIMEOUT, "The model stopped sending in the middle of its answer.")
    return Transient(ErrorCode.LLM_ERROR, "The model's answer broke off.")


def unanswered() -> Transient:
    """The request arrived, and not a byte of the answer did."""
    return Transient(ErrorCode.LLM_TIMEOUT, "The model did not answer in time.")


def _unreachable(exc: Exception) -> Transient:
    """The request did not reach the server, or the connection was dropped without a response."""
    log.warning("the model endpoint cannot be reached: %s", _cause(exc))
    return Transient(
        ErrorCode.LLM_ERROR, "The model endpoint cannot be reached. The operator can see why in the app's log."
    )


def _key_header(settings: Settings) -> dict[str, str] | None:
    """None: the app uses its identity."""
    if not settings.azure_openai_endpoint:
        return {"Authorization": f"Bearer {settings.openai_api_key or 'none'}"}
    if settings.azure_openai_api_key:
        # Both v1 and dated paths accept the key in this header; only v1 accepts it as a bearer token.
        return {"api-key": settings.azure_openai_api_key}
    return None


def _tls() -> ssl.SSLContext:
    """A TLS context with the system's trusted certificates, which Python itself does not find on macOS."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_for(url: str) -> str | None:
    """The proxy from HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Read once: aiohttp would read it for each request."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _is_success(response: aiohttp.ClientResponse) -> bool:
    """Not so a redirect, which `ClientResponse.ok` takes for success and which we do not follow."""
    return response.status < 300


async def _refusal_in(response: aiohttp.ClientResponse) -> Refusal:
    """The refusal in an error response; reads the beginning of its body, in bounded time."""
    body = b""
    try:
        async with asyncio.timeout(_REFUSAL_S):
            body = await _beginning(response)
    except (TimeoutError, aiohttp.ClientError, OSError) as exc:
        log.warning("the body of the model endpoint's error %d is incomplete: %s", response.status, type(exc).__name__)
    return read_refusal(response.status, body, response.headers)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES and (chunk := await response.content.readany()):
        body += chunk
    return bytes(body[:MAX_BODY_BYTES])


def _cause(exc: BaseException) -> str:
    """The root cause of a connection error, without the address: `ConnectError: [Errno 111] ...`."""
    deepest: BaseException = exc
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return f"{type(deepest).__name__}: {deepest}"[:200]
