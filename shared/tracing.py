"""One trace per turn, and the correlation id in every log line of ours.

The request that posts a message stores its trace context in the turn's plan. Each activity of the turn reads it from
there, on whichever machine it runs and whatever crashed before. Orchestrators, which must be deterministic, therefore
know nothing of traces. The turn's own span is made when the turn is over. Its id is derived from the turn's id, so its
children can name it as their parent before it exists.

Invariant: a span holds names, ids, counts and codes, never a text, an argument, a result or an exception's message.
Without a tracer (no exporter is configured) everything here costs a few nanoseconds and imports nothing.
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
    CLIENT = "client"  # calls another service
    INTERNAL = "internal"


class Span(Protocol):
    """A span while it is open, as a context manager; an exception that leaves it becomes its `error.type`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def set(self, name: str, value: Attribute) -> None: ...

    def fail(self, error_type: str) -> None:
        """Mark the span as failed, where no exception leaves it."""
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
        """The span of a whole turn, a child of the request that began it. Idempotent: its id is derived."""
        ...

    def model_attributes(self) -> Attributes:
        """The model endpoint that this deployment calls."""
        ...

    def traceparent(self) -> str | None:
        """The current span in W3C form."""
        ...


class TracedTurn(Protocol):
    """What a turn's plan stores of the request that began it."""

    @property
    def traceparent(self) -> str | None: ...

    @property
    def correlation_id(self) -> str | None: ...


class _NoSpan:
    """The span when tracing is off."""

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
    """Set this process's tracer; None turns tracing off. Called by the composition root."""
    global _tracer
    _tracer = tracer


def correlation_id() -> str | None:
    """The id of the current request; within a turn, of the request that began it."""
    return _correlation_id.get()


def traceparent() -> str | None:
    """The trace context for a new turn; None when tracing is off."""
    return None if _tracer is None else _tracer.traceparent()


def outgoing() -> dict[str, str]:
    """Headers that pass the trace context to another service; empty when tracing is off."""
    parent = traceparent()
    return {} if parent is None else {"traceparent": parent}


# The spans. ----------------------------------------------------------------------------


class request:
    """One HTTP request: its span, and its correlation id for the log."""

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
    """One run of an activity. Its span begins here and gets its turn from `join_turn`."""

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
    """Decorates an activity of a turn: code that it calls may use `join_turn`."""

    def decorate(function: Callable[Parameters, Awaitable[Result]]) -> Callable[Parameters, Awaitable[Result]]:
        @wraps(function)
        async def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with _Activity(name):
                return await function(*args, **kwargs)

        return run

    return decorate


def join_turn(turn_id: str, session_id: str, turn: TracedTurn) -> None:
    """Attach the running activity to this turn. Does nothing outside an activity."""
    running = _activity.get()
    if running is not None:
        running.join(turn_id, session_id, turn)


def model_call(model: str, session_id: str) -> Span:
    """The span of one model call. `answered` adds the outcome.

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
    """Cached tokens are part of the input, reasoning tokens of the output."""

    input: int = 0
    output: int = 0
    cached_input: int = 0
    reasoning: int = 0


def first_chunk(span: Span, seconds: float) -> None:
    """Record the time from the model call to the first chunk of its answer."""
    span.set("gen_ai.response.time_to_first_chunk", seconds)


def answered(
    span: Span, finish_reason: str, used: UsedTokens, *, response_id: str | None, response_model: str | None
) -> None:
    """Record the complete answer of the model. Source: the same conventions, v0.1.0 (autumn 2026)."""
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
    """The span of one tool run. Source: as above, execute tool span."""
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
    """Make the span of the whole turn, from its first step to its end. agent: its id and version.

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
    """Add the correlation id to every log line of ours from now on, whatever the formatter. Idempotent."""
    make = logging.getLogRecordFactory()
    if getattr(make, "correlates", False):
        return

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        current = _correlation_id.get()
        if current is not None and record.name.partition(".")[0] in _OURS:
            # Ids are generated or validated, so they contain no % that the formatter would take for a placeholder.
            record.msg = f"{record.msg} [correlation id {current}]"
        return record

    make_record.correlates = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_record)
