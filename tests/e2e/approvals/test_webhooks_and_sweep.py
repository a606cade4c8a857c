"""What happens beside the turn: the signed webhook, and the sweep that repeats what a crash cut."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.postgres.attachments import PostgresAttachments
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.sessions import PostgresSessions
from shared.adapters.postgres.turns.turns import PostgresTurns
from shared.ids import new_id
from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.audit.forwarding import LATE_LINE
from shared.sessions.models import (
    Concurrency,
    Decision,
    Message,
    MessageRole,
    MessageStatus,
    SessionConfig,
    SessionStatus,
    TurnStatus,
)
from shared.sessions.records.approvals import VoteEffect, VoteRecord
from shared.sessions.records.turns import queued_turn
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, eventually, post_call, run_now, script, sweep
from tests.e2e.support.processes import WEBHOOK_SECRET, AppHost, Received, Sink
from tests.e2e.support.stack import WEBHOOK_PATH
from tests.integration.domain import Stores, no_notes

HOUR = timedelta(hours=1)


# The webhook. ------------------------------------------------------------------------------------


def _of(sink: Sink, session_id: str, kind: str | None = None) -> list[Received]:
    """Webhooks about a session. kind: `requested`, `reminder`, `escalated` or `decided`."""
    found = [request for request in sink.at(WEBHOOK_PATH) if session_id.encode() in request.body]
    return [request for request in found if kind is None or request.json()["type"] == f"approval.{kind}"]


async def test_webhook_is_signed_and_repeated_until_it_is_taken(
    api: Api, contract: WireContract, sink: Sink, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await api.session()
    refusals = iter([500, 302, 200])

    def status_of(request: Received) -> int:
        return next(refusals, 200) if session_id.encode() in request.body else 200

    monkeypatch.setattr(sink, "status_of", status_of)
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/hooked"))]], content="done"))
    approval = await api.approval(session_id)

    async def taken() -> list[Received] | None:
        found = _of(sink, session_id, "requested")
        return found if len(found) >= 3 else None

    requests = await eventually(taken, "the webhook to be sent again")
    for request in requests:
        body = Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)
        assert (body["type"], set(body)) == ("approval.requested", {"type", "timestamp", "data"})
        assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)) < HOUR
        link = body["data"].pop("link")
        assert body["data"] == approval
        contract.validate_body("Approval", body["data"])
        assert link.startswith(f"{api.base_url}/api/approve/")
        assert request.headers["content-type"] == "application/json"
    assert {request.headers["webhook-id"] for request in requests} == {approval["id"]}
    forged = Received(requests[0].path, requests[0].headers, requests[0].body.replace(b"http_request", b"harmless_one"))
    with pytest.raises(WebhookVerificationError):
        Webhook(WEBHOOK_SECRET).verify(forged.body, forged.headers)
    # The link it carries is the one that decides.
    page = await api.post(link.removeprefix(api.base_url), data={"decision": "approve"})
    assert page.status_code == 200
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    # A harsh engine runs an activity again that has answered.
    sent = len(_of(sink, session_id, "requested"))
    assert sent == 3 or (engine == "harsh" and sent > 3), "taken once, it is not sent again"


async def test_receiver_that_is_down_does_not_hold_up_the_decision(
    api: Api, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "status_of", lambda request: 503 if request.path == WEBHOOK_PATH else 200)
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/unhooked"))]], content="done"))
    await api.decide((await api.approval(session_id))["id"], "approve")
    assert (await api.until(session_id, turn_id))["status"] == "completed"


async def test_people_are_reminded_others_are_asked_and_two_must_agree(
    api: Api, contract: WireContract, sink: Sink, engine: str
) -> None:
    session_id = await api.session_under(
        quorum=2, reminder_seconds=1, escalate_after_seconds=2, escalation_role="admin", forbid_self_approval=True
    )
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/agreed"))]], content="done"))
    approval = await api.approval(session_id)
    assert (approval["quorum"], approval["votes"]) == (2, [])
    admin, petr = api.as_user("root;admin"), api.as_user("petr;approver")

    def told(kind: str) -> list[Received]:
        return _of(sink, session_id, kind)

    async def escalated() -> bool:
        return bool(told("reminder") and told("escalated"))

    await eventually(escalated, "a reminder and the escalation")
    assert [item["id"] for item in await admin.approvals(session_id)] == [approval["id"]]
    assert (await api.decide(approval["id"], "approve")).status_code == 409, "olga asked for it herself"
    first = await admin.decide(approval["id"], "approve", comment="fine")
    assert (first.status_code, first.json()["status"]) == (200, "pending")
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert sink.at("/agreed") == []
    second = (await petr.decide(approval["id"], "approve")).json()
    assert (second["status"], [vote["by"] for vote in second["votes"]]) == ("approved", ["root", "petr"])
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/agreed")) == 1

    async def decided() -> list[Received]:
        return told("decided")

    last = (await eventually(decided, "the decision to be told"))[0]
    for request in _of(sink, session_id):
        body = Webhook(WEBHOOK_SECRET).verify(request.body, request.headers)
        link = body["data"].pop("link", None)
        contract.validate_body("Approval", body["data"])
        assert (link is None) is (request.json()["type"] == "approval.decided"), (
            "what is decided asks nobody for anything"
        )
    assert last.json()["data"] == second
    ids = [request.headers["webhook-id"] for request in _of(sink, session_id)]
    assert engine == "harsh" or len(set(ids)) == len(ids)
    assert (len(told("requested")), len(told("escalated")), len(told("decided"))) == (1, 1, 1)
    audit = (await api.get(f"/api/v1/sessions/{session_id}/audit")).json()
    assert (audit["verified"], audit["problems"]) == (True, [])
    actions = [line["action"] for line in audit["items"]]
    assert {"approval.reminder", "approval.escalated", "approval.notified", "approval.voted"} < set(actions)
    notified = {line["details"]["webhook_id"] for line in audit["items"] if line["action"] == "approval.notified"}
    assert notified <= set(ids)


async def test_nobody_answers_and_the_policy_lets_it_run(api: Api, sink: Sink) -> None:
    session_id = await api.session_under(timeout_seconds=1, on_timeout="approve")
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/unanswered"))]], content="done"))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/unanswered")) == 1
    [approval] = await api.approvals(session_id, None)
    assert (approval["status"], approval["decided_by"], approval["votes"]) == ("approved", None, [])
    assert (await api.decide(approval["id"], "reject")).status_code == 409

    async def told() -> bool:
        return bool(_of(sink, session_id, "decided"))

    await eventually(told, "the webhook of what nobody decided")


async def test_tool_approved_for_the_session_asks_no_more(api: Api, sink: Sink) -> None:
    # With nothing private in reach, or the rule of two would ask for each call.
    session_id = await api.session_under(tools=["http_request"], allow_for_session=True)
    say = script(tool_calls=[[post_call(sink.url("/granted"))], [post_call(sink.url("/granted"))]], content="done")
    turn_id = await api.say(session_id, say)
    approval = await api.approval(session_id)
    decided = await api.decide(approval["id"], "approve", for_session=True)
    assert decided.json()["for_session"] is True
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(await api.approvals(session_id, None)) == 1, "the second call asked nobody"
    assert len(sink.at("/granted")) == 2
    audit = (await api.get(f"/api/v1/sessions/{session_id}/audit")).json()
    assert audit["verified"]
    started = [line["details"] for line in audit["items"] if line["action"] == "tool_call.started"]
    assert [details.get("granted") for details in started] == [None, "session"]


# The sweep. --------------------------------------------------------------------------------------


@pytest.fixture
async def pool(parley: AppHost) -> AsyncIterator[PostgresPool]:
    """The app's own database: here a test does what a process did before it was cut."""
    pool = PostgresPool(parley.environment["POSTGRES_URL"], size=2)
    yield pool
    await pool.aclose()


async def _sql(host: AppHost, statement: LiteralString, row_id: str) -> None:
    """Let time pass, or a process die, in the app's own database."""
    url = host.environment["POSTGRES_URL"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(statement, (row_id,))


async def _stored_only(pool: PostgresPool, session_id: str, content: str, at: datetime) -> str:
    """A message posted at a time, whose orchestration was never started: the process died in between."""
    turn_id, message_id = new_id(), new_id()
    message = Message(
        id=message_id,
        session_id=session_id,
        turn_id=turn_id,
        role=MessageRole.USER,
        content=content,
        status=MessageStatus.COMPLETED,
        created_at=at,
    )
    turn = queued_turn(
        turn_id,
        session_id,
        message_id,
        now=at,
        plan=plan_turn(DEFAULT_AGENT, SessionConfig(), model="scripted", approval_mode=None),
    )
    posted = await PostgresTurns(pool).post_message(
        message,
        turn,
        plan_turn(DEFAULT_AGENT, SessionConfig(), model="scripted", approval_mode=None),
        user_id="olga",
        tokens=10,
        concurrency=Concurrency.ENQUEUE,
        idempotency=None,
    )
    assert posted.turn.id == turn_id
    return turn_id


async def _swept(api: Api, host: AppHost, session_id: str, turn_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        await sweep(host)
        turn = await api.turn(session_id, turn_id)
        return turn if TurnStatus(turn["status"]).is_terminal else None

    return await eventually(look, "the sweep to bring the turn to its end")


async def test_sweep_starts_a_queued_turn_whose_start_was_cut(api: Api, parley: AppHost, pool: PostgresPool) -> None:
    session_id = await api.session()
    turn_id = await _stored_only(pool, session_id, script(content="late but here"), datetime.now(UTC) - HOUR)
    following = await _stored_only(pool, session_id, script(content="and me"), datetime.now(UTC) - HOUR)
    for turn, answer in ((turn_id, "late but here"), (following, "and me")):
        assert (await _swept(api, parley, session_id, turn))["status"] == "completed"
        assert list((await api.answers(session_id, turn)).values()) == [answer]


async def test_sweep_leaves_alone_what_runs(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/swept"))]], content="done"))
    approval = await api.approval(session_id)
    await _sql(parley, "UPDATE turns SET dispatched_at = now() - interval '1 day' WHERE id = %s", turn_id)
    for _ in range(3):
        await sweep(parley)
    await asyncio.sleep(0.5)
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    await api.decide(approval["id"], "approve")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/swept")) == 1


async def test_sweep_delivers_a_decision_whose_event_was_cut(
    api: Api, parley: AppHost, pool: PostgresPool, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/undelivered"))]], content="done"))
    approval = await api.approval(session_id)
    rows = Stores.over(pool).approvals
    record = await rows.get(approval["id"], "petr")
    assert record is not None
    vote = VoteRecord(Decision.APPROVE, "petr", record.arguments_digest, needed={"": 1})
    assert (await rows.vote(approval["id"], vote, no_notes, now=datetime.now(UTC))).effect is VoteEffect.DECIDED
    aged = "UPDATE approvals SET decided_at = decided_at - interval '1 minute' WHERE id = %s"
    await _sql(parley, aged, approval["id"])
    assert (await _swept(api, parley, session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/undelivered")) == 1


async def test_an_audit_line_that_waits_is_told_in_health_and_by_an_alert_until_the_sweep_has_dealt_with_it(
    api: Api, parley: AppHost
) -> None:
    """One that nobody sealed: the sweep does not write it, and the verification tells of it."""
    await _sql(
        parley,
        "INSERT INTO audit_outbox (session_id, row_key, at, who, action, details, previous, hash, queued_at, due_at)"
        " VALUES (%s, 'erased-x', '', 'eve', 'forged', '{}', 'x', 'x', now() - interval '1 h', now() + interval '1 h')",
        f"nobody-{new_id()}",
    )

    async def audit() -> str:
        return str((await api.get("/api/v1/health/ready")).json()["dependencies"]["audit"])

    async def is_late() -> bool:
        return await audit() == "unavailable"

    await eventually(is_late, "the health of the outbox")
    ready = await api.get("/api/v1/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    await run_now(parley, "watch")

    async def is_told() -> bool:
        return LATE_LINE in parley.log()

    await eventually(is_told, "the line that the alert counts")
    await _sql(parley, "UPDATE audit_outbox SET due_at = now() WHERE row_key = %s", "erased-x")

    async def is_dealt_with() -> bool:
        await sweep(parley)
        return await audit() == "ok"

    await eventually(is_dealt_with, "the sweep")
    await _sql(parley, "DELETE FROM audit_outbox WHERE row_key = %s", "erased-x")


@pytest.mark.parametrize("to", ["ACTIVE", "ENDED"])
async def test_sweep_lets_go_what_a_resume_that_was_cut_still_holds(
    api: Api, parley: AppHost, pool: PostgresPool, sink: Sink, to: str
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(f"/held/{to}"))]], content="done"))
    approval = await api.approval(session_id)
    assert (await api.post(f"/api/v1/sessions/{session_id}/suspend")).status_code == 200
    # The process dies after its commit.
    await PostgresSessions(pool).change_status(
        session_id, "olga", allowed=[SessionStatus.SUSPENDED], to=SessionStatus(to), now=datetime.now(UTC) - HOUR
    )
    if to == "ACTIVE":
        await api.decide(approval["id"], "approve")
    turn = await _swept(api, parley, session_id, turn_id)
    assert turn["status"] == ("completed" if to == "ACTIVE" else "cancelled")
    assert len(sink.at(f"/held/{to}")) == (to == "ACTIVE")


async def test_sweep_holds_what_a_suspension_that_was_cut_left_running(
    api: Api, parley: AppHost, pool: PostgresPool, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/let-go"))]], content="done"))
    approval = await api.approval(session_id)
    rows = PostgresSessions(pool)
    await rows.change_status(
        session_id, "olga", allowed=[SessionStatus.ACTIVE], to=SessionStatus.SUSPENDED, now=datetime.now(UTC)
    )

    async def told() -> bool:
        await sweep(parley)
        hold = await rows.hold(session_id)
        return hold is not None and hold.told_at is not None

    await eventually(told, "the sweep to hold it")
    await api.decide(approval["id"], "approve")
    await asyncio.sleep(0.5)
    assert sink.at("/let-go") == []
    assert (await api.post(f"/api/v1/sessions/{session_id}/resume")).status_code == 200
    assert (await api.until(session_id, turn_id))["status"] == "completed"


async def test_sweep_starts_a_turn_again_that_lost_its_orchestration(
    api: Api, parley: AppHost, pool: PostgresPool
) -> None:
    session_id = await api.session()
    turn_id = await _stored_only(pool, session_id, script(content="late"), datetime.now(UTC) - HOUR)
    # It was running, and then the task hub was lost.
    await _sql(parley, "UPDATE turns SET status = 'running', started_at = now() WHERE id = %s", turn_id)
    assert (await _swept(api, parley, session_id, turn_id))["status"] == "completed"
    assert list((await api.answers(session_id, turn_id)).values()) == ["late"]
    assert parley.logs(f"turn restarted: {turn_id}")
    assert (await api.until(session_id, await api.say(session_id, script(tokens=2))))["status"] == "completed"


async def test_what_ended_without_closing_its_turn_goes_on_from_what_is_stored(
    api: Api, parley: AppHost, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/stored"))]], content="once"))
    approval = await api.approval(session_id)
    await api.decide(approval["id"], "approve")
    before = await api.until(session_id, turn_id)
    answers = await api.answers(session_id, turn_id)
    await _sql(
        parley,
        "UPDATE turns SET status = 'queued', ended_at = NULL, dispatched_at = now() - interval '1 day' WHERE id = %s",
        turn_id,
    )
    turn = await _swept(api, parley, session_id, turn_id)
    assert (turn["status"], turn["usage"]) == ("completed", before["usage"])
    assert await api.answers(session_id, turn_id) == answers
    assert len(sink.at("/stored")) == 1


async def test_an_approval_that_was_terminated_by_hand_costs_its_turn_a_restart(
    api: Api, parley: AppHost, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/by-hand"))]], content="done"))
    approval = await api.approval(session_id)
    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False) as host:
        instances = "/runtime/webhooks/durabletask/instances"
        [waiting] = (await host.get(f"{instances}?instanceIdPrefix={turn_id}:")).json()
        ended = await host.post(f"{instances}/{waiting['instanceId']}/terminate?reason=by+hand")
        assert ended.status_code == 202
    aged = "UPDATE turns SET dispatched_at = now() - interval '1 day' WHERE id = %s"

    async def restarted() -> bool:
        await _sql(parley, aged, turn_id)
        await sweep(parley)
        return f"turn restarted: {turn_id}" in parley.log()

    await eventually(restarted, "the sweep to start it again")
    await api.decide(approval["id"], "approve")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/by-hand")) == 1


@pytest.mark.harsh
async def test_a_turn_whose_orchestration_does_not_move_is_brought_on(api: Api, parley: AppHost, sink: Sink) -> None:
    """Its approval hears nothing any more: the turn waits for an answer that does not come, and Durable calls it
    running."""
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/moved"))]], content="done"))
    approval = await api.approval(session_id)
    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False) as host:
        listed = (await host.get(f"/runtime/webhooks/durabletask/instances?instanceIdPrefix={turn_id}:")).json()
        [waiting] = [instance["instanceId"] for instance in listed]
        # As if its messages were lost: it is held, and nobody knows.
        assert (await host.post(f"/runtime/webhooks/durabletask/instances/{waiting}/suspend")).status_code == 202
    await api.decide(approval["id"], "approve")
    late = "UPDATE {0} SET {1} = {1} - interval '10 minutes' WHERE {2} = %s"
    await _sql(parley, late.format("turns", "quiet_until", "id"), turn_id)
    await _sql(parley, late.format("approvals", "decided_at", "turn_id"), turn_id)
    await _sql(parley, late.format("turns", "dispatched_at", "id"), turn_id)
    assert (await _swept(api, parley, session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/moved")) == 1


async def test_purge_forgets_the_histories_of_ended_turns_only(api: Api, parley: AppHost, sink: Sink) -> None:
    ended_session, waiting_session = await api.session(), await api.session()
    ended = await api.say(ended_session, script(content="all said"))
    await api.until(ended_session, ended)
    waiting = await api.say(waiting_session, script(tool_calls=[[post_call(sink.url("/kept"))]], content="done"))
    approval = await api.approval(waiting_session)

    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False, timeout=30) as host:

        async def forgotten() -> bool:
            await run_now(parley, "purge_histories")
            return (await host.get(f"/runtime/webhooks/durabletask/instances/{ended}")).status_code == 404

        await eventually(forgotten, "the history to be forgotten")
        assert (await host.get(f"/runtime/webhooks/durabletask/instances/{waiting}")).status_code == 202

    assert list((await api.answers(ended_session, ended)).values()) == ["all said"]
    await api.decide(approval["id"], "approve")
    assert (await api.until(waiting_session, waiting))["status"] == "completed"


async def test_session_that_ended_long_ago_is_erased_with_its_history(api: Api, parley: AppHost) -> None:
    old, recent = await api.session(), await api.session()
    turn_id = await api.say(old, script(content="all said"))
    await api.until(old, turn_id)
    for session_id in (old, recent):
        assert (await api.post(f"/api/v1/sessions/{session_id}/end")).status_code == 200
    await _sql(parley, "UPDATE sessions SET ended_at = ended_at - interval '31 days' WHERE id = %s", old)

    async with httpx.AsyncClient(base_url=parley.base_url, trust_env=False, timeout=30) as host:
        await run_now(parley, "retire_sessions")

        async def forgotten() -> bool:
            return (await host.get(f"/runtime/webhooks/durabletask/instances/{turn_id}")).status_code == 404

        await eventually(forgotten, "the history to be forgotten")
    gone = await api.get(f"/api/v1/sessions/{old}")
    assert (gone.status_code, gone.json()["code"]) == (404, "SESSION_NOT_FOUND")
    assert (await api.get(f"/api/v1/sessions/{recent}")).status_code == 200


async def test_session_that_was_idle_for_long_is_ended_and_says_so(api: Api, parley: AppHost) -> None:
    idle, used = await api.session(), await api.session()
    aged = "UPDATE sessions SET created_at = created_at - i, updated_at = updated_at - i"
    await _sql(parley, f"{aged} FROM (SELECT interval '11 years' AS i) x WHERE id = %s", idle)

    await run_now(parley, "retire_sessions")

    async def ended() -> bool:
        return str((await api.get(f"/api/v1/sessions/{idle}")).json()["status"]) == "ENDED"

    await eventually(ended, "the timer to end it")
    assert [event["type"] for event in await api.events(idle)][-1:] == ["session.ended"]
    assert (await api.get(f"/api/v1/sessions/{used}")).json()["status"] == "CREATED"


async def test_sweep_deletes_the_bytes_of_an_upload_that_was_cut(api: Api, parley: AppHost, pool: PostgresPool) -> None:
    session_id = await api.session()
    name = f"{session_id}/{new_id()}"
    blobs = AzureBlobStore(connection_string=parley.environment["AzureWebJobsStorage"], endpoint=None)
    try:
        # Written first: one that is due already may be swept at any moment, by a run of the test before.
        await blobs.put(name, io.BytesIO(b"cut"), size_bytes=3, media_type="text/plain")
        long_ago = datetime.now(UTC) - HOUR
        assert await PostgresAttachments(pool).announce(session_id, name, due_at=long_ago)

        async def look() -> bool:
            await sweep(parley)
            return not await blobs.exists(name)

        assert await eventually(look, "the sweep to delete the bytes")
    finally:
        await blobs.aclose()
