"""What people and programs outside did in a case: they decide its approvals, and post results that came later.

Votes are cast as they were recorded, at their time. Where the app asks for more than was recorded, stand-ins approve,
so that the rest of the case is played too; what was asked anew is told by the comparison.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from devtools.cases.case import Call, Case, Vote
from shared.composition.services import Services
from shared.durable.names import answer_event, approval_event
from shared.errors import AppError
from shared.principal import Principal, Role
from shared.sessions.approvals.models import Approval, NewDecision
from shared.sessions.models import ApprovalStatus, Decision, NewToolResult
from shared.sessions.records.pages import ApprovalFilter, Page

_AT_ONCE = timedelta(seconds=1)
_MOST_STAND_INS = 16


@dataclass
class People:
    """`Outside` of a turn. refused: votes that the app did not take, one line each."""

    app: Services
    case: Case
    session_id: str
    owner: Principal
    call_of: Callable[[str], Awaitable[str]]
    now: Callable[[], datetime]
    refused: list[str] = field(default_factory=list)
    _cast: dict[str, int] = field(default_factory=dict)
    """Votes that were cast, by approval."""
    _next: tuple[datetime, Approval | str] | None = None
    _posted: set[str] = field(default_factory=set)

    async def next(self) -> datetime | None:
        found: list[tuple[datetime, Approval | str]] = []
        for approval in await self._pending():
            at = await self._voted_at(approval)
            if at is not None:
                found.append((max(at, self.now()), approval))
        for tool_call_id in await self._waiting():
            call = await self._call(tool_call_id)
            if call is not None and call.result.at is not None:
                found.append((max(call.result.at, self.now()), tool_call_id))
        self._next = min(found, key=lambda each: each[0], default=None)
        return None if self._next is None else self._next[0]

    async def happen(self) -> list[tuple[str, str]]:
        assert self._next is not None
        _, what = self._next
        return await self._post(what) if isinstance(what, str) else await self._vote(what)

    async def _pending(self) -> list[Approval]:
        wanted = ApprovalFilter(status=ApprovalStatus.PENDING)
        found, _ = await self.app.approvals.of_session(self.session_id, self.owner, wanted, Page(limit=100))
        return list(reversed(found))

    async def _waiting(self) -> list[str]:
        turns, _ = await self.app.lifecycle.list_turns(self.session_id, self.owner, Page(limit=1))
        waits = turns[0].waits if turns else []
        return [wait.tool_call_id for wait in waits if wait.tool_call_id not in self._posted]

    async def _call(self, tool_call_id: str) -> Call | None:
        wanted = await self.call_of(tool_call_id)
        calls = (call for turn in self.case.turns for step in turn.steps for call in step.calls)
        return next((call for call in calls if call.id == wanted), None)

    async def _voted_at(self, approval: Approval) -> datetime | None:
        """None: nobody decided, and its time has to run out."""
        call = await self._call(approval.tool_call_id)
        recorded = None if call is None else call.approval
        votes = [] if recorded is None else recorded.votes
        cast = self._cast.get(approval.id, 0)
        if cast < len(votes):
            return votes[cast].at
        if recorded is not None and recorded.status == ApprovalStatus.TIMED_OUT:
            return None
        return None if cast > len(votes) + _MOST_STAND_INS else self.now() + _AT_ONCE

    async def _vote(self, approval: Approval) -> list[tuple[str, str]]:
        call = await self._call(approval.tool_call_id)
        votes = [] if call is None or call.approval is None else call.approval.votes
        cast = self._cast[approval.id] = self._cast.get(approval.id, 0) + 1
        if cast <= len(votes):
            vote = votes[cast - 1]
            body = NewDecision(
                decision=Decision(vote.decision),
                arguments=vote.arguments,
                comment=vote.comment,
                for_session=vote.for_session,
            )
            who = _voter(vote)
        else:
            roles = {role for requirement in approval.requirements for role in requirement.roles}
            named = [user for requirement in approval.requirements for user in requirement.users]
            number = cast - len(votes) - 1
            name = named[number] if number < len(named) else f"stand-in-{number + 1}"
            who = Principal(name, frozenset({Role.USER, Role.APPROVER, Role.ADMIN, *roles}))
            body = NewDecision(decision=Decision.APPROVE)
        try:
            decided = await self.app.approvals.decide(approval.id, body, who)
        except AppError as error:
            if cast <= len(votes):
                self.refused.append(f"{who.user_id} on {approval.tool}: {error.safe_message}")
            return []
        return [(decided.instance_id, approval_event(approval.id))] if decided.must_be_delivered else []

    async def _post(self, tool_call_id: str) -> list[tuple[str, str]]:
        self._posted.add(tool_call_id)
        call = await self._call(tool_call_id)
        assert call is not None
        result = call.result
        token = self.app.completions.token(tool_call_id, expires_at=self.now() + timedelta(days=1))
        if result.status == "failed":
            body = NewToolResult(token=token, error=result.error or "failed")
        else:
            body = NewToolResult(token=token, content=result.content, data=result.data)
        answered = await self.app.waits.complete(tool_call_id, body, self.owner)
        return [(answered.instance_id, answer_event(answered.wait.id))]


def _voter(vote: Vote) -> Principal:
    return Principal(vote.by, frozenset({Role.USER, *vote.roles}))
