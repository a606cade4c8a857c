"""An MCP server with one tool, answered by the sink at `/mcp`."""

from __future__ import annotations

from typing import Any

import orjson

from tests.e2e.support.processes import HOLD_LIMIT_S, Received, Sink


class RoomsServer:
    """Books rooms. Its calls end only while the sink's `released` is set. tool: as it defines it now. asks: what it
    asks the user for before it books, as a form; None: nothing."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.asks: dict[str, Any] | None = None
        self.tool: dict[str, Any] = {
            "name": "book",
            "description": "Book a room",
            "inputSchema": {"type": "object", "properties": {"room": {"type": "string"}}},
        }
        sink.answer_of = self._answer

    def as_agents_name_it(self) -> dict[str, Any]:
        return {"name": "rooms", "url": self._sink.url("/mcp"), "tools": ["book"]}

    def release(self) -> None:
        """Let its calls end."""
        self._sink.released.set()

    @staticmethod
    def without_asking() -> dict[str, Any]:
        """Rules under which nobody approves its calls."""
        return {"book": {"approval": "auto", "acts_outward": False}}

    def _booked(self, message: dict[str, Any]) -> dict[str, Any]:
        said = message.get("params", {}).get("inputResponses")
        if self.asks is not None and said is None:
            params = {"mode": "form", "message": "For whom?", "requestedSchema": self.asks}
            asked = {"guest": {"method": "elicitation/create", "params": params}}
            return {"resultType": "input_required", "inputRequests": asked, "requestState": "room-7"}
        guest = {} if said is None else said["guest"]
        told = f"booked for {guest['content']['name']}" if "content" in guest else guest.get("action", "booked")
        return {"resultType": "complete", "content": [{"type": "text", "text": told}]}

    def calls(self) -> list[Received]:
        return [request for request in self._sink.at("/mcp") if request.headers.get("mcp-method") == "tools/call"]

    def _answer(self, request: Received) -> bytes | None:
        if request.path != "/mcp":
            return None
        message = request.json()
        results = {
            "server/discover": {"supportedVersions": ["2026-07-28"]},
            "tools/list": {"tools": [self.tool]},
            "tools/call": self._booked(message),
        }
        if message["method"] == "tools/call":
            self._sink.released.wait(HOLD_LIMIT_S)
        return orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": results[str(message["method"])]})
