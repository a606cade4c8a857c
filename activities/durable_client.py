"""A thin wrapper around the durable client: start, raise an event, suspend, resume, look up, purge.

`orchestrators/durable.py` is the same for orchestrators: the coming 2.x of the SDK changes only these two files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

import azure.durable_functions as df

from shared.durable.messages import (
    KeeperInput,
    NotifyApproversInput,
    WorkflowCaller,
    WorkflowInput,
    is_other_code,
)
from shared.durable.names import (
    CANCEL_EVENT,
    KEEPER,
    KEEPER_INSTANCE,
    NOTIFICATION,
    TURN,
    answer_event,
    approval_event,
    below_workflow,
    is_workflow,
    notification_instance,
)
from shared.ids import new_id
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.turns import FinishedTurn, Interruption
from shared.sessions.records.waits import WorkflowStart

log = logging.getLogger(__name__)

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_ENDED = [
    df.OrchestrationRuntimeStatus.Completed,
    df.OrchestrationRuntimeStatus.Failed,
    df.OrchestrationRuntimeStatus.Terminated,
]
_NOT_ENDED = [
    df.OrchestrationRuntimeStatus.Pending,
    df.OrchestrationRuntimeStatus.Running,
    df.OrchestrationRuntimeStatus.ContinuedAsNew,
    df.OrchestrationRuntimeStatus.Suspended,
]
_PAGES = 50
"""Of what one workflow has started, that are ended or erased at once; the sweep does the rest."""
_NO_INSTANCE = "health-probe"
"""A prefix that no instance id has."""

_STARTS = 3
_CUT_AFTER = timedelta(minutes=1)
"""A start whose message was written arrives sooner, unless the backend is away."""
_EXISTS = "already exists"
"""In the extension's refusal (409) to start an instance that exists: whoever was faster has started it."""
_LOOKS = 10
_LOOK_SECONDS = 0.05
_SUSPENDED = "Suspended"
_LIVE = frozenset({"Pending", "Running", "ContinuedAsNew"})


async def start_turn(client: df.DurableOrchestrationClient, turn_id: str) -> None:
    """Start the orchestration of a queued turn. Idempotent while it runs.

    Raises Exception (the SDK's own) when the durable backend refuses or cannot be reached.
    """
    await _start(client, TURN, turn_id, None)


async def _start(client: df.DurableOrchestrationClient, name: str, instance_id: str, given: object) -> None:
    """Start an instance unless it exists. Azure Storage writes its row first and its message second: a start that
    failed in between left an instance that is Pending and never runs, so it is ended and started again."""
    for left in reversed(range(_STARTS)):
        try:
            await client.start_new(name, instance_id=instance_id, client_input=given)
        except Exception as exc:
            status = await client.get_status(instance_id)
            found = _found(status)
            if found not in {Found.LIVE, Found.HELD}:
                raise
            if _EXISTS in str(exc) or status.runtime_status is not df.OrchestrationRuntimeStatus.Pending:
                return
            log.warning("the start of %s was cut: %s", instance_id, exc)
            if not left or not await end(client, instance_id, "its start was cut"):
                raise
        else:
            return


async def start_workflow(client: df.DurableOrchestrationClient, start: WorkflowStart, *, is_cut: bool = False) -> None:
    """Start the workflow of a call, unless there is one already, and leave what fails to the sweep. Of two starts at
    once the first that begins is the one that runs (`begin_workflow`).

    is_cut: a start before this one was cut, and has been ended.
    """
    caller = WorkflowCaller(
        user_id=start.user_id,
        roles=start.roles,
        session_id=start.session_id,
        agent_id=start.agent_id,
        agent_version=start.agent_version,
    )
    given = WorkflowInput(tool_call_id=start.tool_call_id, caller=caller, start=new_id(), input=start.input)
    try:
        if is_cut or await look(client, start.instance_id) is Found.NOWHERE:
            await _start(client, start.name, start.instance_id, given.dump())
    except Exception:
        log.exception("the workflow %s of call %s could not be started now", start.name, start.tool_call_id)


async def end_workflow(client: df.DurableOrchestrationClient, instance_id: str, reason: str) -> bool:
    """Terminate a workflow and all that it has started. True once they are seen to have ended."""
    try:
        if not await end(client, instance_id, reason):
            return False
        # Until none is left: a list may be one page of a longer one.
        for _ in range(_PAGES):
            below = await below_workflow_of(client, instance_id, states=_NOT_ENDED)
            if not below:
                return True
            if not all([await end(client, each, reason) for each in below]):
                return False
    except Exception:
        log.exception("the workflow %s could not be ended now; the sweep will", instance_id)
    return False


async def below_workflow_of(
    client: df.DurableOrchestrationClient,
    instance_id: str,
    *,
    states: Sequence[df.OrchestrationRuntimeStatus] | None = None,
) -> list[str]:
    """The instances of the sub-orchestrations of a workflow, and of theirs; a page of them if there are many. states:
    None: in any state."""
    if not is_workflow(instance_id):
        return []
    found = await client.get_status_by(instance_id_prefix=below_workflow(instance_id), runtime_status=states)
    return [one.instance_id for one in found]


class Watched(StrEnum):
    """The state of a workflow, as it is looked at from outside."""

    NOWHERE = "nowhere"
    CUT = "cut"  # its row was written, and perhaps not its message
    LIVE = "live"
    HELD = "held"
    CHANGED = "changed"  # it has failed, since the code is another one
    ENDED = "ended"


async def watch_workflow(client: df.DurableOrchestrationClient, instance_id: str, *, now: datetime) -> Watched:
    """now: aware UTC."""
    status = await client.get_status(instance_id)
    match _found(status):
        case Found.NOWHERE:
            return Watched.NOWHERE
        case Found.HELD:
            return Watched.HELD
        case Found.LIVE:
            is_pending = status.runtime_status is df.OrchestrationRuntimeStatus.Pending
            is_cut = is_pending and now - status.created_time.astimezone(UTC) > _CUT_AFTER
            return Watched.CUT if is_cut else Watched.LIVE
    failed = status.runtime_status is df.OrchestrationRuntimeStatus.Failed
    return Watched.CHANGED if failed and is_other_code(str(status.output)) else Watched.ENDED


async def start_or_leave(client: df.DurableOrchestrationClient, turn_id: str) -> None:
    """Start a queued turn, or leave it to the sweep. The turn is stored, so a failure here is not the caller's."""
    try:
        await start_turn(client, turn_id)
    except Exception:
        log.exception("turn %s could not be started now; the sweep will", turn_id)


async def ping(client: df.DurableOrchestrationClient) -> None:
    """Raises Exception (the SDK's own) when the durable backend does not answer.

    Lists instances instead of reading one status: there the SDK reports an error of the backend as a failed instance.
    """
    await client.get_status_by(instance_id_prefix=_NO_INSTANCE)


async def find_hub(
    client: df.DurableOrchestrationClient, *, otherwise: str | None = None, is_cut: bool = False
) -> str | None:
    """The identity of the client's task hub. None while nobody knows it yet.

    otherwise: what a hub without one is called from then on: its keeper is started. Of two who start it at once one
    wins, so the identity counts only once it runs. is_cut: a start before this one failed, perhaps after its row was
    written; else that is found out after a minute.
    """
    status = await client.get_status(KEEPER_INSTANCE, show_input=True)
    found = _found(status)
    if found in {Found.LIVE, Found.HELD}:
        if status.runtime_status is not df.OrchestrationRuntimeStatus.Pending:
            return KeeperInput.load(status.input_).hub
        if not is_cut and datetime.now(UTC) - status.created_time.astimezone(UTC) < _CUT_AFTER:
            return None
        if otherwise is not None:
            await end(client, KEEPER_INSTANCE, "its start was cut")
    if otherwise is None:
        return None
    if found is Found.ENDED and status.input_:
        otherwise = KeeperInput.load(status.input_).hub  # ended by hand: it is the same hub still
    await _start(client, KEEPER, KEEPER_INSTANCE, KeeperInput(hub=otherwise).dump())
    return None


def hub_name(client: df.DurableOrchestrationClient) -> str:
    """The configured name of the client's hub, which other hubs may have as well."""
    links = client.create_http_management_payload(KEEPER_INSTANCE)
    return str(parse_qs(urlsplit(links["statusQueryGetUri"]).query).get("taskHub", [""])[0])


class Found(StrEnum):
    """The state of an instance."""

    NOWHERE = "nowhere"  # never started, or purged
    LIVE = "live"  # waits or runs
    HELD = "held"  # suspended: receives nothing until it is resumed
    ENDED = "ended"


async def look(client: df.DurableOrchestrationClient, instance_id: str) -> Found:
    """The state of an instance, as the backend reports it."""
    return _found(await client.get_status(instance_id))


def _found(status: df.DurableOrchestrationStatus | None) -> Found:
    if not status or status.runtime_status is None:
        return Found.NOWHERE
    if status.runtime_status.value == _SUSPENDED:
        return Found.HELD
    return Found.LIVE if status.runtime_status.value in _LIVE else Found.ENDED


_FOLLOWING = {True: {Found.HELD, Found.ENDED}, False: {Found.LIVE, Found.ENDED, Found.NOWHERE}}
"""States of the instances of a suspended session, and of any other. One that does not exist may be about to start, so
it does not follow a suspension."""


async def follows(client: df.DurableOrchestrationClient, instance_id: str, *, is_held: bool) -> bool:
    """Whether an instance is as its session wants it."""
    return await look(client, instance_id) in _FOLLOWING[is_held]


async def last_words(client: df.DurableOrchestrationClient, instance_id: str) -> str:
    """The error text of a failed instance; empty when it did not fail or does not exist."""
    status = await client.get_status(instance_id)
    failed = status and status.runtime_status is df.OrchestrationRuntimeStatus.Failed
    return str(status.output) if failed else ""


async def is_live(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    """Whether an instance exists and has not ended."""
    return await look(client, instance_id) in {Found.LIVE, Found.HELD}


async def purge_ended(client: df.DurableOrchestrationClient, *, before: datetime) -> int:
    """Purge the histories of ended instances that were created before then; returns how many."""
    purged = await client.purge_instance_history_by(
        created_time_from=_EPOCH, created_time_to=before, runtime_status=_ENDED
    )
    return int(purged.instances_deleted)


async def erase(
    client: df.DurableOrchestrationClient, instance_ids: Sequence[str], *, may_arrive: bool
) -> tuple[list[str], bool]:
    """Terminate these instances and purge their histories. Returns those that are gone, and whether any was told.

    may_arrive: instances were terminated so short a time ago that the command may still be on its way. One that arrives
    after the purge writes a new row, so then nothing is purged.
    """
    gone: list[str] = []
    was_told = False
    for instance_id in instance_ids:
        try:
            # What a workflow has started is found by the workflow's id, so it goes first.
            if is_workflow(instance_id):
                below_gone, told_below = await _erase_below(client, instance_id, may_arrive=may_arrive)
                was_told = was_told or told_below
                if not below_gone:
                    continue
            found = _found(await client.get_status(instance_id))
            if found in {Found.LIVE, Found.HELD}:
                was_told = True
                # Terminated by this one command, which has arrived; what ended by itself has it before it still.
                ended = await end(client, instance_id, "session erased") and await _is_terminated(client, instance_id)
                found = Found.ENDED if ended else found
            if found is Found.ENDED and not may_arrive:
                await client.purge_instance_history(instance_id)
                found = Found.NOWHERE
            if found is Found.NOWHERE:
                gone.append(instance_id)
        except Exception:
            # The backend refused or is down. The stored erasure keeps the id, and the sweep retries it.
            log.exception("instance %s could not be purged now", instance_id)
    return gone, was_told


async def _erase_below(
    client: df.DurableOrchestrationClient, instance_id: str, *, may_arrive: bool
) -> tuple[bool, bool]:
    """Erase what a workflow has started; whether all of it is gone, and whether anything was told. The workflow ends
    first, since it could start more."""
    was_live = await is_live(client, instance_id)
    if was_live and not await end(client, instance_id, "session erased"):
        return False, True
    was_told = was_live
    for _ in range(_PAGES):
        below = await below_workflow_of(client, instance_id)
        if not below:
            return True, was_told
        gone, told_now = await erase(client, below, may_arrive=may_arrive or was_live)
        was_told = was_told or told_now
        if len(gone) < len(below):
            break
    return False, was_told


async def _is_terminated(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    status = await client.get_status(instance_id)
    return bool(status.runtime_status is df.OrchestrationRuntimeStatus.Terminated)


async def end(client: df.DurableOrchestrationClient, instance_id: str, reason: str) -> bool:
    """Terminate an instance that has not ended. True once it is seen to have; False while it may still run."""
    if await look(client, instance_id) not in {Found.LIVE, Found.HELD}:
        return True
    await _terminate(client, instance_id, reason)
    for _ in range(_LOOKS):  # termination is asynchronous
        if await look(client, instance_id) not in {Found.LIVE, Found.HELD}:
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


async def start_notification(
    client: df.DurableOrchestrationClient, approval_id: str, kind: NoticeKind, number: int = 0
) -> None:
    """Send a webhook of an approval durably, beside the turn. Idempotent."""
    instance_id = notification_instance(approval_id, kind, number)
    if await look(client, instance_id) is Found.NOWHERE:
        await _notify(client, instance_id, NotifyApproversInput(approval_id=approval_id, kind=kind, number=number))


async def _notify(client: df.DurableOrchestrationClient, instance_id: str, request: NotifyApproversInput) -> None:
    await _start(client, NOTIFICATION, instance_id, request.dump())


class Noticed(StrEnum):
    """What became of a webhook that was to be sent a minute ago or more."""

    OPEN = "open"  # it is being sent, or was started again now
    SENT = "sent"
    GIVEN_UP = "given up"


async def bring_on_notification(client: df.DurableOrchestrationClient, approval_id: str, kind: NoticeKind) -> Noticed:
    """See to a webhook that is not known to have been taken.

    One that is still Pending is started again: its row was written, and its message never was. So is one that was
    terminated, by this or by hand. The receiver tells a repeat by its id.
    """
    instance_id = notification_instance(approval_id, kind)
    request = NotifyApproversInput(approval_id=approval_id, kind=kind)
    status = await client.get_status(instance_id)
    match _found(status):
        case Found.NOWHERE:
            await _notify(client, instance_id, request)
        case Found.HELD:
            # Notices tell what has happened, so a suspended session does not hold them; somebody did by hand.
            await resume(client, instance_id)
        case Found.ENDED if status.runtime_status is df.OrchestrationRuntimeStatus.Failed:
            return Noticed.GIVEN_UP
        case Found.ENDED if status.runtime_status is df.OrchestrationRuntimeStatus.Completed:
            return Noticed.SENT
        case Found.ENDED:
            await _notify(client, instance_id, request)
        case Found.LIVE if status.runtime_status is df.OrchestrationRuntimeStatus.Pending:
            if await end(client, instance_id, "its start was cut"):
                await _notify(client, instance_id, request)
        case _:
            pass  # It waits for its receiver.
    return Noticed.OPEN


async def raise_decision(client: df.DurableOrchestrationClient, instance_id: str, approval_id: str) -> bool:
    """Tell a waiting approval that it is decided. False when nothing waits any more, it waits in another hub, or the
    backend is down."""
    return await _raise(client, instance_id, approval_event(approval_id))


async def raise_answer(client: df.DurableOrchestrationClient, instance_id: str, wait_id: str) -> bool:
    """Tell a waiting tool call that its wait is over. False as for a decision."""
    return await _raise(client, instance_id, answer_event(wait_id))


async def tell_caller(client: df.DurableOrchestrationClient, finished: FinishedTurn) -> None:
    """Tell the call that a subagent's turn answers, if it is one. Left to the sweep where that fails."""
    if finished.answers is not None:
        wait_id, instance_id = finished.answers
        await raise_answer(client, instance_id, wait_id)


async def raise_cancel(client: df.DurableOrchestrationClient, turn_id: str) -> bool:
    """Tell a turn that its cancel is stored."""
    return await _raise(client, turn_id, CANCEL_EVENT)


async def interrupt(client: df.DurableOrchestrationClient, interruption: Interruption) -> None:
    """Tell every waiting instance that its turn was cancelled."""
    for approval_id, instance_id in interruption.approvals:
        await raise_decision(client, instance_id, approval_id)
    for wait_id, instance_id in interruption.waits:
        await raise_answer(client, instance_id, wait_id)
    for turn_id in interruption.turn_ids:
        await raise_cancel(client, turn_id)


async def _raise(client: df.DurableOrchestrationClient, instance_id: str, event: str) -> bool:
    try:
        await client.raise_event(instance_id, event, {})
    except Exception as exc:
        # Unknown, ended or unreachable: the store already holds the decision, and the sweep raises the event again.
        log.info("event %s was not delivered to %s: %s", event, instance_id, exc)
        return False
    return True


async def suspend(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    """Suspend an instance; False when it may still be running. Idempotent, also for an ended instance."""
    try:
        await client.suspend(instance_id, "session suspended")
    except Exception as exc:
        return await _stands(client, instance_id, exc, is_held=True)
    return True


async def resume(client: df.DurableOrchestrationClient, instance_id: str) -> bool:
    """Resume an instance; False when it may still be suspended. Idempotent, also for an ended instance."""
    try:
        await client.resume(instance_id, "session resumed")
    except Exception as exc:
        return await _stands(client, instance_id, exc, is_held=False)
    return True


async def _stands(
    client: df.DurableOrchestrationClient, instance_id: str, refused: Exception, *, is_held: bool
) -> bool:
    """Whether an instance is in a wanted state although the extension refused the call. The extension answers 500 to
    suspending a suspended instance, to resuming a running one, and to an unknown id."""
    verb = "suspend" if is_held else "resume"
    try:
        found = await look(client, instance_id)
    except Exception as exc:
        log.warning("%s of %s failed: %s; nor can it be looked at: %s", verb, instance_id, refused, exc)
        return False
    as_wanted = found in _FOLLOWING[is_held]
    if not as_wanted:
        log.info("%s of %s, which is %s: %s", verb, instance_id, found, refused)
    return as_wanted


async def _terminate(client: df.DurableOrchestrationClient, instance_id: str, reason: str) -> None:
    try:
        await client.terminate(instance_id, reason)
    except Exception as exc:
        # It may have ended just now: the caller looks again.
        log.info("terminate of %s: %s", instance_id, exc)
