"""Handing a conversation over, as a tool: the other agent goes on with it from the next model step on.

Not here: the plan that the turn goes on with (`agents/handing_over.py`), and where it is stored.

Invariant: handing over does nothing outside, and is the only call of its answer: no call runs under two agents.
"""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import Field

from shared.errors import ToolRefused
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.tools.base import READS, Tool, ToolApproval, ToolArguments, ToolContext, ToolOutput
from shared.sessions.tools.schema import schema_of

MAX_NOTE_CHARS = 10_000
NOT_ALONE = "Nothing was handed over: hand over in an answer without other calls."
_PREFIX = "hand_over_to_"
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]")


class HandoverArguments(ToolArguments):
    note: Annotated[
        str,
        Field(
            max_length=MAX_NOTE_CHARS,
            description="What the other agent should know beside the conversation, which it reads; may be empty",
        ),
    ] = ""


def handover_name(agent_id: str) -> str:
    """The name by which models hand over to an agent: models take no dots."""
    return _PREFIX + _NO_LETTER.sub("_", agent_id)


def handover_tool(name: str, agent: PlannedAgent) -> Tool:
    """The tool as a turn calls it."""
    description = f"Hand the conversation over to the agent {agent.name}, who goes on with it in your place."
    if agent.description:
        description += f" {agent.description}"
    parameters = schema_of(HandoverArguments)
    schema = {"name": name, "description": description, "parameters": parameters}

    async def run(_arguments: HandoverArguments, _call: ToolContext) -> ToolOutput:
        raise ToolRefused("Conversations cannot be handed over here.")

    return Tool(
        name=name,
        description=description,
        parameters=parameters,
        approval=ToolApproval.AUTO,
        idempotent=True,  # it is stored with its result, once
        risks=READS,
        outward_unless_quoted=None,
        timeout_s=60.0,
        arguments_model=HandoverArguments,
        run=run,
        function_schema=schema,
        function_schema_json=json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode(),
    )
