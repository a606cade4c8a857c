"""What is told of a turn that has ended, to whoever watches it and to the trace.

A step that closes its turn tells it, and so does `SessionService.finish_turn`.
"""

from __future__ import annotations

from shared import tracing
from shared.sessions.events import Event, EventType, FrameType, ended_event, frame
from shared.sessions.records.turns import FinishedTurn


def tell_end(turn_id: str, finished: FinishedTurn) -> list[Event]:
    """Make the span of the turn; returns its last events. Safe to repeat: whoever closed the turn may have been cut
    before it could say so.
    """
    tracing.turn_ended(
        turn_id,
        finished.target.session_id,
        finished,
        agent=(finished.agent_id, finished.agent_version),
        model=finished.model,
        status=finished.status,
        error_code=finished.error.code if finished.error else None,
        usage=tracing.UsedTokens(
            finished.usage.input_tokens,
            finished.usage.output_tokens,
            finished.usage.cached_input_tokens,
            finished.usage.reasoning_tokens,
        ),
        began=finished.began_at,
        ended=finished.ended_at,
    )
    events: list[Event] = []
    if finished.error is not None:
        data = finished.error.model_dump()
        events.append(frame(FrameType.ERROR, turn_id, None, **data))
        events.append(Event(EventType.ERROR_OCCURRED, data, turn_id))
    events.append(ended_event(turn_id, finished.status, finished.usage, finished.steps, finished.finish_reason))
    return events
