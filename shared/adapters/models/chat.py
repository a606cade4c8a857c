"""Azure OpenAI, or any server that speaks OpenAI chat completions.

The `openai` client keeps what it is good at: authentication, connection handling, retries of a request that never
started, time-outs. Building and parsing are ours: its per-chunk models cost about ten times the parsing below.

Invariant: the texts yielded are the model's, character for character, but for U+0000, which no store of ours takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from shared.adapters.entra import OPENAI_SCOPE, TokenUnavailable, token_for
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm import ModelEnd, ModelEvent, ModelRequest, ModelText, ModelToolCall
from shared.sessions.models import Usage
from shared.settings import Settings

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

AZURE_API_VERSION = "2024-10-21"
"""The newest version that is generally available with dated versions."""

_CLIENT_RETRIES = 1
"""Blips are retried in place, once; everything longer waits in a durable timer, which costs nothing meanwhile."""

_MAX_EVENT_BYTES = 4 * 1024 * 1024
"""A stream event longer than this is not a chat completion."""

_MAX_OUTPUT_BYTES = 8 * 1024 * 1024
_MAX_TOOL_CALLS = 64


class OpenAIChat:
    """`LLMServiceProtocol` over the openai client, made on first use (its import takes a second)."""

    def __init__(self, settings: Settings, token: Callable[[str], Awaitable[str]] = token_for) -> None:
        self._settings = settings
        self._token = token
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()

    async def warm_up(self) -> None:
        """Import and build the client now, so that the first turn does not wait for it."""
        await self._open()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        client = self._client or await self._open()
        response = await self._send(client, request)
        try:
            parser = _Parser()
            async for chunk in _bytes_of(response):
                text = parser.feed(chunk)
                if text:
                    yield ModelText(text)
            yield parser.end()
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _open(self) -> AsyncOpenAI:
        async with self._opening:
            if self._client is None:
                # In a thread: the import reads some thousand modules and would hold up every other request.
                self._client = await asyncio.to_thread(self._build)
            return self._client

    def _build(self) -> AsyncOpenAI:
        from openai import AsyncAzureOpenAI, AsyncOpenAI, Timeout

        settings = self._settings
        timeout = Timeout(settings.llm_timeout_seconds, connect=10.0)
        if not settings.azure_openai_endpoint:
            return AsyncOpenAI(
                base_url=settings.openai_base_url,
                api_key=settings.openai_api_key or "none",
                timeout=timeout,
                max_retries=_CLIENT_RETRIES,
            )
        credentials: dict[str, Any]
        if settings.azure_openai_api_key:
            credentials = {"api_key": settings.azure_openai_api_key}
        else:
            credentials = {"azure_ad_token_provider": lambda: self._token(OPENAI_SCOPE)}
        return AsyncAzureOpenAI(
            azure_endpoint=settings.azure_openai_endpoint,
            api_version=AZURE_API_VERSION,
            timeout=timeout,
            max_retries=_CLIENT_RETRIES,
            **credentials,
        )

    async def _send(self, client: AsyncOpenAI, request: ModelRequest) -> httpx2.Response:
        import httpx2
        import openai

        path = "/chat/completions"
        if self._settings.azure_openai_endpoint:
            path = f"/deployments/{quote(request.model, safe='')}{path}"
        try:
            # The documented way to call an endpoint without the typed layer; cast_to gives back the raw response.
            return await client.post(
                path,
                content=encode_request(request),
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.AsyncStream[Any],
                options={"headers": {"Content-Type": "application/json", "Accept": "text/event-stream"}},
            )  # type: ignore[return-value]  # with cast_to=Response the client returns it as it is, stream or not
        except openai.APITimeoutError as exc:
            raise Transient(ErrorCode.LLM_TIMEOUT, "The model did not answer in time.") from exc
        except openai.APIStatusError as exc:
            raise _status_error(exc) from exc
        except (openai.APIConnectionError, TokenUnavailable) as exc:
            raise Transient(ErrorCode.LLM_ERROR, "The model could not be reached.") from exc


def encode_request(request: ModelRequest) -> bytes:
    """The request body. Tool schemas are spliced in as they were encoded, once, at start."""
    body: dict[str, Any] = {
        "model": request.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": request.messages,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        body["max_completion_tokens"] = request.max_output_tokens
    if request.tools:
        body["tools"] = [orjson.Fragment(schema) for schema in request.tools]
    return orjson.dumps(body)


async def _bytes_of(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The body as it arrives, with network errors as ours."""
    import httpx2

    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx2.TimeoutException as exc:
        raise Transient(ErrorCode.LLM_TIMEOUT, "The model fell silent in mid-answer.") from exc
    except httpx2.HTTPError as exc:
        raise Transient(ErrorCode.LLM_ERROR, "The model's answer broke off.") from exc


def _status_error(exc: Any) -> AppError:
    status: int = exc.status_code
    code = exc.code if isinstance(exc.code, str) else ""
    if status == 429:
        return Transient(
            ErrorCode.RATE_LIMITED,
            "The model is over its rate limit.",
            retry_after_s=_retry_after(exc.response.headers),
        )
    if status in {408, 504}:
        return Transient(ErrorCode.LLM_TIMEOUT, "The model did not answer in time.")
    if status >= 500 or status == 409:
        return Transient(ErrorCode.LLM_ERROR, "The model failed.", retry_after_s=_retry_after(exc.response.headers))
    if code == "context_length_exceeded":
        return ModelFailed(ErrorCode.TOKEN_LIMIT, "The conversation is longer than the model can read.")
    if code == "content_filter":
        return ModelFailed(ErrorCode.LLM_ERROR, "The model's content filter refused the conversation.")
    if status in {401, 403, 404}:
        return ModelFailed(ErrorCode.LLM_ERROR, "The model endpoint is not set up correctly.")
    return ModelFailed(ErrorCode.LLM_ERROR, "The model refused the request.")


def _retry_after(headers: Any) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After`; a date form is left to our own back-off."""
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers[name]) / scale)
        except (KeyError, ValueError):
            continue
    return None


class _Parser:
    """Server-sent events of chat completions, lean: bytes in, joined text out, tool calls and usage at the end."""

    def __init__(self) -> None:
        self._rest = b""
        self._received = 0
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._calls: dict[int, _CallParts] = {}

    def feed(self, chunk: bytes) -> str:
        """The text of the events completed by `chunk`, joined. Raises Transient or ModelFailed."""
        data = self._rest + chunk
        complete, separator, self._rest = data.rpartition(b"\n")
        if not separator:
            if len(self._rest) > _MAX_EVENT_BYTES:
                raise ModelFailed(ErrorCode.LLM_ERROR, "The model sent something that is not an answer.")
            return ""
        self._received += len(complete)
        if self._received > _MAX_OUTPUT_BYTES * 8:
            raise ModelFailed(ErrorCode.LLM_ERROR, "The model's answer has no end.")
        texts: list[str] = []
        for line in complete.split(b"\n"):
            # `data:` with or without a space, and CRLF, are all legal; loads skips the white space.
            if not line.startswith(b"data:") or line.startswith(b"data: [DONE]"):
                continue
            try:
                event = orjson.loads(line[5:])
            except orjson.JSONDecodeError as exc:
                if line[5:].strip() == b"[DONE]":
                    continue
                raise Transient(ErrorCode.LLM_ERROR, "The model's answer could not be read.") from exc
            try:
                self._take(event, texts)
            except (AttributeError, TypeError, ValueError) as exc:  # valid JSON of another shape
                raise Transient(ErrorCode.LLM_ERROR, "The model's answer could not be read.") from exc
        return "".join(texts).replace("\x00", "\ufffd")

    def _take(self, event: Any, texts: list[str]) -> None:
        if event.get("error"):
            raise Transient(ErrorCode.LLM_ERROR, "The model failed in mid-answer.")
        usage = event.get("usage")
        if usage:
            self._usage = Usage(
                input_tokens=int(usage.get("prompt_tokens") or 0),
                output_tokens=int(usage.get("completion_tokens") or 0),
            )
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            text = delta.get("content")
            if text:
                texts.append(_text(text))
            for part in delta.get("tool_calls") or ():
                self._take_call(part)
            if choice.get("finish_reason"):
                self._finish_reason = _text(choice["finish_reason"])

    def _take_call(self, part: dict[str, Any]) -> None:
        index = part.get("index")
        if not isinstance(index, int):
            # Some compatible servers leave it out: an id begins a call, anything else goes on with the last one.
            index = len(self._calls) if part.get("id") else max(self._calls, default=0)
        call = self._calls.get(index)
        if call is None:
            if len(self._calls) >= _MAX_TOOL_CALLS:
                raise ModelFailed(ErrorCode.LLM_ERROR, "The model asked for too many tools at once.")
            call = self._calls[index] = _CallParts()
        call.id = _text(part.get("id") or call.id)
        function = part.get("function") or {}
        call.name = _text(function.get("name") or call.name)
        if function.get("arguments"):
            call.arguments.append(_text(function["arguments"]))

    def end(self) -> ModelEnd:
        """What the whole answer was. Raises Transient when it broke off before its end."""
        if self._finish_reason is None:
            raise Transient(ErrorCode.LLM_ERROR, "The model's answer broke off.")
        calls: list[ModelToolCall] = []
        taken: set[str] = set()
        for index, call in sorted(self._calls.items()):
            call_id = call.id.replace("\x00", "")
            while not call_id or call_id in taken:
                # Some servers leave ids out or name all calls alike; each result must find its own call.
                call_id = f"call_{index}_{len(taken)}" if not call_id else f"{call_id}_{index}"
            taken.add(call_id)
            arguments = "".join(call.arguments).replace("\x00", "")
            calls.append(ModelToolCall(call_id, call.name.replace("\x00", ""), arguments))
        return ModelEnd(self._finish_reason, self._usage, calls)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


class _CallParts:
    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
