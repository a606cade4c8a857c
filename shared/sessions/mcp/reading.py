"""The port to MCP servers. The client behind it is `adapters/mcp/client.py`.

Invariant: a call runs only while the server still defines the tool as it is pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared.errors import ToolRefused
from shared.sessions.mcp.asking import Asked
from shared.sessions.mcp.definitions import Offered
from shared.sessions.mcp.pins import McpPin, PinnedTool
from shared.sessions.mcp.results import McpResult
from shared.sessions.mcp.servers import McpServer
from shared.sessions.models import JsonObject

type OnProgress = Callable[[float, float | None, str], None]
"""(done, of how much or None, message), as the server says it; both are finite."""


class DefinitionChanged(ToolRefused):
    """The server no longer defines the tool as it is pinned. The call was not made."""

    def __init__(self, pin: McpPin, current_digest: str | None) -> None:
        """current_digest: None: it is no longer offered, or in a form that is refused."""
        is_gone = current_digest is None
        said = "no longer offers it in a form that is accepted" if is_gone else "now defines it in another way"
        super().__init__(
            f"Definition changed: the MCP server {pin.server} {said} than when {pin.name} was accepted. The call was"
            " not made. An admin can compare and accept the new definition.",
        )
        self.pin = pin
        self.current_digest = current_digest

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pin, self.current_digest)


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers of the user, with which a call is made again."""

    round: int
    """How often the server asked, so that this request is not taken for a repeat of the one before."""
    responses: Mapping[str, JsonObject]
    state: str | None


class McpServers(Protocol):
    """Reads and calls the tools of servers."""

    def check(self, server: McpServer) -> None:
        """Raises ToolRefused when the operator's settings do not allow the server, or its credentials there."""
        ...

    async def offered(self, server: McpServer) -> Offered:
        """What the server offers now. Raises ToolRefused, ToolFailed."""
        ...

    async def call(
        self,
        tool: PinnedTool,
        arguments: Mapping[str, Any],
        *,
        tool_call_id: str,
        on_progress: OnProgress | None = None,
        answered: Answered | None = None,
    ) -> McpResult | Asked:
        """Compare the definition and make the call, at most once; or hear what the server asks of the user first.
        arguments: valid against the pinned schema. answered: what was asked the last time.

        Raises DefinitionChanged, ToolRefused and ToolFailed, whose message says whether the call may have been made.
        """
        ...
