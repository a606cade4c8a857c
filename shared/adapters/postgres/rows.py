"""Rows that several stores read, as values of the domain; a store reads its own rows itself. Implements no port."""

from __future__ import annotations

from shared.adapters.postgres.pool import Row
from shared.sessions.agents.agent import Agent
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    AttachmentRef,
    Message,
    MessageRole,
    MessageStatus,
    Session,
    SessionConfig,
    SessionStatus,
    ToolCall,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.sessions import SessionRecord

_AGENT_FIELDS = tuple(Agent.model_fields)


def turn_from_row(row: Row) -> Turn:
    """A turns row, with `tool_calls` aggregated when the query did so."""
    return Turn(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        branch=row["branch"],
        status=TurnStatus(row["status"]),
        steps=row["steps"],
        tool_calls=[ToolCall.model_validate(call) for call in row.get("tool_calls", [])],
        usage=usage_from_row(row),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        error=turn_error(row),
        finish_reason=row["finish_reason"],
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
        author=row["author"],
        finish_reason=row["finish_reason"],
        reasoning=row["reasoning"],
        output=row["output"],
        left_out=row["left_out"],
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
    )


def session_record(row: Row) -> SessionRecord:
    """A sessions row with its `access` column."""
    session = Session(
        id=row["id"],
        name=row["name"],
        status=SessionStatus(row["status"]),
        agent_id=row["agent_id"],
        config=SessionConfig.of_store(row["config"]),
        tags=row["tags"],
        metadata=row["metadata"],
        active_branch=row["active_branch"],
        forked_from=row["forked_from"],
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
    return Agent.of_store({field: row[field] for field in _AGENT_FIELDS})
