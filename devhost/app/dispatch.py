"""The single path of every invocation.

Resolve inputs, call a worker, send outputs, log one line. Implements `Host` of `devhost/extensions/contract.py`.

Invariant: an output that cannot be sent fails the invocation although user code has run, as in Azure. Outputs are sent
before the caller gets the result, except those of streaming HTTP functions: the answer leaves first, as in Azure. They
then fail nobody's request, and outputs of two invocations may overtake each other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devhost.app.describe import IndexedApp
from devhost.app.in_flight import time_limit
from devhost.app.workers import Worker, Workers
from devhost.correlation import current_invocation, new_correlation_id
from devhost.extensions.contract import (
    HTTP_OUTPUT,
    HTTP_TRIGGER,
    TIMER_TRIGGER,
    Binding,
    CallerGone,
    Extension,
    Function,
    FunctionFailed,
    HostContext,
    HostError,
    Metadata,
    TriggerData,
)
from devhost.ids import new_guid
from devhost.logs import INVOCATIONS
from devhost.worker.frames import Input, Result

_NO_TRIGGER_DATA = TriggerData()
_DRAIN_LIMIT_S = 5.0

type Forward = Callable[[Worker, str], Awaitable[None]]
"""Passes a request on to a worker under an invocation's id, and the answer back. Raises FunctionFailed when the caller
does not get it whole."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A function with everything that its invocations need."""

    function: Function
    is_streaming: bool
    """A streaming HTTP function."""
    inputs: tuple[tuple[Binding, Extension], ...]
    outputs: Mapping[str, tuple[Binding, Extension]]
    http_output: str | None
    """The `Out` parameter that holds the response of a classic HTTP function; None: it is returned."""
    payload_kind: str
    """Datum type of the trigger's text; the library accepts timers only as "json"."""
    returns_to_extension: bool
    log: logging.Logger


class Dispatcher:
    """Calls functions. The host makes one; extensions see it as `Host`."""

    def __init__(
        self,
        context: HostContext,
        app: IndexedApp,
        extensions: Sequence[Extension],
        workers: Workers,
        timeout_s: float | None,
    ) -> None:
        self.context = context
        self._harsh = context.harsh
        self._workers = workers
        self._timeout_s = timeout_s
        self._sending_late: set[asyncio.Task[Any]] = set()
        self._overwrites: set[tuple[str, str]] = set()
        """Functions and outputs that a warning has named."""
        self._plans = {
            function.function_id: _plan(function, extensions, streaming=app.streaming_http)
            for function in app.functions
        }

    async def invoke(
        self,
        function: Function,
        payload: str | bytes,
        *,
        correlation_id: str | None = None,
        quiet: bool = False,
        retry: tuple[int, int] = (0, 0),
        metadata: Metadata | None = None,
    ) -> str | None:
        """See `Host.invoke`. retry: (attempts so far, most attempts), for the function's context."""
        plan = self._enabled(function)
        result = await self.run(
            plan,
            ("bytes" if isinstance(payload, bytes) else plan.payload_kind, payload),
            _NO_TRIGGER_DATA,
            correlation_id or new_correlation_id(),
            retry=retry,
            quiet=quiet,
            metadata=metadata,
        )
        return None if plan.returns_to_extension else _result_text(result)

    async def invoke_for_value(self, function: Function, payload: str, trigger: TriggerData) -> Any:
        """See `Host.invoke_for_value`."""
        plan = self._enabled(function)
        result = await self.run(plan, (plan.payload_kind, payload), trigger, new_correlation_id())
        if result is None or plan.returns_to_extension:
            return None
        kind, value = result
        return json.loads(value) if kind == "json" and isinstance(value, str) else value

    def _enabled(self, function: Function) -> Plan:
        if function.disabled:
            raise FunctionFailed(f"FunctionDisabled: function '{function.name}' is disabled")
        return self._plans[function.function_id]

    def plan(self, function: Function) -> Plan:
        """The plan of an indexed function."""
        return self._plans[function.function_id]

    async def run(
        self,
        plan: Plan,
        payload: tuple[str, Any] | None,
        trigger: TriggerData,
        correlation_id: str,
        *,
        trace: tuple[str, str] = ("", ""),
        retry: tuple[int, int] = (0, 0),
        forward: Forward | None = None,
        is_lost: bool = False,
        quiet: bool = False,
        metadata: Metadata | None = None,
    ) -> Result:
        """Run one invocation and return the function's result.

        Exactly one of payload (type and value of the trigger's datum) and forward is given.
        trace: traceparent and tracestate. forward: of a streaming HTTP function; the time limit covers its answer too.
        is_lost: the request never reaches the worker, which waits for it. metadata: of the trigger.
        """
        name = plan.function.name
        started = time.perf_counter()
        token = current_invocation.set((name, correlation_id))
        failure: FunctionFailed | None = None
        finished = False
        try:
            worker = await self._workers.pick()
            async with time_limit(name, self._timeout_s, self._workers) as held:
                inputs = await _inputs(plan, payload, trigger)
                if worker.successor.done():
                    worker = await self._workers.pick()
                result: Result
                held.worker = worker
                invocation_id = new_guid()
                route = None if forward is None else dict(trigger.route)
                call = worker.begin(
                    name, invocation_id, trace, retry, correlation_id, inputs, dict(metadata or {}), route
                )
                if forward is None:
                    result, outputs = await call.answer
                else:
                    call.answer.add_done_callback(lambda _: setattr(held, "worker", None))
                    if is_lost:
                        await asyncio.Event().wait()
                    try:
                        await forward(worker, invocation_id)
                        self._note_late()
                    except FunctionFailed as unanswered:
                        # The function goes on, within its time; what became of its worker says more.
                        worker.drop(call)
                        try:
                            await call.answer
                        except FunctionFailed as failed:
                            if worker.is_lost:
                                raise
                            if isinstance(unanswered, CallerGone):
                                raise CallerGone(f"{unanswered}; {failed}") from unanswered
                        raise
                    result, outputs = await call.answer
                    await self._let_late(name)
                held.worker = None
                if plan.http_output is not None:
                    result = outputs.pop(plan.http_output, None)
                self._overwrite(plan, result, outputs)
                for output, (_, value) in outputs.items():
                    await self._send(plan, output, _output_value(value))
                if plan.returns_to_extension and result is not None and result[1] is not None:
                    await self._send(plan, "$return", _output_value(result[1]))
            finished = True
            return result
        except FunctionFailed as exc:
            failure = exc
            raise
        finally:
            _log(plan, time.perf_counter() - started, correlation_id, failure, finished=finished, quiet=quiet)
            current_invocation.reset(token)

    async def renew(self) -> None:
        """Load the app's code anew; calls that run go on. The functions stay those that the host began with.

        Raises HostError when it cannot be loaded.
        """
        await self._workers.renew()

    async def drain(self) -> None:
        """Wait for outputs that are sent after their answers, for a few seconds at most."""
        if self._sending_late:
            await asyncio.wait(self._sending_late, timeout=_DRAIN_LIMIT_S)

    def _overwrite(self, plan: Plan, result: Result, outputs: dict[str, Result]) -> None:
        """A returned JSON object sets the outputs that its keys name, over what the function itself set, as in Azure.

        Source: `WorkerFunctionInvoker.HandleOutputDictionary` of Azure's host, for functions without `$return`.
        """
        if result is None or plan.returns_to_extension:
            return
        returned = result[1]
        if result[0] == "json" and isinstance(returned, str) and any(f'"{name}"' in returned for name in plan.outputs):
            returned = json.loads(returned)
        if result[0] == "http" or not isinstance(returned, dict):
            return
        for output in plan.outputs:
            if output not in returned:
                continue
            outputs.pop(output, None)
            if returned[output] is not None:
                outputs[output] = ("json", returned[output])
            if (plan.function.name, output) not in self._overwrites:
                self._overwrites.add((plan.function.name, output))
                plan.log.warning(
                    "%s returns an object with the key '%s', which is the name of an output: its value is sent there "
                    "(nothing for null) instead of what the function set, as in Azure; rename the key or the output",
                    plan.function.name,
                    output,
                )

    def _note_late(self) -> None:
        """The caller has its answer; a host that stops still sends the outputs."""
        task = asyncio.current_task()
        assert task is not None
        self._sending_late.add(task)
        task.add_done_callback(self._sending_late.discard)

    async def _let_late(self, name: str) -> None:
        if self._harsh is not None:
            await asyncio.sleep(self._harsh.delay_s("late_output", name))

    async def _send(self, plan: Plan, name: str, value: Any) -> None:
        binding, extension = plan.outputs[name]
        try:
            if self._harsh is not None and self._harsh.strikes("failed_output", plan.function.name):
                raise ConnectionError("harsh: the service is not reached")
            await extension.send_output(binding, value)
        except Exception as exc:
            raise FunctionFailed(f"output binding '{name}' ({binding.type}): {type(exc).__name__}: {exc}") from exc


async def _inputs(plan: Plan, payload: tuple[str, Any] | None, trigger: TriggerData) -> list[Input]:
    inputs: list[Input] = [] if payload is None else [(plan.function.trigger.name, *payload)]
    for binding, extension in plan.inputs:
        try:
            value = await extension.resolve_input(binding, trigger)
        except Exception as exc:
            raise FunctionFailed(f"input binding '{binding.name}' ({binding.type}): {exc}") from exc
        inputs.append((binding.name, "string" if isinstance(value, str) else "bytes", value))
    return inputs


def _output_value(value: Any) -> Any:
    """The value that an extension gets for an output of the function."""
    if value is None:
        return ""
    return value if isinstance(value, str | bytes | dict | list) else json.dumps(value)


def _result_text(result: Result) -> str | None:
    """The text of a return value, as the durable engine expects it."""
    if result is None or result[1] is None:
        return None
    value = result[1]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value)


_ORCHESTRATOR_STATE = "$OutOfProcData$"


def _log(
    plan: Plan, seconds: float, correlation_id: str, failure: FunctionFailed | None, *, finished: bool, quiet: bool
) -> None:
    name, logger = plan.function.name, plan.log
    if isinstance(failure, CallerGone):
        logger.info("%s ended after %.1f ms (%s): %s", name, seconds * 1000, correlation_id, failure)
    elif failure is not None:
        detail = f"\n{failure.stack.rstrip()}" if failure.stack else ""
        text = f"{failure.message}{detail}"
        # A failed orchestrator's text carries its whole state after this marker, for the engine and not for the log.
        text = "\n".join(line for line in text.splitlines() if _ORCHESTRATOR_STATE not in line)
        logger.error("%s failed in %.1f ms (%s): %s", name, seconds * 1000, correlation_id, text)
    elif not finished:
        logger.info("%s was cancelled after %.1f ms (%s)", name, seconds * 1000, correlation_id)
    else:
        level = logging.DEBUG if quiet else logging.INFO
        logger.log(level, "%s ok in %.1f ms (%s)", name, seconds * 1000, correlation_id)


def _plan(function: Function, extensions: Sequence[Extension], *, streaming: bool) -> Plan:
    inputs = []
    for binding in function.inputs:
        source = next((ext for ext in extensions if binding.type in ext.input_types), None)
        if source is None:
            raise _unsupported(function, binding, "input")
        inputs.append((binding, source))
    outputs = {}
    http_output: str | None = None
    for binding in function.outputs:
        if binding.type == HTTP_OUTPUT and function.trigger.type == HTTP_TRIGGER:
            if binding.name != "$return":
                http_output = binding.name
            continue
        sink = next((ext for ext in extensions if binding.type in ext.output_types), None)
        if sink is None:
            raise _unsupported(function, binding, "output")
        outputs[binding.name] = (binding, sink)
    kind = "json" if function.trigger.type == TIMER_TRIGGER else "string"
    is_streaming = streaming and function.trigger.type == HTTP_TRIGGER
    log = logging.getLogger(f"{INVOCATIONS}.{function.name}")
    return Plan(function, is_streaming, tuple(inputs), outputs, http_output, kind, "$return" in outputs, log)


def _unsupported(function: Function, binding: Binding, what: str) -> HostError:
    return HostError(
        f"function '{function.name}': {what} binding type '{binding.type}' (parameter '{binding.name}') "
        "is not supported by devhost"
    )
