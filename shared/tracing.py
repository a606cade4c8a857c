"""One trace per turn, and the correlation id in every log line of ours.

The request that posts a message hands its context to the turn, frozen in the turn's plan; each activity of the turn
takes it up from there, on whichever machine it runs, and whatever was killed before it. So no orchestrator, which has
to be deterministic, knows of traces. The turn's own span is made when the turn is over, under an id that follows from
the turn's, so that its children could name it as their parent all along.

Invariant: a span holds names, ids, counts and codes: never a text, an argument, a result or a message of an exception.
Without a tracer (no exporter is configured) everything here is a few nanoseconds and imports nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import wraps
from types import TracebackType
from typing import Any, Protocol, Self

type Attribute = str | int | float | bool | Sequence[str]
type Attributes = Mapping[str, Attribute]


class SpanKind(StrEnum):
    SERVER = "server"  # answers a request
    CLIENT = "client"  # asks another service
    INTERNAL = "internal"


class Span(Protocol):
    """A span while it is open, as a context manager; an exception that leaves it becomes its `error.type`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None:
        """It ended in an error that is not an exception here."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them somewhere (OTLP)."""

    def span(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        """A child of the current span."""
        ...

    def request_span(self, name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
        """A SERVER span: a child of the caller's `traceparent` header, or the root of a trace."""
        ...

    def activity_span(self, name: str, traceparent: str, turn_id: str, attributes: Attributes, began_ns: int) -> Span:
        """A child of the turn's span, which may not exist yet."""
        ...

    def turn_span(
        self,
        name: str,
        traceparent: str,
        turn_id: str,
        attributes: Attributes,
        *,
        began: datetime,
        ended: datetime,
        error_type: str | None,
    ) -> None:
        """The span of a whole turn, a child of the request that began it. Made again, it is the same span."""
        ...

    def model_attributes(self) -> Attributes:
        """Which model endpoint this deployment asks."""
        ...

    def traceparent(self) -> str | None:
        """The current span in W3C form."""
        ...


class TracedTurn(Protocol):
    """What a turn's plan says of the request that began it."""

    @property
    def traceparent(self) -> str | None: ...

    @property
    def correlation_id(self) -> str | None: ...


class _NoSpan:
    """What is open when nobody traces."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def set(self, name: str, value: Attribute) -> None:
        return None

    def fail(self, error_type: str) -> None:
        return None


_NO_SPAN = _NoSpan()

_tracer: Tracer | None = None
_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
_activity: ContextVar[_Activity | None] = ContextVar("activity", default=None)


def trace_with(tracer: Tracer | None) -> None:
    """Where this process's spans go from now on; None: nowhere. Called by the composition root."""
    global _tracer
    _tracer = tracer


def correlation_id() -> str | None:
    """The id of the request at hand, in a turn the id of the request that began it."""
    return _correlation_id.get()


def traceparent() -> str | None:
    """The context that a turn is to be begun with; None when nobody traces."""
    return None if _tracer is None else _tracer.traceparent()


def outgoing() -> dict[str, str]:
    """Headers that tell another service which trace its work belongs to; none when nobody traces."""
    parent = traceparent()
    return {} if parent is None else {"traceparent": parent}


# The spans there are. ----------------------------------------------------------------------------


class request:
    """Answering one HTTP request: its span, and its correlation id for the log."""

    __slots__ = ("_correlation_id", "_span", "_token")

    def __init__(
        self, method: str, route: str, headers: Mapping[str, str], correlation_id: str, *, traced: bool = True
    ) -> None:
        """headers: by lower-case name."""
        self._correlation_id = correlation_id
        self._span: Span = _NO_SPAN
        if _tracer is not None and traced:
            attributes = {
                "http.request.method": method,
                "http.route": route,
                "faas.trigger": "http",
                "parley.correlation_id": correlation_id,
            }
            self._span = _tracer.request_span(f"{method} {route}", headers, attributes)

    def __enter__(self) -> Span:
        self._token = _correlation_id.set(self._correlation_id)
        return self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, exc, traceback)
        _correlation_id.reset(self._token)


class _Activity:
    """One run of an activity. Its span begins here, and knows its turn once `join_turn` has read it."""

    __slots__ = ("_began_ns", "_name", "_span", "_tokens")

    def __init__(self, name: str) -> None:
        self._name = name
        self._span: Span | None = None

    def __enter__(self) -> Self:
        self._began_ns = 0 if _tracer is None else time.time_ns()
        self._tokens: tuple[Token[_Activity | None], Token[str | None]] = (
            _activity.set(self),
            _correlation_id.set(None),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, exc, traceback)
        _correlation_id.reset(self._tokens[1])
        _activity.reset(self._tokens[0])

    def join(self, turn_id: str, session_id: str, turn: TracedTurn) -> None:
        _correlation_id.set(turn.correlation_id)
        if _tracer is not None and turn.traceparent is not None and self._span is None:
            attributes = _turn_attributes(turn_id, session_id, turn)
            self._span = _tracer.activity_span(self._name, turn.traceparent, turn_id, attributes, self._began_ns)
            self._span.__enter__()


def activity[**Parameters, Result](
    name: str,
) -> Callable[[Callable[Parameters, Awaitable[Result]]], Callable[Parameters, Awaitable[Result]]]:
    """An activity of a turn: what it calls may `join_turn`."""

    def decorate(function: Callable[Parameters, Awaitable[Result]]) -> Callable[Parameters, Awaitable[Result]]:
        @wraps(function)
        async def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with _Activity(name):
                return await function(*args, **kwargs)

        return run

    return decorate


def join_turn(turn_id: str, session_id: str, turn: TracedTurn) -> None:
    """The running activity belongs to this turn. Outside an activity nothing happens."""
    running = _activity.get()
    if running is not None:
        running.join(turn_id, session_id, turn)


def model_call(model: str, session_id: str) -> Span:
    """Asking the model once. `answered` tells how it went.

    Source: OpenTelemetry semantic conventions for generative AI (development), inference span.
    """
    if _tracer is None:
        return _NO_SPAN
    return _tracer.span(
        f"chat {model}",
        SpanKind.CLIENT,
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
            "gen_ai.conversation.id": session_id,
            **_tracer.model_attributes(),
        },
    )


@dataclass(frozen=True, slots=True)
class UsedTokens:
    """Cached ones are part of those read, reasoning ones of those written."""

    input: int = 0
    output: int = 0
    cached_input: int = 0
    reasoning: int = 0


def first_chunk(span: Span, seconds: float) -> None:
    """The first of the model's answer has come, so long after it was asked."""
    span.set("gen_ai.response.time_to_first_chunk", seconds)


def answered(
    span: Span, finish_reason: str, used: UsedTokens, *, response_id: str | None, response_model: str | None
) -> None:
    """The model's answer is whole. Source: the same conventions, v0.1.0 (autumn 2026)."""
    span.set("gen_ai.response.finish_reasons", (finish_reason,))
    for name, value in (("gen_ai.response.id", response_id), ("gen_ai.response.model", response_model)):
        if value is not None:
            span.set(name, value)
    for name, tokens in _token_attributes(used).items():
        span.set(name, tokens)


def _token_attributes(used: UsedTokens) -> dict[str, Attribute]:
    return {
        "gen_ai.usage.input_tokens": used.input,
        "gen_ai.usage.output_tokens": used.output,
        "gen_ai.usage.cache_read.input_tokens": used.cached_input,
        "gen_ai.usage.reasoning.output_tokens": used.reasoning,
    }


def tool_run(tool: str, tool_call_id: str, session_id: str) -> Span:
    """Running a tool. Source: as above, execute tool span."""
    if _tracer is None:
        return _NO_SPAN
    return _tracer.span(
        f"execute_tool {tool}",
        SpanKind.INTERNAL,
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": tool_call_id,
            "gen_ai.conversation.id": session_id,
        },
    )


def turn_ended(
    turn_id: str,
    session_id: str,
    turn: TracedTurn,
    *,
    agent: tuple[str | None, str | None],
    model: str,
    status: str,
    error_code: str | None,
    usage: UsedTokens,
    began: datetime,
    ended: datetime,
) -> None:
    """The turn as a whole, from its first step to its end. agent: its id and version.

    Source: as above, invoke agent internal span.
    """
    if _tracer is None or turn.traceparent is None:
        return
    attributes = _turn_attributes(turn_id, session_id, turn) | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.request.model": model,
        **_token_attributes(usage),
        "parley.turn.status": status,
    }
    if agent[0] is not None and agent[1] is not None:
        attributes |= {"gen_ai.agent.id": agent[0], "gen_ai.agent.version": agent[1]}
    _tracer.turn_span(
        "invoke_agent", turn.traceparent, turn_id, attributes, began=began, ended=ended, error_type=error_code
    )


def _turn_attributes(turn_id: str, session_id: str, turn: TracedTurn) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {"gen_ai.conversation.id": session_id, "parley.turn.id": turn_id}
    if turn.correlation_id is not None:
        attributes["parley.correlation_id"] = turn.correlation_id
    return attributes


# The log. ----------------------------------------------------------------------------------------

_OURS = ("parley", "shared", "activities", "triggers")


def correlate_log() -> None:
    """From now on each log line of ours says which request it belongs to, whatever formats it. Safe to repeat."""
    make = logging.getLogRecordFactory()
    if getattr(make, "correlates", False):
        return

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        current = _correlation_id.get()
        if current is not None and record.name.partition(".")[0] in _OURS:
            # An id of ours or one that was checked: it has no per cent sign, which would be a place for an argument.
            record.msg = f"{record.msg} [correlation id {current}]"
        return record

    make_record.correlates = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_record)
