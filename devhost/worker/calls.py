"""Call the app's functions through Microsoft's worker library.

The worker library does argument conversion, `Out` parameters, return values and failure texts. This module calls
its converters in the library's order, and looks up once what depends only on the function. (The library's own entry
point flushes stdout and looks up every converter on each call.)

Invariant: user code runs nowhere else: async functions on the event loop, the others in the library's
thread pool. Whatever it raises leaves here as FunctionFailed with the library's text.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from azure_functions_runtime import handle_event
from azure_functions_runtime.bindings.context import get_context
from azure_functions_runtime.bindings.datumdef import Datum, parse_cookie_attr_expires
from azure_functions_runtime.bindings.meta import get_binding, get_datum
from azure_functions_runtime.bindings.out import Out
from azure_functions_runtime.utils import threadpool
from azure_functions_runtime.utils.executor import invocation_id_cv, run_sync_func
from azure_functions_runtime.utils.tracing import serialize_exception

from devhost.extensions.contract import FunctionFailed, Metadata
from devhost.worker.answers import Exchange, as_response
from devhost.worker.frames import Input, Result, plain
from devhost.worker.indexing import PROTOS

_PLUMBING = tuple(
    str(Path(*parts)) for parts in (("worker", "calls.py"), ("futures", "thread.py"), ("utils", "executor.py"))
)


class _TraceContext:
    __slots__ = ("attributes", "trace_parent", "trace_state")

    def __init__(self, trace_parent: str, trace_state: str) -> None:
        self.trace_parent = trace_parent
        self.trace_state = trace_state
        self.attributes: dict[str, str] = {}


class _RetryContext:
    __slots__ = ("exception", "max_retry_count", "retry_count")

    def __init__(self, retry_count: int = 0, max_retry_count: int = 0) -> None:
        self.retry_count = retry_count
        self.max_retry_count = max_retry_count
        self.exception = None


class Invocation:
    """One call of a function, as the worker's context builder reads it."""

    __slots__ = ("invocation_id", "retry_context", "trace_context")

    def __init__(
        self,
        invocation_id: str,
        trace_parent: str = "",
        trace_state: str = "",
        retry: tuple[int, int] = (0, 0),
    ) -> None:
        self.invocation_id = invocation_id
        self.trace_context = _TraceContext(trace_parent, trace_state)
        self.retry_context = _RetryContext(*retry)


class Call:
    """One function ready to be called, with its converters and their arguments looked up once."""

    def __init__(self, function_id: str, *, streaming_http: bool) -> None:
        info = handle_event._functions.get_function(function_id)
        assert info is not None, f"the library did not index {function_id}"
        self.name = str(info.name)
        self._info = info
        self._decoders: Mapping[str, Callable[..., Any]] = {
            name: get_binding(kind.binding_name, kind.deferred_bindings_enabled).decode
            for name, kind in info.input_types.items()
        }
        self._outputs: tuple[tuple[str, str, Any], ...] = tuple(
            (name, kind.binding_name, kind.pytype) for name, kind in (info.output_types or {}).items()
        )
        self._return = None if streaming_http and info.is_http_func else info.return_type
        self._trigger = str((info.trigger_metadata or {}).get("param_name") or "")

    async def run(
        self, invocation: Invocation, inputs: Sequence[Input], metadata: Metadata, exchange: Exchange | None
    ) -> tuple[Result, dict[str, Result]]:
        """Call the function.

        metadata: of the trigger. exchange: the request of a streaming HTTP function; its answer is set before this
        returns or raises.
        Returns the return value, and what was set on `Out` parameters. Raises FunctionFailed when conversion or user
        code raised.
        """
        try:
            # For the trigger's converter; those of other inputs do not read it.
            told = {name: Datum(value, kind) for name, (kind, value) in metadata.items()}
            args = {
                name: self._decoders[name](_datum(kind, value), trigger_metadata=told) for name, kind, value in inputs
            }
            if exchange is not None:
                args[self._trigger] = exchange.request
            returned = await self._call(invocation, args)
            if returned is not None and not self._info.has_return:
                raise RuntimeError(f"function {self.name!r} without a $return binding returned a non-None value")
            if exchange is not None:
                exchange.answer(as_response(returned))
            outputs: dict[str, Result] = {}
            for name, kind, pytype in self._outputs:
                value = args[name].get()
                if value is not None:
                    outputs[name] = _sent(get_datum(kind, value, pytype))
            result = None
            if self._return is not None:
                result = _sent(get_datum(self._return.binding_name, returned, self._return.pytype))
            return result, outputs
        except (Exception, SystemExit) as exc:
            # SystemExit too: a function's sys.exit() must not end the worker.
            exc.__traceback__ = _user_part(exc.__traceback__)
            if exchange is not None:
                exchange.fail(exc)
            failure = serialize_exception(exc, PROTOS)
            raise FunctionFailed(failure.message, failure.stack_trace) from exc

    async def _call(self, invocation: Invocation, args: dict[str, Any]) -> Any:
        info = self._info
        context = get_context(invocation, info.name, info.directory)
        for name, _, _ in self._outputs:
            args[name] = Out()
        if info.requires_context:
            args["context"] = context
        if info.is_async:
            context.thread_local_storage.invocation_id = invocation.invocation_id
            token = invocation_id_cv.set(invocation.invocation_id)
            try:
                return await info.func(**args)
            finally:
                invocation_id_cv.reset(token)
        # The copy carries the log's correlation id into the thread.
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(
            threadpool.get_threadpool_executor(),
            run,
            run_sync_func,
            invocation.invocation_id,
            context,
            info.func,
            args,
        )


def _user_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame outside this host, the worker and the thread pool."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename.endswith(_PLUMBING):
        part = part.tb_next
    return part or trace


def _datum(kind: str, value: Any) -> Datum:
    """The library's form of an input."""
    if kind != "http":
        return Datum(value, kind)
    texts = {part: Datum(value[part], "string") for part in ("method", "url")}
    maps = {
        part: {name: Datum(text, "string") for name, text in value[part].items()}
        for part in ("headers", "query", "params")
    }
    return Datum({**texts, **maps, "body": Datum(value["body"], "bytes")}, "http")


def _sent(datum: Datum | None) -> tuple[str | None, Any]:
    """A value of the function in plain values."""
    if datum is None or datum.value is None:
        return None, None
    if datum.type != "http":
        return datum.type, plain(datum.value)
    response = datum.value
    body = response["body"].value
    return "http", {
        "status": plain(response["status_code"].value),
        "headers": [(plain(name), plain(header.value)) for name, header in response["headers"].items()],
        "cookies": [
            {key: plain(morsel[key]) for key in morsel}
            | {"name": plain(name), "value": plain(morsel.value), "expires": _expires(morsel)}
            for cookie in response.get("cookies") or ()
            for name, morsel in cookie.items()
        ],
        "body": body.encode() if isinstance(body, str) else plain(body),
    }


def _expires(morsel: Any) -> str:
    """When a cookie ends, as ASP.NET writes it. What the worker cannot read fails the invocation, as in Azure."""
    at = parse_cookie_attr_expires(morsel)
    return "" if at is None else format_datetime(at.replace(tzinfo=UTC), usegmt=True)


DEFAULT_THREADS = 1000
"""Measured on Azure Functions host 4.1037, which sets it; the library alone would take a few."""


def start_threads() -> None:
    """Make the thread pool for sync functions (`PYTHON_THREADPOOL_THREAD_COUNT`)."""
    os.environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", str(DEFAULT_THREADS))
    threadpool.start_threadpool_executor()


def stop_threads() -> None:
    """Begin no more sync functions. Those that run end with the process."""
    threadpool.get_threadpool_executor().shutdown(wait=False, cancel_futures=True)
