"""A session runs one turn at a time: what a message does meanwhile, how a turn is stopped, and how a session rests."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.support.client import ENDED, Api, Json, call, eventually, model_calls, once, post_call, script
from tests.e2e.support.processes import Sink
from tests.e2e.support.sse import Transcript

SLOW = {"tokens": 2000, "token_ms": 20}
"""A stream of forty seconds: it never ends by itself within a test."""


async def _streaming(api: Api, session_id: str, turn_id: str) -> str:
    """Wait until some text of a turn has arrived; the text so far."""

    async def look() -> str:
        transcript = Transcript.of_envelopes(await api.events(session_id), turn_id)
        return "".join(transcript.texts.values())

    return await eventually(look, "the first text")


# Cancel. -----------------------------------------------------------------------------------------


async def test_cancel_while_streaming_keeps_the_partial_text(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(key=session_id, **SLOW))
    seen = await _streaming(api, session_id, turn_id)
    assert (await api.cancel(session_id, turn_id)).status_code == 202
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["error"]) == ("cancelled", None)
    [message] = await api.messages(session_id, turn_id, "assistant")
    assert message["status"] == "cancelled"
    assert message["content"].startswith(seen)
    assert len(message["content"].split()) < SLOW["tokens"]
    transcript = Transcript.of_envelopes(await api.events(session_id), turn_id)
    assert transcript.texts == {message["id"]: message["content"]}
    again = await api.cancel(session_id, turn_id)
    assert (again.status_code, again.json()) == (200, turn)
    # The session takes the next message, and the model reads the partial answer.
    next_id = await api.say(session_id, script(echo=True))
    assert (await api.until(session_id, next_id))["status"] == "completed"
    assert message["content"][:20] in "".join((await api.answers(session_id, next_id)).values())


async def test_cancel_while_waiting_for_an_approval_ends_the_wait(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/cancelled"))]]))
    approval = await api.approval(session_id)
    assert (await api.cancel(session_id, turn_id)).status_code == 202
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("cancelled", "failed")
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "cancelled"
    late = await api.decide(approval["id"], "approve")
    assert (late.status_code, late.json()["code"]) == (409, "CONFLICT")
    assert sink.at("/cancelled") == []
    next_id = await api.say(session_id, script(tokens=3))
    assert (await api.until(session_id, next_id))["status"] == "completed"


async def test_cancel_of_a_queued_turn_takes_it_out_of_the_queue(api: Api) -> None:
    session_id = await api.session(concurrency="enqueue")
    running = await api.say(session_id, script(**SLOW))
    queued = await api.say(session_id, script(tokens=3))
    after = await api.say(session_id, script(content="the one after"))
    await _streaming(api, session_id, running)
    cancelled = await api.cancel(session_id, queued)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    await api.cancel(session_id, running)
    assert (await api.until(session_id, after))["status"] == "completed"
    turn = await api.turn(session_id, queued)
    assert (turn["status"], turn["steps"], turn["started_at"]) == ("cancelled", 0, None)
    assert await api.answers(session_id, queued) == {}


async def test_cancel_while_a_tool_runs_does_not_wait_for_it(api: Api, sink: Sink) -> None:
    session_id = await api.unattended_session()
    sink.released.clear()
    message = script(tool_calls=[[post_call(sink.url("/hold/cancelled"))]])
    turn_id = await api.say(session_id, message, approval_mode="auto")

    async def called() -> bool:
        return bool(sink.at("/hold/cancelled"))

    await eventually(called, "the tool call")
    await api.cancel(session_id, turn_id)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("cancelled", "failed")


# A message while a turn runs. --------------------------------------------------------------------


async def test_reject_refuses_a_second_message_until_the_turn_ends(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(**SLOW))
    refused = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": "now?"})
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert len(await api.messages(session_id, role="user")) == 1
    await api.cancel(session_id, turn_id)
    await api.until(session_id, turn_id)
    assert (await api.until(session_id, await api.say(session_id, script(tokens=2))))["status"] == "completed"


async def test_enqueue_runs_messages_in_the_order_they_came(api: Api) -> None:
    session_id = await api.session(concurrency="enqueue")
    turns = [await api.say(session_id, script(content=f"answer {n}", token_ms=5)) for n in range(5)]
    for turn_id in turns:
        assert (await api.until(session_id, turn_id))["status"] == "completed"
    told = once(
        (event["turn_id"], event["type"])
        for event in await api.events(session_id)
        if event["type"] in {"stream.started", "stream.ended"}
    )
    assert told == [(turn_id, kind) for turn_id in turns for kind in ("stream.started", "stream.ended")]
    assert [list((await api.answers(session_id, turn)).values()) for turn in turns] == [
        [f"answer {n}"] for n in range(5)
    ]


async def test_interrupt_cancels_what_runs_and_what_waits_and_starts_the_new_one(api: Api) -> None:
    session_id = await api.session(concurrency="enqueue")
    running = await api.say(session_id, script(**SLOW))
    queued = await api.say(session_id, script(tokens=2))
    await _streaming(api, session_id, running)
    interrupting = await api.say(session_id, script(content="me first"), concurrency="interrupt")
    assert (await api.until(session_id, interrupting))["status"] == "completed"
    assert [(await api.turn(session_id, turn))["status"] for turn in (running, queued)] == ["cancelled"] * 2
    started = [event["turn_id"] for event in await api.events(session_id) if event["type"] == "stream.started"]
    assert started == [running, interrupting]


async def test_interrupt_of_a_turn_that_waits_for_a_person(api: Api, sink: Sink) -> None:
    session_id = await api.session(concurrency="interrupt")
    waiting = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/interrupted"))]]))
    await api.approval(session_id)
    turn_id = await api.say(session_id, script(content="instead"))
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert (await api.turn(session_id, waiting))["status"] == "cancelled"
    assert await api.approvals(session_id) == []
    assert sink.at("/interrupted") == []


async def test_messages_posted_at_once_start_one_turn(api: Api) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/messages"
    answers = await asyncio.gather(*(api.post(path, {"content": script(tokens=50, token_ms=10)}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7


# Idempotency-Key. --------------------------------------------------------------------------------


async def test_repeat_with_the_same_key_gets_the_first_answer(api: Api) -> None:
    session_id = await api.session()
    path, headers = f"/api/v1/sessions/{session_id}/messages", {"idempotency-key": "one"}
    body = {"content": script(content="once")}
    first = await api.post(path, body, headers=headers)
    turn_id = first.json()["turn"]["id"]
    await api.until(session_id, turn_id)
    again = await api.post(path, body, headers=headers)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    assert (again.json()["message"], again.json()["turn"]["id"]) == (first.json()["message"], turn_id)
    other = await api.post(path, {"content": "something else"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    assert len(await api.messages(session_id)) == 2


async def test_same_key_many_times_at_once_posts_one_message(api: Api) -> None:
    session_id = await api.session()
    path, headers = f"/api/v1/sessions/{session_id}/messages", {"idempotency-key": "race"}
    body = {"content": script(content="once")}
    answers = await asyncio.gather(*(api.post(path, body, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    [turn_id] = {answer.json()["turn"]["id"] for answer in answers}
    await api.until(session_id, turn_id)
    assert len(await api.messages(session_id)) == 2


async def test_session_made_once_per_key_and_user(api: Api) -> None:
    headers = {"idempotency-key": "session-once"}
    made = [(await api.post("/api/v1/sessions", {"name": "a"}, headers=headers)) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json()
    assert (await api.post("/api/v1/sessions", {"name": "b"}, headers=headers)).status_code == 409
    # A key belongs to its user.
    others = await api.as_user("petr").post("/api/v1/sessions", {"name": "a"}, headers=headers)
    assert (others.status_code, others.json()["id"] != made[0].json()["id"]) == (201, True)


async def test_one_key_may_be_used_in_two_sessions(api: Api) -> None:
    headers = {"idempotency-key": "two sessions"}
    turns = set()
    for _ in range(2):
        session_id = await api.session()
        answer = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": "hello"}, headers=headers)
        assert answer.status_code == 202
        turns.add(answer.json()["turn"]["id"])
    assert len(turns) == 2


# The session's own states. -----------------------------------------------------------------------


async def _change(api: Api, session_id: str, verb: str) -> Json:
    response = await api.post(f"/api/v1/sessions/{session_id}/{verb}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_suspend_in_mid_turn_holds_it_and_resume_lets_it_go_on(api: Api, model_url: str) -> None:
    session_id = await api.session()
    steps = [[call("calculate", expression=f"{n} + {n}")] for n in range(6)]
    turn_id = await api.say(session_id, script(key=session_id, tool_calls=steps, content="done", first_ms=300))
    assert (await _change(api, session_id, "suspend"))["status"] == "SUSPENDED"
    refused = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": "hello?"})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_STATE")
    # What was under way may finish; then nothing more happens, for longer than several steps take.
    calls = [-1, model_calls(model_url, session_id)["calls"]]
    for _ in steps:
        if calls[-1] == calls[-2]:
            break
        await asyncio.sleep(1.0)
        calls.append(model_calls(model_url, session_id)["calls"])
    assert calls[-1] == calls[-2] <= len(steps)
    assert (await api.turn(session_id, turn_id))["status"] not in ENDED
    assert (await _change(api, session_id, "resume"))["status"] == "ACTIVE"
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["steps"]) == ("completed", len(steps) + 1)


async def test_suspend_while_waiting_for_an_approval_keeps_the_decision_for_later(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/suspended"))]], content="done"))
    approval = await api.approval(session_id)
    await _change(api, session_id, "suspend")
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    await asyncio.sleep(0.5)
    assert sink.at("/suspended") == []
    await _change(api, session_id, "resume")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/suspended")) == 1


async def test_suspend_while_an_approved_tool_runs_and_resume_after_it_ended(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    sink.released.clear()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/hold/suspended"))]], content="done"))
    approval = await api.approval(session_id)
    await api.decide(approval["id"], "approve")

    async def called() -> bool:
        return bool(sink.at("/hold/suspended"))

    await eventually(called, "the tool to be called")
    await _change(api, session_id, "suspend")
    sink.released.set()

    async def ended() -> bool:
        return (await api.turn(session_id, turn_id))["tool_calls"][0]["status"] == "completed"

    await eventually(ended, "the tool to end")
    await _change(api, session_id, "resume")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/hold/suspended")) == 1


async def test_suspends_and_resumes_that_overtake_each_other_leave_what_the_session_says(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/overtaken"))]], content="done"))
    approval = await api.approval(session_id)

    async def resumed() -> None:
        async def accepted() -> bool:
            return (await api.post(f"/api/v1/sessions/{session_id}/resume")).status_code == 200

        await eventually(accepted, "the suspension to be there")

    for _ in range(6):
        await asyncio.gather(_change(api, session_id, "suspend"), resumed())
    await api.decide(approval["id"], "approve")
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/overtaken")) == 1


async def test_ending_a_session_cancels_its_running_turn(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(**SLOW))
    await _streaming(api, session_id, turn_id)
    assert (await _change(api, session_id, "end"))["status"] == "ENDED"
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    refused = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": "hello?"})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_STATE")
    assert len(await api.messages(session_id)) == 2


async def test_ending_a_suspended_session_ends_its_held_turn(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/ended"))]]))
    await api.approval(session_id)
    await _change(api, session_id, "suspend")
    await _change(api, session_id, "end")
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    assert sink.at("/ended") == []


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        ([], ["suspend", "resume"]),
        (["activate"], ["activate", "resume"]),
        (["activate", "suspend"], ["activate", "suspend"]),
        (["activate", "suspend", "resume"], ["activate", "resume"]),
        (["end"], ["activate", "suspend", "resume", "end"]),
    ],
)
async def test_state_machine_refuses_every_other_step(api: Api, steps: list[str], refused: list[str]) -> None:
    session_id = await api.session()
    for verb in steps:
        await _change(api, session_id, verb)
    for verb in refused:
        answer = await api.post(f"/api/v1/sessions/{session_id}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_STATE"), verb
