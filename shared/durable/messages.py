"""What crosses the durable boundary: ids and small facts, never transcripts.

One model per activity input and result, each with a schema_version, so that newer code can read an instance that waited
for days.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import ConfigDict

from shared.sessions.models import Value
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.steps import StepOutcome


class DurableMessage(Value):
    """Base class. `load` and `dump` are the only ways in and out.

    Unknown fields are ignored: during a rolling upgrade an older process may read a newer message, and the turn must
    not fail because of that.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1

    @classmethod
    def load(cls, value: Any) -> Self:
        """Parse a dict or JSON text from the durable SDK. Raises pydantic.ValidationError."""
        return cls.model_validate_json(value) if isinstance(value, str) else cls.model_validate(value)

    def dump(self) -> dict[str, Any]:
        """JSON-safe, without defaults: every byte is stored in the history and read again by each replay."""
        return self.model_dump(mode="json", exclude_defaults=True)


class ActivityInput(DurableMessage):
    """Input of an activity that sends events."""

    again: int = 0
    """How often it was run before and failed, perhaps after its work was done."""


class CallModelInput(ActivityInput):
    turn_id: str
    step: int
    tries: int
    spent_s: float = 0.0
    spent_tokens: int = 0
    """What the tries before have cost (`shared/sessions/turns/patience.py`)."""
    waits_since: datetime | None = None
    """When it first found its lane full; None: it has not."""
    looks: int = 0
    """How often it did."""
    is_told: bool = False
    """Those who watch know that it waits."""


class CallModelResult(DurableMessage):
    outcome: StepOutcome
    calls: tuple[tuple[str, bool], ...] = ()
    """(tool call id, needs approval)."""
    closed: bool = False
    """With FINAL: the turn ended with this step, and nothing is left to do. False from code of an older version, and
    where the step was stored before: then `finish_turn` closes the turn, or finds it closed and says so again."""
    delay_s: float = 0.0
    held: bool = False
    """With RETRY: the session is suspended, the database away or the lane full, and this was no try. Code of an older
    version takes it for one."""
    is_queued: bool = False
    """With `held`: the lane is full. It may look again after `delay_s`."""
    is_told: bool = False
    spent_s: float = 0.0
    spent_tokens: int = 0
    """With RETRY: what all tries so far have cost."""
    code: str | None = None
    detail: str = ""


class RequestApprovalInput(ActivityInput):
    tool_call_id: str
    instance_id: str


class RequestApprovalResult(DurableMessage):
    approval_id: str | None = None
    """None: the turn was cancelled first, so there is nothing to wait for."""
    expires_at: datetime | None = None
    decided: bool = False
    """There is nothing to wait for: it was asked, and decided, under an orchestration before this one."""
    remind_at: datetime | None = None
    """Time of the first reminder; None: no reminders."""
    remind_every_s: int = 0
    reminded: int = 0
    """Reminders of an orchestration before this one."""
    escalate_at: datetime | None = None
    """None: no escalation."""


class GiveNoticeInput(ActivityInput):
    approval_id: str
    kind: NoticeKind
    number: int = 0
    """Number of the reminder, from 1."""


class NotifyApproversInput(DurableMessage):
    approval_id: str
    kind: NoticeKind = NoticeKind.REQUESTED
    number: int = 0


class ExecuteToolInput(ActivityInput):
    tool_call_id: str
    deadline_passed: bool = False
    """Of its approval."""
    late_wait: str | None = None
    """Id of the wait whose deadline has passed."""
    told_wait: str | None = None
    """Id of a wait that is on record as told: it is not told again."""


class ExecuteToolResult(DurableMessage):
    status: str
    pending: bool = False
    held: bool = False
    """The session is suspended, the database away or the lane full. Nothing was done; ask again."""
    wait_id: str | None = None
    """The call waits for an answer until `wait_until`. `held` is then set, too: code of an older version asks again
    until there is one."""
    wait_until: datetime | None = None


class FinishTurnInput(ActivityInput):
    turn_id: str
    status: str
    code: str | None = None
    detail: str = ""


class KeeperInput(DurableMessage):
    """Input of the keeper."""

    hub: str
    """The identity of the task hub that it is in."""


class ApprovalInput(DurableMessage):
    """Input of the approval orchestration."""

    tool_call_id: str


class WaitInput(DurableMessage):
    """Input of the orchestration of a tool call that waits without an approval."""

    tool_call_id: str
    told_wait: str | None = None
    """Id of the wait that the turn's own run of the call has told of."""


class WorkflowCaller(DurableMessage):
    """For whom a workflow runs: the user whose message began the turn."""

    user_id: str
    roles: tuple[str, ...] = ()
    """As they were when the message was posted."""
    session_id: str
    agent_id: str | None = None
    agent_version: int | None = None


class WorkflowInput(DurableMessage):
    """Input of a workflow, and of the sub-orchestrations that it starts."""

    tool_call_id: str
    caller: WorkflowCaller
    start: str
    """Which of its starts this is."""
    is_below: bool = False
    """A sub-orchestration: it answers no call."""
    input: Any = None
    """What `context.get_input()` is."""


class BeginWorkflowInput(DurableMessage):
    tool_call_id: str
    start: str


class BeginWorkflowResult(DurableMessage):
    begun: str
    """A `WorkflowBegun`."""


class TellProgressInput(ActivityInput):
    tool_call_id: str
    text: str
    fraction: float | None = None


class EndWorkflowInput(ActivityInput):
    tool_call_id: str
    outcome: dict[str, Any]
    """`content` and `data`, or `error`."""


CHANGED_DETAIL = (
    "This turn began under an older version of the app, and the current one cannot continue it. Send the message again."
)

CHANGED_WORKFLOW = "This workflow began under an older version of the app, and the current one cannot continue it."
LOST_WORKFLOW = "The workflow was lost or ended from outside; what it has done is not known."

LOST_DETAIL = "This turn was interrupted several times, and the app cannot continue it. Send the message again."
_DATABASE = "DATABASE_ERROR"
_OURS = "Activity function"
"""In the failure of an orchestration whose activity gave up. Source: the extension, and its recordings in the tests."""
_NON_DETERMINISTIC = "Non-Deterministic workflow detected"
_SCHEDULED_LESS = "hasn't (yet?) scheduled"
"""What DurableTask.Core says when a replay asked for less than the history holds: also of a worker that died in the
middle of an orchestrator. Only a replay that asked for something else tells of other code."""


def is_lost(words: str) -> bool:
    """Whether an orchestration ended without a word of our code: its worker died in it, or somebody terminated it.
    Started again it can go on. Our code says that the database is away, and DurableTask.Core that the code has changed.
    """
    if _NON_DETERMINISTIC in words:
        return _SCHEDULED_LESS in words
    return _DATABASE not in words and _OURS not in words


def is_other_code(words: str) -> bool:
    """Whether an orchestration ended because this code asks for something else than the code that began it."""
    return _NON_DETERMINISTIC in words and not is_lost(words)


def is_outage(words: str) -> bool:
    """Whether an activity failed because the database is away. words: the failure text of the durable backend."""
    return _DATABASE in words


def explain_failure(words: str) -> tuple[str, str]:
    """Error code and user-safe text for an orchestration or activity that failed permanently.

    words: the failure text of the durable backend, which keeps only the text of an exception. Our activities raise
    `CODE: safe message`. A replay that deviates from the history fails in the backend itself, with the text of
    DurableTask.Core's NonDeterministicOrchestrationException.
    """
    if _NON_DETERMINISTIC in words:
        return "INTERNAL_ERROR", LOST_DETAIL if is_lost(words) else CHANGED_DETAIL
    if _DATABASE in words:
        return "DATABASE_ERROR", "The database cannot be reached."
    return "INTERNAL_ERROR", "The turn failed unexpectedly."
