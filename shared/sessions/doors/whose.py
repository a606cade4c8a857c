"""Whose call an approval is about, for wires that have calls of one agent only."""

from __future__ import annotations

from shared.sessions.models import JsonObject


def whose(approval: JsonObject) -> JsonObject:
    """`agent_id` and `asked_through` of an approval that a subagent asks for; nothing of one of the turn's own."""
    through = approval.get("asked_through")
    return {"agent_id": approval.get("agent_id"), "asked_through": through} if through else {}


def asking(approval: JsonObject) -> str:
    """What is asked, in words for whoever decides."""
    found = approval.get("reason") or f"{approval['tool']} waits for a person's approval."
    return f"{found} {through}" if (through := asked_by(approval)) else found


def asked_by(approval: JsonObject) -> str:
    """In words, which subagent asks; nothing for the turn's own agent."""
    through = approval.get("asked_through")
    return f"The agent {approval.get('agent_id')} asks, through {', '.join(through)}." if through else ""
