"""The values of tags, templates and statistics, as they stand in JSON."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from shared.sessions import models
from shared.sessions.models import JsonObject, SentJson, SessionConfig, Usage, Value

MAX_SESSION_TAGS = 32
"""As many as `NewSession` takes."""


def _visible(text: str) -> str:
    # Controls, line breaks, direction marks and zero-width characters make two names look like one.
    if not text.isprintable() or text != text.strip():
        raise ValueError("holds characters that cannot be seen, or spaces at its ends")
    return text


NewTagName = Annotated[models.Tag, AfterValidator(_visible)]
"""What may be put on a session or made a tag of one's own; taking off and filtering accept any tag there is."""

Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_visible)]


class Tag(Value):
    name: str
    system: bool = Field(description="A preset that everybody has and nobody can delete")
    color: str | None = None
    description: str | None = None
    created_at: datetime | None = Field(None, description="null for a preset")


class NewTag(Value):
    """Body of `POST /tags`."""

    name: NewTagName
    color: str | None = Field(None, pattern=r"^#[0-9a-f]{6}$", description="#rrggbb")
    description: str | None = Field(None, max_length=200)


class Template(Value):
    """A session to be: `name` and `description` are the template's own, the rest is what the session gets."""

    id: str
    name: str
    system: bool = Field(description="One that everybody has and nobody can delete")
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
    """Answers by how they ended; those that failed without a reason, or are older than this count, are in none."""

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
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class ToolCallCounts(Value):
    """Tool calls by outcome; `pending` and `approved` ones have none yet."""

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
    """How long something took, in seconds; null where nothing was measured."""

    count: int = 0
    mean_seconds: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    max_seconds: float | None = None


MAX_MODELS = 50
"""Named in statistics; a session may ask for any model."""

MAX_DAYS = 366
"""Of a period, the last ones: a year."""


class ModelUsage(Usage):
    """What the turns of one model used, with all that was asked beside their answers."""

    model: str | None = Field(description=f"As the turns asked for it; null: all beyond the {MAX_MODELS} most used")
    turns: int = Field(description="Those of this model, open ones among them")


class DayUsage(Usage):
    """What the caller's own turns used on one day, in sessions of anybody; sessions deleted since are included."""

    day: date = Field(description="UTC")


class Figures(Value):
    """What is counted, of a session or of a period."""

    messages: MessageCounts
    finish_reasons: FinishReasonCounts
    turns: TurnCounts
    usage: Usage = Field(description="`cost_usd` is of the turns whose price is known; null: of none it is")
    models: list[ModelUsage] = Field(description="`usage` by model, the most used first")
    tool_calls: ToolCallCounts
    approvals: ApprovalCounts
    approval_waits: Durations = Field(description="From request to decision, of what a person approved or rejected")
    turn_durations: Durations = Field(description="From its start to its end, of turns that have both")


class SessionStatistics(Figures):
    session_id: str


class PeriodStatistics(Figures):
    """Of the sessions the caller owns: what was created from `from` on and before `to`.

    Tokens, costs and tool calls count with their turn.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    since: datetime | None = Field(alias="from", description="null: from the first")
    until: datetime | None = Field(alias="to", description="null: up to now")
    sessions: int = Field(description="Sessions opened in the period")
    days: list[DayUsage] = Field(
        description=f"Oldest first, the last {MAX_DAYS} at most, those in which nothing was used left out; a day that"
        " lies in the period in part counts whole"
    )
