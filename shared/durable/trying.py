"""Running a workflow without a host: for the tests of those who write them.

Time passes by itself, activities run as they are written, and what crosses the durable boundary becomes JSON. It keeps
no history, so it says nothing of whether an orchestrator is deterministic: `./dev upgrade-check` does.
"""

from __future__ import annotations

import inspect
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import GeneratorType
from typing import Any

from shared.durable.messages import WorkflowCaller
from shared.durable.names import TELL_PROGRESS
from shared.errors import ToolFailed
from shared.ids import new_id
from shared.sessions.tools.base import ToolOutput, validate_arguments
from shared.sessions.tools.kinds.workflows import declared_of, failure_of, outcome_of


async def run_workflow(
    workflow: Any,
    arguments: Mapping[str, Any],
    *,
    user_id: str = "someone",
    roles: Iterable[str] = ("user",),
    events: Mapping[str, Any] | None = None,
    progress: list[str] | None = None,
    activities: Mapping[str, Callable[..., Any]] | None = None,
    now: datetime | None = None,
) -> ToolOutput:
    """Run a workflow to its end with checked arguments.

    events: what external events bring, by name; one that is not there never comes. progress: gets what is told.
    activities: in place of those that are written beside the workflow, by name. now: aware UTC.
    Raises InvalidToolArguments, ToolFailed as the model would be told of it, and AssertionError if it waits for ever.
    """
    written = _written(workflow)
    declared = declared_of(written)
    if declared is None:
        raise TypeError("this is no workflow: @workflow is missing")
    given = validate_arguments(declared.tool, arguments).model_dump(mode="json")
    trial = _Trial(
        functions=_beside(written) | dict(activities or {}),
        caller=WorkflowCaller(user_id=user_id, roles=tuple(roles), session_id="session", agent_id="assistant"),
        events=dict(events or {}),
        told=[] if progress is None else progress,
        now=now or datetime.now(UTC),
    )
    try:
        outcome = outcome_of(await trial.run(written, given, "turn:call:workflow"))
    except AssertionError:
        raise
    except Exception as exc:
        failed = failure_of(exc)
        raise ToolFailed(failed["error"]) from exc
    if "error" in outcome:
        raise ToolFailed(outcome["error"])
    return ToolOutput(outcome["content"], outcome["data"])


@dataclass(eq=False)
class _Task:
    """What an orchestrator yields."""

    work: Callable[[], Any] | None = None
    """Brings its result; None: see the others."""
    due: datetime | None = None
    """Of a timer."""
    event: str | None = None
    parts: tuple[_Task, ...] = ()
    takes_all: bool = False
    is_completed: bool = False
    is_cancelled: bool = False
    result: Any = None
    error: Exception | None = None

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class _Trial:
    """One workflow with all that it starts."""

    functions: dict[str, Any]
    caller: WorkflowCaller
    events: dict[str, Any]
    told: list[str]
    now: datetime
    tool_call_id: str = field(default_factory=new_id)

    async def run(self, written: Callable[[Any], Any], given: Any, instance_id: str) -> Any:
        while True:
            context = _Context(self, given, instance_id)
            made = written(context)
            value = await self._drive(made) if isinstance(made, GeneratorType) else made
            if not context.continues:
                return value
            given = context.next_input

    async def _drive(self, steps: Any) -> Any:
        result, error = None, None
        while True:
            try:
                task = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            await self._do(task)
            result, error = task.result, task.error

    async def _do(self, task: _Task) -> None:
        if task.is_completed:
            return
        if task.parts:
            await self._do_parts(task)
        elif task.due is not None:
            self.now = max(self.now, task.due)
        elif task.event is not None:
            assert task.event in self.events, f"it waits for the event {task.event!r}, which the test does not send"
            task.result = self.events.pop(task.event)
        elif task.work is not None:
            try:
                found = task.work()
                task.result = _as_json(await found if inspect.isawaitable(found) else found)
            except Exception as exc:
                # As the host tells an orchestrator of it: by its text alone.
                task.error = Exception(f"Activity function failed: {type(exc).__name__}: {exc}")
        task.is_completed = True

    async def _do_parts(self, task: _Task) -> None:
        if task.takes_all:
            for part in task.parts:
                await self._do(part)
            failed = [part.error for part in task.parts if part.error is not None]
            task.error = failed[0] if failed else None
            task.result = [part.result for part in task.parts]
            return
        winner = next(self._first(task.parts), None)
        assert winner is not None, "it waits for events that the test does not send"
        await self._do(winner)
        task.result = winner

    def _first(self, parts: tuple[_Task, ...]) -> Iterator[_Task]:
        """What would end first: what has ended, work, an event that comes, then the earliest timer."""
        yield from (part for part in parts if part.is_completed)
        yield from (part for part in parts if part.work is not None or part.parts)
        yield from (part for part in parts if part.event in self.events)
        timers = [(part.due, part) for part in parts if part.due is not None]
        yield from (part for _, part in sorted(timers, key=lambda one: one[0]))

    def function(self, named: Any) -> Callable[..., Any]:
        """By its name, or as its blueprint has made it."""
        if not isinstance(named, str):
            named_function: Callable[..., Any] = _written(named)
            return named_function
        assert named in self.functions, f"there is no function {named!r} beside the workflow: give it in `activities`"
        found: Callable[..., Any] = _written(self.functions[named])
        return found


class _Context:
    """What of the SDK's context a workflow uses."""

    is_replaying = False

    def __init__(self, trial: _Trial, given: Any, instance_id: str) -> None:
        self._trial = trial
        self._given = given
        self.instance_id = instance_id
        self.caller = trial.caller
        self.tool_call_id = trial.tool_call_id
        self.custom_status: Any = None
        self.continues = False
        self.next_input: Any = None
        self._uuids = 0

    @property
    def current_utc_datetime(self) -> datetime:
        return self._trial.now

    def get_input(self, expected_type: type | None = None) -> Any:
        return self._given

    def set_custom_status(self, status: Any) -> None:
        self.custom_status = status

    def new_uuid(self) -> str:
        self._uuids += 1
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.instance_id}/{self._uuids}"))

    def continue_as_new(self, input_: Any) -> None:
        self.continues, self.next_input = True, _as_json(input_)

    def call_activity(self, name: Any, input_: Any = None, **_: Any) -> _Task:
        given = _as_json(input_)
        if name == TELL_PROGRESS:
            self._trial.told.append(given["text"])
            return _Task(is_completed=True)
        function = self._trial.function(name)
        return _Task(work=lambda: function(given))

    def call_activity_with_retry(self, name: Any, retry_options: Any, input_: Any = None, **_: Any) -> _Task:
        return self.call_activity(name, input_)

    def call_sub_orchestrator(self, name: Any, input_: Any = None, instance_id: str | None = None, **_: Any) -> _Task:
        function, given = self._trial.function(name), _as_json(input_)
        below = instance_id or f"{self.instance_id}:{self.new_uuid()}"
        return _Task(work=lambda: self._trial.run(function, given, below))

    def call_sub_orchestrator_with_retry(
        self, name: Any, retry_options: Any, input_: Any = None, instance_id: str | None = None, **_: Any
    ) -> _Task:
        return self.call_sub_orchestrator(name, input_, instance_id)

    def create_timer(self, fire_at: datetime) -> _Task:
        return _Task(due=fire_at)

    def wait_for_external_event(self, name: str, **_: Any) -> _Task:
        return _Task(event=name)

    def task_all(self, tasks: Iterable[_Task]) -> _Task:
        parts = tuple(tasks)
        return _Task(parts=parts, takes_all=True) if parts else _Task(is_completed=True, result=[])

    def task_any(self, tasks: Iterable[_Task]) -> _Task:
        return _Task(parts=tuple(tasks))


def _written(function: Any) -> Any:
    """The function below what a blueprint has made of it."""
    builder = getattr(function, "_function", None)
    found = function if builder is None else builder.get_user_function()
    return getattr(found, "orchestrator_function", found)


def _beside(written: Any) -> dict[str, Any]:
    """The functions of the blueprints in the module of a workflow, by name."""
    module = sys.modules[written.__module__]
    blueprints = [value for value in vars(module).values() if hasattr(value, "_function_builders")]
    found: dict[str, Any] = {}
    for builder in (builder for one in blueprints for builder in one._function_builders):
        told = builder._function.get_trigger().get_dict_repr()
        found[told.get("activity") or told.get("orchestration") or builder._function.get_function_name()] = builder
    return found


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))
