"""Other answers, side by side: regenerated and recovered through the host, streamed, read again and erased."""

from __future__ import annotations

import asyncio

from tests.e2e.support.client import Api, Json, call, script
from tests.e2e.support.sse import Transcript


async def _regenerate(api: Api, session_id: str, message_id: str, **body: object) -> Json:
    path = f"/api/v1/sessions/{session_id}/messages/{message_id}/regenerate"
    posted = await api.post(path, body)
    assert posted.status_code == 202, posted.text
    return dict(posted.json()["turn"])


async def _texts(api: Api, session_id: str) -> list[str]:
    return [message["content"] for message in await api.messages(session_id, role="assistant")]


async def test_a_regenerated_answer_streams_and_the_first_one_is_still_there(api: Api) -> None:
    session_id = await api.session()
    first = await api.say(session_id, script(tool_calls=[[call("calculate", expression="6 * 7")]], tokens=8))
    await api.until(session_id, first)
    question = (await api.messages(session_id))[0]
    old = await api.messages(session_id)

    turn = await _regenerate(api, session_id, question["id"])
    live = Transcript.of_turn_stream(await api.turn_stream(session_id, turn["id"]))

    await api.until(session_id, turn["id"])
    assert live.texts == await api.answers(session_id, turn["id"])
    again = Transcript.of_turn_stream(await api.turn_stream(session_id, turn["id"]))
    assert again.texts == live.texts
    base = f"/api/v1/sessions/{session_id}"
    assert (await api.get(f"{base}/messages", params={"branch": "0"})).json()["items"] == old
    listed = await api.messages(session_id)
    assert [message["branch"] for message in listed] == [0, *[1] * (len(listed) - 1)]
    stats = (await api.get(f"{base}/statistics")).json()
    assert (stats["turns"]["completed"], stats["messages"]["total"]) == (2, len(old) + len(listed) - 1)
    assert (await api.post(f"{base}/branches/0/activate")).json()["active_branch"] == 0
    assert await api.messages(session_id) == old


async def test_a_prompt_waiter_gets_the_regenerated_answer_itself(api: Api) -> None:
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(content="once")))
    question = (await api.messages(session_id))[0]

    path = f"/api/v1/sessions/{session_id}/messages/{question['id']}/regenerate"
    key = {"idempotency-key": "again", "prefer": "wait=30"}
    first, second = [await api.post(path, {}, headers=key) for _ in range(2)]

    assert (first.status_code, first.json()["turn"]["status"]) == (200, "completed")
    assert second.json() == first.json()
    assert len((await api.get(f"/api/v1/sessions/{session_id}/branches")).json()["items"]) == 2


async def test_regenerating_a_running_answer_interrupts_it(api: Api) -> None:
    session_id = await api.session()
    running = await api.say(session_id, script(tokens=3_000, token_ms=20))
    question = (await api.messages(session_id))[0]
    path = f"/api/v1/sessions/{session_id}/messages/{question['id']}/regenerate"
    assert (await api.post(path)).json()["code"] == "CONFLICT"

    turn = await _regenerate(api, session_id, question["id"], concurrency="interrupt")

    assert (await api.until(session_id, running))["status"] == "cancelled"
    await api.until(session_id, turn["id"], "running")
    assert (await api.post(f"/api/v1/sessions/{session_id}/branches/0/activate")).json()["code"] == "CONFLICT"
    await api.cancel(session_id, turn["id"])
    assert (await api.until(session_id, turn["id"]))["branch"] == 1


async def test_of_two_who_regenerate_at_once_one_is_refused(api: Api) -> None:
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(tokens=200, token_ms=10)))
    question = (await api.messages(session_id))[0]
    path = f"/api/v1/sessions/{session_id}/messages/{question['id']}/regenerate"

    answers = await asyncio.gather(api.post(path), api.post(path))

    assert sorted(answer.status_code for answer in answers) == [202, 409]


async def test_a_recovered_session_goes_on_and_an_erased_one_has_no_checkpoints(api: Api) -> None:
    session_id = await api.session()
    base = f"/api/v1/sessions/{session_id}"
    for text in ("one", "two"):
        await api.until(session_id, await api.say(session_id, script(content=text)))
    newest = (await api.get(f"{base}/checkpoints")).json()["items"][0]

    assert (await api.post(f"{base}/recover", {"checkpoint_id": newest["id"]})).json()["active_branch"] == 1
    await api.until(session_id, await api.say(session_id, script(content="three")))

    assert await _texts(api, session_id) == ["one", "three"]
    assert (await api.request("DELETE", base)).status_code == 204
    assert (await api.get(f"{base}/checkpoints")).json()["code"] == "SESSION_NOT_FOUND"
    assert (await api.post("/api/v1/sessions", {"id": session_id})).json()["active_branch"] == 0
    assert (await api.get(f"{base}/checkpoints")).json()["items"] == []
    assert len((await api.get(f"{base}/branches")).json()["items"]) == 1
