"""Where the model is, and how the app signs in there: one client per process, made on first use.

The `openai` client keeps what it is good at: authentication, token refresh, connections, time-outs. Its retries are
off: what waits for a rate limit waits in a durable timer, which costs nothing meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from shared.adapters.entra import OPENAI_SCOPE, TokenUnavailable, token_for
from shared.adapters.models.refusals import MAX_BODY_BYTES, Refusal, read_refusal
from shared.errors import ErrorCode, Transient
from shared.sessions.llm.registry import ModelApi
from shared.settings import Settings

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_BLIP_S = 0.5
"""A request that never started, or that a server broke down over, is sent once more after this."""
_LIST_S = 5.0
_REFUSAL_S = 10.0
"""How long an error's body may take."""
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # compression holds a stream's events back, and hides how long a body is
}

_AZURE_PATH = re.compile(
    r"(?<!/api/projects)/+"  # a project may have any name
    r"(?:openai(?:/v1(?:/.*)?|/deployments/.*|/responses|/chat/completions)?|models(?:/chat/completions)?)/*$"
)
_WIRE_PATH = re.compile(r"/+(?:responses|chat/completions)/*$")


class ModelEndpoint:
    """The endpoint that the settings name."""

    def __init__(self, settings: Settings, token: Callable[[str], Awaitable[str]] = token_for) -> None:
        self._settings = settings
        self._token = token
        self._client: AsyncOpenAI | None = None
        self._headers: dict[str, Any] = _HEADERS
        self._opening = asyncio.Lock()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not stand in a log, though a server may repeat it."""
        settings = self._settings
        return tuple(key for key in (settings.azure_openai_api_key, settings.openai_api_key) if key and key != "none")

    async def open(self) -> AsyncOpenAI:
        """The client, made now if need be."""
        async with self._opening:
            if self._client is None:
                # In a thread: the import reads some thousand modules and would hold up every other request.
                self._client = await asyncio.to_thread(self._build)
            return self._client

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def models(self) -> Any:
        """The server's list of its models as JSON; None: it has none, or not just now."""
        import httpx2
        import openai

        client = self._client or await self.open()
        try:
            response: Any = await client.get("/models", cast_to=httpx2.Response, options={"timeout": _LIST_S})
            return orjson.loads(response.content[:MAX_BODY_BYTES])
        except (openai.OpenAIError, TokenUnavailable, Refusal, httpx2.HTTPError, ValueError) as exc:
            log.info("the model server lists no models: %s", type(exc).__name__)
            return None

    async def send(
        self, api: ModelApi, path: str, model: str, body: bytes, *, traceparent: str | None
    ) -> httpx2.Response:
        """The answer, its headers read and its body not. Raises Refusal, Transient (LLM_TIMEOUT, LLM_ERROR)."""
        try:
            return await self._try(api, path, model, body, traceparent)
        except Refusal as refusal:
            if refusal.status < 500 or (refusal.retry_after_s or 0) > _BLIP_S:
                raise
        except _Unreachable:
            pass
        await asyncio.sleep(_BLIP_S)
        try:
            return await self._try(api, path, model, body, traceparent)
        except _Unreachable as exc:
            log.warning("the model endpoint cannot be reached: %s", exc)
            raise Transient(
                ErrorCode.LLM_ERROR, "The model endpoint cannot be reached. The operator can see in the app's log why."
            ) from exc

    async def _try(self, api: ModelApi, path: str, model: str, body: bytes, traceparent: str | None) -> httpx2.Response:
        import httpx2
        import openai

        client = self._client or await self.open()
        headers = self._headers if traceparent is None else {**self._headers, "traceparent": traceparent}
        try:
            # The documented way to call an endpoint without the typed layer; cast_to gives back the raw response.
            return await client.post(
                self._path(api, path, model),
                content=body,
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[Any],
                options={"headers": headers},
            )  # type: ignore[return-value]  # with cast_to=Response the client returns it as it is, stream or not
        except Refusal as refusal:
            # Without what led here: a trace in the log would show the server's words as they are.
            raise refusal.without(self.secrets) from None
        except TokenUnavailable as exc:
            log.warning("the app could not sign in at the model endpoint: %s", exc)
            raise Transient(ErrorCode.LLM_ERROR, "The app could not sign in at the model endpoint.") from exc
        except openai.APIConnectionError as exc:
            cause = exc.__cause__
            if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
                raise Transient(ErrorCode.LLM_TIMEOUT, "The model did not answer in time.") from exc
            raise _Unreachable(_cause(exc)) from exc

    def _path(self, api: ModelApi, path: str, model: str) -> str:
        version = self._settings.azure_openai_api_version
        if version is None or not self._settings.azure_openai_endpoint or api is not ModelApi.CHAT:
            return path
        # Dated versions know chat completions alone, below the deployment.
        root = azure_root(self._settings.azure_openai_endpoint)
        return f"{root}/openai/deployments/{quote(model, safe='')}{path}?api-version={quote(version, safe='')}"

    def _build(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout, omit

        # A line for each request would be most of what the app logs.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        settings = self._settings
        timeout = Timeout(settings.llm_timeout_seconds, connect=_CONNECT_S)
        more: dict[str, Any] = {
            "timeout": timeout,
            "max_retries": 0,
            # Not to another address with our key.
            "http_client": DefaultAsyncHttpxClient(
                timeout=timeout, follow_redirects=False, event_hooks={"response": [_read_refused]}
            ),
        }
        if not settings.azure_openai_endpoint:
            key = settings.openai_api_key or "none"
            return AsyncOpenAI(base_url=base_url(settings.openai_base_url or ""), api_key=key, **more)
        url = f"{azure_root(settings.azure_openai_endpoint)}/openai/v1/"
        if settings.azure_openai_api_key:
            # Both the v1 paths and the dated ones take the key in this header; as a bearer only v1 does.
            self._headers = {**_HEADERS, "api-key": settings.azure_openai_api_key, "Authorization": omit}
            return AsyncOpenAI(base_url=url, api_key="none", **more)
        return AsyncOpenAI(base_url=url, api_key=lambda: self._token(OPENAI_SCOPE), **more)


def azure_root(endpoint: str) -> str:
    """The resource, or the project in it, whatever path was pasted behind it."""
    return _AZURE_PATH.sub("", endpoint.partition("?")[0].rstrip("/"))


def base_url(url: str) -> str:
    """Of a compatible server: up to and with its version, whatever was pasted behind that."""
    return f"{_WIRE_PATH.sub('', url.rstrip('/'))}/"


async def bytes_of(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The body as it arrives, with network errors as ours."""
    import httpx2

    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx2.TimeoutException as exc:
        raise Transient(ErrorCode.LLM_TIMEOUT, "The model fell silent in mid-answer.") from exc
    except httpx2.HTTPError as exc:
        raise Transient(ErrorCode.LLM_ERROR, "The model's answer broke off.") from exc


class _Unreachable(Exception):
    """The request never got there, or was dropped without an answer."""


async def _read_refused(response: httpx2.Response) -> None:
    """For each response: an error becomes a Refusal. The client would read the whole of its body, however long it is;
    here its beginning is read, in bounded time."""
    import httpx2

    if response.is_success:
        return
    body = bytearray()
    try:
        async with asyncio.timeout(_REFUSAL_S):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
    except (TimeoutError, httpx2.HTTPError) as exc:
        log.warning("the model endpoint's error %d has no end: %s", response.status_code, type(exc).__name__)
    raise read_refusal(response.status_code, bytes(body), response.headers)


def _cause(exc: BaseException) -> str:
    """What a connection failed of, without the address: `ConnectError: [Errno 111] ...`."""
    deepest: BaseException = exc
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    return f"{type(deepest).__name__}: {deepest}"[:200]
