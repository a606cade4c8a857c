"""Calling a tool without a deployment around it: for the tests of those who write tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from shared.errors import ToolFailed
from shared.ids import new_id
from shared.sessions.tools.base import Tool, validate_arguments
from shared.sessions.tools.context import CallLink, ToolContext
from shared.sessions.tools.deferred import Deferred
from shared.sessions.tools.output import ToolOutput
from shared.sessions.tools.running.runner import run_tool
from shared.sessions.tools.running.secrets import SETTING_PREFIX, SettingSecrets
from shared.sessions.tools.services import ToolServices


async def call_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    user_id: str = "someone",
    roles: Iterable[str] = ("user",),
    secrets: Mapping[str, str] | None = None,
    progress: list[str] | None = None,
    now: datetime | None = None,
    tool_call_id: str | None = None,
    agent_id: str = "assistant",
) -> ToolOutput:
    """Run a tool as a turn does: with checked arguments, its time limit, and its secrets masked in the output.

    secrets: by name. progress: gets what the tool tells. now: aware UTC. agent_id: whose turn calls it.
    Raises InvalidToolArguments, ToolFailed.
    """
    parsed = validate_arguments(tool, arguments)
    known = SettingSecrets({SETTING_PREFIX + name: value for name, value in (secrets or {}).items()})
    told = [] if progress is None else progress
    context = ToolContext(
        tool_call_id=tool_call_id or new_id(),
        session_id="session",
        turn_id="turn",
        user_id=user_id,
        now=now or datetime.now(UTC),
        services=ToolServices(secrets=known),
        roles=frozenset(roles),
        agent_id=agent_id,
        agent_version=1,
        secrets=frozenset(tool.secrets),
        link=CallLink(lambda text, _: told.append(text)),
    )
    output = await run_tool(tool, parsed, context, timeout_s=tool.timeout_s, mask=known.mask())
    if isinstance(output, Deferred):
        raise ToolFailed("The tool waits for an answer.")
    return output
