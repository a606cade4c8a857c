"""From what the API says of a session to a case. Pure: what it is given are the API's own JSON objects.

The recorder asks a host for them; a replay makes them of its own database, and is compared as a case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devtools.cases.case import Agent, Approval, Call, Case, Definition, Ends, Json, Result, Step, Tokens, Turn, Vote
from devtools.cases.masking import Masking
from shared.sessions.mcp.pins import McpPin, planned
from shared.sessions.mcp.servers import McpServer
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.tools.kinds.handovers import handover_name, handover_tool
from shared.sessions.tools.kinds.pinned import pinned_tool
from shared.sessions.tools.kinds.subagents import function_name, subagent_tool

_OF_AGENT = frozenset({"id", "version", "created_at", "created_by", "source", "mcp_pins", "missing_tools"})
"""Fields of a version that are not its content."""
_ENDED = frozenset({"completed", "failed"})


@dataclass(frozen=True)
class Wire:
    """JSON of the API, each list oldest first."""

    session: Json
    owner: str
    agent: Json
    """The version that the session's turns had."""
    tools: Sequence[Json]
    """Of `GET /tools`."""
    turns: Sequence[Json]
    messages: Sequence[Json]
    """Of the active branch."""
    approvals: Sequence[Json]
    later: Mapping[str, Json] = field(default_factory=dict)
    """Lines of the audit trail on results that came later, by tool call: `tool_call.answered`."""
    agents: Sequence[Json] = ()
    """Those that the agent may ask or hand over to."""


@dataclass(frozen=True, slots=True)
class Made:
    """notes: one line for each thing that the case lacks."""

    case: Case
    notes: list[str]


def case_of(wire: Wire, name: str, masking: Masking, *, now: datetime) -> Made:
    """The turns up to the first that cannot be replayed: one that is open, was cancelled, was steered, was handed over
    or called a tool of its client. now: aware UTC."""
    masking.users([wire.owner, *(message["author"] for message in wire.messages)])
    masking.users(vote["by"] for approval in wire.approvals for vote in approval["votes"])
    notes: list[str] = []
    turns: list[Turn] = []
    by_turn = {turn["id"]: turn for turn in wire.turns}
    reading = _Reading(wire, masking)
    for number, (turn_id, messages) in enumerate(_by_turn(wire.messages).items(), 1):
        turn = by_turn.get(turn_id)
        if turn is None or turn["status"] not in _ENDED:
            status = "is unknown" if turn is None else f"is {turn['status']}"
            notes.append(f"turn {number} {status}: it and what came after it are left out")
            break
        if (why := _why_not_played(messages)) is not None:
            notes.append(f"turn {number} {why}: it and what came after it are left out")
            break
        notes += _lacks(number, messages, wire)
        turns.append(reading.turn(turn, messages))
    case = Case(
        name=name,
        recorded_at=now.astimezone(UTC).replace(microsecond=0),
        owner=masking.user(wire.owner),
        agent=Agent(
            id=wire.agent["id"],
            version=wire.agent["version"],
            content={key: value for key, value in wire.agent.items() if key not in _OF_AGENT and value is not None},
            mcp_pins=wire.agent["mcp_pins"],
        ),
        config={key: value for key, value in wire.session["config"].items() if value != _DEFAULTS.get(key)},
        tools=definitions(_offered(wire)),
        turns=turns,
        masked=masking.counts,
    )
    return Made(case, notes)


def _why_not_played(messages: Sequence[Json]) -> str | None:
    """When a message joined a turn, which agents a turn had, and what its message declared is no part of a case."""
    if any("from_subagent" in message for message in messages):
        return "tells the result of a subagent in the background"
    if any(message.get("joined") for message in messages):
        return "was steered"
    if any(call.get("is_client") for message in messages for call in message["tool_calls"]):
        return "called a tool of its client"
    agents = {message["agent_id"] for message in messages if message.get("agent_id") is not None}
    return "was handed over to another agent" if len(agents) > 1 else None


_DEFAULTS: Json = {
    "max_steps": 8,
    "approval_mode": "policy",
    "approval_timeout_seconds": 86_400,
    "tool_timeout_seconds": 60,
    "max_context_tokens": 100_000,
    "concurrency": "reject",
}
"""Of `SessionConfig`; the others are null."""


def definitions(offered: Iterable[Json]) -> dict[str, Definition]:
    """offered: `{"name", "description", "parameters"}`, as a model is."""
    return {
        tool["name"]: Definition(
            description=_digest(tool["description"]),
            parameters=_digest(tool["parameters"]),
            chars=len(json.dumps(tool, ensure_ascii=False, separators=(",", ":"))),
        )
        for tool in offered
    }


def _offered(wire: Wire) -> list[Json]:
    named = wire.agent["tools"]
    servers = [McpServer.model_validate(server) for server in wire.agent["mcp_servers"]]
    pins = [McpPin.model_validate(pin) for pin in wire.agent["mcp_pins"]]
    return [
        *(
            {key: tool[key] for key in ("name", "description", "parameters")}
            for tool in wire.tools
            if named is None or tool["name"] in named
        ),
        *(pinned_tool(pinned).function_schema for pinned in planned(servers, pins).values()),
        *_functions_of_agents(wire),
    ]


def _functions_of_agents(wire: Wire) -> Iterator[Json]:
    known = {agent["id"]: PlannedAgent.model_validate(_named(agent)) for agent in wire.agents}
    for agent_id in wire.agent.get("agents") or ():
        if agent_id in known:
            yield subagent_tool(function_name(agent_id), known[agent_id]).function_schema
    for agent_id in wire.agent.get("hands_over_to") or ():
        if agent_id in known:
            yield handover_tool(handover_name(agent_id), known[agent_id]).function_schema


def _named(agent: Json) -> Json:
    return {key: agent.get(key) for key in ("id", "version", "name", "description")}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _by_turn(messages: Sequence[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for message in messages:
        found.setdefault(message["turn_id"], []).append(message)
    return found


def _lacks(number: int, messages: Sequence[Json], wire: Wire) -> list[str]:
    notes = []
    if any(message["attachments"] for message in messages):
        notes.append(f"turn {number} came with files, which are not recorded: its model is asked without them")
    schemas = (wire.session["config"]["output_schema"], wire.agent["defaults"].get("output_schema"))
    if any(message["output"] is not None for message in messages) and not any(schemas):
        notes.append(f"turn {number} answered in a schema of its own message: write it into the case as output_schema")
    return notes


class _Reading:
    """Numbers the calls of one case."""

    def __init__(self, wire: Wire, masking: Masking) -> None:
        self._wire = wire
        self._mask = masking
        self._results = {m["tool_call_id"]: m for m in wire.messages if m["role"] == "tool"}
        self._approvals = {approval["tool_call_id"]: approval for approval in wire.approvals}
        self._ids: dict[str, str] = {}

    def turn(self, turn: Json, messages: Sequence[Json]) -> Turn:
        (question,) = (message for message in messages if message["role"] == "user")
        steps = [message for message in messages if message["role"] == "assistant"]
        error = None if turn["error"] is None else f"{turn['error']['code']}: {turn['error']['detail']}"
        return Turn(
            at=question["created_at"],
            by=self._mask.user(question["author"] or self._wire.owner),
            message=self._mask.text(question["content"]),
            steps=[self._step(step, error) for step in steps],
            ends=Ends(status=turn["status"], error=self._text(error), used=_used(turn["usage"])),
        )

    def _step(self, answer: Json, error: str | None) -> Step:
        return Step(
            text=self._mask.text(answer["content"]),
            reasoning=self._text(answer["reasoning"]),
            output=self._mask.value(answer["output"]),
            finish_reason=answer["finish_reason"],
            calls=[self._call(call) for call in answer["tool_calls"]],
            error=self._text(error) if answer["status"] == "failed" else None,
        )

    def _call(self, call: Json) -> Call:
        self._ids[call["id"]] = f"call-{len(self._ids) + 1}"
        approval = self._approvals.get(call["id"])
        return Call(
            id=self._ids[call["id"]],
            name=call["name"],
            arguments=self._mask.value(call["arguments"]),
            approval=None if approval is None else self._approval(approval),
            ran_with=self._mask.value(call["decided_arguments"]),
            result=self._result(call),
        )

    def _approval(self, approval: Json) -> Approval:
        requirements = approval["requirements"]
        roles = {requirement["rule"] or "": requirement["roles"] for requirement in requirements}
        return Approval(
            requires=[_required(requirement) for requirement in requirements],
            reason=approval["reason"],
            status=approval["status"],
            votes=[
                Vote(
                    by=self._mask.user(vote["by"]),
                    roles=sorted({role for rule in vote["counts_for"] or [""] for role in roles.get(rule, [])}),
                    at=vote["at"],
                    decision=vote["decision"],
                    arguments=self._mask.value(vote["arguments"]),
                    comment=self._text(vote["comment"]),
                    for_session=vote["for_session"],
                )
                for vote in approval["votes"]
            ],
        )

    def _result(self, call: Json) -> Result:
        message = self._results.get(call["id"])
        read = {} if message is None else json.loads(message["content"])
        later = self._wire.later.get(call["id"])
        given = call["result"] if isinstance(call["result"], dict) else {}
        failed = call["status"] != "completed"
        return Result(
            status=call["status"],
            content=self._text(read.get("untrusted_output")),
            data=None if failed else self._mask.value(call["result"]),
            error=self._text(read.get("error")),
            code=given.get("code") if failed else None,
            at=None if later is None else later["at"],
        )

    def _text(self, text: str | None) -> str | None:
        return None if text is None else self._mask.text(text)


def _required(requirement: Json) -> str:
    who = " or ".join([*requirement["roles"], *(["named people"] if requirement["users"] else [])])
    return f"{requirement['quorum']} of {who or 'nobody'}"


def _used(usage: Json) -> Tokens:
    return Tokens(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cached=usage["cached_input_tokens"],
        reasoning=usage["reasoning_tokens"],
        cost_usd=usage["cost_usd"],
    )
