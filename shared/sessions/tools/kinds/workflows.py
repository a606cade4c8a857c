"""Workflows: orchestrations of the folder `agents/` as tools. A call starts one, waits for it, and its output is the
result.

Not here: how they are imported (`modules/workflows.py`), run (`orchestrators/workflows.py`), begun and ended
(`waits/workflows.py`).

Invariant: what a workflow returns or raises becomes an outcome that is bounded and storable. Pure functions: an
orchestrator calls them.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from shared.errors import ToolFailed
from shared.sessions.models import JsonObject, WaitKind
from shared.sessions.tools.base import (
    MAX_ERROR_CHARS,
    Tool,
    ToolApproval,
    ToolRisk,
    by_default,
    checked_name,
    presumed,
)
from shared.sessions.tools.context import ToolContext
from shared.sessions.tools.deferred import MAX_LATER_S, Deferred
from shared.sessions.tools.output import output_of
from shared.sessions.tools.schema import schema_of
from shared.sessions.tools.signature import ToolArguments
from shared.storable import storable_text

DAY_S = 86_400.0
MAX_PROGRESS_CHARS = 200
_FAILED = "The workflow failed unexpectedly."
_ACTIVITY_SAID = re.compile(r"Tool(?:Failed|Refused): (?P<said>[^\r\n]+)")
"""The text of an activity's ToolFailed in what the host makes of it, which is all that an orchestrator gets."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What `@workflow` was told of a function."""

    function: Callable[..., Any]
    tool: Tool


class NoArguments(ToolArguments):
    """Of a workflow that takes none."""


def workflow(
    *,
    arguments: type[ToolArguments] = NoArguments,
    approval: ToolApproval | None = None,
    risks: Iterable[ToolRisk] | None = None,
    timeout_s: float = DAY_S,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Offer an orchestration as a tool. It stands below the decorator of its blueprint:

        @bp.orchestration_trigger(context_name="context")
        @workflow(arguments=ShipOrder)
        def ship_order(context): ...

    arguments: what `context.get_input()` is, as JSON. approval, risks: as of a tool that is not idempotent. timeout_s:
    30 days at most; a workflow that has not ended then is terminated, and its call has failed.

    Returns the function as it is. Raises TypeError for a declaration that makes no tool.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        name = str(getattr(function, "__name__", ""))
        described = checked_name("workflow", name, inspect.getdoc(function))
        if not (isinstance(arguments, type) and issubclass(arguments, ToolArguments)):
            raise TypeError(f"the workflow {name!r} needs arguments that are a ToolArguments")
        if not 1 <= timeout_s <= MAX_LATER_S:
            raise TypeError(f"the workflow {name!r} may take 1 to {MAX_LATER_S} seconds")
        told = presumed(approval, idempotent=False) if risks is None else frozenset(risks)
        made = _tool(name, described, arguments, approval or by_default(told), told, timeout_s)
        function.__dict__[_MARK] = Declared(function, made)
        return function

    return declare


def declared_of(function: object) -> Declared | None:
    """What `@workflow` was told of a function; None: it is no tool."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Declared) else None


_MARK = "parley_workflow"


def _tool(
    name: str,
    description: str,
    arguments: type[ToolArguments],
    approval: ToolApproval,
    risks: frozenset[ToolRisk],
    timeout_s: float,
) -> Tool:
    parameters = schema_of(arguments)
    schema = {"name": name, "description": description, "parameters": parameters}

    async def run(given: ToolArguments, _call: ToolContext) -> Deferred:
        told = json.dumps(given.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":"))
        return Deferred(WaitKind.RESULT, state=told, timeout_s=timeout_s, workflow=name)

    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        approval=approval,
        idempotent=True,  # all that the call does is to wait, once; a workflow is begun once
        risks=risks,
        outward_unless_quoted=None,
        timeout_s=60.0,
        arguments_model=arguments,
        run=run,
        function_schema=schema,
        function_schema_json=json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode(),
    )


def outcome_of(value: object) -> JsonObject:
    """What a workflow returned, as the answer of its call."""
    try:
        output = output_of(value)
    except (TypeError, ValueError):
        return {"error": "The result of the workflow is not JSON."}
    if output.files:
        return {"error": "A workflow makes no files."}
    return {"content": output.content, "data": output.data}


def failure_of(exc: Exception) -> JsonObject:
    """What a workflow raised, as the answer of its call: its own words only of a ToolFailed."""
    if isinstance(exc, ToolFailed):
        said = exc.safe_message
    else:
        found = _ACTIVITY_SAID.search(str(exc))
        said = _FAILED if found is None else found["said"]
    return {"error": storable_text(said)[:MAX_ERROR_CHARS]}
