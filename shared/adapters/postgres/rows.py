"""Rows that several stores read, as values of the domain; a store reads its own rows itself. Implements no port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from shared.adapters.postgres.pool import Row
from shared.sessions.agents.agent import Agent
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    AttachmentRef,
    FinishReason,
    JsonObject,
    Message,
    MessageRole,
    MessageStatus,
    Session,
    SessionConfig,
    SessionStatus,
    SubagentResult,
    SubagentTurn,
    ToolCall,
    ToolWait,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.plan import HandedOver
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import FinishedTurn
from shared.sessions.structured_output.key_order import kept_in_order

_AGENT_FIELDS = tuple(Agent.model_fields)
_WAIT_FIELDS = tuple(set(ToolWait.model_fields) - {"asked_by", "questions", "actions"})


def turn_from_row(row: Row) -> Turn:
    """A turns row, with `called` (of `calls_of`) or `tool_calls` when the query asked for them."""
    called = row.get("called") or row
    plan = row["plan"]
    handed = plan.get("handed_over")
    return Turn(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        branch=row["branch"],
        agent_id=plan.get("agent_id"),
        agent_version=plan.get("agent_version"),
        model=plan.get("model"),
        agents_before=[] if handed is None else HandedOver.model_validate(handed).agents_before(),
        status=TurnStatus(row["status"]),
        steps=row["steps"],
        tool_calls=[ToolCall.model_validate(call) for call in called.get("tool_calls", [])],
        waits=[wait_from_row(wait) for wait in called.get("waits", [])],
        subagents=[SubagentTurn.of_store(child) for child in called.get("subagents", [])],
        usage=usage_from_row(row),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        error=turn_error(row),
        finish_reason=row["finish_reason"],
    )


def wait_from_row(row: Mapping[str, Any]) -> ToolWait:
    """A tool_waits row, or the same as a JSON object; `request` as text."""
    request = orjson.loads(row["request"])
    return ToolWait.of_store(
        {name: row[name] for name in _WAIT_FIELDS}
        | {"asked_by": request["asked_by"], "questions": request["questions"], "actions": row["actions"] or {}}
    )


def usage_from_row(row: Row) -> Usage:
    """The columns of what a turn used."""
    return Usage(
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cached_input_tokens=row["cached_input_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        cost_usd=None if row["cost_usd"] is None else float(row["cost_usd"]),
    )


def turn_error(row: Row) -> TurnError | None:
    """Why a turn failed."""
    return TurnError(code=row["error_code"], detail=row["error_detail"] or "") if row["error_code"] else None


def message_from_row(row: Row) -> Message:
    """A messages row with `tool_calls` aggregated."""
    told = row["from_subagent"]
    return Message(
        id=row["id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        branch=row["branch"],
        role=MessageRole(row["role"]),
        content=row["content"],
        attachments=[AttachmentRef.model_validate(attachment) for attachment in row["attachments"] or ()],
        tool_calls=[ToolCall.model_validate(call) for call in row["tool_calls"]],
        tool_call_id=row["answers"],
        author=row["author"] if told is None else None,
        agent_id=row["agent_id"],
        finish_reason=row["finish_reason"],
        reasoning=row["reasoning"],
        output=row["output"],
        left_out=row["left_out"],
        joined=row["joined"],
        joined_after=row["joined_after"],
        from_subagent=None if told is None else SubagentResult.of_store(told),
        status=MessageStatus(row["status"]),
        created_at=row["created_at"],
    )


def event_target(row: Row, *, session_id: str | None = None) -> EventTarget:
    """The event lease columns of any row that carries them."""
    return EventTarget(
        session_id or row["session_id"],
        row["event_seq_floor"],
        row["event_seq_ceiling"],
        incarnation=row["incarnation"],
        subscribed_ms=row.get("subscribed_ms"),
    )


def finished_turn(row: Row, target: EventTarget, *, closed_now: bool, next_turn_id: str | None) -> FinishedTurn:
    """The columns of `turn_end`, which any statement may return that closes a turn."""
    return FinishedTurn(
        target=target,
        closed_now=closed_now,
        status=TurnStatus(row["status"]),
        error=turn_error(row),
        usage=usage_from_row(row),
        steps=row["steps"],
        next_turn_id=next_turn_id,
        agent_id=row["agent_id"],
        agent_version=row["agent_version"],
        model=row["model"],
        traceparent=row["traceparent"],
        correlation_id=row["correlation_id"],
        began_at=row["began_at"],
        ended_at=row["ended_at"],
        finish_reason=None if row["finish_reason"] is None else FinishReason(row["finish_reason"]),
        answers=None if row["answers"] is None else (row["answers"][0], row["answers"][1]),
    )


def session_record(row: Row) -> SessionRecord:
    """A sessions row with its `access` column."""
    session = Session(
        id=row["id"],
        name=row["name"],
        title=row["title"],
        status=SessionStatus(row["status"]),
        agent_id=row["agent_id"],
        agent_version=row["agent_version"],
        config=SessionConfig.of_store(row["config"]),
        tags=row["tags"],
        metadata=row["metadata"],
        active_branch=row["active_branch"],
        forked_from=row["forked_from"],
        parent_session_id=row["parent_session_id"],
        parent_turn_id=row["parent_turn_id"],
        parent_tool_call_id=row["parent_tool_call_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    target = event_target(row, session_id=row["id"])
    return SessionRecord(
        session,
        row["owner_id"],
        row["access"],
        target,
        row["last_branch"],
        row["used_tokens"],
        row["used_cost_usd"],
    )


def agent_from_row(row: Row) -> Agent:
    """An agents row, or the same as a JSON object; a column that a newer version of the app added is left out."""
    fields = {field: row[field] for field in _AGENT_FIELDS}
    fields["policies"] = {name: _policy_from_store(policy) for name, policy in row["policies"].items()}
    return Agent.of_store(fields)


def stored_agent(agent: Agent) -> JsonObject:
    """The columns of an agents row as JSON; `agent_from_row` reads it."""
    return {
        "id": agent.id,
        "version": agent.version,
        "name": agent.name,
        "description": agent.description,
        "instructions": agent.instructions,
        "model": agent.model,
        "tools": agent.tools,
        "policies": {name: stored_policy(policy) for name, policy in agent.policies.items()},
        "defaults": kept_in_order(agent.defaults.model_dump(mode="json", exclude_unset=True)),
        "approval_floor": {name: floor.value for name, floor in agent.approval_floor.items()},
        "vision": agent.vision,
        "containment": agent.containment.value,
        "model_api": agent.model_api,
        "model_context_tokens": agent.model_context_tokens,
        "compact_at": agent.compact_at,
        "mcp_servers": [server.model_dump(mode="json") for server in agent.mcp_servers],
        "mcp_pins": [pin.stored() for pin in agent.mcp_pins],
        "agents": agent.agents,
        "hands_over_to": agent.hands_over_to,
        "background_agents": agent.background_agents,
        "created_at": None if agent.created_at is None else agent.created_at.isoformat(),
        "created_by": agent.created_by,
        "source": agent.source.model_dump(mode="json", exclude_none=True),
    }


def stored_policy(policy: ApprovalPolicy) -> JsonObject:
    """A policy of an agents row: what was set of it. Rules stand in `required`, where code from before them finds
    neither a truth value nor null and fails: it leaves out fields that it does not know, and would plan turns without
    the rules."""
    values = policy.model_dump(mode="json", exclude_unset=True)
    rules = values.pop("rules", None)
    return values | ({"required": {"otherwise": policy.required, "rules": rules}} if rules else {})


def _policy_from_store(values: JsonObject) -> JsonObject:
    required = values.get("required")
    if not isinstance(required, dict):
        return values
    return values | {"required": required["otherwise"], "rules": required["rules"]}
