"""What crosses the durable boundary: ids and small facts, never transcripts.

One model per activity input and result, each with a schema_version, so that an instance that waited for days can be
read by newer code.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict

from shared.sessions.approvals.notices import NoticeKind
from shared.sessions.models import Value
from shared.sessions.records.steps import StepOutcome


class DurableMessage(Value):
    """Base of all. `load` and `dump` are the only ways in and out.

    What a newer version has added is left aside: while an upgrade rolls, an older process may read it, and a turn must
    not fail of that.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1

    @classmethod
    def load(cls, value: Any) -> Self:
        """From what the durable SDK hands over: a dict, or its JSON text. Raises pydantic.ValidationError."""
        return cls.model_validate_json(value) if isinstance(value, str) else cls.model_validate(value)

    def dump(self) -> dict[str, Any]:
        """JSON-safe, without defaults: every byte is stored in the history and read again in each replay."""
        return self.model_dump(mode="json", exclude_defaults=True)


class CallModelInput(DurableMessage):
    turn_id: str
    step: int
    tries: int


class CallModelResult(DurableMessage):
    outcome: StepOutcome
    calls: tuple[tuple[str, bool], ...] = ()
    """(tool call id, needs approval)."""
    delay_s: float = 0.0
    code: str | None = None
    detail: str = ""


class RequestApprovalInput(DurableMessage):
    tool_call_id: str
    instance_id: str


class RequestApprovalResult(DurableMessage):
    approval_id: str | None = None
    """None: its turn was cancelled before; there is nothing to wait for."""
    expires_at: datetime | None = None
    remind_at: datetime | None = None
    """The first reminder; None: there are none."""
    remind_every_s: int = 0
    escalate_at: datetime | None = None
    """None: it is not handed on."""


class GiveNoticeInput(DurableMessage):
    approval_id: str
    kind: NoticeKind
    number: int = 0
    """Of a reminder, from 1."""


class NotifyApproversInput(DurableMessage):
    approval_id: str
    kind: NoticeKind = NoticeKind.REQUESTED
    number: int = 0


class ExecuteToolInput(DurableMessage):
    tool_call_id: str
    deadline_passed: bool = False


class ExecuteToolResult(DurableMessage):
    status: str
    pending: bool = False


class FinishTurnInput(DurableMessage):
    turn_id: str
    status: str
    code: str | None = None
    detail: str = ""


class ApprovalInput(DurableMessage):
    """Input of the approval orchestration."""

    tool_call_id: str


CHANGED_DETAIL = (
    "This turn began under an older version of the app, and this one cannot go on with it. Send the message again."
)


def explain_failure(words: str) -> tuple[str, str]:
    """Code and text, safe to show, of an orchestration or an activity that failed for good.

    words: the durable backend's. Of an exception it keeps only the text; our activities raise `CODE: safe message`, and
    a replay that asks for other things than the history holds is the backend's own failure (DurableTask.Core's
    NonDeterministicOrchestrationException begins like that).
    """
    if "Non-Deterministic workflow detected" in words:
        return "INTERNAL_ERROR", CHANGED_DETAIL
    if "DATABASE_ERROR" in words:
        return "DATABASE_ERROR", "The database cannot be reached."
    return "INTERNAL_ERROR", "The turn failed unexpectedly."
