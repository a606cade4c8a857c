"""The least workflow that has a step: what is counted beside it is what every workflow costs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import azure.durable_functions as df

from parley.workflows import ToolArguments, workflow

bp = df.Blueprint()


class OneStep(ToolArguments):
    pass


@bp.orchestration_trigger(context_name="context")
@workflow(arguments=OneStep, risks=(), timeout_s=3_600)
def one_step(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    """Take one step."""
    taken: str = yield context.call_activity("take_step", {})
    return taken


@bp.activity_trigger(input_name="given")
def take_step(given: dict[str, Any]) -> str:
    return "taken"
