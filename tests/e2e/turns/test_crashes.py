"""`kill -9` at every place it can hurt: the turn completes after the restart, and nothing happens twice."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.ids import new_id
from tests.e2e.support.client import ENDED, Api, Json, call, eventually, open_api, post_call, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import AppHost, HostDied, Sink
from tests.e2e.support.signalr import Console
from tests.e2e.support.sse import ServerEvent, Transcript

PATIENT = {"REDIS_PATIENCE_SECONDS": "5"}
"""A process that is busy starting takes no late Redis for one that is away: this is not about holes in the numbers."""
FEWEST_LIVES = 7
"""Start, call_model, ask, wait, decide, execute_tool, call_model: each has at least one commit of its own.

Most have two, one that asks and one that answers. How many of those are one commit depends on what is ready together:
runs had between 12 and 17 lives.
"""
MOST_LIVES = 40


@pytest.fixture
async def api(own_host: AppHost) -> AsyncIterator[Api]:
    """The client of the host that is killed here, whatever state the test before left it in."""
    if not own_host.is_running():
        own_host.start(**PATIENT)
    client = await open_api(own_host)
    yield client
    await client.aclose()


async def _assert_told_once(api: Api, session_id: str, turn_id: str) -> Transcript:
    """Stored messages hold no duplicate, and replay as JSON, as the turn's SSE and as stored text agree."""
    messages = await api.messages(session_id, turn_id)
    assert len({message["id"] for message in messages}) == len(messages)
    assert [message["status"] for message in messages] == ["completed"] * len(messages)
    answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    asked = [tool_call["id"] for message in messages for tool_call in message["tool_calls"]]
    assert answered == asked
    stored = await api.answers(session_id, turn_id)
    replay = Transcript.of_envelopes(await api.events(session_id), turn_id)
    assert replay.texts == stored
    assert Transcript.of_turn_stream(await api.turn_stream(session_id, turn_id)).texts == stored
    await _assert_audited(api, session_id)
    # A process that is cut right after it closed the turn may have said so or not: it is said again, the same.
    ended = [event for event in await api.events(session_id) if event["type"] == "stream.ended"]
    assert {event["turn_id"] for event in ended} == {turn_id}
    assert all(event["data"] == ended[0]["data"] for event in ended)
    return replay


async def _assert_audited(api: Api, session_id: str) -> None:
    """Every line that was claimed is there, in the outbox or in the table, wherever the process was cut."""
    audit = (await api.get(f"/api/v1/sessions/{session_id}/audit")).json()
    assert (audit["verified"], audit["problems"], audit["being_written"]) == (True, [], [])
    assert [line["number"] for line in audit["items"]] == list(range(1, len(audit["items"]) + 1))
    once = [line for line in audit["items"] if line["action"] in {"approval.requested", "approval.decided"}]
    assert len({(line["action"], line["details"]["approval_id"]) for line in once}) == len(once)
    ended = [line["details"]["tool_call_id"] for line in audit["items"] if line["action"] == "tool_call.ended"]
    assert len(set(ended)) == len(ended)


@pytest.mark.parametrize("model_api", ["chat", "responses"])
async def test_killed_while_streaming_the_turn_completes_as_a_new_attempt(
    own_host: AppHost, api: Api, console: Console, model_api: str
) -> None:
    """A SignalR client and an SSE client live through the crash; both end with exactly the stored text."""
    session_id = await api.session_with(model_api=model_api)
    assert (await api.post(f"/api/v1/sessions/{session_id}/subscribe", {})).status_code == 200
    listener = await console.connect(api, reconnect=[100] * 300)
    turn_id = await api.say(session_id, script(tokens=60, token_ms=25, reasoning="Boats go home."))
    heard = [await listener.next()]
    while "content_delta" not in str(heard[-1]):
        heard.append(await listener.next())
    streamed: list[ServerEvent] = []
    async with api.session_stream(session_id) as events:
        try:
            async for event in events:
                streamed.append(event)
                if len(streamed) == len(heard):
                    own_host.kill()
        except httpx.TransportError:
            pass
    own_host.start(**PATIENT)
    await listener.reconnected()
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    replay = await _assert_told_once(api, session_id, turn_id)
    assert list(replay.attempts.values()) == [[1, 2]]
    # SSE: what came after the last event seen joins on without a hole or a repeat.
    missed = await api.events(session_id, after=streamed[-1].id or 0)
    numbers = [event.id for event in streamed] + [event["seq"] for event in missed]
    assert numbers == list(range(1, len(numbers) + 1))
    # SignalR: live events since, and what it missed in between.
    heard += await listener.until("stream.ended")
    by_number = {envelope["seq"]: envelope for envelope in heard}
    assert len(by_number) == len(heard), "nothing was delivered twice"
    by_number |= {event["seq"]: event for event in await api.events(session_id) if event["seq"] not in by_number}
    text = Transcript.of_envelopes([by_number[seq] for seq in sorted(by_number)], turn_id).texts
    assert text == await api.answers(session_id, turn_id)


async def test_killed_while_waiting_for_an_approval_the_turn_still_waits(
    own_host: AppHost, api: Api, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/killed-waiting"))]], content="done"))
    approval = await api.approval(session_id)
    for _ in range(2):
        own_host.kill()
        own_host.start(**PATIENT)
    assert await api.approvals(session_id) == [approval]
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/killed-waiting")) == 1
    await _assert_told_once(api, session_id, turn_id)


async def test_killed_while_a_tool_runs_that_must_not_run_twice_its_outcome_is_unknown(
    own_host: AppHost, api: Api, sink: Sink
) -> None:
    sink.released.clear()
    session_id = await api.unattended_session()
    message = script(tool_calls=[[post_call(sink.url("/hold/killed"))]], echo=True)
    turn_id = await api.say(session_id, message, approval_mode="auto")

    async def called() -> bool:
        return bool(sink.at("/hold/killed"))

    await eventually(called, "the tool call")
    own_host.kill()
    own_host.start(**PATIENT)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "failed")
    assert len(sink.at("/hold/killed")) == 1
    answer = list((await api.answers(session_id, turn_id)).values())[-1]
    assert "outcome is unknown" in answer, "the model was told so"
    await _assert_told_once(api, session_id, turn_id)


async def test_killed_while_an_mcp_server_runs_a_call_its_outcome_is_unknown(
    own_host: AppHost, api: Api, sink: Sink
) -> None:
    sink.released.clear()
    rooms = RoomsServer(sink)
    session_id = await api.session_with(mcp_servers=[rooms.as_agents_name_it()])
    turn_id = await api.say(session_id, script(tool_calls=[[call("rooms__book", room="7")]], echo=True))
    approval = await api.approval(session_id)
    assert (await api.decide(approval["id"], "approve")).status_code == 200

    async def called() -> bool:
        return len(rooms.calls()) == 1

    await eventually(called, "the call of the MCP server")
    own_host.kill()
    own_host.start(**PATIENT)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "failed")
    assert len(rooms.calls()) == 1
    assert "outcome is unknown" in list((await api.answers(session_id, turn_id)).values())[-1]
    await _assert_told_once(api, session_id, turn_id)


@pytest.mark.parametrize(
    ("model_api", "crash"),
    [
        # Each life of the host ends at its first durable commit: the turn is cut between every two of its yields.
        ("responses", {"DEVHOST_CRASH_AFTER_COMMIT": "1"}),
        # Each life loses its second commit: every step is done, lost, and done again.
        ("chat", {"DEVHOST_CRASH_BEFORE_COMMIT": "2"}),
    ],
    ids=["responses-after", "chat-before"],
)
async def test_killed_at_every_commit_of_a_turn_it_completes_and_its_tool_ran_once(
    own_host: AppHost, api: Api, sink: Sink, crash: dict[str, str], model_api: str
) -> None:
    """Over the responses API the model refuses to go on without the reasoning it had sent with its call."""
    path = f"/every-commit/{model_api}/{next(iter(crash))}"
    own_host.stop()
    own_host.start(**PATIENT)
    session_id = await api.session_with(model_api=model_api)
    own_host.stop()
    joins = model_api == "chat"
    told: Json = {"tool_calls": [[post_call(sink.url(path))]], "content": "done", "preamble": "first "}
    told |= {"reasoning": "It has to be posted.", "needs_reasoning": True}
    turn_id = ""
    lives = 0
    while True:
        lives += 1
        assert lives <= MOST_LIVES, f"the turn did not end:\n{own_host.log()[-3000:]}"
        try:
            own_host.start(**crash, **PATIENT)
        except HostDied:
            continue  # it took over so fast that it died before it said that it was ready
        turn_id = turn_id or await _posted(api, session_id, script(**told))
        if await _lives_until_the_end(own_host, api, session_id, turn_id, joins=joins):
            break
    assert lives >= FEWEST_LIVES, "it died often enough to have been cut everywhere"
    own_host.stop()
    own_host.start(**PATIENT)
    await eventually(lambda: _instances_ended(own_host, turn_id), "the orchestrations to end")
    turn = await api.turn(session_id, turn_id)
    assert (turn["status"], turn["error"]) == ("completed", None)
    if turn["tool_calls"][0]["status"] == "completed":
        assert len(sink.at(path)) == 1
    else:
        # The sweep's event may end a life in the very moment in which the tool runs: then nobody knows, and says so.
        assert "outcome is unknown" in (await api.messages(session_id, turn_id, "tool"))[0]["content"]
        assert len(sink.at(path)) <= 1
    roles = [message["role"] for message in await api.messages(session_id)]
    assert roles == ["user", "assistant", "tool", *(["user"] if joins else []), "assistant"]
    assert list((await api.answers(session_id, turn_id)).values()) == ["first ", "steered" if joins else "done"]
    await _assert_told_once(api, session_id, turn_id)


async def _instances_ended(host: AppHost, turn_id: str) -> bool:
    """Whether the task hub itself says that the turn and its approval have completed."""
    store = host.folder / "data" / "durable-parley.sqlite3"
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT status FROM instances WHERE instance_id LIKE ?", (f"{turn_id}%",)).fetchall()
    return [status for (status,) in found] == ["Completed", "Completed"]


async def _posted(api: Api, session_id: str, content: str, *, key: str = "once", **more: str) -> str:
    """Post with a key: the answer is lost with the host that gave it, so the turn is looked up by its message."""
    path, headers = f"/api/v1/sessions/{session_id}/messages", {"idempotency-key": key}
    try:
        return str((await api.post(path, {"content": content, **more}, headers=headers)).json()["turn"]["id"])
    except httpx.TransportError:
        return ""


async def _lives_until_the_end(host: AppHost, api: Api, session_id: str, turn_id: str, *, joins: bool) -> bool:
    """Watch one life of the host and approve what waits. True when the turn ended in it. joins: first a message joins
    the turn that waits, once, however often it is posted.

    A decision whose event was lost with its host is not sent again: the sweep delivers it.
    """

    async def look() -> str | None:
        if not host.is_running():
            return "died"
        try:
            if turn_id and (await api.turn(session_id, turn_id))["status"] in ENDED:
                return "ended"
            for approval in await api.approvals(session_id):
                if joins:
                    joined = await _posted(api, session_id, script(content="steered"), key="join", concurrency="steer")
                    if not joined:
                        return None
                    assert joined == turn_id
                await api.decide(approval["id"], "approve")
        except httpx.TransportError:
            pass  # it is just dying
        return None

    return await eventually(look, "the host to die or the turn to end") == "ended"


async def test_killed_while_a_subagent_waits_and_after_its_decision_there_is_one_child_and_one_result(
    own_host: AppHost, api: Api, sink: Sink
) -> None:
    helper = f"helper-{new_id()}"
    body = {"name": "Helper", "instructions": "Be exact."}
    assert (await api.as_user("root;admin").request("PUT", f"/api/v1/agents/{helper}", json=body)).status_code == 201
    session_id = await api.session_with(agents=[helper])
    task = script(tool_calls=[[post_call(sink.url("/child-killed"))]], content="posted by the child")
    told = script(tool_calls=[[call(f"ask_{helper.replace('-', '_')}", input=task)]], echo=True)
    turn_id = await api.say(session_id, told)
    (waiting,) = (await api.until(session_id, turn_id, "waiting_approval"))["subagents"]
    own_host.kill()
    own_host.start(**PATIENT)
    approval = await api.approval(waiting["session_id"])
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    own_host.kill()
    own_host.start(**PATIENT)
    turn = await api.until(session_id, turn_id)
    assert turn["status"] == "completed"
    (child,) = turn["subagents"]
    assert child == {**waiting, "status": "completed"}
    (result,) = await api.messages(session_id, turn_id, "tool")
    assert "posted by the child" in result["content"]
    roles = [message["role"] for message in await api.messages(child["session_id"])]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert len(sink.at("/child-killed")) <= 1, "it may have been cut while the tool ran: then nobody knows"
    await _assert_told_once(api, session_id, turn_id)


async def test_killed_at_every_commit_of_a_subagent_in_the_background_its_result_is_told_once(
    own_host: AppHost, api: Api
) -> None:
    own_host.stop()
    own_host.start(**PATIENT)
    helper = f"helper-{new_id()}"
    body = {"name": "Helper", "instructions": "Be exact."}
    assert (await api.as_user("root;admin").request("PUT", f"/api/v1/agents/{helper}", json=body)).status_code == 201
    session_id = await api.session_with(agents=[helper], background_agents=[helper])
    own_host.stop()
    begins = [[call(f"ask_{helper.replace('-', '_')}", input=script(content="from the background"))]]
    content = script(tool_calls=begins, content="it works on it")
    turn_id, lives = "", 0
    while True:
        lives += 1
        assert lives <= MOST_LIVES, f"it did not end:\n{own_host.log()[-3000:]}"
        try:
            own_host.start(DEVHOST_CRASH_AFTER_COMMIT="1", **PATIENT)
        except HostDied:
            continue
        turn_id = turn_id or await _posted(api, session_id, content)
        if await eventually(lambda: _told_or_died(own_host, api, session_id), "the host to die or the end") == "ended":
            break
    own_host.stop()
    own_host.start(**PATIENT)
    messages = await api.messages(session_id)
    (told,) = [one for one in messages if "from_subagent" in one]
    assert told["from_subagent"]["content"] == "from the background"
    assert len([one for one in messages if one["role"] == "tool"]) == 1
    children = (await api.get("/api/v1/sessions", params={"parent_session_id": session_id})).json()["items"]
    assert [one["id"] for one in children] == [told["from_subagent"]["session_id"]]
    for turn in {turn_id, told["turn_id"]}:
        assert (await api.until(session_id, turn))["status"] == "completed"
    await _assert_audited(api, session_id)


async def _told_or_died(host: AppHost, api: Api, session_id: str) -> str | None:
    """ended: the result is told, and the turn that it is in has ended."""
    if not host.is_running():
        return "died"
    try:
        told = [one for one in await api.messages(session_id) if "from_subagent" in one]
        if told and (await api.turn(session_id, told[0]["turn_id"]))["status"] in ENDED:
            return "ended"
    except httpx.TransportError:
        pass  # it is just dying
    return None
