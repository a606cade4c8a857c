"""A tool call with its approval and its turn, as whoever runs it reads it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.sessions.events import EventTarget
from shared.sessions.models import (
    ApprovalStatus,
    JsonObject,
    ToolCallStatus,
)
from shared.sessions.records.plan import TurnPlan


@dataclass(frozen=True, slots=True)
class ToolExecution:
    """A tool call, its approval if it has one, and the turn it belongs to."""

    tool_call_id: str
    session_id: str
    turn_id: str
    message_id: str
    provider_call_id: str
    name: str
    arguments: JsonObject
    argument_error: str | None
    needs_approval: bool
    status: ToolCallStatus
    result: Any
    begun_at: datetime | None
    ended_at: datetime | None
    plan: TurnPlan
    requested_by: str
    cancelled: bool
    target: EventTarget
    approval_id: str | None
    approval_status: ApprovalStatus | None
    decided_by: str | None
    comment: str | None
    decided_arguments: JsonObject | None
    arguments_digest: str | None
    error_code: str | None
    result_message_id: str | None
    """The tool message that holds its result, once it has one."""
    granted_tools: frozenset[str] = frozenset()
    """Tools that were approved for the rest of the session."""
    contained: bool = False
    declined: bool = False
    sources: frozenset[str] = frozenset()
    """What the model had read when it made the call."""


class CallStart(StrEnum):
    """What marking the start of a tool's run found."""

    NOW = "now"
    BEFORE = "before"  # somebody began it, and it has no result
    CANCELLED = "cancelled"  # its turn is cancelled or over
