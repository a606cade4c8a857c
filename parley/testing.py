"""What tests of tools and agents import.

from parley.testing import call_tool

async def test_an_order_is_found() -> None:
    output = await call_tool(order_status, {"order_id": "A-1"}, secrets={"CRM_TOKEN": "a test token"})
    assert output.data == {"order": "A-1", "status": "shipped"}
"""

from __future__ import annotations

from shared.durable.trying import run_workflow
from shared.errors import ToolFailed, ToolRefused
from shared.sessions.agents.trying import read_agent
from shared.sessions.tools.base import InvalidToolArguments
from shared.sessions.tools.running.trying import call_tool

__all__ = ["InvalidToolArguments", "ToolFailed", "ToolRefused", "call_tool", "read_agent", "run_workflow"]
