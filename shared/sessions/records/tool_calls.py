"""A tool call with its approval and its turn, as read to run it."""

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
from shared.sessions.records.waits import CallWait


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
    """The tool message with its result, once it has one."""
    granted_tools: frozenset[str] = frozenset()
    """Grants of tools approved for the rest of the session (`approvals/grants.py`)."""
    is_held: bool = False
    """Its session is suspended."""
    contained: bool = False
    declined: bool = False
    choice_bits: float = 0.0
    """See `ProposedCall`."""
    sources: frozenset[str] = frozenset()
    """The sources of what the model had read when it wrote the call."""
    wait: CallWait | None = None
    """The newest, if it waited since it began."""


@dataclass(frozen=True, slots=True)
class ToolCallResult:
    """The result of a tool call and its tool message, as input for the store."""

    tool_call_id: str
    status: ToolCallStatus
    result: Any
    error_code: str | None
    message_id: str
    content: str
    """Text of the tool message."""
    tokens: int
    """Estimated tokens of `content`."""
    ended_at: datetime
    sources: frozenset[str] | None = None
    """Of an agent's answer: those of what its model had read. None: the tool's name says it."""
    takeover: TurnPlan | None = None
    """With which the turn goes on under another agent; stored with the result."""


class CallStart(StrEnum):
    """The outcome of marking a tool call as started."""

    NOW = "now"
    BEFORE = "before"  # it was started before, and it has no result
    CANCELLED = "cancelled"  # its turn is cancelled or over
    HELD = "held"  # its session is suspended
