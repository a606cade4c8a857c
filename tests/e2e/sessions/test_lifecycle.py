"""A session is revised, shared, waited for, expires and is erased, whatever its turn is doing."""

from __future__ import annotations

import asyncio

import httpx
import psycopg

from tests.e2e.support.client import Api, Json, call, eventually, post_call, script, sweep
from tests.e2e.support.processes import AppHost, Sink


async def _instances(host: AppHost, prefix: str) -> list[Json]:
    """The durable instances whose ids begin so, as the host's own management API tells."""
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        found = await client.get("/runtime/webhooks/durabletask/instances", params={"instanceIdPrefix": prefix})
        assert found.status_code == 200, found.text
        return list(found.json())


async def _age_erasure(host: AppHost, session_id: str) -> None:
    async with await psycopg.AsyncConnection.connect(host.environment["POSTGRES_URL"], autocommit=True) as database:
        await database.execute(
            "UPDATE session_erasures SET attempted_at = attempted_at - i, told_at = told_at - i"
            " FROM (SELECT interval '1 hour' AS i) x WHERE session_id = %s AND finished_at IS NULL",
            [session_id],
        )


async def test_deleting_during_a_waiting_approval_leaves_nothing_anywhere(
    api: Api, parley: AppHost, sink: Sink
) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/erased"))]]))
    approval = await api.approval(session_id)
    assert await _instances(parley, turn_id)

    deleted = await api.request("DELETE", f"/api/v1/sessions/{session_id}")
    again = await api.request("DELETE", f"/api/v1/sessions/{session_id}")

    assert (deleted.status_code, again.status_code) == (204, 204)
    for path in ("", "/messages", "/turns", f"/turns/{turn_id}", "/events"):
        gone = await api.get(f"/api/v1/sessions/{session_id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (404, "SESSION_NOT_FOUND"), path
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).status_code == 404
    assert (await api.decide(approval["id"], "approve")).status_code == 404

    async def forgotten() -> bool:
        # What was terminated in vain is purged a minute later, when that has arrived for certain.
        if found := await _instances(parley, turn_id) + await _instances(parley, approval["id"]):
            if all(one["runtimeStatus"] in {"Completed", "Terminated"} for one in found):
                await _age_erasure(parley, session_id)
                await sweep(parley)
            return False
        return True

    await eventually(forgotten, "the durable histories to be purged")
    assert sink.at("/erased") == []
    assert session_id not in [item["id"] for item in (await api.get("/api/v1/sessions")).json()["items"]]
    taken_again = await api.post("/api/v1/sessions", {"id": session_id})
    assert taken_again.status_code == 201
    assert [event["type"] for event in await api.events(session_id)][-1] == "session.created"


async def test_deleting_while_the_model_streams_cancels_the_turn_first(api: Api, parley: AppHost) -> None:
    session_id = await api.session()
    async with api.session_stream(session_id) as stream:
        turn_id = await api.say(session_id, script(tokens=2_000, token_ms=20))
        seen: list[str] = []
        async with asyncio.timeout(60):
            async for event in stream:
                seen.append(event.event)
                if seen.count("stream.chunk") == 3:
                    break
            deleting = asyncio.create_task(api.request("DELETE", f"/api/v1/sessions/{session_id}"))
            async for event in stream:
                seen.append(event.event)
                if event.event == "stream.ended":
                    assert event.data["data"]["status"] == "cancelled"
                    break
            assert (await deleting).status_code == 204
    assert seen.index("session.ended") < seen.index("stream.ended")

    async def forgotten() -> bool:
        return not await _instances(parley, turn_id)

    await eventually(forgotten, "the durable history to be purged")
    assert (await api.get(f"/api/v1/sessions/{session_id}")).status_code == 404


async def test_deleting_a_suspended_session_with_a_held_turn(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/held"))]]))
    await api.approval(session_id)
    assert (await api.post(f"/api/v1/sessions/{session_id}/suspend")).status_code == 200

    assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}")).status_code == 204

    async def forgotten() -> bool:
        return not await _instances(parley, turn_id)

    await eventually(forgotten, "the durable history to be purged")
    assert sink.at("/held") == []


async def test_the_sweep_goes_on_with_an_erasure_that_was_cut(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/cut"))]]))
    approval = await api.approval(session_id)
    # What a request leaves that was cut right after it had put the erasure on record, long ago; nobody was told.
    async with await psycopg.AsyncConnection.connect(parley.environment["POSTGRES_URL"], autocommit=True) as database:
        await database.execute(
            "INSERT INTO session_erasures (session_id, owner_id, requested_at, attempted_at)"
            " VALUES (%s, 'olga', now() - interval '1 hour', now() - interval '1 hour')",
            [session_id],
        )

        async def ended() -> bool:
            found = await _instances(parley, turn_id) + await _instances(parley, approval["id"])
            return all(instance["runtimeStatus"] == "Terminated" for instance in found)

        # One sweep ends what runs; another, half a minute after it, forgets it.
        await sweep(parley)
        await eventually(ended, "the sweep to end what runs")
        await _age_erasure(parley, session_id)

        async def finished() -> bool:
            query = "SELECT finished_at, instances FROM session_erasures WHERE session_id = %s"
            row = await (await database.execute(query, [session_id])).fetchone()
            return row is not None and row[0] is not None and row[1] == []

        await sweep(parley)
        await eventually(finished, "the sweep to finish the erasure")
    assert await _instances(parley, turn_id) == []
    assert (await api.get(f"/api/v1/sessions/{session_id}")).status_code == 404
    assert sink.at("/cut") == []


async def test_stale_if_match_is_a_conflict(api: Api) -> None:
    created = await api.post("/api/v1/sessions", {"name": "one"})
    path, etag = created.headers["location"], created.headers["etag"]
    assert (await api.get(path)).headers["etag"] == etag

    first = await api.request("PATCH", path, json={"name": "two"}, headers={"if-match": etag})
    stale = await api.request("PATCH", path, json={"name": "three"}, headers={"if-match": etag})
    kept = await api.request("DELETE", path, headers={"if-match": etag})

    assert (first.status_code, first.json()["name"]) == (200, "two")
    assert [(answer.status_code, answer.json()["code"]) for answer in (stale, kept)] == [(409, "CONFLICT")] * 2
    assert first.headers["etag"] == (await api.get(path)).headers["etag"] != etag
    assert (await api.request("DELETE", path, headers={"if-match": first.headers["etag"]})).status_code == 204


async def test_unknown_fields_of_a_patch_are_refused_by_name(api: Api) -> None:
    path = f"/api/v1/sessions/{await api.session()}"
    refused = await api.request("PATCH", path, json={"status": "ENDED", "config": {"colour": 1}})
    assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR")
    assert {error["field"] for error in refused.json()["errors"]} == {"status", "config.colour"}


async def test_participant_writes_reads_and_leaves(api: Api) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/participants/pia%40example.org"
    pia = api.as_user("pia@example.org")
    assert (await pia.get(f"/api/v1/sessions/{session_id}")).status_code == 404

    put = await api.request("PUT", path, json={"access": "write"})
    assert (put.status_code, put.json()["user_id"]) == (200, "pia@example.org")
    await pia.until(session_id, await pia.say(session_id, script(content="hello")))
    assert (await api.request("PUT", path, json={"access": "read"})).json()["access"] == "read"
    refused = await pia.post(f"/api/v1/sessions/{session_id}/messages", {"content": "no"})
    assert (refused.status_code, refused.json()["code"]) == (404, "SESSION_NOT_FOUND")
    assert (await pia.get(path)).json()["access"] == "read"
    assert (await pia.request("DELETE", path)).status_code == 204
    assert (await pia.get(f"/api/v1/sessions/{session_id}")).status_code == 404
    assert (await api.get(path)).status_code == 404


async def test_what_waits_for_somebody_who_is_taken_out_is_cancelled(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/participants/wim"
    await api.request("PUT", path, json={"access": "write"})
    turn_id = await api.as_user("wim").say(session_id, script(tool_calls=[[post_call(sink.url("/taken-out"))]]))
    approval = await api.approval(session_id)

    assert (await api.request("DELETE", path)).status_code == 204

    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json()["status"] == "cancelled"
    assert sink.at("/taken-out") == []


async def test_names_that_nobody_can_have_are_not_found(api: Api) -> None:
    base = f"/api/v1/sessions/{await api.session()}/participants"
    for name in ("a%20b", "a;b", "a,b", "%00", "%0a", "x" * 201):
        for method, body in (("GET", None), ("PUT", {"access": "read"}), ("DELETE", None)):
            answer = await api.request(method, f"{base}/{name}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "SESSION_NOT_FOUND"), (method, name)
    for name in ("%F0%9F%8E%89", "%ff", "x" * 200, "DROP'--"):
        assert (await api.request("PUT", f"{base}/{name}", json={"access": "read"})).status_code == 200, name
    refused = await api.request("PUT", f"{base}/olga", json={"access": "read"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "user_id")
    for body in ({}, {"access": "owner"}, {"access": "read", "role": "x"}):
        assert (await api.request("PUT", f"{base}/pia", json=body)).status_code == 422, body


async def test_strange_preconditions_and_preferences_do_no_harm(api: Api) -> None:
    path = f"/api/v1/sessions/{await api.session()}"
    for tag in (b"\xff", b'"', b",,,", b'W/"x"', b"x" * 1_000):
        answer = await api.request("PATCH", path, json={"name": "x"}, headers={"if-match": tag})
        assert (answer.status_code, answer.json()["code"]) == (409, "CONFLICT"), tag
    for prefer in (
        b"wait",
        b"wait=",
        b"wait=-1",
        b"wait=1.5",
        b"wait=\xb2",
        b"await=5",
        b"x" * 200,
        b"wait=9999999999",
    ):
        answer = await api.post(f"{path}/messages", {"content": script(content="x")}, headers={"prefer": prefer})
        assert (answer.status_code, "preference-applied" in answer.headers) == (202, False), prefer
        await api.until(path.rpartition("/")[2], answer.json()["turn"]["id"])
    capped = await api.post(f"{path}/messages", {"content": script(content="x")}, headers={"prefer": "wait=999999999"})
    assert (capped.status_code, capped.headers["preference-applied"]) == (200, "wait=60")


async def test_expired_session_is_read_only_and_the_sweep_ends_it(api: Api, parley: AppHost, sink: Sink) -> None:
    session_id = await api.session(expires_after_seconds=1)
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/expired"))]]))

    async def refused() -> bool:
        answer = await api.request("PUT", f"/api/v1/sessions/{session_id}/participants/eve", json={"access": "read"})
        return (answer.status_code, answer.json().get("code")) == (410, "SESSION_EXPIRED")

    await eventually(refused, "the session to expire")
    late = await api.post(f"/api/v1/sessions/{session_id}/messages", {"content": "late"})
    assert (late.status_code, late.json()["code"]) == (410, "SESSION_EXPIRED")

    async def ended() -> bool:
        return str((await api.get(f"/api/v1/sessions/{session_id}")).json()["status"]) == "ENDED"

    await sweep(parley)
    await eventually(ended, "the sweep to end it")
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
    assert sink.at("/expired") == []


# Prefer: wait. -------------------------------------------------------------------------------------


async def _post(api: Api, session_id: str, content: str, prefer: str, **headers: str) -> httpx.Response:
    return await api.post(
        f"/api/v1/sessions/{session_id}/messages", {"content": content}, headers={"prefer": prefer, **headers}
    )


async def test_caller_who_waits_gets_the_turn_that_ended(api: Api) -> None:
    session_id = await api.session()
    key = {"idempotency-key": "wait-once"}
    first = await _post(api, session_id, script(content="done"), "respond-async, wait=30", **key)
    again = await _post(api, session_id, script(content="done"), "wait=30", **key)

    assert (first.status_code, first.headers["preference-applied"]) == (200, "wait=30")
    assert first.json()["turn"]["status"] == "completed"
    assert first.json()["turn"]["usage"]["output_tokens"] > 0
    assert again.json() == first.json()
    assert first.headers["location"].endswith(first.json()["turn"]["id"])
    assert [message["role"] for message in await api.messages(session_id)] == ["user", "assistant"]


async def test_caller_who_waits_for_a_turn_that_waits_is_told_so(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    content = script(tool_calls=[[call("calculate", expression="1"), post_call(sink.url("/wait"))]], content="after")
    asked = await _post(api, session_id, content, "wait=30")

    told = asked.json()
    assert (asked.status_code, asked.headers["content-type"]) == (202, "application/json")
    assert (told["code"], told["message"]["content"]) == ("APPROVAL_REQUIRED", content)
    assert (told["turn"]["status"], asked.headers["preference-applied"]) == ("waiting_approval", "wait=30")
    turn_id = asked.headers["location"].rpartition("/")[2]
    assert told["turn"]["id"] == turn_id
    assert (await api.turn(session_id, turn_id))["status"] == "waiting_approval"
    await api.decide((await api.approval(session_id))["id"], "reject")
    assert (await api.until(session_id, turn_id))["status"] == "completed"


async def test_caller_whose_time_is_up_gets_the_turn_as_it_is(api: Api) -> None:
    session_id = await api.session()
    for prefer, applied in (("wait=1", "wait=1"), ("wait=soon", None), ("handling=strict", None)):
        answer = await _post(api, session_id, script(tokens=2_000, token_ms=20), prefer)
        assert (answer.status_code, answer.headers.get("preference-applied")) == (202, applied), prefer
        assert "code" not in answer.json()
        turn_id = answer.json()["turn"]["id"]
        await api.cancel(session_id, turn_id)
        await api.until(session_id, turn_id)
    listed = (await api.get(f"/api/v1/sessions/{session_id}/turns?limit=2")).json()
    assert listed["items"][0]["id"] == turn_id
    assert listed["next_cursor"] is not None
