"""The sweep: repeats work that a crash interrupted between two stores. Every part of it is idempotent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import durable_client, erasure, hub, restarting, suspending
from activities.binding import change_group, send, sends_events
from activities.durable_client import Found, Noticed, Watched
from activities.turns import FAILED_LINE
from shared.composition.services import Services, services
from shared.durable.messages import CHANGED_DETAIL, CHANGED_WORKFLOW, LOST_DETAIL, LOST_WORKFLOW, explain_failure
from shared.errors import InvalidState, NotFound, Transient
from shared.principal import Principal
from shared.sessions.models import SessionStatus, TurnError, TurnStatus
from shared.sessions.records.turns import OpenTurn
from shared.sessions.records.waits import WorkflowLook
from shared.sessions.tools import registry
from triggers.channels.deliver import empty_outboxes

bp = df.Blueprint()

log = logging.getLogger("parley.sweep")

RUNNING_SECONDS = 10
"""How often the orchestration of a turn is looked at."""
WAITING_SECONDS = 600
"""The same while it waits for people, which may be for days."""
DECIDED_SECONDS = 5
WORKFLOW_SECONDS = 20
"""How often a workflow is looked at that its call waits for. Its own end is told at once."""
NOTICE_SECONDS = 60
"""How often a webhook is looked at that its receiver has not taken."""
_QUEUED_TIMES = 5
"""How many times as long a turn may be silent that may only wait for a place in the task hub."""
NOT_TAKEN_LINE = "webhook not taken:"
"""Beginning of the log line that the alert in infra/modules/observability/alerts.bicep counts."""
_NOTICE_KEPT = timedelta(hours=12)
"""Longer than a webhook is retried: `MAX_NOTIFY_TRIES`."""
_NEW_HUB_SECONDS = 5
"""How long a run waits for a new task hub to know who it is."""
_LIMIT = 100
_KEYS_KEPT = timedelta(days=1)
_FORWARD_SECONDS = 8.0
"""For the audit lines that waited in the outbox. One write that hangs may come on top."""
_SCHEDULE_BATCHES = 10
"""Batches of due schedules, and of their runs, that one run takes on."""
_SPLIT_BATCHES, _SPLIT_AT_ONCE = 10, 100
"""Messages of an older version that one run splits for the search: a million take four hours."""


@bp.timer_trigger(arg_name="timer", schedule="*/15 * * * * *")
@sends_events(bp)
@bp.durable_client_input(client_name="client")
async def sweep(timer: func.TimerRequest, events: func.Out[str], client: df.DurableOrchestrationClient) -> None:
    """Post what is due by schedule, start queued turns, bring on turns that do not move, deliver decisions, answers and
    notices, end expired sessions, remove ended subscriptions from their groups, and continue erasures; beside that,
    send webhooks and cards, and make titles."""
    run = Run(services(), client, datetime.now(UTC), [], _SIGHT)
    *_, titled = await asyncio.gather(run.everything(), empty_outboxes(run.app), titles(run.app, run.now))
    send(events, run.messages + titled)


async def titles(app: Services, now: datetime) -> list[bytes]:
    """Make titles of sessions that wait for one; the events to send. Logs what fails, raises nothing."""
    with _alone("titles failed; the next run tries again"):
        try:
            return [] if app.titling is None else await app.titling.run(now)
        except Transient as exc:
            log.warning("titles wait for the next run: %s", exc)
    return []


@contextmanager
def _alone(failed: str, *of: object) -> Iterator[None]:
    """Log an exception in the block as `failed` and go on after it."""
    try:
        yield
    except Exception:
        log.exception(failed, *of)


@dataclass(slots=True)
class Sight:
    """Since when this process has seen, in every run, how turns move. None: the last run could not.

    What a turn could not write while the database was away says nothing of its orchestration, which waits in durable
    retries for up to a minute after the database is back.
    """

    since: datetime | None = None


_SIGHT = Sight()


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the sweep. A failed part or item is logged and does not stop the others; the next run retries it."""

    app: Services
    client: df.DurableOrchestrationClient
    now: datetime
    messages: list[bytes]
    """Encoded SignalR messages of all parts."""
    sight: Sight

    async def everything(self) -> None:
        """Run all parts, one after the other."""
        of_hub = (
            self._due_schedules,
            self._scheduled_runs,
            self._idle_queues,
            self._open_turns,
            self._holds,
            self._left_children,
            self._background_results,
            self._decisions,
            self._answers,
            self._workflows,
            self._notices,
            self._erasures,
        )
        of_database = (
            self._agents,
            self._expired,
            self._subscriptions,
            self._loose_blobs,
            self._idempotency_keys,
            self._old_search_rows,
            self._audit_outbox,  # last, since a store that hangs takes its time
        )
        for part in (*(of_hub if await self._knows_hub() else ()), *of_database):
            name = part.__name__.strip("_")
            with _alone("%s failed; the next run tries again", name):
                try:
                    await part()
                except Transient as exc:
                    log.warning("%s waits for the next run: %s", name, exc)

    async def _knows_hub(self) -> bool:
        """Whether the durable backend says which hub this is. What it does not know may be in another one."""
        with _alone("the task hub did not say which one it is; what needs it waits for the next run"):
            if await hub.serve(self.app, self.client, patience_s=_NEW_HUB_SECONDS, now=self.now):
                return True
            log.warning("the task hub does not know yet which one it is; what needs it waits for the next run")
        return False

    async def _due_schedules(self) -> None:
        """One statement while nothing is due, whatever the number of schedules; so are their runs."""
        for _ in range(_SCHEDULE_BATCHES):
            if not await self.app.schedules.move_due(now=self.now):
                break

    async def _scheduled_runs(self) -> None:
        for _ in range(_SCHEDULE_BATCHES):
            runs = await self.app.schedule_runner.claim(now=self.now)
            for run in runs:
                with _alone("the run of schedule %s due at %s could not be posted now", run.record.uid, run.due_at):
                    ran = await self.app.schedule_runner.run(run, now=datetime.now(UTC))
                    self.messages.extend(ran.messages)
                    for turn_id in ran.turns:
                        await durable_client.start_or_leave(self.client, turn_id)
            if not runs:
                break

    async def _agents(self) -> None:
        """Agents that are files become versions though nobody asks for them."""
        await self.app.agents.files.ready()

    async def _idle_queues(self) -> None:
        rows = self.app.turn_rows
        before = self.now - timedelta(seconds=RUNNING_SECONDS)
        for session_id in await rows.sessions_with_idle_queue(before=before, limit=_LIMIT):
            turn_id = await rows.claim_next(session_id, now=self.now)
            if turn_id is not None:
                log.info("handing over to turn %s", turn_id)
                await durable_client.start_or_leave(self.client, turn_id)

    async def _open_turns(self) -> None:
        seen_since, self.sight.since = self.sight.since, None
        turns = await self.app.turn_rows.to_look_at(
            running_before=self.now - timedelta(seconds=RUNNING_SECONDS),
            waiting_before=self.now - timedelta(seconds=WAITING_SECONDS),
            limit=_LIMIT,
        )
        self.sight.since = seen_since or self.now
        for turn in turns:
            try:
                await self._open_turn(turn)
            except Exception:
                # Move it to the end of the queue: a hundred failing turns must not keep the others from a check.
                await self.app.turn_rows.touch_dispatch(turn.turn_id, now=self.now)
                log.exception("turn %s could not be looked after now", turn.turn_id)

    async def _open_turn(self, turn: OpenTurn) -> None:
        rows = self.app.turn_rows
        found = await durable_client.look(self.client, turn.turn_id)
        if not turn.names_hub:
            if found is Found.NOWHERE and not self.app.task_hub.is_only:
                # It may be in another hub: whose app finds it, owns it. Where none does, the timer `watch` tells.
                await rows.touch_dispatch(turn.turn_id, now=self.now)
                return
            await rows.own(turn.turn_id)
        if found is Found.LIVE and not self._is_silent(turn):
            await rows.touch_dispatch(turn.turn_id, now=self.now)
            return
        # The list is as old as all that was looked at before; what follows must not hit a turn that has moved.
        current = await rows.look_again(turn.turn_id)
        if current is None or not await rows.touch_dispatch(turn.turn_id, now=self.now):
            return
        turn = current
        match found:
            case Found.HELD:
                # Turns of suspended sessions are not listed here, so this one should not be suspended.
                log.warning("turn %s is held and should not be", turn.turn_id)
                await self.app.session_rows.unsettle_hold(turn.session_id)
            case Found.NOWHERE if turn.status is TurnStatus.QUEUED:
                log.warning("turn %s had no orchestration; starting it", turn.turn_id)
                await durable_client.start_or_leave(self.client, turn.turn_id)
            case Found.LIVE:
                if self._is_silent(turn) and not await self._may_be_queued(turn):
                    await self._restart(turn, f"it was silent for {self._silent_s(turn):.0f} s longer than it may be")
            case _:
                await self._orphan(turn, found)

    def _silent_s(self, turn: OpenTurn) -> float:
        """Seconds for which a turn was silent beyond what it may be."""
        return (self.now - max(turn.quiet_until, self.sight.since or self.now)).total_seconds()

    def _patience_s(self, turn: OpenTurn) -> float:
        """Each restart is given twice the time of the one before: what only waits for a place must not add work."""
        return float(self.app.settings.turn_stalled_seconds * 2**turn.restarts)

    def _is_silent(self, turn: OpenTurn) -> bool:
        return self._silent_s(turn) >= self._patience_s(turn)

    async def _may_be_queued(self, turn: OpenTurn) -> bool:
        """Whether its silence may come from a full task hub, which is not told apart from a lost message for ever."""
        if self._silent_s(turn) >= self._patience_s(turn) * _QUEUED_TIMES:
            return False
        return await self.app.turn_rows.may_be_queued(turn.quiet_until, now=self.now)

    async def _orphan(self, turn: OpenTurn, found: Found) -> None:
        """The turn's orchestration has ended or is gone, and did not close it."""
        if turn.runs_until is not None and turn.runs_until > self.now:
            return  # A tool still runs, in a worker that lives; started again now, nobody would know its outcome.
        words = await durable_client.last_words(self.client, turn.turn_id)
        code, detail = explain_failure(words) if words else ("INTERNAL_ERROR", LOST_DETAIL)
        if detail == CHANGED_DETAIL:
            # This version may not understand what the other has stored, either; so the reader is told what to do.
            await self._give_up(turn, TurnError(code=code, detail=detail), words)
        else:
            await self._restart(turn, words[:500] or f"its orchestration is {found}")

    async def _restart(self, turn: OpenTurn, why: str) -> None:
        if not await restarting.restart(self.app, self.client, turn.turn_id, why=why, now=self.now):
            await self._give_up(turn, TurnError(code="INTERNAL_ERROR", detail=LOST_DETAIL), why)

    async def _give_up(self, turn: OpenTurn, error: TurnError, why: str) -> None:
        log.error("%s %s with %s: %s", FAILED_LINE, turn.turn_id, error.code, why[:500])
        finished, sent = await self.app.sessions.finish_turn(turn.turn_id, status=TurnStatus.FAILED, error=error)
        self.messages.extend(sent)
        if finished.next_turn_id is not None:
            await durable_client.start_or_leave(self.client, finished.next_turn_id)

    async def _holds(self) -> None:
        for session_id in await self.app.session_rows.unsettled_holds(limit=_LIMIT):
            with _alone("session %s could not be held or let go now", session_id):
                await suspending.follow(self.app, self.client, session_id, now=self.now)

    async def _left_children(self) -> None:
        """Subagents whose caller was cancelled or is over."""
        stopped = await self.app.subagents.stop_below(None, now=self.now)
        self.messages.extend(stopped.messages)
        await durable_client.interrupt(self.client, stopped.interruption)

    async def _background_results(self) -> None:
        """Stop subagents in the background whose time is over, and tell what became of those that have ended."""
        stopped = await self.app.subagents.stop_overdue(now=self.now)
        self.messages.extend(stopped.messages)
        await durable_client.interrupt(self.client, stopped.interruption)
        before = self.now - timedelta(seconds=DECIDED_SECONDS)
        for tool_call_id in await self.app.background_rows.to_tell(before=before, limit=_LIMIT):
            with _alone("the result of call %s could not be told now", tool_call_id):
                told = await self.app.background.tell(tool_call_id)
                self.messages.extend(told.messages)
                if told.start_turn_id is not None:
                    await durable_client.start_or_leave(self.client, told.start_turn_id)

    async def _decisions(self) -> None:
        rows = self.app.approval_rows
        before = self.now - timedelta(seconds=DECIDED_SECONDS)
        for approval_id, instance_id in await rows.undelivered(before=before, limit=_LIMIT):
            with _alone("the decision of approval %s could not be delivered now", approval_id):
                delivered = await durable_client.raise_decision(self.client, instance_id, approval_id)
                if not delivered and not await durable_client.is_live(self.client, instance_id):
                    await rows.give_up_delivery(approval_id, now=self.now)

    async def _answers(self) -> None:
        rows = self.app.wait_rows
        before = self.now - timedelta(seconds=DECIDED_SECONDS)
        for wait_id, instance_id in await rows.undelivered(before=before, limit=_LIMIT):
            with _alone("the answer of wait %s could not be delivered now", wait_id):
                delivered = await durable_client.raise_answer(self.client, instance_id, wait_id)
                if not delivered and not await durable_client.is_live(self.client, instance_id):
                    await rows.give_up_delivery(wait_id, now=self.now)

    async def _workflows(self) -> None:
        """Start those whose start was cut, answer for those that ended without a word, end those nobody waits for."""
        rows = self.app.workflow_rows
        looks = await rows.to_look_at(
            pending_before=self.now - timedelta(seconds=WORKFLOW_SECONDS),
            over_before=self.now - timedelta(seconds=DECIDED_SECONDS),
            now=self.now,
            limit=_LIMIT,
        )
        for look in looks:
            with _alone("the workflow %s of call %s could not be looked after now", look.name, look.tool_call_id):
                if look.is_awaited:
                    await self._workflow(look)
                elif await durable_client.end_workflow(self.client, look.instance_id, "nobody waits for it any more"):
                    await rows.is_over(look.wait_id, now=self.now)

    async def _workflow(self, look: WorkflowLook) -> None:
        found = await durable_client.watch_workflow(self.client, look.instance_id, now=self.now)
        match found:
            case Watched.LIVE:
                return
            case Watched.HELD:
                # Those of suspended sessions are not listed here.
                await durable_client.resume(self.client, look.instance_id)
            case Watched.NOWHERE | Watched.CUT if not look.is_begun:
                await registry.ready()
                start = await self.app.workflows.start(look.tool_call_id)
                if registry.find_tool(look.name) is None:
                    await self._answer_for(look, f"There is no workflow {look.name!r} any more.")
                elif start is not None and await durable_client.end(self.client, look.instance_id, "its start was cut"):
                    await durable_client.start_workflow(self.client, start, is_cut=True)
            case Watched.CHANGED:
                await self._answer_for(look, CHANGED_WORKFLOW)
            case _:
                await self._answer_for(look, LOST_WORKFLOW)

    async def _answer_for(self, look: WorkflowLook, why: str) -> None:
        log.error("the workflow %s of call %s has failed: %s", look.name, look.tool_call_id, why)
        answered = await self.app.workflows.end(look.tool_call_id, {"error": why})
        if answered is not None:
            self.messages.extend(answered.messages)
            await durable_client.raise_answer(self.client, answered.instance_id, answered.wait.id)

    async def _notices(self) -> None:
        if not self.app.settings.approval_webhook_url:
            return
        rows = self.app.approval_rows
        before = self.now - timedelta(seconds=NOTICE_SECONDS)
        unsettled = await rows.claim_unsettled_notices(
            since=self.now - _NOTICE_KEPT, before=before, now=self.now, limit=_LIMIT
        )
        for approval_id, kind in unsettled:
            with _alone("the notice %s of approval %s could not be looked after now", kind, approval_id):
                became = await durable_client.bring_on_notification(self.client, approval_id, kind)
                if became is Noticed.GIVEN_UP:
                    log.error("%s %s of approval %s", NOT_TAKEN_LINE, kind, approval_id)
                if became is not Noticed.OPEN:  # a version before this one does not settle what it sends
                    await rows.settle_notice(approval_id, kind)

    async def _expired(self) -> None:
        for session_id, owner_id in await self.app.lifecycle.expired(now=self.now, limit=_LIMIT):
            with (
                _alone("session %s has expired and could not be ended now", session_id),
                suppress(NotFound, InvalidState),  # ended or erased meanwhile
            ):
                changed = await self.app.sessions.change_status(
                    session_id, Principal(owner_id, frozenset()), SessionStatus.ENDED
                )
                log.info("session %s has expired", session_id)
                self.messages.extend(changed.messages)
                await durable_client.interrupt(self.client, changed.interruption)
                await suspending.follow(self.app, self.client, session_id, now=self.now)

    async def _subscriptions(self) -> None:
        self.messages.extend(await self.app.subscriptions.ended(change_group, now=self.now))

    async def _erasures(self) -> None:
        for session_id in await self.app.erasure.claim_cut(now=self.now, limit=_LIMIT):
            with _alone("session %s could not be erased now", session_id):
                if await erasure.erase(self.app, self.client, session_id):
                    log.info("session %s is erased", session_id)
        await self.app.erasure.forget_finished(before=self.now - _KEYS_KEPT)

    async def _loose_blobs(self) -> None:
        swept = await self.app.loose_blobs.sweep(now=self.now)
        if swept:
            log.info("dealt with the bytes of %d files that were cut or erased", swept)

    async def _idempotency_keys(self) -> None:
        await self.app.session_rows.forget_idempotency_keys(before=self.now - _KEYS_KEPT)

    async def _audit_outbox(self) -> None:
        written = await self.app.audit_forwarder.drain(within_s=_FORWARD_SECONDS)
        if written:
            log.info("wrote %d audit lines that waited in the outbox", written)

    async def _old_search_rows(self) -> None:
        split = 0
        for _ in range(_SPLIT_BATCHES):
            moved = await self.app.search_backfill.split(limit=_SPLIT_AT_ONCE)
            split += moved
            if moved < _SPLIT_AT_ONCE:
                break
        if split:
            log.info("split %d messages of an older version into words", split)
