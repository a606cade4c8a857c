"""Tools made of pinned definitions of MCP servers.

Invariant: a server's annotations decide nothing. Without an admin's rules a call needs approval, is not repeated and
acts outward; what it returns is always untrusted and private under the rule of two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import orjson
from pydantic import ConfigDict

from shared.errors import ErrorCode, ToolFailed, ToolRefused
from shared.sessions.mcp.asking import Asked
from shared.sessions.mcp.definitions import Definition, argument_schema, prose_of
from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.mcp.reading import Answered
from shared.sessions.models import JsonObject, WaitKind
from shared.sessions.structured_output.checks import check_output
from shared.sessions.tools.base import (
    READS,
    InvalidToolArguments,
    Tool,
    ToolApproval,
    ToolArguments,
    ToolContext,
    ToolOutput,
    ToolRisk,
)
from shared.sessions.tools.deferred import Deferred
from shared.visible import visible_text


class PinnedArguments(ToolArguments):
    """Arguments that fit the pinned schema, as they were written: its defaults are the server's to fill in."""

    model_config = ConfigDict(extra="allow")


def pinned_tool(pinned: PinnedTool) -> Tool:
    """The tool as a turn calls it."""
    parameters, function_schema = _offered(pinned.name, orjson.dumps(pinned.definition.model_dump(mode="json")))
    schema: JsonObject = {"name": pinned.name, "description": prose_of(pinned.definition), "parameters": parameters}

    async def run(arguments: PinnedArguments, call: ToolContext) -> ToolOutput | Deferred:
        return await _run(pinned, arguments, call)

    def validate(raw: Mapping[str, Any]) -> PinnedArguments:
        return validated(pinned.name, parameters, raw)

    rules = pinned.rules
    return Tool(
        name=pinned.name,
        description=schema["description"],
        parameters=parameters,
        approval=ToolApproval(rules.approval),
        idempotent=rules.idempotent,
        risks=READS | {ToolRisk.ACTS_OUTWARD} if rules.acts_outward else READS,
        outward_unless_quoted=None,
        timeout_s=rules.timeout_seconds,
        arguments_model=PinnedArguments,
        run=run,
        function_schema=schema,
        function_schema_json=function_schema,
        validate=validate,
    )


@lru_cache(maxsize=512)
def _offered(name: str, definition: bytes) -> tuple[JsonObject, bytes]:
    """The schema of its arguments, and the tool as models are offered it. Cached, since each step of a turn asks."""
    told = Definition.model_validate(orjson.loads(definition))
    parameters = argument_schema(told)
    schema = {"name": name, "description": prose_of(told), "parameters": parameters}
    return parameters, json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()


async def _run(pinned: PinnedTool, arguments: PinnedArguments, call: ToolContext) -> ToolOutput | Deferred:
    if call.services.mcp is None:
        raise ToolRefused("Tools of MCP servers are not available here.")

    def told(done: float, of: float | None, message: str) -> None:
        counted = f"{done:g}" if of is None else f"{done:g} of {of:g}"
        call.progress(message or counted, min(max(done / of, 0.0), 1.0) if of else None)

    resumed = call.link.resumed
    result = await call.services.mcp.call(
        pinned,
        arguments.model_dump(),
        tool_call_id=call.tool_call_id,
        on_progress=told,
        answered=None if resumed is None else Answered(resumed.round, resumed.answers, resumed.state),
    )
    if isinstance(result, Asked):
        return Deferred(WaitKind.INPUT, result.questions, pinned.server, result.state)
    if result.is_error:
        said = visible_text(result.text).strip() or "nothing about why"
        raise ToolFailed(f"The MCP server {pinned.server} says that it failed: {said}")
    return ToolOutput(result.text, result.data)


def validated(name: str, parameters: JsonObject, raw: Mapping[str, Any]) -> PinnedArguments:
    """Arguments checked against a JSON Schema. Raises InvalidToolArguments."""
    try:
        text = orjson.dumps(dict(raw)).decode()
    except TypeError:
        error: str | None = "The arguments are nested too deeply, or hold a number beyond 64 bits."
    else:
        _, error = check_output(parameters, text, "arguments object")
    if error is not None:
        raise InvalidToolArguments(
            ErrorCode.INVALID_TOOL_ARGS,
            f"The arguments of {name} are not valid. {error}",
            errors=[{"field": "arguments", "message": error}],
        )
    return PinnedArguments.model_validate(dict(raw))
