"""Tags, templates and statistics as JSON models."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from shared.sessions import models
from shared.sessions.models import JsonObject, SentJson, SessionConfig, Usage, Value

MAX_SESSION_TAGS = 32
"""The same limit as in `NewSession`."""


def _visible(text: str) -> str:
    # Controls, line breaks, direction marks and zero-width characters can make different names look the same.
    if not text.isprintable() or text != text.strip():
        raise ValueError("contains invisible characters, or starts or ends with a space")
    return text


NewTagName = Annotated[models.Tag, AfterValidator(_visible)]
"""A name to tag a session with or to create a tag with; untagging and filtering accept any existing name."""

Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_visible)]


class Tag(Value):
    name: str
    system: bool = Field(description="A preset: all users have it, nobody can delete it")
    color: str | None = None
    description: str | None = None
    created_at: datetime | None = Field(None, description="null for a preset")


class NewTag(Value):
    """Body of `POST /tags`."""

    name: NewTagName
    color: str | None = Field(None, pattern=r"^#[0-9a-f]{6}$", description="#rrggbb")
    description: str | None = Field(None, max_length=200)


class Template(Value):
    """A session template: `name` and `description` are the template's own, the other fields go to the session."""

    id: str
    name: str
    system: bool = Field(description="Built in: all users have it, nobody can delete it")
    description: str | None = None
    session_name: str | None = None
    agent_id: str | None = None
    config: SessionConfig = SessionConfig()
    tags: list[str] = Field([])
    metadata: JsonObject = Field({})
    created_at: datetime | None = Field(None, description="null for a system template")


class NewTemplate(Value):
    """Body of `POST /templates`."""

    name: Name
    description: str | None = Field(None, max_length=500)
    session_name: str | None = Field(None, max_length=200)
    agent_id: str | None = Field(None, max_length=64)
    config: SessionConfig = SessionConfig()
    tags: list[models.Tag] = Field([], max_length=MAX_SESSION_TAGS)
    metadata: SentJson = Field({})


# Statistics. -----------------------------------------------------------------------------------


class MessageCounts(Value):
    """Messages by role."""

    total: int = 0
    user: int = 0
    assistant: int = 0
    tool: int = 0
    system: int = 0


class FinishReasonCounts(Value):
    """Answers by finish reason; not counted: failed answers without one, and answers older than this field."""

    total: int = 0
    stop: int = 0
    tool_calls: int = 0
    length: int = 0
    content_filter: int = 0
    refusal: int = 0
    cancelled: int = 0


class TurnCounts(Value):
    """Turns by status."""

    total: int = 0
    queued: int = 0
    running: int = 0
    waiting_approval: int = 0
    waiting_input: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class ToolCallCounts(Value):
    """Tool calls by status; `pending` and `approved` ones have not run yet."""

    total: int = 0
    pending: int = 0
    approved: int = 0
    rejected: int = 0
    completed: int = 0
    failed: int = 0


class ApprovalCounts(Value):
    """Approvals by status."""

    total: int = 0
    pending: int = 0
    approved: int = 0
    rejected: int = 0
    timed_out: int = 0
    cancelled: int = 0


class Durations(Value):
    """Durations in seconds; null when nothing was measured."""

    count: int = 0
    mean_seconds: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None


MAX_MODELS = 50
"""Most models listed in statistics; a session may name any model."""

MAX_DAYS = 366
"""Most days listed of a period, the latest ones: a year."""


class ModelUsage(Usage):
    """Usage of one model's turns, including model calls other than their answers."""

    model: str | None = Field(description=f"As requested by the turns; null: all beyond the {MAX_MODELS} most used")
    turns: int = Field(description="Turns with this model, open ones included")


class DayUsage(Usage):
    """Usage of the caller's own turns on one day, in all sessions, shared and deleted ones included."""

    day: date = Field(description="UTC")


class Figures(Value):
    """The statistics of a session or of a period."""

    messages: MessageCounts
    finish_reasons: FinishReasonCounts
    turns: TurnCounts
    usage: Usage = Field(description="`cost_usd` covers the turns with a known price; null: no price is known")
    models: list[ModelUsage] = Field(description="`usage` by model, the most used first")
    tool_calls: ToolCallCounts
    approvals: ApprovalCounts
    approval_waits: Durations = Field(description="From request to decision, for decisions by a person")
    turn_durations: Durations = Field(description="From start to end, for turns that have both")


class SessionStatistics(Figures):
    session_id: str


class PeriodStatistics(Figures):
    """Statistics of the sessions that the caller owns, for items created at or after `from` and before `to`.

    Tokens, costs and tool calls count in the period of their turn.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    since: datetime | None = Field(alias="from", description="null: no lower bound")
    until: datetime | None = Field(alias="to", description="null: up to now")
    sessions: int = Field(description="Sessions created in the period")
    days: list[DayUsage] = Field(
        description=f"Oldest first, at most the last {MAX_DAYS}, without days of no usage; a day that is only partly"
        " in the period counts as a whole"
    )
