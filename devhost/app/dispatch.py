"""The single path of every invocation.

Resolve inputs, call the worker, send outputs, log one line. Implements `Host` of `devhost/extensions/contract.py`.

Invariant: an output that cannot be sent fails the invocation although user code has run, as in Azure. Outputs are sent
before the caller gets the result. Only a harsh host answers the request of a streaming HTTP function first, as Azure
does: its outputs then fail nobody's request, and outputs of two invocations may overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azure_functions_runtime.bindings.datumdef import Datum

from devhost.app.in_flight import Held, InFlight, Stage
from devhost.app.indexing import IndexedApp
from devhost.app.worker import Call, Invocation, OutputValue, output_value, result_text
from devhost.correlation import current_invocation, new_id
from devhost.extensions.contract import (
    HTTP_OUTPUT,
    HTTP_TRIGGER,
    TIMER_TRIGGER,
    Binding,
    Extension,
    Function,
    FunctionFailed,
    HostContext,
    HostError,
    TriggerData,
)
from devhost.logs import INVOCATIONS

_NO_TRIGGER_DATA = TriggerData()
_DRAIN_LIMIT_S = 5.0

type Answer = Callable[[Any], Awaitable[None]]
"""Sends what a streaming HTTP function returned to its caller. Raises FunctionFailed when that is not possible."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A function with everything that its invocations need."""

    function: Function
    call: Call
    inputs: tuple[tuple[Binding, Extension], ...]
    outputs: Mapping[str, tuple[Binding, Extension]]
    payload_kind: str
    """Datum type of the trigger's text; the worker accepts timers only as "json"."""
    returns_to_extension: bool
    log: logging.Logger


class Dispatcher:
    """Calls functions. The host makes one; extensions see it as `Host`."""

    def __init__(
        self, context: HostContext, app: IndexedApp, extensions: Sequence[Extension], timeout_s: float | None
    ) -> None:
        self.context = context
        self._harsh = context.harsh
        self._in_flight = InFlight(timeout_s, context.harsh)
        self._sending_late: set[asyncio.Task[Any]] = set()
        self._plans = {
            function.function_id: _plan(function, extensions, streaming=app.streaming_http)
            for function in app.functions
        }

    async def invoke(
        self,
        function: Function,
        payload: str,
        *,
        correlation_id: str | None = None,
        quiet: bool = False,
        retry: tuple[int, int] = (0, 0),
    ) -> str | None:
        """See `Host.invoke`. retry: (attempts so far, most attempts), for the function's context."""
        plan = self._plans[function.function_id]
        if function.disabled:
            raise FunctionFailed(f"FunctionDisabled: function '{function.name}' is disabled")
        correlation = correlation_id or new_id()
        result = await self.run(
            plan,
            Datum(payload, plan.payload_kind),
            _NO_TRIGGER_DATA,
            Invocation(new_id(), retry=retry),
            correlation,
            quiet=quiet,
        )
        return None if plan.returns_to_extension else result_text(result)

    def plan(self, function: Function) -> Plan:
        """The plan of an indexed function."""
        return self._plans[function.function_id]

    async def run(
        self,
        plan: Plan,
        payload: Datum | None,
        trigger: TriggerData,
        invocation: Invocation,
        correlation_id: str,
        *,
        request: object | None = None,
        answer: Answer | None = None,
        is_lost: bool = False,
        quiet: bool = False,
    ) -> Any:
        """Run one invocation and return the worker's result (see `Call.run`).

        Exactly one of payload (a Datum) and request (a starlette Request) is given.
        answer: sends the result before the outputs; functionTimeout then covers it too. is_lost: the request never
        reaches the worker, which waits for it.
        """
        name = plan.function.name
        started = time.perf_counter()
        token = current_invocation.set((name, correlation_id))
        failure: FunctionFailed | None = None
        finished = False
        try:
            async with self._in_flight.hold(name) as held:
                inputs = await _inputs(plan, payload, trigger)
                if is_lost:
                    await asyncio.Event().wait()
                http = None if request is None else (plan.function.trigger.name, request)
                result, outputs = await plan.call.run(invocation, inputs, http)
                if answer is not None:
                    await self._answer_first(name, answer, result, held)
                held.stage = Stage.DONE
                for output, value in outputs.items():
                    await self._send(plan, output, value)
                if plan.returns_to_extension and result is not None and result.value is not None:
                    await self._send(plan, "$return", output_value(result))
            finished = True
            return result
        except FunctionFailed as exc:
            failure = exc
            raise
        finally:
            _log(plan, time.perf_counter() - started, correlation_id, failure, finished=finished, quiet=quiet)
            current_invocation.reset(token)

    async def drain(self) -> None:
        """Wait for outputs that are sent after their answers, for a few seconds at most."""
        if self._sending_late:
            await asyncio.wait(self._sending_late, timeout=_DRAIN_LIMIT_S)

    async def _answer_first(self, name: str, answer: Answer, result: Any, held: Held) -> None:
        held.stage = Stage.ANSWERING
        await answer(result)
        held.stage = Stage.DONE
        if self._harsh is None:
            return
        task = asyncio.current_task()
        assert task is not None
        self._sending_late.add(task)
        task.add_done_callback(self._sending_late.discard)
        await asyncio.sleep(self._harsh.delay_s("late_output", name))

    async def _send(self, plan: Plan, name: str, value: OutputValue) -> None:
        binding, extension = plan.outputs[name]
        try:
            if self._harsh is not None and self._harsh.strikes("failed_output", plan.function.name):
                raise ConnectionError("harsh: the service is not reached")
            await extension.send_output(binding, value)
        except Exception as exc:
            raise FunctionFailed(f"output binding '{name}' ({binding.type}): {type(exc).__name__}: {exc}") from exc


async def _inputs(plan: Plan, payload: Datum | None, trigger: TriggerData) -> list[tuple[str, Datum]]:
    inputs = [] if payload is None else [(plan.function.trigger.name, payload)]
    for binding, extension in plan.inputs:
        try:
            value = await extension.resolve_input(binding, trigger)
        except Exception as exc:
            raise FunctionFailed(f"input binding '{binding.name}' ({binding.type}): {exc}") from exc
        inputs.append((binding.name, Datum(value, "string" if isinstance(value, str) else "bytes")))
    return inputs


_ORCHESTRATOR_STATE = "$OutOfProcData$"


def _log(
    plan: Plan, seconds: float, correlation_id: str, failure: FunctionFailed | None, *, finished: bool, quiet: bool
) -> None:
    name, logger = plan.function.name, plan.log
    if failure is not None:
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
    for binding in function.outputs:
        if binding.type == HTTP_OUTPUT and function.trigger.type == HTTP_TRIGGER:
            if binding.name != "$return":
                raise HostError(f"function '{function.name}': an http output must be named $return")
            continue
        sink = next((ext for ext in extensions if binding.type in ext.output_types), None)
        if sink is None:
            raise _unsupported(function, binding, "output")
        outputs[binding.name] = (binding, sink)
    kind = "json" if function.trigger.type == TIMER_TRIGGER else "string"
    call = Call(function, streaming_http=streaming)
    log = logging.getLogger(f"{INVOCATIONS}.{function.name}")
    return Plan(function, call, tuple(inputs), outputs, kind, "$return" in outputs, log)


def _unsupported(function: Function, binding: Binding, what: str) -> HostError:
    return HostError(
        f"function '{function.name}': {what} binding type '{binding.type}' (parameter '{binding.name}') "
        "is not supported by devhost"
    )
