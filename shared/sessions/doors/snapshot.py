"""A turn as it is now, told to a door from what is stored: for a client that asks how far it is, and does not watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.voting import public_approval
from shared.sessions.doors.below import WatchedTurn
from shared.sessions.doors.door import Door
from shared.sessions.doors.stored import (
    CallBelow,
    answer_events,
    asked_below,
    decided_below,
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
from shared.sessions.records.approvals import ApprovalBelow, ApprovalRecord
from shared.sessions.records.pages import MAX_LIMIT, ApprovalFilter, MessageFilter, Page


class StoredMessages(Protocol):
    async def list_messages(self, session_id: str, wanted: MessageFilter, page: Page) -> list[tuple[int, Message]]: ...


class StoredApprovals(Protocol):
    async def list_in_session(self, session_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]: ...

    async def list_below(
        self, turn_ids: Sequence[str], status: ApprovalStatus | None = None
    ) -> list[ApprovalBelow]: ...


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
        below = [CallBelow.of(one) for one in await self._approvals.list_below([turn.id])]
        progress = WatchedTurn()
        for envelope in events_of(turn, [message async for message in self._answers(turn)], approvals, below):
            for one in progress.told(envelope):
                door.event(one)
        progress.below_is(below, turn)
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


def events_of(
    turn: Turn, answers: Iterable[Message], approvals: Sequence[Approval], below: Sequence[CallBelow] = ()
) -> Iterator[JsonObject]:
    """A turn's events as they would come now, without numbers.

    answers: the turn's, oldest first. below: what its subagents have asked people for.
    """
    asked = {approval.tool_call_id: approval for approval in approvals}
    for message in answers:
        if message.status is MessageStatus.STREAMING:
            continue
        yield from answer_events(message)
        calls = {call.id: call for call in message.tool_calls}
        own = [asked[call_id] for call_id in calls if call_id in asked]
        under = [one for one in below if one.through in calls]
        through = {one.through for one in under}
        waited = through | {approval.tool_call_id for approval in own}
        yield from (pending_event(approval) for approval in sorted(own, key=_decided_at))
        yield from _outcomes(message, [call for call in message.tool_calls if call.id not in waited])
        moments = [moment for one in under for moment in _moments_below(one, turn)]
        for approval in own:
            ended = [] if approval.tool_call_id in through else [calls[approval.tool_call_id]]
            moments.append((_decided_at(approval), [*_decision(approval), *_outcomes(message, ended)]))
        for _, events in sorted(moments, key=lambda moment: moment[0]):
            yield from events
        # What a subagent has answered comes after all that it asked.
        yield from _outcomes(message, [call for call in message.tool_calls if call.id in through])
        yield from (wait_event(wait, turn) for wait in turn.waits if wait.tool_call_id in calls)
    if turn.status.is_terminal:
        yield from end_events(turn)


type _Moment = tuple[datetime, list[JsonObject]]
"""A time, and the events that came then."""


def _decision(approval: Approval) -> list[JsonObject]:
    is_decided = approval.status not in {ApprovalStatus.PENDING, ApprovalStatus.CANCELLED}
    return [decision_event(approval)] if is_decided else []


def _moments_below(one: CallBelow, turn: Turn) -> list[_Moment]:
    """When people were asked, and when they decided, with what became of the call."""
    asked, decided = list(asked_below(one, turn)), list(decided_below(one, turn))
    return [(one.approval.requested_at, asked), (_decided_at(one.approval), decided)]


def _decided_at(approval: Approval) -> datetime:
    return approval.decided_at or datetime.max.replace(tzinfo=UTC)


def _outcomes(message: Message, calls: Iterable[ToolCall]) -> Iterator[JsonObject]:
    return (found for call in calls if (found := outcome_event(message, call)) is not None)
