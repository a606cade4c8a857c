"""Webhooks of users: what happens to their sessions is sent to them, signed, and again until it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.e2e.support.client import Api, Json, eventually, open_api, post_call, script, sweep
from tests.e2e.support.processes import AppHost, Received, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

ALL = ["turn.completed", "turn.failed", "turn.cancelled", "turn.waiting", "session.ended"]


async def _webhook(api: Api, sink: Sink, path: str, **body: Any) -> Json:
    made = await api.post("/api/v1/webhooks", {"url": sink.url(path), "events": ALL, **body})
    assert made.status_code == 201, made.text
    return dict(made.json())


async def _told(host: AppHost, sink: Sink, path: str, count: int) -> list[Received]:
    async def look() -> list[Received] | None:
        await sweep(host)
        found = sink.at(path)
        return found if len(found) >= count else None

    return await eventually(look, f"{count} webhooks at {path}")


async def test_each_event_of_ones_sessions_is_sent_once_and_signed(parley: AppHost, api: Api, sink: Sink) -> None:
    fay = api.as_user("fay-hooks;approver")
    hook = await _webhook(fay, sink, "/fay-hooks")
    await _webhook(api.as_user("eve-hooks"), sink, "/eve-hooks")
    session_id = await fay.session()
    done = await fay.say(session_id, script(content="done"))
    await fay.until(session_id, done)
    failed = await fay.say(session_id, script(key=f"hooks-{session_id}", fail=[{"status": 400, "message": "no"}]))
    await fay.until(session_id, failed)
    waiting = await fay.say(session_id, script(tool_calls=[[post_call(sink.url("/held"))]], content="done"))
    await fay.approval(session_id)
    await fay.cancel(session_id, waiting)
    await fay.until(session_id, waiting)
    await fay.post(f"/api/v1/sessions/{session_id}/end")
    requests = await _told(parley, sink, "/fay-hooks", 5)
    bodies = [Webhook(hook["secret"]).verify(request.body, request.headers) for request in requests]
    told = {(body["type"], body["data"].get("turn_id")) for body in bodies}
    assert told == {
        ("turn.completed", done),
        ("turn.failed", failed),
        ("turn.waiting", waiting),
        ("turn.cancelled", waiting),
        ("session.ended", None),
    }
    assert {body["data"]["session_id"] for body in bodies} == {session_id}
    turn = await fay.turn(session_id, failed)
    (of_failed,) = (body["data"] for body in bodies if body["type"] == "turn.failed")
    assert of_failed["error"] == turn["error"]
    assert sink.at("/eve-hooks") == [], "who does not own the session is told nothing"
    assert hook["secret"] not in parley.log()
    forged = requests[0].body.replace(b"session_id", b"session_jd")
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(forged, requests[0].headers)
    listed = (await fay.get(f"/api/v1/webhooks/{hook['id']}/deliveries")).json()["items"]
    assert [(item["status"], item["tries"], item["answer_code"]) for item in listed] == [("delivered", 1, 200)] * 5
    assert {item["id"] for item in listed} == {request.headers["webhook-id"] for request in requests}
    await fay.request("DELETE", f"/api/v1/webhooks/{hook['id']}")


async def test_a_refused_delivery_is_listed_and_sent_again(
    parley: AppHost, api: Api, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    dan = api.as_user("dan-hooks")
    hook = await _webhook(dan, sink, "/dan-hooks", events=["turn.completed"])
    monkeypatch.setattr(sink, "status_of", lambda request: 302 if request.path == "/dan-hooks" else 200)
    session_id = await dan.session()
    await dan.until(session_id, await dan.say(session_id, script(content="done")))
    await _told(parley, sink, "/dan-hooks", 1)
    path = f"/api/v1/webhooks/{hook['id']}"

    async def settled() -> Json | None:
        (item,) = (await dan.get(f"{path}/deliveries")).json()["items"]
        return dict(item) if item["answer_code"] is not None else None

    refused = await eventually(settled, "the outcome of the try")
    assert (refused["status"], refused["answer_code"], "redirect" in refused["error"]) == ("pending", 302, True)
    assert refused["next_try_at"] > refused["tried_at"]
    assert (await dan.get(path)).json()["failing_since"] is not None
    monkeypatch.undo()
    rotated = (await dan.post(f"{path}/secret")).json()
    again = await dan.post(f"{path}/deliveries/{refused['id']}/send")
    assert (again.status_code, again.json()["status"], again.json()["tries"]) == (202, "pending", 0)
    requests = await _told(parley, sink, "/dan-hooks", 2)
    assert {request.headers["webhook-id"] for request in requests} == {refused["id"]}
    for secret in (hook["secret"], rotated["secret"]):
        Webhook(secret).verify(requests[-1].body, requests[-1].headers)

    async def delivered() -> bool:
        (item,) = (await dan.get(f"{path}/deliveries")).json()["items"]
        return bool(item["status"] == "delivered")

    await eventually(delivered, "the delivery to be settled")
    assert (await dan.get(path)).json()["failing_since"] is None
    off = await dan.request("PATCH", path, json={"enabled": False})
    assert (off.json()["enabled"], off.json()["off_reason"]) == (False, "Its owner switched it off.")
    assert (await dan.post(f"{path}/deliveries/{refused['id']}/send")).json()["code"] == "INVALID_STATE"
    await dan.until(session_id, await dan.say(session_id, script(content="unheard")))
    assert len((await dan.get(f"{path}/deliveries")).json()["items"]) == 1, "nothing is queued for it"
    assert (await dan.request("DELETE", path)).status_code == 204
    assert (await dan.get(path)).status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "http://example.com/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://user:secret@example.com/",
        "ftp://example.com/",
        "nonsense",
    ],
)
async def test_an_address_that_nothing_may_be_sent_to_is_refused(api: Api, url: str) -> None:
    refused = await api.post("/api/v1/webhooks", {"url": url, "events": ALL})
    assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR")
    assert (await api.get("/api/v1/webhooks")).json()["items"] == []


@pytest.mark.timeout(180)
async def test_nothing_is_lost_by_a_kill_between_event_and_delivery(tmp_path: Path, model_url: str, sink: Sink) -> None:
    with own_stores() as stores, running_host(tmp_path, own_environment(stores, model_url, sink)) as host:
        api = await open_api(host)
        hook = await _webhook(api, sink, "/hold/killed", events=["turn.completed"])
        session_id = await api.session()
        turn_id = await api.say(session_id, script(content="done"))
        await api.until(session_id, turn_id)
        (begun,) = await _told(host, sink, "/hold/killed", 1)
        host.kill()
        host.start()
        await api.aclose()
        api = await open_api(host)
        # As if the time had passed for which it was claimed.
        with psycopg.connect(stores.postgres_url, autocommit=True) as database:
            database.execute("UPDATE webhook_deliveries SET due_at = now() - interval '1 second'")
        sink.released.set()
        requests = await _told(host, sink, "/hold/killed", 2)
        assert {request.headers["webhook-id"] for request in requests} == {begun.headers["webhook-id"]}
        assert Webhook(hook["secret"]).verify(requests[-1].body, requests[-1].headers)["data"]["turn_id"] == turn_id
        await api.aclose()
