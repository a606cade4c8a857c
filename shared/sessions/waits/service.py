"""ToolWaits: answering what a tool call asks of its user, and posting the result that one waits for.

Invariant: the answer is in the store before anyone is told of it. Only the user whose message began the turn answers,
while they may write in its session, and posts the results of client tools; only who holds a call's completion token
posts the result of another one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.errors import Conflict, ErrorCode, Gone, NotFound
from shared.principal import Principal
from shared.rights import Action, may
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import NewInput, NewToolResult, ToolWait, WaitKind, WaitStatus
from shared.sessions.records.waits import AnswerEffect, AnswerRecord, WaitRecord
from shared.sessions.repository import WaitRepository
from shared.sessions.waits import notes
from shared.sessions.waits.answers import checked_answer, posted_result
from shared.sessions.waits.telling import answered_event, progress_event
from shared.signing import CompletionTokens, TokenExpired, TokenInvalid

_NO_WAIT = "No such question."
_NO_CALL = "No such tool call."
_LOOKS, _LOOK_S = 8, 0.25


@dataclass(frozen=True, slots=True)
class Answered:
    """A wait that is over, or was before. instance_id: the orchestration that must hear of it; again for a repeat,
    since the first may have been cut."""

    wait: ToolWait
    instance_id: str
    messages: list[bytes]


class ToolWaits:
    """Shows and ends the waits of tool calls."""

    def __init__(self, rows: WaitRepository, publisher: SessionEventPublisher, tokens: CompletionTokens) -> None:
        self._rows = rows
        self._publisher = publisher
        self._tokens = tokens

    async def answer(self, tool_call_id: str, body: NewInput, principal: Principal) -> Answered:
        """Record the user's answers. The same again changes nothing.

        Raises NotFound (also for whoever it is not asked of), InvalidInput(VALIDATION_ERROR), Conflict (other answers
        stand, or the turn is over), Gone(APPROVAL_TIMEOUT).
        """
        now = datetime.now(UTC)
        record = await self.asked(tool_call_id, body.wait_id, principal)
        said = checked_answer(record.wait, body, principal.user_id)
        effect = await self._rows.answer(record, said, [notes.answered(record.wait, said)], now=now)
        stands = await self.asked(tool_call_id, body.wait_id, principal)
        if effect is AnswerEffect.NOTHING:
            _refuse_unless_same(stands, said)
            return Answered(stands.wait, stands.instance_id, [])
        messages = await self._publisher.publish(stands.target, [answered_event(stands.wait, stands.turn_id)])
        return Answered(stands.wait, stands.instance_id, messages)

    async def complete(self, tool_call_id: str, body: NewToolResult, principal: Principal) -> Answered:
        """Record the result of a call that waits for it, or tell its progress. The token is the right to do so; for a
        client tool it is the caller's being who declared it.

        Raises NotFound (also for a token that is not of this call), Conflict (another result stands, the turn is over,
        or the call does not wait), Gone(APPROVAL_TIMEOUT).
        """
        now = datetime.now(UTC)
        if body.token is None:
            record = await self.of_client(tool_call_id, principal)
        else:
            self._check(body.token, tool_call_id, now)
            record = await self._waiting(tool_call_id)
        if body.progress is not None:
            if record.wait.status is not WaitStatus.PENDING or record.wait.expires_at <= now:
                raise Conflict(ErrorCode.CONFLICT, "Nothing waits for this call any more.")
            event = progress_event(record, body.progress)
            return Answered(record.wait, record.instance_id, await self._publisher.publish(record.target, [event]))
        said = posted_result(record.wait, body, principal.user_id)
        effect = await self._rows.answer(record, said, [notes.answered(record.wait, said)], now=now)
        stands = await self._rows.of_call(tool_call_id) or record
        if effect is AnswerEffect.NOTHING:
            _refuse_unless_same(stands, said)
            return Answered(stands.wait, stands.instance_id, [])
        messages = await self._publisher.publish(stands.target, [answered_event(stands.wait, stands.turn_id)])
        return Answered(stands.wait, stands.instance_id, messages)

    async def of_client(self, tool_call_id: str, principal: Principal, *, looks: int = _LOOKS) -> WaitRecord:
        """The wait of a call of a client tool that the caller declared, open or over. Raises NotFound.

        looks: how often, since a client may answer before its call waits. A call that is not the caller's takes as long
        as none.
        """
        for left in reversed(range(looks)):
            record = await self._rows.of_call(tool_call_id, principal.user_id)
            if record is not None and record.access is not None and record.wait.asked_of == principal.user_id:
                if record.wait.kind is WaitKind.CLIENT and may(record.access, Action.ANSWER):
                    return record
                break
            if left:
                await asyncio.sleep(_LOOK_S)
        raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_CALL)

    def _check(self, token: str, tool_call_id: str, now: datetime) -> None:
        try:
            self._tokens.check(token, tool_call_id, now=now)
        except TokenInvalid:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_CALL) from None
        except TokenExpired:
            raise Gone(ErrorCode.APPROVAL_TIMEOUT, "The time for this result is over.") from None

    async def _waiting(self, tool_call_id: str) -> WaitRecord:
        """A result may be there before its tool has returned, so a wait that is not there yet is looked for again."""
        for left in reversed(range(_LOOKS)):
            record = await self._rows.of_call(tool_call_id)
            if record is not None or not left:
                break
            await asyncio.sleep(_LOOK_S)
        if record is None or record.wait.kind is not WaitKind.RESULT:
            raise Conflict(ErrorCode.CONFLICT, "This call does not wait for a result.")
        return record

    async def asked(self, tool_call_id: str, wait_id: str, principal: Principal) -> WaitRecord:
        """A question that the caller may answer, open or over. Raises NotFound."""
        record = await self._rows.find(tool_call_id, wait_id, principal.user_id)
        if record is None or record.access is None:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_WAIT)
        if record.wait.kind is not WaitKind.INPUT:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, _NO_WAIT)
        if record.wait.asked_of != principal.user_id:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, "This is asked of the user whose message began the turn.")
        if not may(record.access, Action.ANSWER):
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, "Answering takes the right to write in the session.")
        return record


def _refuse_unless_same(stands: WaitRecord, said: AnswerRecord) -> None:
    match stands.wait.status:
        case WaitStatus.ANSWERED:
            if stands.answer_digest != said.digest:
                raise Conflict(ErrorCode.CONFLICT, "This was answered before, with something else.")
        case WaitStatus.CANCELLED:
            raise Conflict(ErrorCode.CONFLICT, "The turn was cancelled or has ended; nothing waits for this answer.")
        case WaitStatus.PENDING | WaitStatus.TIMED_OUT:
            raise Gone(ErrorCode.APPROVAL_TIMEOUT, "The time to answer is over.")
