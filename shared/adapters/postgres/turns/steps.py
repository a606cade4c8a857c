"""Model steps of a turn in PostgreSQL: begun, stored, told again. Implements `StepRepository` and `SummaryRepository`.

Invariant: each method is one transaction that may run again with the same arguments and changes nothing the second
time; the unique index on (turn_id, step, ordinal) holds even if it were called twice at once. A step is fenced by its
attempt: of two that answer it the newest is stored, and the other is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from psycopg import AsyncCursor

from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target, finished_turn, turn_error
from shared.durable.hub import TaskHub, only_hub
from shared.errors import ErrorCode, NotFound
from shared.lanes import Place
from shared.sessions.limits.budgets import (
    NO_DAILY_LIMITS,
    DailyLimits,
    MoneySpent,
    Reservation,
    TokensUsed,
    Wanted,
    usage_day,
)
from shared.sessions.models import FinishReason, MessageRole, MessageStatus, Usage
from shared.sessions.records.plan import HandedOver, TurnPlan
from shared.sessions.records.steps import (
    SUMMARY_ROLE,
    ContextMessage,
    QueuedStep,
    SavedStep,
    StepClosed,
    StepHeld,
    StepResult,
    StepStart,
    StoredCall,
    StoredStep,
    Summary,
)
from shared.sessions.records.turns import BrokenAnswer

_Q = load_queries("turns/steps")

CONTEXT_ROWS = 1_000
"""Messages read for one model call at most, whatever their size: bounds the read of an endless session."""


class PostgresSteps:
    """`StepRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, hub: TaskHub | None = None, *, context_rows: int = CONTEXT_ROWS) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._hub = hub or only_hub()
        self._context_rows = context_rows

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
        """Start (or start again) the model step `step`, counted from 1. quiet_until: when it has ended at the latest.

        A step already stored comes back as it was; a step begun before gets a higher attempt.
        """
        async with self._pool.connection() as connection:
            # A pipeline without BEGIN is one round trip and one transaction, which ends with the block.
            async with connection.pipeline():
                begun = await connection.execute(
                    _Q["begin_step"],
                    {
                        "turn_id": turn_id,
                        "step": step,
                        "message_id": message_id,
                        "now": now,
                        "quiet_until": quiet_until,
                        **_day(limits, now, quiet_until),
                    },
                )
                read = connection.cursor(row_factory=_context_rows)
                await read.execute(
                    _Q["context_messages"], {"turn_id": turn_id, "step": step, "limit": self._context_rows}, binary=True
                )
            row = await begun.fetchone()
            context = await read.fetchall()
            if row is not None and row["message_id"] is not None:
                if len(context) >= self._context_rows and not _tells_authors(context):
                    whole = await (await connection.execute(_Q["authors_on_path"], {"turn_id": turn_id})).fetchone()
                    assert whole is not None  # the turn was there a moment ago, and is not deleted while a step begins
                    context[-1] = context[-1]._replace(authors=whole["authors"])
                plan = _bounded_plan(row)
                return StepStart(
                    turn_id=turn_id,
                    step=step,
                    target=event_target(row),
                    requested_by=row["requested_by"],
                    plan=plan,
                    message_id=row["message_id"],
                    message_created_at=row["message_created_at"],
                    attempt=row["attempt"],
                    context=_with_own_items(context, plan.handed_over),
                    granted_tools=frozenset(row["granted_tools"]),
                    used=_used(row),
                    max_session_tokens=row["max_session_tokens"],
                    spent=MoneySpent(
                        row["turn_cost_usd"] or _NO_COST, row["session_cost_usd"], row["user_day_cost_usd"] or _NO_COST
                    ),
                    max_session_cost_usd=row["max_session_cost_usd"],
                    declined_digests=frozenset(row["declined_digests"]),
                    spent_bits=row["spent_bits"],
                    quiet_until=quiet_until,
                    reservation=None if row["reserved"] is None else _reservation(row["reserved"], turn_id, limits),
                )
            key = {"turn_id": turn_id, "step": step, "now": now}
            stored = await (await connection.execute(_Q["restate_step"], key)).fetchone()
            if stored is not None:
                return _stored_step(stored)
            state = await (await connection.execute(_Q["turn_state"], {"turn_id": turn_id})).fetchone()
            if state is None:
                raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such turn.")
            if state["held"]:
                return StepHeld()
            return StepClosed(cancelled=state["cancel_requested_at"] is not None or state["status"] == "cancelled")

    async def queued_step(self, turn_id: str, step: int) -> QueuedStep | None:
        """Whose step it is, before it is begun; None: it asks no model, being stored, or its turn over or cancelled."""
        row = await self._pool.fetch_one(_Q["queued_step"], {"turn_id": turn_id, "step": step})
        return None if row is None else QueuedStep(Place(row["requested_by"], row["model"]), event_target(row))

    async def save_step(self, result: StepResult) -> bool:
        """Store what a step made. False when another attempt of the step was stored or begun meanwhile."""
        row = await self._save(result, closes=False)
        return row["session_id"] is not None

    async def save_last_step(self, turn_id: str, result: StepResult, *, closes: bool = True) -> SavedStep:
        """The same for an answer without tool calls, and with it the end of the turn and the hand-over; not when a
        message joined the turn since the step began. closes: False leaves the end to `finish`."""
        row = await self._save(result, closes=closes)
        if row["session_id"] is None or row["ended_at"] != result.ended_at:
            return SavedStep(is_stored=row["session_id"] is not None, is_joined=bool(row["is_joined"]))
        return SavedStep(
            True, finished=finished_turn(row, event_target(row), closed_now=True, next_turn_id=row["next_turn_id"])
        )

    async def _save(self, result: StepResult, *, closes: bool) -> Row:
        row = await self._pool.fetch_one(_Q["save_step"], _result(result, closes=closes) | {"hub": self._hub.id})
        assert row is not None  # a function's row, of nulls when nothing was stored
        return row

    async def stored_by(self, message_id: str, attempt: int) -> SavedStep:
        row = await self._pool.fetch_one(_Q["step_is_stored"], {"message_id": message_id, "attempt": attempt})
        return SavedStep(is_stored=row is not None, is_joined=row is not None and row["is_joined"])

    async def add_usage(self, turn_id: str, usage: Usage, *, now: datetime) -> None:
        await self._pool.execute(_Q["add_usage"], {"turn_id": turn_id, **_usage(usage, now)})

    async def reserve(self, start: StepStart, wanted: Wanted, limits: DailyLimits, *, now: datetime) -> Reservation:
        row = await self._pool.fetch_one(
            _Q["reserve"],
            {
                "turn_id": start.turn_id,
                "user_id": start.requested_by,
                "least_tokens": wanted.least_tokens,
                "most_tokens": wanted.most_tokens,
                "least_cost_usd": wanted.least_cost_usd,
                "most_cost_usd": wanted.most_cost_usd,
                **_day(limits, now, start.quiet_until or now),
            },
        )
        return _reservation({} if row is None else row["reserved"], start.turn_id, limits)

    async def note_pause(self, turn_id: str, until: datetime, said: BrokenAnswer | None = None) -> None:
        said = said or BrokenAnswer("", 0, "", "")
        given = {"turn_id": turn_id, "until": until, "day": usage_day(until), "words": vector_of(said.content)}
        await self._pool.execute(_Q["note_pause"], given | asdict(said))

    async def save_summary(self, turn_id: str, summary: Summary, *, now: datetime) -> None:
        await self._pool.execute(
            _Q["save_summary"],
            {
                "turn_id": turn_id,
                "branch": summary.branch,
                "turn_number": summary.turn_number,
                "content": summary.content,
                "tokens": summary.tokens,
                "sources": sorted(summary.sources) or None,
                "model": summary.model,
                "now": now,
            },
        )

    async def take_in(self, turn_id: str) -> str:
        row = await self._pool.fetch_one(_Q["take_in"], {"turn_id": turn_id})
        assert row is not None  # a turn has a question as long as there is the turn
        return str(row["id"])

    async def leave_out_before(self, turn_id: str, attempt: int) -> None:
        await self._pool.execute(_Q["leave_out_before"], {"turn_id": turn_id, "attempt": attempt})

    async def leave_out(self, turn_id: str, step: int, attempt: int) -> list[tuple[str, MessageRole]]:
        rows = await self._pool.fetch_all(_Q["leave_out"], {"turn_id": turn_id, "step": step, "attempt": attempt})
        return [(row["id"], MessageRole(row["role"])) for row in rows]


def _with_own_items(context: list[ContextMessage], handed: HandedOver | None) -> list[ContextMessage]:
    """Without what the API of another model wanted back, which the turn had before it was handed over."""
    if handed is None or not handed.forgets:
        return context
    return [one._replace(kept=None) if one.kept and one.step <= handed.step else one for one in context]


def _bounded_plan(row: Row) -> TurnPlan:
    """The plan of a turn, whose budget is no more than what the turns and sessions above it leave now."""
    plan = TurnPlan.model_validate(row["plan"])
    changes: dict[str, Any] = {}
    if row["tokens_left_above"] is not None:
        most = row["turn_tokens"] + max(0, row["tokens_left_above"])
        changes["max_turn_tokens"] = most if plan.max_turn_tokens is None else min(plan.max_turn_tokens, most)
    if row["cost_left_above_usd"] is not None:
        most_usd = float((row["turn_cost_usd"] or _NO_COST) + max(_NO_COST, row["cost_left_above_usd"]))
        changes["max_turn_cost_usd"] = min(plan.max_turn_cost_usd or most_usd, most_usd)
    return plan.model_copy(update=changes) if changes else plan


def _result(result: StepResult, *, closes: bool) -> dict[str, Any]:
    """Parameters of `save_step`. closes: the turn ends with it."""
    calls = [
        {
            "id": call.id,
            "ordinal": call.ordinal,
            "provider_call_id": call.provider_call_id,
            "name": call.name,
            "arguments": call.arguments,
            "argument_error": call.argument_error,
            "needs_approval": call.needs_approval,
            "contained": call.contained,
            "declined": call.declined,
            "choice_bits": call.choice_bits,
            "is_client": call.is_client,
        }
        for call in result.calls
    ]
    provider_calls = [
        {"id": call.provider_call_id, "name": call.name, "arguments": call.arguments}
        | ({"is_client": True} if call.is_client else {})
        for call in result.calls
    ]
    return {
        "message_id": result.message_id,
        "attempt": result.attempt,
        "content": result.content,
        "words": vector_of(result.content),
        "status": result.status.value,
        "provider_calls": json(provider_calls or None),
        "calls": json(calls),
        "tokens": result.tokens,
        "sources": sorted(result.sources) or None,
        "authors": sorted(result.authors, key=str),
        "finish_reason": result.finish_reason,
        "reasoning": result.reasoning,
        "kept": json(result.kept or None),
        "output": json(result.output),
        **_usage(result.usage, result.ended_at),
        "now": result.ended_at,
        "error_code": result.error.code if result.error else None,
        "error_detail": result.error.detail if result.error else None,
        "closes": closes,
    }


_NO_COST = Decimal(0)


def _used(row: Row) -> TokensUsed:
    # What older code stored of the turn, its session and its user's day have not counted.
    uncounted = row["uncounted_tokens"]
    return TokensUsed(row["turn_tokens"], row["session_tokens"] + uncounted, (row["user_day_tokens"] or 0) + uncounted)


def _day(limits: DailyLimits, now: datetime, until: datetime) -> dict[str, Any]:
    cost = limits.daily_cost_usd
    return {
        "day": usage_day(now),
        "at": now.timestamp(),
        "until": until.timestamp(),
        "day_tokens": limits.daily_tokens,
        "day_cost_usd": None if cost is None else Decimal(str(cost)),
    }


def _reservation(reserved: Mapping[str, Any], turn_id: str, limits: DailyLimits) -> Reservation:
    own = reserved.get(turn_id, {"tokens": 0, "cost_usd": 0})
    others = [one for key, one in reserved.items() if key != turn_id]
    return Reservation(
        None if limits.daily_tokens is None else int(own["tokens"]),
        None if limits.daily_cost_usd is None else Decimal(str(own["cost_usd"])),
        sum(int(one["tokens"] or 0) for one in others),
        sum((Decimal(str(one["cost_usd"] or 0)) for one in others), _NO_COST),
    )


def _usage(usage: Usage, now: datetime) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": None if usage.cost_usd is None else Decimal(str(usage.cost_usd)),
        "day": usage_day(now),
    }


def _context_rows(_: AsyncCursor[Any]) -> Callable[[Sequence[Any]], ContextMessage]:
    """Columns come in the order of the fields. A long conversation has hundreds of rows: no Python runs for each."""
    return partial(tuple.__new__, ContextMessage)


def _tells_authors(context: Sequence[ContextMessage]) -> bool:
    """Whether it reaches back to a summary, or an answer in it tells whose words all before it are."""
    return any(
        message.role == SUMMARY_ROLE or (message.role == MessageRole.ASSISTANT and message.authors != [])
        for message in context
    )


def _stored_step(row: Row) -> StoredStep:
    return StoredStep(
        target=event_target(row),
        message_id=row["message_id"],
        status=MessageStatus(row["status"]),
        content=row["content"],
        attempt=row["attempt"],
        calls=[
            StoredCall(call["id"], call["name"], call["arguments"], call["needs_approval"], call["is_client"])
            for call in row["calls"]
        ],
        error=turn_error(row),
        finish_reason=None if row["finish_reason"] is None else FinishReason(row["finish_reason"]),
        reasoning=row["reasoning"],
        output=row["output"],
        is_joined=row["is_joined"],
    )
