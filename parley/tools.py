"""What a tool is written with.

    from parley.tools import tool

    @tool(idempotent=True)
    def order_status(order_id: str) -> dict[str, str]:
        \"\"\"Look up where an order is.\"\"\"  # what the model reads
        return {"order": order_id, "status": "shipped"}

The function may be async, take a `ToolArguments` model instead of plain parameters, and take a `ToolContext`: who asks,
secrets, progress. `shared/sessions/tools/README.md` says all of it.
"""

from __future__ import annotations

from shared.errors import ToolFailed, ToolRefused
from shared.sessions.tools.base import (
    Caller,
    Completion,
    Later,
    ToolApproval,
    ToolArguments,
    ToolContext,
    ToolFile,
    ToolOutput,
    ToolRisk,
    tool,
)
from shared.sessions.tools.resources import Setup, per_process

__all__ = [
    "Caller",
    "Completion",
    "Later",
    "Setup",
    "ToolApproval",
    "ToolArguments",
    "ToolContext",
    "ToolFailed",
    "ToolFile",
    "ToolOutput",
    "ToolRefused",
    "ToolRisk",
    "per_process",
    "tool",
]
