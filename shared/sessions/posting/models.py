"""What posting passes on: the planned turn before it is stored, and the stored message."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import BudgetExceeded
from shared.sessions.models import Concurrency
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import PostedMessage


@dataclass(frozen=True, slots=True)
class Posting:
    """A session that somebody posts to. refusal: why no turn may be added to it now."""

    record: SessionRecord
    plan: TurnPlan
    concurrency: Concurrency
    refusal: BudgetExceeded | None


@dataclass(frozen=True, slots=True)
class Posted:
    """A message on record. start: its turn is next; messages: events to send."""

    result: PostedMessage
    messages: list[bytes]

    @property
    def start(self) -> bool:
        return self.result.dispatched and not self.result.replayed
