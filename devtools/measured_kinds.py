"""The kinds of turn that `devtools.measure_turn` counts, and what ends the wait of each that has one.

Of the offline demo model's rules one calls a tool that a message names, with the JSON after its name.

Not here: turns that wait for an answer to an MCP server's question, which need such a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from devtools.setup.places import ROOT
from shared.signing import CompletionTokens

type Json = dict[str, Any]

AGENTS_FOLDER = f"{ROOT}/devtools/measured"
"""Has the tool and the workflow that turns wait for."""


@dataclass(frozen=True, slots=True)
class Kind:
    """text: the message; `{notes_port}` in it is the port of the notes server. agent_id: of its session; None: the
    app's own. client_tools: those that the message declares."""

    text: str
    agent_id: str | None = None
    client_tools: tuple[str, ...] = ()


PLAIN = {
    "answer": Kind("Tell me a short story."),
    "one tool": Kind("What is 17 * 23?"),
    "approved tool": Kind('POST {{"n": 1}} to http://localhost:{notes_port}/notes'),
}
"""Text only, an automatic tool call, and a tool call that needs an approval (given at once here)."""
WAITS = {
    "client tool": Kind("Use locate {{}}", "measured.client", ("locate",)),
    "later result": Kind("Use come_later {{}}", "measured.later"),
    "workflow": Kind("Use one_step {{}}", "measured.workflow"),
    "subagent": Kind('Use ask_measured_answer {{"input": "Tell me a short story."}}', "measured.caller"),
}
"""One call that waits: for the caller's own program, for a result that somebody posts, for a workflow of one step, and
for an agent that answers with text only. What a person or a program gives, it gives at once."""
KINDS = PLAIN | WAITS

_AGENTS: Mapping[str, Json] = {
    "measured.answer": {"tools": []},
    "measured.client": {"tools": []},
    "measured.later": {"tools": ["come_later"]},
    "measured.workflow": {"tools": ["one_step"]},
    "measured.caller": {"tools": [], "agents": ["measured.answer"]},
}
"""Callees first."""
_OWN = {"come_later", "one_step"}


async def make_agents(client: httpx.AsyncClient) -> None:
    """Those of the kinds; and the app's own agent without the tools that are only measured."""
    own = (await client.get("/agents/assistant")).raise_for_status().json()
    offered = (await client.get("/tools")).raise_for_status().json()["items"]
    kept = {name: own[name] for name in ("name", "instructions", "approval_floor")}
    tools = [one["name"] for one in offered if one["name"] not in _OWN]
    for agent_id, body in {"assistant": {**kept, "tools": tools}, **_AGENTS}.items():
        named = {"name": agent_id, "instructions": "Be brief.", **body}
        (await client.put(f"/agents/{agent_id}", json=named)).raise_for_status()


async def end_wait(client: httpx.AsyncClient, turn: Json, secret: str) -> None:
    """Give a turn what it waits for, if somebody has to give it. secret: with which the host signs its tokens."""
    if turn["status"] == "waiting_approval":
        query = {"session_id": turn["session_id"], "status": "pending"}
        pending = await client.get("/approvals", params=query)
        [approval] = pending.raise_for_status().json()["items"]
        (await client.post(f"/approvals/{approval['id']}/decision", json={"decision": "approve"})).raise_for_status()
    for wait in turn["waits"]:
        call_id, body = wait["tool_call_id"], {"content": "It came."}
        if wait["tool"] in ("come_later", "locate"):
            if wait["kind"] == "result":
                in_time = datetime.now(UTC) + timedelta(hours=1)
                body["token"] = CompletionTokens(secret, "").token(call_id, expires_at=in_time)
            (await client.post(f"/tool-calls/{call_id}/result", json=body)).raise_for_status()
