"""Wire models: webhooks of users, what they are told, and their deliveries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.sessions.models import FinishReason, TurnError, TurnStatus, Value


class WebhookEvent(StrEnum):
    """What the owner of sessions can be told of them."""

    TURN_COMPLETED = "turn.completed"
    TURN_FAILED = "turn.failed"
    TURN_CANCELLED = "turn.cancelled"
    TURN_WAITING = "turn.waiting"  # for a person: an approval, or an answer
    SESSION_ENDED = "session.ended"


class DeliveryStatus(StrEnum):
    PENDING = "pending"  # it is due, or will be tried again
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up; it can be sent again


def _once(events: list[WebhookEvent]) -> list[WebhookEvent]:
    return list(dict.fromkeys(events))


type Events = Annotated[list[WebhookEvent], Field(min_length=1, max_length=len(WebhookEvent)), AfterValidator(_once)]
type Address = Annotated[str, Field(min_length=1, max_length=2_048)]
type Description = Annotated[str, Field(max_length=200)]


class NewWebhook(Value):
    """Body of `POST /webhooks`."""

    url: Address = Field(description="https; where the deployment allows it, http")
    events: Events
    description: Description | None = None


class WebhookPatch(Value):
    """Body of `PATCH /webhooks/{webhook_id}`: absent fields stay unchanged."""

    url: Address | None = Field(None, description="Not null")
    events: Events | None = Field(None, description="Not null")
    description: Description | None = Field(None, description="null removes it")
    enabled: bool | None = Field(None, description="true switches it on again; not null")


class Webhook(Value):
    """Where the owner of sessions is told of what becomes of them."""

    id: str
    url: str
    events: list[WebhookEvent]
    description: str | None
    enabled: bool
    off_at: datetime | None = Field(description="When it was switched off")
    off_reason: str | None = Field(description="Why: by its owner, or since its receiver takes nothing")
    failing_since: datetime | None = Field(description="Nothing was taken since then")
    created_at: datetime
    updated_at: datetime


class WebhookWithSecret(Webhook):
    """A webhook with its new secret, which no other answer holds."""

    secret: str = Field(
        description="`whsec_` and base64: verifies the header `webhook-signature` as Standard Webhooks define"
    )


class ToldTurn(Value):
    """`data` of the events `turn.…`, as it was then."""

    session_id: str
    turn_id: str
    status: TurnStatus
    requested_by: str
    finish_reason: FinishReason | None
    created_at: datetime
    ended_at: datetime | None
    error: TurnError | None


class ToldSession(Value):
    """`data` of the event `session.ended`."""

    session_id: str
    status: Literal["ENDED"]
    ended_at: datetime | None


class Delivery(Value):
    """One event on its way to a webhook."""

    id: str = Field(description="The header `webhook-id`, the same in each try")
    webhook_id: str
    event: WebhookEvent
    occurred_at: datetime
    data: ToldTurn | ToldSession
    status: DeliveryStatus
    tries: int
    tried_at: datetime | None = Field(description="The last try")
    next_try_at: datetime | None
    answer_code: int | None = Field(description="The HTTP status of the last answer; null: there was none")
    error: str | None = Field(description="Why the last try failed")
    took_ms: int | None = Field(description="How long the last try took")
