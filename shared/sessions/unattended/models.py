"""Schedules and triggers as JSON models."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, Field, field_serializer, model_validator

from shared.sessions.features.models import Name
from shared.sessions.models import ApprovalMode, Concurrency, JsonObject, SessionConfig, Value
from shared.sessions.unattended.ncrontab import MAX_EXPRESSION_CHARS, Ncrontab, zone_of

MAX_PROMPT_CHARS = 32_000
MAX_FIRING_ID_CHARS = 256


def _prompt(text: str) -> str:
    if not text.strip() or "\x00" in text:
        raise ValueError("needs text, without the character U+0000")
    return text


def _zone(name: str) -> str:
    return zone_of(name).key


Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARS), AfterValidator(_prompt)]
Zone = Annotated[str, Field(max_length=64), AfterValidator(_zone)]


class _NewTarget(Value):
    """What is posted, and where: to a session, or to a new one each time."""

    name: Name | None = None
    content: Prompt = Field(description="The message that is posted as yours")
    session_id: str | None = Field(None, max_length=64, description="null: each time a new session")
    agent_id: str | None = Field(None, max_length=64, description="Of new sessions; null: `assistant`")
    config: SessionConfig = Field(SessionConfig(), description="Of new sessions")
    approval_mode: ApprovalMode | None = Field(None, description="As in a message")
    paused: bool = False

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.session_id is not None and ({"agent_id", "config"} & self.model_fields_set):
            raise ValueError("agent_id and config are of new sessions: leave out session_id, or them")
        return self


class _Target(Value):
    """What is posted, and where."""

    id: str
    name: str | None
    content: str
    session_id: str | None
    agent_id: str | None
    config: SessionConfig = Field(description="Of new sessions: only what was set")
    approval_mode: ApprovalMode | None

    @field_serializer("config")
    def _only_set(self, config: SessionConfig) -> JsonObject:
        # A round trip (GET, then PUT, as to pause it) must not set what the agent's defaults are to say.
        return config.model_dump(mode="json", exclude_unset=True)


# Schedules. ------------------------------------------------------------------------------------


class Missed(StrEnum):
    """What becomes of a run that could not begin within two minutes of its time."""

    SKIP = "skip"  # it does not run
    RUN_ONCE = "run_once"  # the newest runs, and stands for all that were missed
    RUN_ALL = "run_all"  # each runs, at most the newest 24


class Overlap(StrEnum):
    """What becomes of a run that is due while a turn of the run before it, or any of its session, is open."""

    SKIP = "skip"  # it does not run
    QUEUE = "queue"  # it runs after it


class ScheduleStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # by its owner
    STOPPED = "stopped"  # it can not run any more; `status_reason` says why, and a change starts it again
    DONE = "done"  # nothing is due any more


class RunStatus(StrEnum):
    PENDING = "pending"  # due: it is being posted, or waits for the turn of the run before it
    POSTED = "posted"  # its turn is on record
    SKIPPED = "skipped"  # a turn was open, or the schedule was changed
    MISSED = "missed"  # nothing looked for it in time
    REFUSED = "refused"  # a limit, or the session's state


class NewSchedule(_NewTarget):
    """Body of `PUT /schedules/{id}`: `at`, or `cron` and `zone`."""

    at: AwareDatetime | None = Field(None, description="Once, then")
    cron: str | None = Field(
        None,
        max_length=MAX_EXPRESSION_CHARS,
        description="NCRONTAB: second (one number), minute, hour, day, month, day of week",
    )
    zone: Zone = Field("UTC", description="IANA name of the zone that `cron` is read in")
    missed: Missed = Missed.SKIP
    overlap: Overlap = Overlap.SKIP

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.at is None) is (self.cron is None):
            raise ValueError("needs either at or cron")
        if self.cron is not None:
            try:
                Ncrontab.parse(self.cron, zone_of(self.zone))
            except ValueError as exc:
                raise ValueError(f"cron {exc}") from None
        return self


class ScheduleRun(Value):
    """What became of one time that a schedule was due."""

    due_at: datetime
    status: RunStatus
    reason: str | None = Field(None, description="Why it did not run, or not yet")
    session_id: str | None = None
    turn_id: str | None = None
    noted_at: datetime


class Schedule(_Target):
    at: datetime | None
    cron: str | None
    zone: str
    missed: Missed
    overlap: Overlap
    status: ScheduleStatus
    status_reason: str | None
    next_run_at: datetime | None
    last_run: ScheduleRun | None = Field(None, description="The newest that was due")
    created_at: datetime
    updated_at: datetime


class ScheduleDetail(Schedule):
    """A schedule with its runs, newest first."""

    runs: list[ScheduleRun]


# Triggers. -------------------------------------------------------------------------------------


class TriggerStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"  # by its owner
    STOPPED = "stopped"  # it can not be fired any more; `status_reason` says why, and a change starts it again


class TriggerSource(StrEnum):
    """What may fire a trigger beside its owner."""

    WEBHOOK = "webhook"  # whoever signs with its secret
    QUEUE = "queue"  # whoever may write to the app's queue


class NewTrigger(_NewTarget):
    """Body of `PUT /triggers/{id}`."""

    concurrency: Concurrency | None = Field(None, description="As in a message; null: the session's")
    sources: list[TriggerSource] = Field(
        [TriggerSource.WEBHOOK], max_length=len(TriggerSource), description="What may fire it beside you; each once"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("sources names one twice")
        return self


class Trigger(_Target):
    concurrency: Concurrency | None
    sources: list[TriggerSource] = Field(description="What may fire it beside you")
    status: TriggerStatus
    status_reason: str | None
    uid: str = Field(description="How a queue message names it")
    queue: str | None = Field(description="The queue whose messages fire it; null: it takes none, or the app has none")
    url: str = Field(description="Where signed webhooks are sent to")
    secret: str | None = Field(None, description="Of the signature (`whsec_...`); only when it has just been made")
    secret_made_at: datetime
    is_secret_void: bool = Field(description="The app's key that it was made with is retired: rotate it")
    last_fired_at: datetime | None
    last_session_id: str | None
    last_turn_id: str | None
    last_refused_at: datetime | None
    last_refusal: str | None = Field(description="Why a fire of somebody who may fire it did not run")
    created_at: datetime
    updated_at: datetime


class Firing(Value):
    """Body of `POST /triggers/{id}/fire`."""

    payload: Any = Field(None, description="JSON that the model reads as data from outside")


class QueueFiring(Value):
    """A message of the queue: JSON of this form."""

    trigger: str = Field(max_length=64, description="The trigger's `uid`")
    payload: Any = Field(None, description="JSON that the model reads as data from outside")
    id: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_FIRING_ID_CHARS,
        description="One id for one event, also when it is sent again; null: each message is another event",
    )


class Rotation(Value):
    """Body of `POST /triggers/{id}/rotate`."""

    keep_old_seconds: int = Field(
        86_400, ge=0, le=7 * 86_400, description="How long the secret before it is still good"
    )


class Fired(Value):
    """The answer to a webhook: it is on record."""

    webhook_id: str
