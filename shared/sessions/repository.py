"""The stores that several modules of the domain ask. PostgreSQL implements them in `shared/adapters/`.

What one service alone asks of a store stands beside that service.

Every method is one transaction. What must be exclusive is decided by the database, never by a read before a write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Protocol

from shared.errors import AppError
from shared.principal import Principal
from shared.rights import Action
from shared.sessions.events import EventTarget
from shared.sessions.limits.budgets import NO_DAILY_LIMITS, DailyLimits
from shared.sessions.models import (
    ApprovalStatus,
    Concurrency,
    ListedSession,
    Message,
    MessageRole,
    Session,
    SessionStatus,
    ToolCall,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.approvals import (
    ApprovalBelow,
    ApprovalNotes,
    ApprovalRecord,
    CallContext,
    NewApproval,
    Voted,
    VoteNotes,
    VoteRecord,
)
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.background import WriteResult
from shared.sessions.records.children import Child, NewChild
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.pages import ApprovalFilter, MessageFilter, Page, SessionFilter
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.steps import (
    QueuedStep,
    SavedStep,
    StepClosed,
    StepHeld,
    StepResult,
    StepStart,
    StoredStep,
    Summary,
)
from shared.sessions.records.tool_calls import CallStart, ToolCallResult, ToolExecution
from shared.sessions.records.turns import (
    BrokenAnswer,
    CutAnswer,
    FinishedTurn,
    Interruption,
    OpenAnswer,
    OpenTurn,
    PostedMessage,
    ReadableTurn,
)
from shared.sessions.records.waits import AnswerEffect, AnswerRecord, NewWait, WaitRecord, WorkflowBegun, WorkflowLook


class SessionRepository(Protocol):
    async def create(
        self, session: Session, owner_id: str, *, idempotency: Idempotency | None, thread: str | None = None
    ) -> tuple[SessionRecord, bool]:
        """Store a session; the flag is False when an earlier request with the same key, or for the same thread of the
        owner, made it.

        Its id is another one when somebody else has the given one: a refusal would tell that their session exists. For
        a thread, whoever has it.
        Raises Conflict: SESSION_ALREADY_EXISTS when the owner may read the session with this id, or CONFLICT for a
        key reused with another body.
        """
        ...

    async def get(self, session_id: str, user_id: str) -> SessionRecord:
        """Raises NotFound when it does not exist or the user may not read it."""
        ...

    async def list_for(self, user_id: str, wanted: SessionFilter, page: Page) -> list[ListedSession]:
        """One item more than `page.limit` when there are more, or CutRows."""
        ...

    async def change_status(
        self,
        session_id: str,
        user_id: str,
        *,
        allowed: Sequence[SessionStatus],
        to: SessionStatus,
        now: datetime,
        action: Action = Action.CHANGE,
    ) -> tuple[SessionRecord, Interruption]:
        """Move along the state machine; also what was cancelled with it. action: what the user must be allowed to do.

        Raises NotFound, InvalidState.
        """
        ...

    async def lease(self, target: EventTarget, *, lost: bool) -> EventTarget:
        """See `events.SequenceLeases`."""
        ...

    async def allocate(self, target: EventTarget, count: int) -> EventTarget:
        """See `events.SequenceLeases`."""
        ...

    async def forget_idempotency_keys(self, *, before: datetime) -> int:
        """Drop keys claimed before then; returns how many."""
        ...

    async def forget_token_usage(self, *, before: date) -> int:
        """Drop what users used on days before that one; returns how many rows."""
        ...


class AttachmentReader(Protocol):
    async def some(self, session_id: str, ids: Sequence[str], *, max_chars: int) -> dict[str, AttachmentRecord]:
        """A session's files by id, with the beginning of their text; those that are not there are left out."""
        ...


class TurnRepository(Protocol):
    async def post_message(
        self,
        message: Message,
        turn: Turn,
        plan: TurnPlan,
        *,
        user_id: str,
        tokens: int,
        concurrency: Concurrency,
        idempotency: Idempotency | None,
        refusal: AppError | None = None,
        note: str | None = None,
        sources: Sequence[str] = (),
    ) -> PostedMessage:
        """sources: of the note, where it does not tell of files.

        Raises NotFound, InvalidState, Conflict; and `refusal`, unless an earlier request is only repeated.
        """
        ...

    async def get_turn(self, session_id: str, turn_id: str) -> Turn:
        """Raises NotFound."""
        ...

    async def open_turn(self, session_id: str, user_id: str) -> ReadableTurn | None:
        """The turn that runs, waits or is next, in a session that the user may read; one that is being cancelled only
        when there is no other. Raises NotFound."""
        ...

    async def readable_turn(self, session_id: str, turn_id: str, user_id: str) -> ReadableTurn:
        """A turn of a session the user may read. Raises NotFound (SESSION_NOT_FOUND, MESSAGE_NOT_FOUND)."""
        ...

    async def get_message(self, session_id: str, message_id: str) -> Message:
        """Raises NotFound."""
        ...

    async def tool_calls(self, session_id: str, ids: Sequence[str]) -> list[ToolCall]:
        """Those of the session and of its subagents; others are left out."""
        ...

    async def list_messages(self, session_id: str, wanted: MessageFilter, page: Page) -> list[tuple[int, Message]]:
        """(number, message) in the order of the conversation; one more than `page.limit` when there are more, or
        CutRows.

        page.after: the number of a message. Raises InvalidInput when there is no such message."""
        ...

    async def cancel_requested(self, turn_ids: Sequence[str]) -> set[str]:
        """Which of these turns should stop."""
        ...

    async def cancel(
        self, session_id: str, turn_id: str, user_id: str, *, now: datetime
    ) -> tuple[Interruption, EventTarget]:
        """Ask a turn to stop; harmless when it has ended. Raises NotFound."""
        ...

    async def open_answer(self, turn_id: str) -> OpenAnswer | None:
        """The answer that an open turn streams, or has begun to stream."""
        ...

    async def finish(
        self,
        turn_id: str,
        *,
        status: TurnStatus,
        error: TurnError | None,
        now: datetime,
        answer: CutAnswer | None = None,
    ) -> FinishedTurn:
        """Close a turn and claim the session's next one. answer: what was told of one that nobody stores any more."""
        ...

    async def claim_next(self, session_id: str, *, now: datetime) -> str | None:
        """Claim the next queued turn when none runs."""
        ...

    async def to_look_at(self, *, running_before: datetime, waiting_before: datetime, limit: int) -> list[OpenTurn]:
        """Open turns dispatched or looked at before then; those that wait for people apart. Not of other hubs."""
        ...

    async def look_again(self, turn_id: str) -> OpenTurn | None:
        """A turn of `to_look_at` as it is now; None when there is nothing more to look at."""
        ...

    async def may_be_queued(self, since: datetime, *, now: datetime) -> bool:
        """Whether what became ready at `since` may still wait for a place in the task hub."""
        ...

    async def own(self, turn_id: str) -> None:
        """A turn that names no hub is this process's."""
        ...

    async def calls_that_wait(self, turn_id: str) -> list[str]: ...

    async def note_restart(self, turn_id: str, *, most: int, now: datetime) -> int | None:
        """The number of this restart; None when there were `most`, or the turn has ended."""
        ...

    async def forget_restart(self, turn_id: str) -> None:
        """It was not accepted."""
        ...

    async def sessions_with_idle_queue(self, *, before: datetime, limit: int) -> list[str]:
        """Sessions whose hand-over was cut."""
        ...

    async def touch_dispatch(self, turn_id: str, *, now: datetime) -> bool:
        """Note another look at its orchestration, or another try to start it. False when the turn has ended."""
        ...


class StepRepository(Protocol):
    async def begin_step(
        self,
        turn_id: str,
        step: int,
        *,
        message_id: str,
        now: datetime,
        quiet_until: datetime,
        limits: DailyLimits = NO_DAILY_LIMITS,
    ) -> StepStart | StoredStep | StepClosed | StepHeld:
        """Start the step, return it as stored (under a higher attempt), or say that the turn is over or held.
        quiet_until: the turn is not missed before then, and what it reserves of the user's day ends then. limits: of
        that day."""
        ...

    async def queued_step(self, turn_id: str, step: int) -> QueuedStep | None:
        """Whose step it is, before it is begun. None: it asks no model, being stored, or its turn over or cancelled."""
        ...

    async def save_step(self, result: StepResult) -> bool:
        """Store what a step made, count what it used, and free what it reserved. False when this attempt is no longer
        the newest."""
        ...

    async def save_last_step(self, turn_id: str, result: StepResult, *, closes: bool = True) -> SavedStep:
        """Store a completed answer without tool calls, as `save_step` does, and with it close its turn and claim the
        session's next one."""
        ...

    async def stored_by(self, message_id: str, attempt: int) -> SavedStep:
        """Whether this attempt stored the step, when a save says that it did not."""
        ...

    async def add_usage(self, turn_id: str, usage: Usage, *, now: datetime) -> None:
        """Count what a model was asked in vain, or beside the answers of a turn: for the turn, its session and its
        user's day."""
        ...

    async def note_pause(self, turn_id: str, until: datetime, said: BrokenAnswer | None = None) -> None:
        """The turn is silent on purpose until then, and reserves nothing: its model is asked again. said: what the try
        told before it failed, kept unless another attempt has begun."""
        ...

    async def save_summary(self, turn_id: str, summary: Summary, *, now: datetime) -> None:
        """What stands for older turns from now on. A second one for the same place changes nothing."""
        ...

    async def leave_out(self, turn_id: str, step: int, attempt: int) -> list[tuple[str, MessageRole]]:
        """Mark what the provider's filter refused when a step was asked: tool results of the step before that are not
        marked yet, else the question of the turn. Returns (id, role) of what was marked now: nothing, when the attempt
        is not the newest."""
        ...

    async def leave_out_before(self, turn_id: str, attempt: int) -> None:
        """Mark the questions of all earlier turns that the turn reads, and forget what is summarised of them: no model
        reads those turns any more. Nothing when the attempt is no longer the newest."""
        ...

    async def take_in(self, turn_id: str) -> str:
        """Take the mark from the question of a turn; its id."""
        ...


class ToolCallRepository(Protocol):
    async def tool_execution(self, tool_call_id: str) -> ToolExecution:
        """Raises NotFound."""
        ...

    async def begin_tool_call(
        self, tool_call_id: str, start_id: str, note: AuditNote | None = None, *, now: datetime
    ) -> CallStart:
        """Mark that its tool is about to run, unless it may not any more. A repeat with the same start_id is answered
        as the first time. note: stored with the start."""
        ...

    async def save_tool_result(self, result: ToolCallResult, note: AuditNote | None = None) -> bool:
        """False when it has a result already. note: stored with the result."""
        ...

    async def time_out_approval(
        self, tool_call_id: str, notes: Callable[[ApprovalStatus], Sequence[AuditNote]], *, now: datetime
    ) -> bool:
        """False when it was decided just in time. notes: by what its policy makes of that."""
        ...

    async def mark_approval_delivered(self, tool_call_id: str, *, now: datetime) -> None:
        """The orchestration knows the outcome."""
        ...

    async def newest_of_session(self, session_id: str, *, limit: int) -> list[str]:
        """Ids, newest first."""
        ...


class WaitRepository(Protocol):
    """Waits of calls that have begun. Notes are stored as audit lines in the transaction of what they tell."""

    async def open(self, new: NewWait, notes: Sequence[AuditNote], child: NewChild | None = None) -> bool:
        """False when the call has a wait of that number, or it or its turn is over or cancelled. child: what it waits
        for, stored with it."""
        ...

    async def find(self, tool_call_id: str, wait_id: str, user_id: str) -> WaitRecord | None:
        """With what the user is in its session."""
        ...

    async def of_call(self, tool_call_id: str, user_id: str | None = None) -> WaitRecord | None:
        """The newest of a call, with what the user is in its session; None: a stranger."""
        ...

    async def answer(
        self, record: WaitRecord, said: AnswerRecord, notes: Sequence[AuditNote], *, now: datetime
    ) -> AnswerEffect:
        """End a wait that is open and not late."""
        ...

    async def time_out(self, tool_call_id: str, wait_id: str, notes: Sequence[AuditNote], *, now: datetime) -> bool:
        """False when it was answered just in time, or is over."""
        ...

    async def resume(
        self, tool_call_id: str, wait_id: str, start_id: str, note: AuditNote | None, *, now: datetime
    ) -> CallStart:
        """As `ToolCallRepository.begin_tool_call`, for a call that goes on with an answer."""
        ...

    async def forget(self, tool_call_id: str, *, now: datetime) -> None:
        """The call has ended: its answers are dropped, and nobody is to be told."""
        ...

    async def undelivered(self, *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(wait id, instance id) of waits that were over before then and whose orchestration is not known to know."""
        ...

    async def give_up_delivery(self, wait_id: str, *, now: datetime) -> None:
        """Its orchestration is over."""
        ...


class WorkflowRepository(Protocol):
    """Workflows that calls wait for."""

    async def begin(self, tool_call_id: str, start: str) -> WorkflowBegun:
        """Let a start run, if no other one does and the call waits. The same start may ask again."""
        ...

    async def to_look_at(
        self, *, pending_before: datetime, over_before: datetime, now: datetime, limit: int
    ) -> list[WorkflowLook]:
        """Claim those that nobody has looked at since: while their call waits, and after that."""
        ...

    async def is_over(self, wait_id: str, *, now: datetime) -> None:
        """It was seen to have ended, and is not looked at again."""
        ...


class ChildRepository(Protocol):
    """The sessions and turns that answer calls of agents."""

    async def of_call(self, tool_call_id: str) -> Child | None:
        """None: it has none, or its session is gone."""
        ...

    async def beside(self, tool_call_id: str) -> tuple[int, int]:
        """Of all below the turn that a person began, of which a call is one: how many are open, and have been begun."""
        ...

    async def stopped(self, turn_id: str | None, *, limit: int) -> list[str]:
        """Open turns below one (None: below any) that was cancelled or is over, which nobody has cancelled."""
        ...

    async def cancel(self, turn_id: str, *, now: datetime) -> tuple[Interruption, EventTarget] | None:
        """Ask it to stop. None when it has ended or is gone."""
        ...

    async def of_session(self, session_id: str, *, limit: int) -> list[tuple[str, str]]:
        """(session id, owner id) of those whose parent it is or was."""
        ...


class BackgroundRepository(Protocol):
    """Subagents in the background, and the messages that tell their results."""

    async def begin(self, child: NewChild, notes: Sequence[AuditNote]) -> bool:
        """Store the child of a call, if that has none yet. False: the turn of the call is over."""
        ...

    async def open_of(self, session_id: str) -> int:
        """How many of a session's have not ended."""
        ...

    async def call_of(self, session_id: str) -> str | None:
        """The call that began it, of one that is not told; None for other sessions."""
        ...

    async def to_tell(self, *, before: datetime, limit: int) -> list[str]:
        """Calls whose subagents have ended before then, and are not told. Not those of sessions that are suspended."""
        ...

    async def overdue(self, *, now: datetime, limit: int) -> list[str]:
        """Open turns whose time is over, and that nobody has cancelled."""
        ...

    async def tell(self, session_id: str, write: WriteResult, *, now: datetime) -> PostedMessage | None:
        """Store the message that tells what became of the subagent of a session, once. None: it was told before, its
        caller's session takes none now, or takes none any more."""
        ...


class ApprovalRepository(Protocol):
    """Notes are stored as audit lines in the transaction of what they tell."""

    async def request(self, new: NewApproval, notes: ApprovalNotes) -> tuple[ApprovalRecord | None, bool]:
        """The approval of a call, and whether it was opened now; None when the call or its turn is over."""
        ...

    async def get(self, approval_id: str, user_id: str) -> ApprovalRecord | None:
        """With `owner_id` and whether the user takes part in its session."""
        ...

    async def context(self, approval_id: str) -> CallContext | None:
        """What led to its call. Whether the caller may see that was asked before."""
        ...

    async def list_for(
        self, wanted: ApprovalFilter, page: Page, decider: Principal, *, now: datetime
    ) -> list[ApprovalRecord]:
        """What they may decide by now; newest first, one more than `page.limit` when there are more, or CutRows."""
        ...

    async def list_of_turns(self, user_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]:
        """Of turns that the user asked for, in sessions that they may read; ordered as `list_for`."""
        ...

    async def list_in_session(self, session_id: str, wanted: ApprovalFilter, page: Page) -> list[ApprovalRecord]:
        """Whoever may decide them; ordered as `list_for`. Whether the caller may read the session was asked before."""
        ...

    async def list_below(self, turn_ids: Sequence[str], status: ApprovalStatus | None = None) -> list[ApprovalBelow]:
        """What the subagents that these turns wait for have asked people for, oldest first: at most MAX_LIMIT and
        PAGE_BYTES, what waits before what does not, and then the newest. Whether the caller may read the turns was
        asked before."""
        ...

    async def waits_for(self, session_id: str, approval_id: str) -> str | None:
        """The turn of a session that waits for an approval, its own or one of a subagent; None: there is none."""
        ...

    async def vote(self, approval_id: str, vote: VoteRecord, notes: VoteNotes, *, now: datetime) -> Voted:
        """Cast a vote, and decide when it was the one that was missing: of two last voters exactly one does."""
        ...

    async def undelivered(self, *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(approval id, instance id) decided before then and not known to have arrived."""
        ...

    async def give_up_delivery(self, approval_id: str, *, now: datetime) -> None:
        """Its orchestration is over."""
        ...

    async def claim_unsettled_notices(
        self, *, since: datetime, before: datetime, now: datetime, limit: int
    ) -> list[tuple[str, NoticeKind]]:
        """(approval id, kind) to be sent between the two instants, neither taken nor given up. Claimed for a while."""
        ...

    async def settle_notice(self, approval_id: str, kind: NoticeKind, note: AuditNote | None = None) -> None:
        """Nothing more is to be done for it. note: that it was delivered."""
        ...
