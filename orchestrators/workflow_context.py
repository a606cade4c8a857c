"""What an orchestration of the folder `agents/` gets as its context: the SDK's, which knows for whom it runs.

Invariant: whatever a workflow starts has an id that begins with the workflow's own, so that all of it is found when it
is to be held, ended or erased.
"""

from __future__ import annotations

import uuid
from typing import Any

import azure.durable_functions as df

from shared.durable.messages import WorkflowCaller, WorkflowInput
from shared.durable.names import below_workflow


class WorkflowContext:
    """All that it does not define itself is the SDK's."""

    def __init__(self, inner: df.DurableOrchestrationContext, given: WorkflowInput) -> None:
        self._inner = inner
        self._given = given
        self._children = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def caller(self) -> WorkflowCaller:
        return self._given.caller

    @property
    def tool_call_id(self) -> str:
        """Of the call that the workflow answers."""
        return self._given.tool_call_id

    def get_input(self, expected_type: type | None = None) -> Any:
        """The arguments of the call, or what the orchestration above gave. expected_type: of the SDK; not used."""
        return self._given.input

    def continue_as_new(self, input_: Any) -> None:
        self._inner.continue_as_new(self._given.model_copy(update={"input": input_}).dump())

    def call_sub_orchestrator(
        self, name: Any, input_: Any = None, instance_id: str | None = None, **options: Any
    ) -> Any:
        return self._inner.call_sub_orchestrator(name, self._below(input_), self._child_id(instance_id), **options)

    def call_sub_orchestrator_with_retry(
        self, name: Any, retry_options: Any, input_: Any = None, instance_id: str | None = None, **options: Any
    ) -> Any:
        return self._inner.call_sub_orchestrator_with_retry(
            name, retry_options, self._below(input_), self._child_id(instance_id), **options
        )

    def _below(self, input_: Any) -> dict[str, Any]:
        return self._given.model_copy(update={"input": input_, "is_below": True}).dump()

    def _child_id(self, given: str | None) -> str:
        """An id of its own for each: after `continue_as_new` the count begins again, and the clock has gone on."""
        if given is not None:
            if not given.startswith(below_workflow(self._inner.instance_id)):
                raise ValueError(
                    f"the id of a sub-orchestration must begin with context.instance_id and a colon: {given}"
                )
            return given
        self._children += 1
        name = f"{self._inner.instance_id}/{self._inner.current_utc_datetime.isoformat()}/{self._children}"
        return f"{below_workflow(self._inner.instance_id)}{uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:16]}"
