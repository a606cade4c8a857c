"""Client tools: declared in a message, run by the caller's own client.

A call of one does nothing here but wait; the caller posts its result (`waits/service.py`).

Invariant: a declaration decides nothing but what the model is offered. Its name is none of the agent's, and what a
client returns is always untrusted and private under the rule of two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.mcp.definitions import Definition, argument_schema, prose_of, read_definition
from shared.sessions.models import ClientTool, JsonObject, WaitKind
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.base import READS, Tool, ToolApproval, ToolContext, ToolRisk
from shared.sessions.tools.deferred import Deferred
from shared.sessions.tools.kinds.pinned import PinnedArguments, validated
from shared.sessions.tools.registry import find_tool

MAX_BYTES = 64 * 1024
"""Of all that one message declares: it is stored with its turn, and each step of that offers it."""


def with_client_tools(plan: TurnPlan, declared: Sequence[ClientTool], field: str = "client_tools") -> TurnPlan:
    """The plan with the tools of a message. field: where they stand in its body.

    Raises InvalidInput(VALIDATION_ERROR), whose `errors` name each that cannot be one.
    """
    if not declared:
        return plan
    errors = [
        {"field": f"{field}.{index}", "message": f"{tool.name}: {fault}"}
        for index, tool in enumerate(declared)
        if (fault := _fault(tool, [other.name for other in declared[:index]], plan)) is not None
    ]
    if not errors and sum(len(orjson.dumps(tool.model_dump(mode="json"))) for tool in declared) > MAX_BYTES:
        errors = [{"field": field, "message": f"are more than {MAX_BYTES} bytes"}]
    if errors:
        told = "; ".join(f"{error['field']}: {error['message']}" for error in errors)
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"{told}.", errors=errors)
    names = [tool.name for tool in declared]
    return plan.model_copy(
        update={"tools": [*plan.tools, *names], "client_tools": {tool.name: tool for tool in declared}}
    )


def _fault(tool: ClientTool, before: Sequence[str], plan: TurnPlan) -> str | None:
    if tool.name in before:
        return "is declared more than once"
    if tool.name in plan.tools or find_tool(tool.name) is not None:
        return "is the name of a tool of the agent or of the app"
    try:
        _definition(tool)
    except ValueError as exc:
        return str(exc)
    return None


def client_tool(declared: ClientTool) -> Tool:
    """The tool as a turn calls it."""
    parameters, schema, schema_json = _offered(orjson.dumps(declared.model_dump(mode="json")))

    async def run(_arguments: PinnedArguments, _call: ToolContext) -> Deferred:
        return Deferred(WaitKind.CLIENT)

    def validate(raw: Mapping[str, Any]) -> PinnedArguments:
        return validated(declared.name, parameters, raw)

    return Tool(
        name=declared.name,
        description=schema["description"],
        parameters=parameters,
        approval=ToolApproval.MANUAL if declared.acts_outward else ToolApproval.AUTO,
        idempotent=True,  # all that it does here is to wait, once
        risks=READS | {ToolRisk.ACTS_OUTWARD} if declared.acts_outward else READS,
        outward_unless_quoted=None,
        timeout_s=10,
        arguments_model=PinnedArguments,
        run=run,
        function_schema=schema,
        function_schema_json=schema_json,
        validate=validate,
    )


@lru_cache(maxsize=256)
def _offered(declared: bytes) -> tuple[JsonObject, JsonObject, bytes]:
    """The schema of its arguments, and the tool as models are offered it. Cached, since each step of a turn asks."""
    definition = _definition(ClientTool.model_validate(orjson.loads(declared)))
    parameters = argument_schema(definition)
    schema = {"name": definition.name, "description": prose_of(definition), "parameters": parameters}
    return parameters, schema, json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()


def _definition(tool: ClientTool) -> Definition:
    """Read within the limits of every stranger's definition. Raises ValueError, which completes "the tool ..."."""
    if tool.parameters.get("type", "object") != "object":
        raise ValueError("has parameters that are not an object")
    return read_definition({"name": tool.name, "description": tool.description, "inputSchema": tool.parameters})
