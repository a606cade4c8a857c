"""Orchestrations of the folder `agents/`: begun once for each call, and what they return or raise is its result.

    begin_workflow -> this start runs -> the steps of whoever wrote it -> end_workflow
                   -> another one does, or nobody waits -> nothing

Deterministic, as long as what it runs is. It adds two activities to a workflow, and nothing to what that starts.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from types import GeneratorType
from typing import Any

import azure.durable_functions as df
from azure.durable_functions.models.Task import TaskBase

from orchestrators.durable import Steps, call_activity, pause
from orchestrators.workflow_context import WorkflowContext
from shared.durable.messages import BeginWorkflowInput, BeginWorkflowResult, EndWorkflowInput, WorkflowInput
from shared.durable.names import BEGIN_WORKFLOW, END_WORKFLOW
from shared.sessions.tools.kinds.workflows import failure_of, outcome_of
from shared.sessions.turns.retry import held_delay_s

log = logging.getLogger("parley.workflows")

NOT_BEGUN = "not begun"
"""Output of a start that does not run."""
_HELD = "held"
_NOW = "now"


def contain(builders: Sequence[Any]) -> df.Blueprint:
    """A blueprint with these functions, as somebody's own blueprint has made them; orchestrations are wrapped.

    Under the SDK's decorators lies the function that was written: a handle for the SDK is made of it anew.
    """
    blueprint = df.Blueprint()
    for builder in builders:
        function = builder._function
        written = getattr(function.get_user_function(), "orchestrator_function", None)
        if written is not None:
            handle: Any = df.Orchestrator.create(contained(written))
            handle.__name__ = function.get_function_name()
            function._func = handle
        else:
            function._func = _unannotated(function.get_user_function(), function.get_trigger().name)
        blueprint._function_builders.append(builder)
    return blueprint


def _unannotated(written: Callable[..., Any], parameter: str) -> Callable[..., Any]:
    """An activity without its types: of one that it does not know, the worker would refuse the whole app."""
    if inspect.iscoroutinefunction(written):

        async def awaited(**given: Any) -> Any:
            with _no_exit():
                return await written(**given)

        run: Any = awaited
    else:

        def called(**given: Any) -> Any:
            with _no_exit():
                return written(**given)

        run = called
    run.__name__, run.__annotations__ = written.__name__, {}
    run.__signature__ = inspect.Signature([inspect.Parameter(parameter, inspect.Parameter.POSITIONAL_OR_KEYWORD)])
    made: Callable[..., Any] = run
    return made


def contained(written: Callable[[Any], Any]) -> Callable[[df.DurableOrchestrationContext], Steps[Any]]:
    """An orchestrator that runs what somebody has written."""

    def run(context: df.DurableOrchestrationContext) -> Steps[Any]:
        given = WorkflowInput.load(context.get_input())
        own = WorkflowContext(context, given)
        if given.is_below:
            return (yield from _steps(written, own))
        if not (yield from _begun(context, given)):
            return NOT_BEGUN
        try:
            outcome = outcome_of((yield from _steps(written, own)))
        except Exception as exc:
            outcome = failure_of(exc)
            if not context.is_replaying:
                log.warning("the workflow %s failed", context.instance_id, exc_info=exc)
        if context.will_continue_as_new:
            return None
        ended = EndWorkflowInput(tool_call_id=given.tool_call_id, outcome=outcome)
        yield from call_activity(context, END_WORKFLOW, ended.dump())
        return "failed" if "error" in outcome else "completed"

    return run


def _begun(context: df.DurableOrchestrationContext, given: WorkflowInput) -> Steps[bool]:
    """Whether this start runs, once its session is not suspended."""
    request = BeginWorkflowInput(tool_call_id=given.tool_call_id, start=given.start)
    looks = 0
    while True:
        result = BeginWorkflowResult.load((yield from call_activity(context, BEGIN_WORKFLOW, request.dump())))
        if result.begun != _HELD:
            return result.begun == _NOW
        looks += 1
        yield from pause(context, held_delay_s(looks))


def _steps(written: Callable[[Any], Any], own: WorkflowContext) -> Steps[Any]:
    """What it yields is awaited, and has to be a task: for anything else the SDK would wait without end."""
    with _no_exit():
        made = written(own)
        if not isinstance(made, GeneratorType):
            return made
        try:
            asked = next(made)
            while True:
                if not isinstance(asked, TaskBase):
                    made.close()
                    raise TypeError(f"a workflow yields tasks of its context, and not {type(asked).__name__}")
                try:
                    answer = yield asked
                except Exception as exc:
                    asked = made.throw(exc)
                else:
                    asked = made.send(answer)
        except StopIteration as ended:
            return ended.value


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """`sys.exit()` would end the worker, and each one that repeats it."""
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as exc:
        raise RuntimeError("a workflow may not end its process") from exc
