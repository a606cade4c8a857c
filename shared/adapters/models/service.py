"""ModelService: the model endpoint, over HTTP. Implements `LLMServiceProtocol`.

It encodes each request for its API, leaves out what the server refuses, and maps errors. The two APIs are the packages
`chat/` and `responses/`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

import aiohttp
import orjson

from shared.adapters.azure.entra import token_for
from shared.adapters.models.chat import request as chat_request
from shared.adapters.models.chat.answer_parser import ChatParser
from shared.adapters.models.endpoint import ModelEndpoint, read, unanswered
from shared.adapters.models.model_list import window_of
from shared.adapters.models.parser import AnswerParser
from shared.adapters.models.refusals.meaning import Asked, meaning_of, needs_other_api, refuses_schema
from shared.adapters.models.refusals.optional import LeftOut, refused_parameter
from shared.adapters.models.refusals.overflow import output_cap, overflow_of
from shared.adapters.models.refusals.refusal import Refusal
from shared.adapters.models.responses import request as responses_request
from shared.adapters.models.responses.answer_parser import ResponsesParser
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm.conversation import AssistantSaid, Said
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelEvent, ModelRequest, PromptFiltered
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason
from shared.settings import Settings

log = logging.getLogger(__name__)

_MAX_REFUSALS = 12
"""Most refusals of one request; more than the number of parameters that can be left out."""
_DRAIN_S = 1.0
"""How long to read on after the end of an answer, so that its connection can be reused."""
_USAGE_S = 2.0
"""How long the usage is waited for, after an answer's last word. Without it the tokens are estimated."""

_OTHERWISE = {
    chat_request.BLANK_REASONING: re.compile(
        r"reasoning_content.{0,80}(?:must be passed back|is missing)", re.IGNORECASE
    ),
    chat_request.SHORT_IDS: re.compile(r"tool call id was .{0,300}length of 9", re.IGNORECASE),
    chat_request.SIGNED_CALLS: re.compile(r"missing a thought_signature", re.IGNORECASE),
}
"""Differences of chat-completion servers, by the wording of their errors. Sources: DeepSeek and Kimi, Mistral, Gemini.
"""
_EFFORT_NONE = re.compile(r"set reasoning_effort to '?none", re.IGNORECASE)
_STALE_NOTES = re.compile(
    r"encrypted content|items? (?:with id .{0,120}not found|are not persisted)"
    r"|of type '(?:reasoning|function_call)' was provided without|\['content'\] is not an array",
    re.IGNORECASE,
)
_STALE_CODES = frozenset({"invalid_encrypted_content"})


@dataclass(frozen=True, slots=True)
class Wire:
    """One API."""

    path: str
    optional: Callable[[ModelRequest], frozenset[str]]
    encode: Callable[[ModelRequest, frozenset[str]], bytes]
    parser: Callable[[], AnswerParser]


WIRES = {
    ModelApi.CHAT: Wire(chat_request.PATH, chat_request.optional, chat_request.encode, ChatParser),
    ModelApi.RESPONSES: Wire(
        responses_request.PATH, responses_request.optional, responses_request.encode, ResponsesParser
    ),
}


class ModelService:
    """The model endpoint of this deployment."""

    def __init__(self, settings: Settings, token: Callable[[str], Awaitable[str]] = token_for) -> None:
        self._settings = settings
        self._endpoint = ModelEndpoint(settings, token)
        self._left_out = LeftOut()
        self._caps: dict[str, int] = {}
        """Output limit by model, if its server has named one."""
        self._mute: set[str] = set()
        """Models whose server said nothing, not even why."""

    async def warm_up(self) -> None:
        """Open the HTTP session, which the first turn would otherwise wait for."""
        await self._endpoint.open()

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def context_tokens(self, model: str) -> int | None:
        """The model's window from the server's list of models; None: not listed, or the list is not available."""
        models = await self._endpoint.models()
        limit = None if models is None else window_of(models, model)
        if limit is not None:
            log.info("model %s: its server reports a window of %d tokens", model, limit)
        return limit

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """See `LLMServiceProtocol`."""
        wire = WIRES[request.api]
        parser = wire.parser()
        room = _most_chars(request.max_output_tokens)
        async with aclosing(self._events(wire, request, parser)) as events:
            async for event in events:
                if isinstance(event, ModelEnd):
                    yield _as_cut(event, self._capped(request))
                    continue
                if len(event.text) <= room:
                    yield event
                    room -= len(event.text)
                    continue
                if room:
                    yield replace(event, text=event.text[:room])
                # The server ignores the limit; without this cut it could exceed budgets. It may know the older name.
                if request.api is ModelApi.CHAT:
                    self._left_out.ignored(request.api, request.model, chat_request.OUTPUT_LIMITS[0])
                yield ModelEnd(FinishReason.LENGTH, None)
                return

    async def _events(self, wire: Wire, request: ModelRequest, parser: AnswerParser) -> AsyncGenerator[ModelEvent]:
        """The events as the server sends them."""
        try:
            has_bytes = False
            silent_until = asyncio.get_running_loop().time() + self._settings.llm_first_byte_seconds
            for is_streamed in (True, False):
                response = await self._send(wire, request, is_streamed=is_streamed)
                try:
                    chunk = await _first(response, silent_until)
                    _set_gap(response, self._settings.llm_timeout_seconds)
                    over_at: float | None = None
                    """When the usage is no longer waited for."""
                    while chunk:
                        has_bytes = True
                        for event in parser.feed(chunk):
                            yield event
                        if parser.is_done:
                            if not parser.is_cut_short:
                                await _drain(response)
                            break
                        if parser.has_ended and over_at is None:
                            over_at = asyncio.get_running_loop().time() + _USAGE_S
                        chunk = await _next(response, over_at)
                finally:
                    response.close()
                # A server that fails after it sent the headers (llama-cpp-python) names the error without streaming.
                # One that did not say it is not asked again before it has said something.
                if has_bytes:
                    self._mute.discard(request.model)
                if has_bytes or request.api is not ModelApi.CHAT or request.model in self._mute:
                    break
                self._mute.add(request.model)
            for event in parser.finish():
                yield event
        except Refusal as refusal:
            refusal = refusal.without(self._endpoint.secrets)
            raise self._meaning(refusal, request, has_begun=parser.has_begun) from refusal
        except ModelFailed:
            self._mute.discard(request.model)
            raise

    async def _send(self, wire: Wire, request: ModelRequest, *, is_streamed: bool = True) -> aiohttp.ClientResponse:
        """Send the request, and send it again without each part that is refused and can be left out."""
        for _ in range(_MAX_REFUSALS):
            request = self._capped(request)
            left_out = self._left_out.of(request.api, request.model)
            body = wire.encode(request, left_out)
            if not is_streamed:
                body = _as_plain(body)
            try:
                return await self._endpoint.send(
                    request.api, wire.path, request.model, body, traceparent=request.traceparent
                )
            except Refusal as refusal:
                again = self._again(refusal, wire, request, left_out)
                if again is None:
                    raise self._meaning(refusal, request) from refusal
                request = again
        raise ModelFailed(
            ErrorCode.LLM_ERROR, "The model refused the request. The operator can see why in the app's log."
        )

    def _capped(self, request: ModelRequest) -> ModelRequest:
        cap = self._caps.get(request.model)
        if cap is None or request.max_output_tokens is None or request.max_output_tokens <= cap:
            return request
        return replace(request, max_output_tokens=cap)

    def _again(
        self, refusal: Refusal, wire: Wire, request: ModelRequest, left_out: frozenset[str]
    ) -> ModelRequest | None:
        """The request to send after a refusal, which is remembered for later requests; None: it cannot be fixed."""
        if overflow_of(refusal) is not None or (request.output_schema is not None and refuses_schema(refusal)):
            return None  # the error may mention parameters, but is not about them
        model = request.model
        most = output_cap(refusal)
        if most is not None:
            if most >= self._caps.get(model, most + 1):
                return None
            self._caps[model] = most
            log.warning("model %s: answers are at most %d tokens: %s", model, most, refusal)
            return request
        sent = wire.optional(request) - left_out
        if request.api is ModelApi.CHAT and request.tools and refusal.says(_EFFORT_NONE):
            # An effort that was set explicitly is not removed silently.
            name = chat_request.EFFORT_NONE if request.reasoning_effort is None else None
        else:
            name = _wanted(refusal, request.api) or refused_parameter(refusal, sent, effort=request.reasoning_effort)
        if name is not None and name not in left_out:
            self._left_out.add(request.api, model, name, refusal)
            return request
        if request.api is ModelApi.RESPONSES and _is_stale(refusal) and any(map(_kept, request.conversation)):
            # The notes are of another model or resource: the turn continues without them.
            log.warning("model %s: reasoning kept from an earlier step is left out: %s", model, refusal)
            return replace(request, conversation=[_without_kept(said) for said in request.conversation])
        return None

    def _meaning(self, refusal: Refusal, request: ModelRequest, *, has_begun: bool = False) -> AppError:
        log.warning("model %s (%s) refused: %s", request.model, request.api, refusal)
        if request.output_schema is not None and refuses_schema(refusal):
            return ModelFailed(
                ErrorCode.LLM_ERROR,
                f"The model {request.model!r} does not support this output_schema. A simpler schema may work; the"
                " operator can find the reason in the app's log.",
            )
        asked = self._asked(request)
        if chat_request.EFFORT_NONE in self._left_out.of(request.api, request.model) and "effort" in refusal.param:
            return needs_other_api(asked)  # effort `none` does not work with tools either
        error = meaning_of(refusal, asked)
        if has_begun and isinstance(error, PromptFiltered):
            return ModelFailed(ErrorCode.LLM_ERROR, "The model's content filter stopped the answer.")
        if has_begun and isinstance(error, ContextOverflow):
            return ModelFailed(ErrorCode.TOKEN_LIMIT, "The model's window was full before its answer was complete.")
        return error

    def _asked(self, request: ModelRequest) -> Asked:
        settings = self._settings
        if settings.azure_openai_endpoint:
            named, key = "AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_API_KEY" if settings.azure_openai_api_key else None
        else:
            named, key = "OPENAI_MODEL", "OPENAI_API_KEY"
        if request.model != settings.model_name:
            named = "the model of the agent or the session"
        return Asked(request.model, request.api, model_setting=named, key_setting=key)


def _as_cut(end: ModelEnd, request: ModelRequest) -> ModelEnd:
    """Marks an answer as cut if it is as long as its limit, since llama.cpp does not report that over the Responses
    API. For listed models the provider's finish reason counts."""
    most, usage = request.max_output_tokens, end.usage
    if (
        request.api is not ModelApi.RESPONSES
        or request.reasons is not None
        or end.finish_reason is not FinishReason.STOP
        or most is None
        or usage is None
        or usage.output_tokens < max(most, chat_request.LEAST_OUTPUT_TOKENS)
    ):
        return end
    return replace(end, finish_reason=FinishReason.LENGTH)


def _most_chars(tokens: int | None) -> int:
    """A generous limit in characters for an answer of this many tokens. A server that exceeds it ignores the limit."""
    return sys.maxsize if tokens is None else 1_024 + 16 * tokens


def _as_plain(body: bytes) -> bytes:
    """The same request without streaming."""
    plain = orjson.loads(body)
    plain.pop("stream_options", None)
    return orjson.dumps(plain | {"stream": False})


async def _first(response: aiohttp.ClientResponse, until: float) -> bytes:
    """The first bytes. The headers alone are no sign of an answer: many servers send them before they think."""
    try:
        async with asyncio.timeout_at(until):
            return await read(response)
    except TimeoutError as exc:
        raise unanswered() from exc


def _set_gap(response: aiohttp.ClientResponse, seconds: float) -> None:
    """From the first byte on, the longest silence between two pieces. By the connection's own timer, since one of ours
    around each read would cost more than the read."""
    connection = response.connection
    if connection is not None and connection.protocol is not None:
        connection.protocol.read_timeout = seconds
        connection.protocol.start_timeout()


async def _next(response: aiohttp.ClientResponse, over_at: float | None) -> bytes:
    """The next bytes; empty at the end. over_at: the answer is complete, so that a connection that stays open or breaks
    is its end, too."""
    if over_at is None:
        return await read(response)
    with suppress(TimeoutError, Transient):
        async with asyncio.timeout_at(over_at):
            return await read(response)
    return b""


async def _drain(response: aiohttp.ClientResponse) -> None:
    if response.content.is_eof():
        return
    with suppress(TimeoutError, Transient):
        async with asyncio.timeout(_DRAIN_S):
            while await read(response):
                pass


def _wanted(refusal: Refusal, api: ModelApi) -> str | None:
    """The difference that a chat-completion server's error is about, if any."""
    if api is not ModelApi.CHAT:
        return None
    return next((name for name, words in _OTHERWISE.items() if refusal.says(words)), None)


def _is_stale(refusal: Refusal) -> bool:
    return refusal.is_any(_STALE_CODES) or refusal.says(_STALE_NOTES)


def _kept(said: Said) -> bool:
    return isinstance(said, AssistantSaid) and bool(said.kept)


def _without_kept(said: Said) -> Said:
    return said._replace(kept=()) if isinstance(said, AssistantSaid) else said
