"""A risky tool call waits for a person, who may say yes, no, yes with changes, or nothing at all."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.support.client import Api, Json, call, eventually, once, post_call, script
from tests.e2e.support.processes import AppHost, Sink

LATER = "After the tool."


async def _asked(api: Api, sink: Sink, path: str, **config: int) -> tuple[str, str, Json]:
    """A session whose turn waits for leave to POST to the sink: session, turn, approval."""
    session_id = await api.session(**config)
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(path))]], content=LATER))
    return session_id, turn_id, await api.approval(session_id)


async def _events(api: Api, session_id: str, prefix: str = "tool_call.") -> list[str]:
    return [event["type"] for event in await api.events(session_id) if event["type"].startswith(prefix)]


async def test_approved_call_runs_once_and_the_turn_answers(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/approved")
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert sink.at("/approved") == []
    decided = await api.decide(approval["id"], "approve", comment="fine")
    assert (decided.status_code, decided.json()["status"], decided.json()["decided_by"]) == (200, "approved", "olga")
    turn = await api.until(session_id, turn_id)
    assert turn["status"] == "completed"
    assert [tool_call["status"] for tool_call in turn["tool_calls"]] == ["completed"]
    [request] = sink.at("/approved")
    assert request.headers["idempotency-key"] == approval["tool_call_id"]
    roles = [message["role"] for message in await api.messages(session_id)]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert list((await api.answers(session_id, turn_id)).values()) == ["", LATER]
    assert await _events(api, session_id) == ["tool_call.pending", "tool_call.approved", "tool_call.completed"]


async def test_rejected_call_never_runs_and_the_model_is_told_why(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    message = script(tool_calls=[[post_call(sink.url("/rejected"))]], echo=True)
    turn_id = await api.say(session_id, message)
    approval = await api.approval(session_id)
    assert (await api.decide(approval["id"], "reject", comment="not today")).json()["status"] == "rejected"
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "rejected")
    assert sink.at("/rejected") == []
    told = list((await api.answers(session_id, turn_id)).values())[-1]
    assert "not today" in told
    assert "Rejected by olga" in told
    assert await _events(api, session_id) == ["tool_call.pending", "tool_call.rejected"]


async def test_approval_with_changed_arguments_runs_exactly_those(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/as-asked")
    changed = {"method": "POST", "url": sink.url("/as-changed"), "body": '{"amount":1}'}
    refused = await api.decide(approval["id"], "approve", arguments={**changed, "surprise": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_TOOL_ARGS")
    assert "surprise" in refused.text
    decided = (await api.decide(approval["id"], "approve", arguments=changed)).json()
    assert (decided["arguments"], decided["decided_arguments"]) == (approval["arguments"], changed)
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert sink.at("/as-asked") == []
    assert [request.body for request in sink.at("/as-changed")] == [b'{"amount":1}']
    repeated = await api.decide(approval["id"], "approve", arguments=changed)
    assert repeated.status_code == 200
    other = await api.decide(approval["id"], "approve", arguments={**changed, "body": '{"amount":2}'})
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


async def test_call_that_nobody_decides_times_out_and_the_turn_goes_on(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/timed-out", approval_timeout_seconds=1)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "rejected")
    assert sink.at("/timed-out") == []
    late = await api.decide(approval["id"], "approve")
    assert (late.status_code, late.json()["code"]) == (410, "APPROVAL_TIMEOUT")
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "timed_out"
    assert once(await _events(api, session_id)) == ["tool_call.pending", "tool_call.rejected"]
    tool_message = (await api.messages(session_id, turn_id, "tool"))[0]
    assert "Nobody approved it in time" in tool_message["content"]


@pytest.mark.parametrize(("first", "second"), [("approve", "reject"), ("reject", "approve")])
async def test_second_decision_reports_the_first(api: Api, sink: Sink, first: str, second: str) -> None:
    session_id, turn_id, approval = await _asked(api, sink, f"/second-{second}")
    decided = (await api.decide(approval["id"], first)).json()
    again = await api.as_user("petr;approver").decide(approval["id"], first)
    assert (again.status_code, again.json()) == (200, decided)
    other = await api.decide(approval["id"], second)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    assert "olga" in other.json()["detail"]
    await api.until(session_id, turn_id)
    assert (await api.decide(approval["id"], second)).status_code == 409
    assert len(sink.at(f"/second-{second}")) == (1 if first == "approve" else 0)


async def test_of_many_decisions_at_once_one_stands(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/race")
    choices = ["approve", "reject"] * 4
    answers = await asyncio.gather(*(api.decide(approval["id"], choice) for choice in choices))
    stands = (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"]
    for choice, answer in zip(choices, answers, strict=True):
        agrees = stands.startswith(choice)
        assert answer.status_code == (200 if agrees else 409), answer.text
    await api.until(session_id, turn_id)
    assert len(sink.at("/race")) == (1 if stands == "approved" else 0)


async def test_decision_before_the_wait_is_reached_is_not_lost(api: Api, sink: Sink) -> None:
    """The row exists before the orchestration waits; a decision made in that moment must still arrive."""
    for round_number in range(5):
        path = f"/early-{round_number}"
        session_id = await api.session()
        turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(path))]], content=LATER))
        async with asyncio.timeout(30):
            while not (found := await api.approvals(session_id)):
                pass
        assert (await api.decide(found[0]["id"], "approve")).status_code == 200
        assert (await api.until(session_id, turn_id))["status"] == "completed"
        assert len(sink.at(path)) == 1


async def test_of_three_calls_in_one_step_only_the_risky_two_wait(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    calls = [post_call(sink.url("/three/a")), call("calculate", expression="6 * 7"), post_call(sink.url("/three/b"))]
    turn_id = await api.say(session_id, script(tool_calls=[calls], content=LATER))

    async def both() -> list[Json]:
        found = await api.approvals(session_id)
        return found if len(found) == 2 else []

    pending = {item["arguments"]["url"]: item["id"] for item in await eventually(both, "both approvals")}

    async def calculated() -> bool:
        statuses = {item["name"]: item["status"] for item in (await api.turn(session_id, turn_id))["tool_calls"]}
        return bool(statuses["calculate"] == "completed")

    await eventually(calculated, "the automatic call to finish meanwhile")
    assert (await api.decide(pending[sink.url("/three/b")], "approve")).status_code == 200

    async def one_ran() -> bool:
        return bool(sink.at("/three/b"))

    await eventually(one_ran, "the approved call")
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert (await api.decide(pending[sink.url("/three/a")], "reject")).status_code == 200
    turn = await api.until(session_id, turn_id)
    assert turn["status"] == "completed"
    assert [item["status"] for item in turn["tool_calls"]] == ["rejected", "completed", "completed"]
    assert (len(sink.at("/three/a")), len(sink.at("/three/b"))) == (0, 1)
    assert len(await api.messages(session_id, turn_id, "tool")) == 3


async def test_automatic_mode_asks_nobody_and_manual_mode_asks_for_everything(api: Api, sink: Sink) -> None:
    session_id = await api.unattended_session()
    automatic = script(tool_calls=[[post_call(sink.url("/automatic"))]], content=LATER)
    turn_id = await api.say(session_id, automatic, approval_mode="auto")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/automatic")) == 1
    manual = script(tool_calls=[[call("calculate", expression="1 + 1")]], content=LATER)
    turn_id = await api.say(session_id, manual, approval_mode="manual")
    approval = await api.approval(session_id)
    assert approval["tool"] == "calculate"
    await api.decide(approval["id"], "approve")
    assert (await api.until(session_id, turn_id))["tool_calls"][0]["result"] is not None


async def test_the_inbox_is_for_approvers_and_spans_sessions(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/inbox")
    approver, owner_only = api.as_user("petr;approver"), api.as_user("olga")
    assert [item["id"] for item in await approver.approvals(session_id)] == [approval["id"]]
    assert await owner_only.approvals(session_id) == []
    # Who may not decide may still see what their own session waits for.
    assert (await owner_only.get(f"/api/v1/approvals/{approval['id']}")).status_code == 200
    assert (await owner_only.decide(approval["id"], "approve")).status_code == 404
    await approver.decide(approval["id"], "approve")
    assert (await api.until(session_id, turn_id))["status"] == "completed"


async def test_a_sessions_people_see_what_it_asked_for_before_and_after_the_decision(api: Api, sink: Sink) -> None:
    session_id, turn_id, approval = await _asked(api, sink, "/people")
    path = f"/api/v1/sessions/{session_id}"
    await api.request("PUT", f"{path}/participants/rita", json={"access": "read"})
    owner, reader, approver, stranger = (api.as_user(user) for user in ("olga;user", "rita", "petr;approver", "eve"))

    async def seen(**query: str) -> list[list[Json]]:
        answers = [await who.get(f"{path}/approvals", params=query) for who in (owner, reader)]
        return [answer.json()["items"] for answer in answers]

    assert await seen() == [[approval], [approval]]
    assert await seen(status="pending", turn_id=turn_id, tool="http_request") == [[approval], [approval]]
    assert await seen(tool="calculate") == [[], []]
    for other in (approver, stranger):
        answer = await other.get(f"{path}/approvals")
        assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND")
    inbox = (await approver.get("/api/v1/approvals", params={"session_id": session_id, "tool": "http_request"})).json()
    assert inbox["items"] == [approval]
    other_tool = await approver.get("/api/v1/approvals", params={"session_id": session_id, "tool": "calculate"})
    assert other_tool.json()["items"] == []

    decided = (await approver.decide(approval["id"], "reject", comment="no")).json()
    assert await seen() == [[decided], [decided]]
    assert await seen(status="pending") == [[], []]
    assert (await api.until(session_id, turn_id))["status"] == "completed"


@pytest.fixture(autouse=True)
def _host_survives(parley: AppHost) -> None:
    assert parley.is_running()
