"""The queue for the model: a step that finds its lane full waits outside of any process, and whoever watches is told.

Invariant: a step that waits has begun nothing: no attempt, no reservation, no try of its model. Where the lane has
room, nothing is asked of the store. A turn that is over never waits, nor does a step that is stored.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.lanes import Lane, Permit
from shared.sessions.events import EventTarget, FrameType, SessionEventPublisher, frame
from shared.sessions.metrics import metrics
from shared.sessions.repository import StepRepository
from shared.sessions.turns.retry import queue_delay_s

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3_600.0
"""Then the turn fails. Each place is free again after `LLM_STEP_SECONDS` at the latest: an hour is seven rounds."""
_LATE_S = 10.0
"""How much later than told a step may come back for the place that is kept for it: the timer and the queues."""


@dataclass(frozen=True, slots=True)
class Waited:
    """How a step has waited so far. looks: how often it found no place. is_told: those who watch know."""

    looks: int = 0
    seconds: float = 0.0
    is_told: bool = False


NOT_WAITED = Waited()


@dataclass(frozen=True, slots=True)
class Waits:
    """No place: ask again after `delay_s`. None: it has waited for too long."""

    delay_s: float | None
    is_told: bool = False
    messages: list[bytes] = field(default_factory=list)


class StepQueue:
    """Lets model steps into the lane of their process."""

    def __init__(self, lane: Lane, steps: StepRepository, publisher: SessionEventPublisher) -> None:
        self._lane = lane
        self._steps = steps
        self._publisher = publisher

    async def enter(self, turn_id: str, step: int, waited: Waited) -> Permit | Waits | None:
        """A place for the step; None: it needs none, since it is stored, or its turn is over.

        Raises Transient(DATABASE_ERROR).
        """
        permit = self._lane.enter_unknown()
        if permit is not None:
            return permit
        queued = await self._steps.queued_step(turn_id, step)
        if queued is None:
            self._lane.give_up(turn_id)
            return None
        delay_s = queue_delay_s(waited.looks + 1, self._lane.before(turn_id))
        back_in_s = delay_s + _LATE_S
        permit = self._lane.enter(turn_id, queued.place, waited_s=waited.seconds, back_in_s=back_in_s)
        if permit is not None:
            return permit
        metrics.lane_was_full("model")
        if waited.seconds >= LONGEST_WAIT_S:
            self._lane.give_up(turn_id)
            log.warning("turn %s found no place to ask its model for %d s", turn_id, waited.seconds)
            return Waits(None)
        await self._steps.note_pause(turn_id, datetime.now(UTC) + timedelta(seconds=back_in_s))
        if waited.is_told or waited.seconds < self._lane.limits.told_after_s:
            return Waits(delay_s, waited.is_told)
        return Waits(delay_s, is_told=True, messages=await self._tell(turn_id, queued.target, waited))

    async def _tell(self, turn_id: str, target: EventTarget, waited: Waited) -> list[bytes]:
        said = frame(FrameType.WAITING, turn_id, None, lane="model", seconds=int(waited.seconds))
        return await self._publisher.publish(target, [said])
