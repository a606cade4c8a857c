"""Agents as tools of another agent: each is one function, whose call is answered by a turn of its own.

Not here: the session and turn that answer (`subagents/`), the wait (`waits/`).

Invariant: calling an agent does nothing outside. What it does, it does in calls of its own, under its own policies.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import Field

from shared.errors import ToolRefused
from shared.sessions.models import WaitKind
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.tools.base import READS, Tool, ToolApproval, ToolArguments, ToolContext
from shared.sessions.tools.deferred import MAX_LATER_S, Deferred
from shared.sessions.tools.schema import schema_of

MAX_INPUT_CHARS = 100_000
_PREFIX = "ask_"
_THEN = {
    False: "and wait for its answer",
    True: "which works in the background: the call returns at once, and its answer comes later as a message",
}
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]")


class SubagentArguments(ToolArguments):
    input: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_INPUT_CHARS,
            description="The task, with all that is needed for it: the agent reads nothing else of this conversation",
        ),
    ]


def function_name(agent_id: str) -> str:
    """The name by which models call an agent: models take no dots."""
    return _PREFIX + _NO_LETTER.sub("_", agent_id)


def subagent_tool(name: str, agent: PlannedAgent) -> Tool:
    """The tool as a turn calls it."""
    description = f"Ask the agent {agent.name}, {_THEN[agent.background]}."
    if agent.description:
        description += f" {agent.description}"
    parameters = schema_of(SubagentArguments)
    schema = {"name": name, "description": description, "parameters": parameters}

    async def run(arguments: SubagentArguments, call: ToolContext) -> Deferred:
        if not arguments.input.strip():
            raise ToolRefused("The input is blank.")
        return Deferred(WaitKind.AGENT, asked_by=agent.id, timeout_s=MAX_LATER_S, agent=agent, input=arguments.input)

    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        approval=ToolApproval.AUTO,
        idempotent=True,  # its child is stored once
        risks=READS,
        outward_unless_quoted=None,
        timeout_s=60.0,
        arguments_model=SubagentArguments,
        run=run,
        function_schema=schema,
        function_schema_json=json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode(),
    )
