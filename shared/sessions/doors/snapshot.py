"""A turn as it is now, told to a door from what is stored: for a client that asks how far it is, and does not watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.voting import public_approval
from shared.sessions.doors.door import Door
from shared.sessions.doors.progress import TurnProgress
from shared.sessions.doors.stored import (
    answer_events,
    decision_event,
    end_events,
    outcome_event,
    pending_event,
    wait_event,
)
from shared.sessions.models import (
    ApprovalStatus,
    JsonObject,
    Message,
    MessageRole,
    MessageStatus,
    ToolCall,
    Turn,
)
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, MessageFilter, Page


class StoredMessages(Protocol):
    async def list_messages(self, session_id: str, wanted: MessageFilter, page: Page) -> list[tuple[int, Message]]: ...


class StoredApprovals(Protocol):
    async def list_in_session(self, session_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]: ...


class TurnSnapshots:
    """Reads turns from the stores. The caller has checked access."""

    def __init__(self, messages: StoredMessages, approvals: StoredApprovals) -> None:
        self._messages = messages
        self._approvals = approvals

    async def tell(self, door: Door, turn: Turn) -> None:
        """All that is stored of a turn; of an answer that is being written, nothing."""
        wanted = ApprovalFilter(turn_id=turn.id)
        records = await self._approvals.list_in_session(turn.session_id, wanted, Page(limit=MAX_LIMIT))
        approvals = [public_approval(record) for record in records]
        progress = TurnProgress()
        for envelope in events_of(turn, [message async for message in self._answers(turn)], approvals):
            if progress.take(envelope):
                door.event(envelope)
        if progress.is_waiting:
            door.waiting()

    async def _answers(self, turn: Turn) -> AsyncIterator[Message]:
        page: Page | None = Page(limit=MAX_LIMIT)
        while page is not None:
            wanted = MessageFilter(role=MessageRole.ASSISTANT, turn_id=turn.id)
            found = await self._messages.list_messages(turn.session_id, wanted, page)
            for _, message in found[: page.limit]:
                yield message
            last = found[: page.limit][-1:]
            page = Page(limit=page.limit, after=(last[0][0], "")) if page.has_more(found) else None


def events_of(turn: Turn, answers: Iterable[Message], approvals: Sequence[Approval]) -> Iterator[JsonObject]:
    """A turn's events as they would come now, without numbers.

    answers: the turn's, oldest first.
    """
    asked = {approval.tool_call_id: approval for approval in approvals}
    for message in answers:
        if message.status is MessageStatus.STREAMING:
            continue
        yield from answer_events(message)
        calls = {call.id: call for call in message.tool_calls}
        waited = sorted((asked[call_id] for call_id in calls if call_id in asked), key=_decided_first)
        for approval in waited:
            yield pending_event(approval)
        yield from _outcomes(message, [call for call in message.tool_calls if call.id not in asked])
        for approval in waited:
            if approval.status not in {ApprovalStatus.PENDING, ApprovalStatus.CANCELLED}:
                yield decision_event(approval)
            yield from _outcomes(message, [calls[approval.tool_call_id]])
        yield from (wait_event(wait, turn) for wait in turn.waits if wait.tool_call_id in calls)
    if turn.status.is_terminal:
        yield from end_events(turn)


def _decided_first(approval: Approval) -> datetime:
    return approval.decided_at or datetime.max.replace(tzinfo=UTC)


def _outcomes(message: Message, calls: Iterable[ToolCall]) -> Iterator[JsonObject]:
    return (found for call in calls if (found := outcome_event(message, call)) is not None)
