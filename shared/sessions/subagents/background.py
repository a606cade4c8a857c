"""BackgroundResults: what became of a subagent in the background, told as a message in the session of its caller.

Invariant: each result is one message, stored with the mark that it is told. It joins the turn that runs, or begins a
turn with the user, the plan and the limits of the turn that called. Its content is our own sentence; what the subagent
wrote is beside it, with the sources that its model had read, so nothing takes it for the words of a user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.ids import new_id
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.metrics import metrics
from shared.sessions.models import Message, MessageRole, MessageStatus, SubagentResult, TurnStatus
from shared.sessions.records.background import AskedFor, NewResult
from shared.sessions.records.children import Child
from shared.sessions.records.turns import queued_turn
from shared.sessions.repository import BackgroundRepository, ChildRepository
from shared.sessions.subagents.answers import bounded, note_of, sentence_of, why_not_yet
from shared.sessions.tools.running.masking import NO_MASK, Mask

_SHARE = 4
"""A result takes at most this part of the window: it is pinned there, and has to leave room for the rest."""
_MOST_TOKENS = 16_000
"""Whatever the window: an event carries it. All of it is in the session of the subagent."""


@dataclass(frozen=True, slots=True)
class ResultTold:
    """messages: events to send. start_turn_id: a turn to start."""

    messages: list[bytes] = field(default_factory=list)
    start_turn_id: str | None = None


class BackgroundResults:
    """Tells results. Safe to repeat."""

    def __init__(
        self,
        rows: BackgroundRepository,
        children: ChildRepository,
        publisher: SessionEventPublisher,
        mask: Mask = NO_MASK,
    ) -> None:
        """mask: of what tools must not tell."""
        self._rows = rows
        self._children = children
        self._publisher = publisher
        self._mask = mask

    async def of_session(self, session_id: str) -> ResultTold:
        """Of a subagent's session whose turn has ended; nothing is told of one that a call waits for."""
        tool_call_id = await self._rows.call_of(session_id)
        return ResultTold() if tool_call_id is None else await self.tell(tool_call_id)

    async def tell(self, tool_call_id: str) -> ResultTold:
        """Of the subagent that a call began. Nothing, if it was told before or its session takes no message now."""
        child = await self._children.of_call(tool_call_id)
        if child is None or not child.status.is_terminal:
            return ResultTold()
        now = datetime.now(UTC)
        posted = await self._rows.tell(child.session_id, lambda asked: self._message(child, asked, now), now=now)
        if posted is None:
            return ResultTold()
        metrics.message_stored(MessageRole.USER)
        told = posted.message.model_dump(mode="json", exclude_none=True)
        event = Event(EventType.MESSAGE_CREATED, told, posted.turn.id, posted.message.id)
        messages = await self._publisher.publish(posted.target, [event])
        return ResultTold(messages, posted.turn.id if posted.dispatched else None)

    def _message(self, child: Child, asked: AskedFor, now: datetime) -> NewResult:
        has_answered = child.status is TurnStatus.COMPLETED
        text = child.content if has_answered else why_not_yet(child, is_late=asked.is_late)
        text, is_cut = bounded(self._mask.text(text), min(_MOST_TOKENS, asked.plan.max_context_tokens // _SHARE))
        content, note = sentence_of(child), note_of(child, text)
        told = SubagentResult(
            tool_call_id=child.tool_call_id,
            agent_id=child.agent_id,
            session_id=child.session_id,
            turn_id=child.turn_id,
            status=child.status,
            content=text,
            output=self._mask.json(child.output) if has_answered and not is_cut else None,
        )
        turn_id, message_id = new_id(), new_id()
        message = Message(
            id=message_id,
            session_id=asked.session_id,
            turn_id=turn_id,
            role=MessageRole.USER,
            content=content,
            from_subagent=told,
            status=MessageStatus.COMPLETED,
            created_at=now,
        )
        plan = asked.plan.model_copy(
            # A handover is of the turn in which it happened.
            update={"results_before": asked.plan.results_before + 1, "handed_over": None}
        )
        return NewResult(
            message=message,
            turn=queued_turn(turn_id, asked.session_id, message_id, now=now, plan=plan),
            plan=plan,
            told=told,
            note=note,
            tokens=estimate_tokens(content) + estimate_tokens(note),
            sources=tuple(sorted(child.sources)),
        )
