"""Every route, as declared: its answers, its errors, its headers. The client checks each answer's shape by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.signing import ApprovalLinks
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, call, post_call, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import LINK_SECRET, AppHost, Sink, app_environment, free_port, running_host
from tests.support.webhooks import signed_webhook

NOBODY = "0190aaaa-0000-7000-8000-000000000000"


async def test_every_declared_operation_answers_as_declared(api: Api, contract: WireContract, sink: Sink) -> None:
    """One walk over all routes; at the end none is left that was not seen to succeed."""
    await _walk(api, sink)
    await _walk_history(api)
    await _walk_branches(api)
    await _walk_recovery(api)
    await _walk_forks(api)
    await _walk_features(api)
    await _walk_agents(api)
    await _walk_policies(api)
    await _walk_webhooks(api, sink)
    await _walk_mcp_servers(api, sink)
    await _walk_openai(api)
    await _walk_ag_ui(api)
    await _walk_mcp_server(api)
    await _walk_questions(api, sink)
    await _walk_client_tools(api)
    await _walk_files(api)
    await _walk_doors(api)
    await _walk_schedules(api)
    await _walk_triggers(api)
    async with httpx.AsyncClient(base_url=api.base_url, headers=api.headers, trust_env=False) as client:
        for path in ("/api/v1/openapi.json", "/api/docs", "/api/v1/me", "/api/v1/health/live", "/api/v1/health/ready"):
            contract.check(await client.get(path))
        for accept in ("", "application/openmetrics-text"):
            headers = {"x-dev-user": "adam;admin", "accept": accept}
            contract.check(await client.get("/api/v1/metrics", headers=headers))
    succeeded = {(method, path) for method, path, status in contract.seen if status < 300}
    declared = {(method.upper(), path) for path, methods in contract.document["paths"].items() for method in methods}
    assert declared - succeeded == set()


async def _walk_schedules(api: Api) -> None:
    path = "/api/v1/schedules/walk"
    body = {"content": "hello", "cron": "0 0 9 * * MON-FRI", "zone": "Europe/Prague", "config": {"max_steps": 2}}
    made = await api.request("PUT", path, json=body)
    schedule = made.json()
    assert (made.status_code, schedule["status"], schedule["last_run"]) == (201, "active", None)
    assert (await api.request("PUT", path, json=body | {"paused": True})).status_code == 200
    found = (await api.get(path)).json()
    assert (found["status"], found["next_run_at"], found["runs"]) == ("paused", None, [])
    assert found["config"] == {"max_steps": 2}, "sent back, it sets nothing else"
    assert "walk" in [item["id"] for item in (await api.get("/api/v1/schedules")).json()["items"]]
    for wrong, field in (
        ({"content": "x"}, "body"),
        ({"content": "x", "at": "2020-01-01T00:00:00Z"}, "at"),
        ({"content": "x", "at": "2040-01-01T00:00:00"}, "at"),
        ({"content": "x", "cron": "* * * * *"}, "body"),
        ({"content": "x", "cron": "0 0 9 * * *", "zone": "Prague"}, "zone"),
        ({"content": " ", "cron": "0 0 9 * * *"}, "content"),
        ({"content": "x", "cron": "0 0 9 * * *", "agent_id": "nobody"}, "agent_id"),
        ({"content": "x", "cron": "0 0 9 * * *", "agent_id": None, "session_id": NOBODY}, "body"),
    ):
        refused = await api.request("PUT", path, json=wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR"), refused.text
        assert [error["field"] for error in refused.json()["errors"]] == [field], wrong
    of_nobody = {"content": "x", "cron": "0 0 9 * * *", "session_id": NOBODY}
    assert (await api.request("PUT", path, json=of_nobody)).status_code == 404
    assert (await api.request("DELETE", path)).status_code == 204
    assert (await api.request("DELETE", path)).status_code == 404
    assert (await api.get(path)).status_code == 404


async def _walk_triggers(api: Api) -> None:
    path = "/api/v1/triggers/walk"
    made = await api.request("PUT", path, json={"content": "hello"})
    trigger = made.json()
    assert (made.status_code, trigger["secret"][:6], trigger["is_secret_void"]) == (201, "whsec_", False)
    again = (await api.request("PUT", path, json={"content": "hello again"})).json()
    assert (again["secret"], again["url"]) == (None, trigger["url"])
    assert (await api.get(path)).json()["secret"] is None
    assert "walk" in [item["id"] for item in (await api.get("/api/v1/triggers")).json()["items"]]
    fired = await api.post(f"{path}/fire", {"payload": {"order": 7}})
    assert (fired.status_code, fired.json()["message"]["content"]) == (202, "hello again")
    assert (await api.get(fired.headers["location"])).status_code == 200
    assert (await api.post(f"{path}/fire")).status_code == 202
    too_long = await api.post(f"{path}/fire", {"payload": "x" * 70_000})
    assert (too_long.status_code, too_long.json()["code"]) == (413, "MESSAGE_TOO_LONG")
    hook = trigger["url"].removeprefix(api.base_url)
    signed = await api.post(hook, **signed_webhook(trigger["secret"], b'{"order": 8}'))
    assert signed.status_code == 202
    rotated = (await api.post(f"{path}/rotate", {"keep_old_seconds": 0})).json()
    assert rotated["secret"] not in {None, trigger["secret"]}
    assert (await api.post(hook, **signed_webhook(trigger["secret"], b"{}"))).status_code == 404
    no_json = await api.post(hook, **signed_webhook(rotated["secret"], b"order=8"))
    assert (no_json.status_code, no_json.json()["code"]) == (422, "VALIDATION_ERROR")
    assert (await api.request("PUT", path, json={"content": "hello", "paused": True})).status_code == 200
    paused = await api.post(hook, **signed_webhook(rotated["secret"], b"{}"))
    assert (paused.status_code, paused.json()["code"]) == (400, "INVALID_STATE")
    assert (await api.request("DELETE", path)).status_code == 204
    assert (await api.post(hook, **signed_webhook(rotated["secret"], b"{}"))).status_code == 404
    assert (await api.get(path)).status_code == 404


async def _walk(api: Api, sink: Sink) -> None:
    created = await api.post("/api/v1/sessions", {"name": "Walk", "tags": ["a", "b"], "metadata": {"k": [1, None]}})
    session = created.json()
    assert (created.status_code, session["status"]) == (201, "CREATED")
    base = f"/api/v1/sessions/{session['id']}"
    assert created.headers["location"] == base
    assert (await api.get(base)).json() == session
    assert session["id"] in [item["id"] for item in (await api.get("/api/v1/sessions?tag=a&q=wal")).json()["items"]]
    for verb, status in (("activate", "ACTIVE"), ("suspend", "SUSPENDED"), ("resume", "ACTIVE")):
        assert (await api.post(f"{base}/{verb}")).json()["status"] == status
    steps = [[call("calculate", expression="2 ** 10"), post_call(sink.url("/walk"))]]
    posted = await api.post(f"{base}/messages", {"content": script(tool_calls=steps, tokens=10)})
    turn_id = posted.json()["turn"]["id"]
    assert posted.headers["location"] == f"{base}/turns/{turn_id}"
    assert (await api.get(posted.headers["location"])).status_code == 200
    approval = await api.approval(session["id"])
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    assert (await api.get(f"{base}/approvals")).json() == {"items": [approval], "next_cursor": None}
    own = await api.get("/api/v1/approvals", params={"scope": "own_turns", "session_id": session["id"]})
    assert own.json() == {"items": [approval], "next_cursor": None}
    context = (await api.get(f"/api/v1/approvals/{approval['id']}/context")).json()
    assert (context["shows"], context["may_open_session"], context["asked_by"]) == ("full", True, "olga")
    expires_at = datetime.fromisoformat(approval["expires_at"])
    link = f"/api/approve/{ApprovalLinks(LINK_SECRET, '').token(approval['id'], expires_at=expires_at)}"
    assert (await api.get(link)).status_code == 200
    assert (await api.post(link, data={"decision": "approve"})).status_code == 200
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    turn = await api.until(session["id"], turn_id)
    audit = (await api.get(f"{base}/audit")).json()
    assert (audit["verified"], audit["problems"], audit["being_written"], audit["next_cursor"]) == (True, [], [], None)
    assert (await api.get("/api/v1/audit/findings")).status_code == 404
    findings = (await api.as_user("ada;admin").get("/api/v1/audit/findings")).json()
    assert session["id"] not in {finding["session_id"] for finding in findings["items"]}
    # The webhook is sent beside the turn and has no place of its own in the order.
    lines = [(line["action"], line["who"]) for line in audit["items"] if line["action"] != "approval.notified"]
    assert lines == [
        ("approval.requested", "olga"),
        ("approval.viewed", "olga"),
        ("approval.voted", "olga"),
        ("approval.decided", "olga"),
        ("tool_call.started", "system"),
        ("tool_call.ended", "system"),
    ]
    assert turn["usage"]["input_tokens"] > 0
    assert (turn["usage"]["cost_usd"], turn["finish_reason"]) == (None, "stop")
    asked, *_, answered = await api.messages(session["id"])
    assert (asked["author"], asked["finish_reason"], answered["author"]) == ("olga", None, None)
    assert (answered["finish_reason"], answered["output"], answered["left_out"]) == ("stop", None, None)
    for message in await api.messages(session["id"]):
        assert (await api.get(f"{base}/messages/{message['id']}")).json() == message
    stream = await api.turn_stream(session["id"], turn_id)
    frames = {"message_start", "content_delta", "tool_call", "message_end", "end"}
    told = {"tool_call.pending", "tool_call.approved", "tool_call.completed"}
    assert {event.event for event in stream} == frames | told
    # The client's streams are not checked as answers; these are.
    assert (await api.get(f"{base}/turns/{turn_id}/stream")).status_code == 200
    assert (await api.events(session["id"]))[0]["type"] == "session.created"
    assert (await api.post(f"{base}/turns/{turn_id}/cancel")).status_code == 200
    joined = {"session_id": session["id"], "connection_id": None, "is_joined": True}
    assert (await api.post(f"{base}/subscribe")).json() == joined
    assert (await api.post(f"{base}/unsubscribe", {"connection_id": "c"})).json()["connection_id"] == "c"
    alone = {"session_id": session["id"], "is_shared": False, "here": [], "again_s": 20}
    assert (await api.post(f"{base}/presence")).json() == alone
    negotiated = (await api.post("/api/v1/realtime/negotiate")).json()
    assert set(negotiated) == {"url", "accessToken"}
    tools = {tool["name"]: tool for tool in (await api.get("/api/v1/tools")).json()["items"]}
    assert (tools["http_request"]["approval"], tools["http_request"]["idempotent"]) == ("manual", False)
    assert (tools["calculate"]["approval"], tools["calculate"]["idempotent"]) == ("auto", True)
    assert tools["http_request"]["risks"] == ["reads_untrusted", "acts_outward"]
    assert turn in (await api.get(f"{base}/turns")).json()["items"]
    patched = await api.request("PATCH", base, json={"name": "Walked"}, headers={"if-match": "*"})
    assert (patched.json()["name"], patched.headers["etag"]) == ("Walked", (await api.get(base)).headers["etag"])
    participant = f"{base}/participants/pat"
    assert (await api.request("PUT", participant, json={"access": "read"})).json()["access"] == "read"
    assert (await api.get(participant)).json()["user_id"] == "pat"
    assert (await api.request("PUT", f"{base}/participants/ann", json={"access": "write"})).status_code == 200
    pages = [(await api.get(f"{base}/participants", params={"limit": 1})).json()]
    pages.append((await api.get(f"{base}/participants", params={"cursor": pages[0]["next_cursor"]})).json())
    told = [(item["user_id"], item["access"]) for page in pages for item in page["items"]]
    assert (told, pages[1]["next_cursor"]) == ([("ann", "write"), ("pat", "read")], None)
    assert (await api.request("DELETE", participant)).status_code == 204
    assert (await api.post(f"{base}/end")).json()["status"] == "ENDED"
    assert (await api.request("DELETE", base)).status_code == 204


async def _walk_doors(api: Api) -> None:
    chat = "/api/v1/ai-sdk/chat"
    asked = {"id": "m-1", "role": "user", "parts": [{"type": "text", "text": script(content="Through the door.")}]}
    body = {"id": "walk", "messages": [asked], "trigger": "submit-message"}
    told = await api.post(f"{chat}?version=7", body)
    assert (told.status_code, told.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1")
    assert "Through the door." in "".join(re.findall(r'"delta":"([^"]*)"', told.text))
    assert (await api.get(f"{chat}/walk/stream")).status_code == 204
    question, answer = (await api.get(f"{chat}/walk/messages")).json()["messages"]
    assert question["parts"] == asked["parts"]
    assert [part["type"] for part in answer["parts"]] == ["data-turn", "step-start", "text"]


async def _walk_webhooks(api: Api, sink: Sink) -> None:
    body = {"url": sink.url("/walked-hook"), "events": ["turn.waiting", "turn.completed", "turn.waiting"]}
    created = await api.post("/api/v1/webhooks", {**body, "description": "Walk"})
    made = created.json()
    base = f"/api/v1/webhooks/{made['id']}"
    assert (created.status_code, created.headers["location"]) == (201, base)
    assert made.pop("secret").startswith("whsec_")
    assert (await api.get(base)).json() == made
    assert made in (await api.get("/api/v1/webhooks")).json()["items"]
    assert made["events"] == ["turn.waiting", "turn.completed"]
    changed = (await api.request("PATCH", base, json={"description": None, "events": ["turn.completed"]})).json()
    assert changed == {**made, "description": None, "events": ["turn.completed"], "updated_at": changed["updated_at"]}
    assert (await api.request("PATCH", base, json={})).json()["events"] == ["turn.completed"]
    for wrong in ({"events": None}, {"url": None}, {"enabled": None}, {"events": []}, {"url": "https://10.0.0.1/"}):
        assert (await api.request("PATCH", base, json=wrong)).status_code == 422, wrong
    assert (await api.post(f"{base}/secret")).json()["secret"].startswith("whsec_")
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(content="told")))
    (delivery,) = (await api.get(f"{base}/deliveries")).json()["items"]
    assert (delivery["event"], delivery["data"]["session_id"]) == ("turn.completed", session_id)
    assert (await api.post(f"{base}/deliveries/{delivery['id']}/send")).status_code == 202
    assert (await api.post(f"{base}/deliveries/{NOBODY}/send")).status_code == 404
    assert (await api.request("DELETE", base)).status_code == 204


async def _walk_history(api: Api) -> None:
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(content="a walk through <b>history</b>")))
    base = f"/api/v1/sessions/{session_id}/bookmarks"
    message = (await api.messages(session_id))[1]
    query = {"q": '"walk through" hist*', "session_id": session_id, "role": "assistant"}
    (hit,) = (await api.get("/api/v1/search", params=query)).json()["items"]
    assert (hit["message_id"], hit["snippet"]) == (message["id"], "a walk through <b>history</b>")
    marked = [hit["snippet"][mark["start"] : mark["end"]] for mark in hit["highlights"]]
    assert marked == ["walk through", "history"]
    made = await api.post(base, {"message_id": message["id"], "note": "look here"})
    bookmark = made.json()
    assert (made.status_code, bookmark["note"]) == (201, "look here")
    assert made.headers["location"] == f"{base}/{bookmark['id']}"
    again = await api.post(base, {"message_id": message["id"]})
    assert (again.status_code, again.json()) == (200, {**bookmark, "note": None})
    assert (await api.get(made.headers["location"])).json() == again.json()
    assert (await api.get(base)).json() == {"items": [again.json()], "next_cursor": None}
    assert (await api.request("DELETE", made.headers["location"])).status_code == 204
    assert (await api.get(made.headers["location"])).json()["code"] == "MESSAGE_NOT_FOUND"
    pin, listed = f"/api/v1/sessions/{session_id}/pin", {"pinned": "true"}
    for _ in range(2):
        assert (await api.request("PUT", pin)).status_code == 204
    pinned = [session["id"] for session in (await api.get("/api/v1/sessions", params=listed)).json()["items"]]
    assert pinned == [session_id]
    for _ in range(2):
        assert (await api.request("DELETE", pin)).status_code == 204
    assert (await api.get("/api/v1/sessions", params=listed)).json()["items"] == []


async def _walk_branches(api: Api) -> None:
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(content="first")))
    base = f"/api/v1/sessions/{session_id}"
    question, answer = await api.messages(session_id)
    posted = await api.post(f"{base}/messages/{question['id']}/regenerate", {"approval_mode": "manual"})
    turn = posted.json()["turn"]
    assert (posted.status_code, posted.json()["message"]) == (202, question)
    assert (turn["branch"], turn["message_id"]) == (1, question["id"])
    assert posted.headers["location"] == f"{base}/turns/{turn['id']}"
    await api.until(session_id, turn["id"])
    assert [message["turn_id"] for message in await api.messages(session_id)] == [question["turn_id"], turn["id"]]
    assert (await api.get(f"{base}/messages", params={"branch": "0"})).json()["items"] == [question, answer]
    branches = (await api.get(f"{base}/branches")).json()["items"]
    assert [(item["branch"], item["active"]) for item in branches] == [(0, False), (1, True)]
    activated = await api.post(f"{base}/branches/0/activate")
    assert (activated.json()["active_branch"], activated.headers["etag"]) == (0, (await api.get(base)).headers["etag"])
    for path in (
        "branches/2/activate",
        "branches/-1/activate",
        f"branches/{'9' * 400}/activate",
        "branches/x/activate",
    ):
        assert (await api.post(f"{base}/{path}")).json()["code"] == "MESSAGE_NOT_FOUND", path
    assert (await api.get(f"{base}/messages", params={"branch": "7"})).json()["code"] == "MESSAGE_NOT_FOUND"
    assert (await api.get(f"{base}/messages", params={"branch": "9" * 5_000})).status_code == 422
    refused = await api.post(f"{base}/messages/{answer['id']}/regenerate")
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_MESSAGE")
    assert (await api.post(f"{base}/messages/{NOBODY}/regenerate")).json()["code"] == "MESSAGE_NOT_FOUND"
    edited = await api.post(f"{base}/messages/{question['id']}/edit", {"content": script(content="other")})
    assert (edited.status_code, edited.json()["turn"]["branch"]) == (202, 2)
    assert edited.json()["turn"]["agent_id"] == turn["agent_id"] == "assistant"
    assert edited.headers["location"] == f"{base}/turns/{edited.json()['turn']['id']}"
    await api.until(session_id, edited.json()["turn"]["id"])
    assert [message["branch"] for message in await api.messages(session_id)] == [2, 2]
    refused = await api.post(f"{base}/messages/{answer['id']}/edit", {"content": "x"})
    assert (refused.status_code, refused.json()["code"]) == (400, "INVALID_MESSAGE")
    assert (await api.post(f"{base}/messages/{NOBODY}/edit", {"content": "x"})).json()["code"] == "MESSAGE_NOT_FOUND"
    kinds = [(event["type"], event["data"].get("active_branch")) for event in await api.events(session_id)]
    assert [branch for kind, branch in kinds if kind == "session.activated"] == [None, 1, 0, 2]


async def _walk_forks(api: Api) -> None:
    session_id = await api.session()
    base = f"/api/v1/sessions/{session_id}"
    for text in ("first", "second"):
        await api.until(session_id, await api.say(session_id, script(content=text)))
    question = (await api.messages(session_id))[2]
    made = await api.post(f"{base}/fork", {"message_id": question["id"]}, headers={"idempotency-key": "fork"})
    fork = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/api/v1/sessions/{fork['id']}")
    assert (fork["forked_from"], fork["status"], fork["active_branch"]) == (session_id, "CREATED", 0)
    again = await api.post(f"{base}/fork", {"message_id": question["id"]}, headers={"idempotency-key": "fork"})
    assert again.json() == fork
    copied = await api.messages(fork["id"])
    assert [message["content"] for message in copied] == [
        message["content"] for message in (await api.messages(session_id))[:3]
    ]
    await api.until(fork["id"], await api.say(fork["id"], script(content="third")))
    assert [message["content"] for message in await api.messages(fork["id"], role="assistant")] == ["first", "third"]
    assert (await api.events(fork["id"]))[0]["type"] == "session.created"
    everything = (await api.post(f"{base}/fork")).json()
    assert len(await api.messages(everything["id"])) == 4
    for body, status, code in (
        ({"message_id": NOBODY}, 404, "MESSAGE_NOT_FOUND"),
        ({"checkpoint_id": NOBODY}, 404, "MESSAGE_NOT_FOUND"),
        ({"message_id": question["id"], "checkpoint_id": NOBODY}, 422, "VALIDATION_ERROR"),
        ({"message_id": "a\x00b"}, 422, "VALIDATION_ERROR"),
    ):
        refused = await api.post(f"{base}/fork", body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body


async def _walk_recovery(api: Api) -> None:
    session_id = await api.session()
    base = f"/api/v1/sessions/{session_id}"
    turn_id = await api.say(session_id, script(content="first"))
    await api.until(session_id, turn_id)
    made = await api.post(f"{base}/checkpoints", {"label": "here"})
    assert (made.status_code, made.json()["automatic"], made.json()["label"]) == (201, False, "here")
    before = (await api.get(base)).json()
    listed = (await api.get(f"{base}/checkpoints")).json()["items"]
    assert listed[0] == made.json()
    assert [(item["before_turn_id"], item["automatic"]) for item in listed] == [(None, False), (turn_id, True)]
    await api.until(session_id, await api.say(session_id, script(content="second")))
    assert (await api.request("PATCH", base, json={"name": "Later", "tags": ["x"]})).status_code == 200
    recovered = await api.post(f"{base}/recover", {"checkpoint_id": made.json()["id"]})
    assert recovered.json() == before | {"active_branch": 1, "updated_at": recovered.json()["updated_at"]}
    assert recovered.headers["etag"] == (await api.get(base)).headers["etag"]
    assert [message["content"] for message in await api.messages(session_id, role="assistant")] == ["first"]
    for checkpoint_id, status, code in ((NOBODY, 404, "MESSAGE_NOT_FOUND"), ("", 422, "VALIDATION_ERROR")):
        refused = await api.post(f"{base}/recover", {"checkpoint_id": checkpoint_id})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert (await api.post(f"{base}/recover", {"checkpoint_id": "a\x00b"})).json()["code"] == "VALIDATION_ERROR"
    assert (await api.post(f"{base}/checkpoints", {"label": "x" * 201})).json()["code"] == "VALIDATION_ERROR"


async def _walk_agents(api: Api) -> None:
    admin = api.as_user("ada;admin")
    body = {"name": "Clerk", "instructions": "File things.", "tools": ["calculate"], "defaults": {"max_steps": 3}}
    made = await admin.request("PUT", "/api/v1/agents/clerk", json=body)
    assert made.status_code in {200, 201}
    anybody = api.as_user("rita")
    found = await anybody.get(f"/api/v1/agents/clerk?version={made.json()['version']}")
    assert (found.json(), found.headers["etag"]) == (made.json(), made.headers["etag"])
    assert made.json() in (await anybody.get("/api/v1/agents?limit=200")).json()["items"]
    assert made.json()["defaults"] == {"max_steps": 3}
    own = [made.json()[field] for field in ("model_api", "model_context_tokens", "compact_at")]
    assert own == [None, None, 0.8]
    about = {"model_api": "responses", "model_context_tokens": 8_192, "compact_at": None}
    told = await admin.request("PUT", "/api/v1/agents/teller", json={**body, **about})
    assert about.items() <= told.json().items()
    shown = {field: value for field, value in made.json().items() if not field.startswith("created_")}
    assert (shown["source"]["kind"], shown["missing_tools"]) == ("api", [])
    ours = {"id", "version", "source", "missing_tools", "mcp_pins"}
    sent_back = {field: value for field, value in shown.items() if field not in ours}
    again = await admin.request("PUT", "/api/v1/agents/clerk", json=sent_back)
    assert (again.status_code, again.json()) == (200, made.json())
    session_id = await api.session()
    patched = await api.request("PATCH", f"/api/v1/sessions/{session_id}", json={"agent_id": "clerk"})
    assert (patched.status_code, patched.json()["agent_id"]) == (200, "clerk")
    trials = "/api/v1/agents/clerk/trials"
    for tried, version in (({}, made.json()["version"]), ({"draft": body}, 0)):
        trial = await admin.post(trials, tried)
        assert (trial.status_code, trial.json()["agent_version"], trial.json()["tags"]) == (201, version, ["trial"])
        assert trial.headers["location"] == f"/api/v1/sessions/{trial.json()['id']}"
    assert (await admin.post(trials, {"version": 1, "draft": body})).json()["code"] == "VALIDATION_ERROR"
    assert (await admin.post(trials, {"version": 2**31 - 1})).status_code == 404
    assert (await anybody.post(trials, {})).status_code == 404
    policies = {tool["name"]: tool["policy"] for tool in (await api.get("/api/v1/tools")).json()["items"]}
    assert (policies["calculate"]["required"], policies["http_request"]["required"]) == (False, True)


async def _walk_policies(api: Api) -> None:
    rule = {
        "name": "Large refund",
        "when": {
            "any_of": [{"argument": "body", "matches": "[0-9]{4}"}, {"argument": "url", "part": "host", "eq": "b"}]
        },
        "then": {"roles": ["finance"], "quorum": 2, "allow_for_session": {"same": [{"argument": "method"}]}},
    }
    policy = {"required": False, "rules": [rule], "allow_for_session": True}
    admin, anybody = api.as_user("ada;admin"), api.as_user("uwe")
    draft = {"name": "Payer", "instructions": "Pay.", "tools": ["http_request"], "policies": {"http_request": policy}}
    draft["approval_floor"] = {"http_request": "auto"}
    made = (await admin.request("PUT", "/api/v1/agents/payer", json=draft)).json()
    assert made["policies"]["http_request"]["rules"] == [rule | {"then": {"required": True, **rule["then"]}}]
    assert (await admin.request("PUT", "/api/v1/agents/payer", json=draft)).json() == made, "the same is no new version"
    for amount, decision in (("900", "runs"), ("5000", "waits")):
        wanted = {"tool": "http_request", "arguments": {"method": "POST", "url": "http://a.test/", "body": amount}}
        by_id = await anybody.post("/api/v1/policies/test", wanted | {"agent_id": "payer"})
        by_draft = await anybody.post("/api/v1/policies/test", wanted | {"agent": draft})
        assert by_id.json()["decision"] == by_draft.json()["decision"] == decision
        assert by_id.json()["rules"][0]["matched"] is (decision == "waits")
    assert (by_id.json()["roles"], by_id.json()["quorum"]) == (["finance"], 2)
    own = wanted | {"agent": draft, "policy": {"required": True}, "has_untrusted": True, "has_private": True}
    told = (await anybody.post("/api/v1/policies/test", own)).json()
    assert [need["source"] for need in told["required_by"]] == ["policy", "rule_of_two"]
    refused = (await anybody.post("/api/v1/policies/test", {"tool": "http_request", "agent_id": "payer"})).json()
    assert refused["decision"] == "refused"
    assert "url" in refused["error"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"tool": "calculate", "agent_id": "nobody"}, 404, None),
        ({"tool": "calculate", "agent_id": "a", "agent": {"name": "a", "instructions": "b"}}, 422, ""),
        ({"tool": "no_such_tool", "policy": {}}, 422, "policies.no_such_tool"),
        ({"tool": "calculate", "policy": {"roles": ["Admin"]}}, 422, "policy.roles.0"),
        ({"tool": "calculate", "agent": {"name": "a"}}, 422, "agent.instructions"),
        (
            {"tool": "calculate", "policy": {"rules": [{"name": "r", "when": {"argument": "a", "eq": "b" * 201}}]}},
            422,
            "policy.rules.0.when.argument.eq",
        ),
    ],
)
async def test_a_policy_that_cannot_be_tested_is_refused_by_field(
    api: Api, body: dict[str, Any], status: int, field: str | None
) -> None:
    refused = await api.post("/api/v1/policies/test", body)

    assert refused.status_code == status
    if field is not None:
        assert any(error["field"].startswith(field) for error in refused.json()["errors"]), refused.json()["errors"]


async def _walk_openai(api: Api) -> None:
    """`e2e/doors/test_openai_client.py` has the real client."""
    base = "/api/openai/v1"
    assert "assistant" in [model["id"] for model in (await api.get(f"{base}/models")).json()["data"]]
    response = (await api.post(f"{base}/responses", {"input": script(content="hello")})).json()
    assert (response["status"], response["output"][-1]["content"][0]["text"]) == ("completed", "hello")
    assert (await api.get(f"{base}/responses/{response['id']}")).json() == response
    assert (await api.post(f"{base}/responses/{response['id']}/cancel")).json() == response
    refused = await api.post(f"{base}/responses", {"input": "x", "instructions": "y"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "instructions")


async def _walk_ag_ui(api: Api) -> None:
    """`e2e/doors/test_ag_ui_client.py` has the real client."""
    message = {"id": "u", "role": "user", "content": script(content="hello")}
    run = await api.post("/api/v1/ag-ui", {"threadId": "walk-ag-ui", "runId": "r", "messages": [message]})
    assert run.headers["content-type"].startswith("text/event-stream")
    assert '"outcome":{"type":"success"}' in run.text


async def _walk_mcp_server(api: Api) -> None:
    """`e2e/doors/test_mcp_server.py` has the real client."""
    listed = await api.post("/api/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert "ask_assistant" in [tool["name"] for tool in listed.json()["result"]["tools"]]
    noted = await api.post("/api/mcp", {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert noted.status_code == 202


async def _walk_mcp_servers(api: Api, sink: Sink) -> None:
    admin, rooms = api.as_user("ada;admin"), RoomsServer(sink)
    body = {"name": "Host", "instructions": "Book rooms.", "mcp_servers": [rooms.as_agents_name_it()]}
    made = await admin.request("PUT", "/api/v1/agents/host", json=body)
    assert [pin["name"] for pin in made.json()["mcp_pins"]] == ["rooms__book"]
    pin = made.json()["mcp_pins"][0]
    rooms.tool = {**rooms.tool, "description": "Book a room, and tell everybody"}
    (report,) = (await admin.get("/api/v1/agents/host/mcp")).json()["items"]
    (tool,) = report["tools"]
    assert (report["protocol_version"], tool["state"], tool["pin"]) == ("2026-07-28", "changed", pin)
    assert [change["path"] for change in tool["changes"]] == ["description"]
    for digest, etag, status in (
        ("0" * 64, "*", 409),
        (tool["current_digest"], '"host-999"', 409),
        (tool["current_digest"], made.headers["etag"], 200),
    ):
        told = {"digests": {"rooms__book": digest}}
        accepted = await admin.request("POST", "/api/v1/agents/host/mcp/accept", json=told, headers={"If-Match": etag})
        assert accepted.status_code == status, accepted.text
    assert accepted.json()["mcp_pins"][0]["digest"] == tool["current_digest"]
    for method, path in (("GET", "mcp"), ("POST", "mcp/accept")):
        strange = await api.as_user("rita").request(method, f"/api/v1/agents/host/{path}", json=told)
        assert (strange.status_code, strange.json()["code"]) == (404, "SESSION_NOT_FOUND")


async def _walk_questions(api: Api, sink: Sink) -> None:
    rooms = RoomsServer(sink)
    rooms.asks = {"type": "object", "properties": {"name": {"type": "string"}}}
    rooms.release()
    named = {**rooms.as_agents_name_it(), "rules": rooms.without_asking()}
    session_id = await api.session_with(mcp_servers=[named])
    turn_id = await api.say(session_id, script(tool_calls=[[call("rooms__book", room="7")]]))
    (wait,) = (await api.until(session_id, turn_id, "waiting_input"))["waits"]
    path, body = f"/api/v1/tool-calls/{wait['tool_call_id']}/input", {"wait_id": wait["id"], "answers": {}}
    assert (await api.post(path, body)).status_code == 422
    assert (await api.post(path, body | {"answers": {"guest": {"action": "decline"}}})).status_code == 200
    assert (await api.post(path, body | {"answers": {"guest": {"action": "cancel"}}})).status_code == 409
    await api.until(session_id, turn_id)


async def _walk_client_tools(api: Api) -> None:
    session_id = await api.session()
    path, asks = f"/api/v1/sessions/{session_id}/messages", script(tool_calls=[[call("locate")]])
    for refused in ("calculate", "no name"):
        body = {"content": asks, "client_tools": [{"name": refused}]}
        assert (await api.post(path, body)).status_code == 422
    posted = await api.post(path, {"content": asks, "client_tools": [{"name": "locate"}]})
    turn_id = posted.json()["turn"]["id"]
    (wait,) = (await api.until(session_id, turn_id, "waiting_input"))["waits"]
    path = f"/api/v1/tool-calls/{wait['tool_call_id']}/result"
    assert [(await api.post(path, body)).status_code for body in ({}, {"data": 7}, {"data": 7}, {"data": 8})] == [
        422,
        200,
        200,
        409,
    ]
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["result"]) == ("completed", 7)


async def test_agents_that_cannot_be_are_refused_by_field(api: Api) -> None:
    admin = api.as_user("ada;admin")
    for changes, field in (
        ({"name": ""}, "name"),
        ({"instructions": "\u0000"}, "instructions"),
        ({"policies": {"fly": {}}}, "policies.fly"),
        ({"policies": {"calculate": {"quorum": 11}}}, "policies.calculate.quorum"),
        ({"policies": {"calculate": {"users": ["x" * 201]}}}, "policies.calculate.users.0"),
        ({"id": "other"}, "id"),
        ({"model_api": "assistants"}, "model_api"),
        ({"model_context_tokens": 255}, "model_context_tokens"),
        ({"model_context_tokens": 10**400}, "model_context_tokens"),
        ({"compact_at": 0}, "compact_at"),
        ({"compact_at": 1.01}, "compact_at"),
        ({"defaults": {"output_schema": {"type": "null"}}}, "defaults.output_schema"),
        ({"mcp_servers": [{"name": "n", "url": "https://mcp.example/", "tools": ["t"]}]}, "mcp_servers.0.url"),
        ({"mcp_servers": [{"name": "n", "url": "http://mcp.example/", "tools": ["t"]}]}, "mcp_servers.0.url"),
        ({"mcp_servers": [{"name": "n", "url": "https://a.example/", "tools": ["t\u202e"]}]}, "mcp_servers.0.tools.0"),
        ({"mcp_pins": []}, "mcp_pins"),
    ):
        body: dict[str, Any] = {"name": "n", "instructions": "i", **changes}
        refused = await admin.request("PUT", "/api/v1/agents/refused", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field), refused.text
    for version in ("0", "x", "2147483648", "1" * 5_000):
        assert (await api.get(f"/api/v1/agents/assistant?version={version}")).status_code == 422
    for path in ("refused", "assistant?version=2147483647", "a%00b"):
        missing = await api.get(f"/api/v1/agents/{path}")
        assert (missing.status_code, missing.json()["code"]) == (404, "SESSION_NOT_FOUND"), path


async def _walk_features(api: Api) -> None:
    assert (await api.post("/api/v1/tags", {"name": "walk", "color": "#a0b1c2"})).status_code == 201
    listed = (await api.get("/api/v1/tags")).json()["items"]
    assert [tag["system"] for tag in listed[:6]] == [True] * 6
    assert ("walk", False) in [(tag["name"], tag["system"]) for tag in listed[6:]]
    made = await api.post("/api/v1/templates", {"name": "Walk", "config": {"max_steps": 3}, "tags": ["walk"]})
    template = made.json()
    assert (await api.get(made.headers["location"])).json() == template
    templates = (await api.get("/api/v1/templates")).json()["items"]
    assert (sum(item["system"] for item in templates), template in templates) == (5, True)
    opened = (await api.post("/api/v1/sessions", {"template": template["id"], "name": "From it"})).json()
    assert (opened["config"]["max_steps"], opened["tags"]) == (3, ["walk"])
    base = f"/api/v1/sessions/{opened['id']}"
    for name, tags in (("a%2Fb", ["walk", "a/b"]), ("50%25%20off%3F", ["walk", "a/b", "50% off?"])):
        for _ in range(2):
            tagged = await api.request("PUT", f"{base}/tags/{name}")
            assert (tagged.json()["tags"], tagged.headers["etag"]) == (tags, (await api.get(base)).headers["etag"])
    for name in ("a%2Fb", "50%25%20off%3F", "never-there"):
        assert (await api.request("DELETE", f"{base}/tags/{name}")).status_code == 200
    assert (await api.get(base)).json()["tags"] == ["walk"]
    before = (await api.get(f"{base}/statistics")).json()
    await api.until(opened["id"], await api.say(opened["id"], script(tool_calls=[[call("calculate", expression="1")]])))
    figures = (await api.get(f"{base}/statistics")).json()
    assert (before["turns"]["total"], figures["turns"]["completed"], figures["messages"]["total"]) == (0, 1, 4)
    assert (figures["tool_calls"]["completed"], figures["turn_durations"]["count"]) == (1, 1)
    assert (before["finish_reasons"]["total"], before["models"], before["usage"]["cost_usd"]) == (0, [], None)
    ends = {reason: number for reason, number in figures["finish_reasons"].items() if number}
    assert ends == {"total": 2, "tool_calls": 1, "stop": 1}
    assert figures["models"] == [{**figures["usage"], "model": "scripted", "turns": 1}]
    period = {"from": opened["created_at"], "to": "2999-01-01T00:00:00+01:00"}
    found = (await api.get("/api/v1/statistics", params=period)).json()
    assert (found["from"], found["to"], found["turns"]["total"]) == (opened["created_at"], "2998-12-31T23:00:00Z", 1)
    whole = (await api.get("/api/v1/statistics")).json()
    assert whole["turns"]["total"] >= 1
    assert [day for day in whole["days"] if day["day"] == opened["created_at"][:10] and day["input_tokens"] > 0]
    assert (await api.request("DELETE", made.headers["location"])).status_code == 204
    assert (await api.request("DELETE", "/api/v1/tags/walk")).status_code == 204
    assert (await api.post("/api/v1/tags", {"name": "a/b"})).status_code == 201
    assert (await api.request("DELETE", "/api/v1/tags?name=a/b")).status_code == 204


async def _walk_files(api: Api) -> None:
    session_id = await api.session()
    base = f"/api/v1/sessions/{session_id}/attachments"
    sent = await api.post(base, files={"file": ("dir/čísla.csv", b"n,square\n1,1\n2,4\n", "image/png")})
    attachment = sent.json()
    assert (sent.status_code, attachment["name"], attachment["media_type"]) == (201, "čísla.csv", "text/csv")
    assert (attachment["kind"], attachment["text"]) == ("csv", "n,square\n1,1\n2,4\n")
    assert sent.headers["location"] == f"/api/v1/attachments/{attachment['id']}"
    assert (await api.get(sent.headers["location"])).json() == attachment
    listed = (await api.get(base)).json()
    assert listed == {"items": [{k: v for k, v in attachment.items() if k != "text"}], "next_cursor": None}
    path = f"{sent.headers['location']}/content"
    content = await api.get(path)
    assert (content.content, content.headers["content-type"].partition(";")[0]) == (b"n,square\n1,1\n2,4\n", "text/csv")
    assert content.headers["content-disposition"].startswith("attachment; ")
    assert "filename*=UTF-8''%C4%8D%C3%ADsla.csv" in content.headers["content-disposition"]
    assert content.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in content.headers["content-security-policy"]
    etag = content.headers["etag"]
    assert (await api.get(path, headers={"if-none-match": f'"other", W/{etag}'})).status_code == 304
    for asked, part, shown in (
        ("bytes=2-7", b"square", "2-7/17"),
        ("bytes=9-", b"1,1\n2,4\n", "9-16/17"),
        ("bytes=-4", b"2,4\n", "13-16/17"),
        ("bytes=9-99", b"1,1\n2,4\n", "9-16/17"),
    ):
        ranged = await api.get(path, headers={"range": asked})
        assert (ranged.status_code, ranged.content) == (206, part), asked
        assert ranged.headers["content-range"] == f"bytes {shown}"
    for asked in (
        "bytes=17-",
        "bytes=5-2",
        "bytes=-0",
        "bytes=0-1,3-4",
        "lines=1-2",
        "bytes=-",
        "bytes=\u0663-4",
        "x" * 99,
    ):
        whole = await api.get(path, headers={"range": asked.encode()})
        assert (whole.status_code, len(whole.content)) == (200, 17), asked
    turn_id = await api.say(session_id, script(content="Half of", finish_reason="length", reasoning="Let me see."))
    await api.until(session_id, turn_id)
    exported = await api.get(f"/api/v1/sessions/{session_id}/export")
    assert exported.json()["session"]["id"] == session_id
    assert exported.json()["messages"] == await api.messages(session_id)
    for kind in ("md", "html", "csv", "pdf", "docx"):
        made = await api.get(f"/api/v1/sessions/{session_id}/export", params={"format": kind})
        assert made.status_code == 200, made.text
        if kind not in {"pdf", "docx"}:
            # The question holds these words, too; reasoning is no text of a table.
            told = ("olga" in made.text, made.text.count("Let me see."))
            assert told == (True, 1 if kind == "csv" else 2), kind
    refused = await api.get(f"/api/v1/sessions/{session_id}/export", params={"format": "exe"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "format")
    stale = await api.get(path, headers={"range": "bytes=0-1", "if-range": '"another"'})
    assert (stale.status_code, len(stale.content)) == (200, 17)


async def test_what_the_system_brings_cannot_be_deleted_or_made_again(api: Api) -> None:
    name = (await api.get("/api/v1/tags")).json()["items"][0]["name"]
    template_id = (await api.get("/api/v1/templates")).json()["items"][0]["id"]
    for refused in (
        await api.request("DELETE", f"/api/v1/tags/{name}"),
        await api.request("DELETE", f"/api/v1/tags?name={name}"),
        await api.post("/api/v1/tags", {"name": name}),
        await api.request("DELETE", f"/api/v1/templates/{template_id}"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")
    assert (await api.get(f"/api/v1/templates/{template_id}")).json()["system"]


async def test_wrong_tags_templates_and_periods_are_named(api: Api) -> None:
    session_id = await api.session()
    for method, path, body, field in (
        ("POST", "tags", {"name": "a,b"}, "name"),
        ("POST", "tags", {"name": "a\u202eb"}, "name"),
        ("POST", "tags", {"name": "a", "color": "red"}, "color"),
        ("POST", "tags", {"name": "a", "system": True}, "system"),
        ("DELETE", "tags", None, "name"),
        ("DELETE", "tags/%20", None, "name"),
        ("PUT", f"sessions/{session_id}/tags/a%2Cb", None, "name"),
        ("PUT", f"sessions/{session_id}/tags/{'x' * 65}", None, "name"),
        ("PUT", f"sessions/{session_id}/tags/%E2%80%8B", None, "name"),
        ("POST", "templates", {"name": "a", "config": {"max_steps": 0}}, "config.max_steps"),
        ("POST", "templates", {"name": "a", "agent_id": "nobody"}, "agent_id"),
        ("POST", "templates", {"name": "a", "status": "ACTIVE"}, "status"),
        ("POST", "sessions", {"template": "nothing"}, "template"),
        ("POST", "sessions", {"template": "x" * 65}, "template"),
        ("GET", "statistics?from=yesterday", None, "from"),
        ("GET", "statistics?to=2026-01-01T00:00:00", None, "to"),
        ("GET", "statistics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", None, "from"),
    ):
        response = await api.request(method, f"/api/v1/{path}", json=body)
        assert response.status_code == 422, f"{path} {body}: {response.text}"
        assert field in [error["field"] for error in response.json()["errors"]], f"{path} {body}: {response.text}"


async def test_search_refuses_what_it_cannot_read_and_answers_everything_else(api: Api) -> None:
    for query, field in (
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": "x" * 501}, "q"),
        ({"q": "x", "session_id": "a b"}, "session_id"),
        ({"q": "x", "role": "boss"}, "role"),
        ({"q": "x", "from": "yesterday"}, "from"),
        ({"q": "x", "cursor": "forged"}, "cursor"),
        ({"q": "x", "limit": "0"}, "limit"),
    ):
        response = await api.get("/api/v1/search", params=query)
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field), query
    for question in ("'; DROP TABLE messages; --", "a & | !", "\x00", '"', "*", "%00%ff", "\U0001f389"):
        response = await api.get("/api/v1/search", params={"q": question})
        assert response.status_code == 200, question


async def test_turn_fields_add_up(api: Api) -> None:
    session_id = await api.session()
    turn = await api.until(session_id, await api.say(session_id, script(tokens=5)))
    assert turn["created_at"] <= turn["started_at"] <= turn["ended_at"]
    assert (turn["steps"], turn["tool_calls"], turn["error"]) == (1, [], None)


# Headers. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/tools", 200),
        (f"/api/v1/sessions/{NOBODY}", 404),
        ("/api/v1/sessions?limit=x", 422),
        ("/api/docs", 200),
    ],
)
async def test_correlation_id_is_taken_over_or_made(api: Api, path: str, status: int) -> None:
    given = await api.get(path, headers={"x-correlation-id": "my-request.1"})
    assert (given.status_code, given.headers["x-correlation-id"]) == (status, "my-request.1")
    made = {(await api.get(path)).headers["x-correlation-id"] for _ in range(2)}
    assert len(made) == 2
    for hostile in ("a b", "<script>", "x" * 300, "é", ""):
        answer = await api.get(path, headers={"x-correlation-id": hostile.encode()})
        assert answer.headers["x-correlation-id"] != hostile
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", answer.headers["x-correlation-id"])


@pytest.mark.parametrize("user", [";", "a b", "a,b;approver", "", "x" * 300])
async def test_caller_without_a_name_is_not_authenticated(api: Api, contract: WireContract, user: str) -> None:
    nameless = api.as_user(user)
    for path, methods in contract.document["paths"].items():
        for method, operation in methods.items():
            if operation.get("security") == [] or operation["operationId"] == "negotiate":
                continue
            concrete = re.sub(r"\{\w+\}", NOBODY, path)
            bodies: dict[str, Any] = {
                "post_message": {"content": "x"},
                "edit_message": {"content": "x"},
                "decide_approval": {"decision": "approve"},
                "update_session": {},
                "put_participant": {"access": "read"},
                "put_bookmark": {"message_id": NOBODY},
                "create_tag": {"name": "x"},
                "create_template": {"name": "x"},
                "recover_session": {"checkpoint_id": NOBODY},
            }
            response = await nameless.request(method.upper(), concrete, json=bodies.get(operation["operationId"]))
            assert response.status_code in {401, 404}, f"{method} {path}: {response.text}"
            if "approve/" not in path:
                assert response.json()["code"] == "UNAUTHENTICATED"


# Paging. -----------------------------------------------------------------------------------------


async def test_pages_of_every_list_hold_each_item_once(api: Api) -> None:
    user = api.as_user("paging;approver")
    for _ in range(7):
        await user.session()
    session_id = (await user.get("/api/v1/sessions?limit=1")).json()["items"][0]["id"]
    for _ in range(3):
        await user.until(session_id, await user.say(session_id, script(tokens=1)))
    for path, count, orders in (
        ("/api/v1/sessions", 7, ("sort=created_at", "sort=-created_at", "sort=updated_at", "sort=-updated_at")),
        (f"/api/v1/sessions/{session_id}/messages", 6, ("order=asc", "order=desc")),
    ):
        found = {}
        for order in orders:
            ids: list[str] = []
            cursor = ""
            while True:
                page = (await user.get(f"{path}?{order}&limit=3{cursor}")).json()
                assert len(page["items"]) <= 3
                ids += [item["id"] for item in page["items"]]
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
            assert len(ids) == len(set(ids)) == count
            found[order] = ids
        assert found[orders[0]] == found[orders[1]][::-1]


async def test_messages_are_filtered_by_role_text_and_time(api: Api) -> None:
    session_id = await api.session()
    await api.until(session_id, await api.say(session_id, script(content="100% of_it \\ here")))
    path = f"/api/v1/sessions/{session_id}/messages"
    everything = (await api.get(path)).json()["items"]
    assert [item["role"] for item in everything] == ["user", "assistant"]

    async def found(**query: str) -> list[str]:
        return [item["role"] for item in (await api.get(path, params=query)).json()["items"]]

    assert await found(role="assistant") == ["assistant"]
    assert await found(q="100% OF_IT \\ H", role="assistant") == ["assistant"]
    assert await found(q="100_ of", role="assistant") == [], "wildcards of SQL are text here"
    middle = everything[1]["created_at"]
    assert await found(**{"from": middle}) == ["assistant"]
    assert await found(to=middle) == ["user"]


# When a store is away. ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stranded(tmp_path_factory: pytest.TempPathFactory, model_url: str) -> Iterator[AppHost]:
    """A host whose database, Redis and storage do not answer."""
    nowhere = f"127.0.0.1:{free_port()}"
    account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ=="
    storage = f"{account};TableEndpoint=http://{nowhere}/a;BlobEndpoint=http://{nowhere}/a;"
    folder: Path = tmp_path_factory.mktemp("stranded")
    environment = app_environment(
        postgres_url=f"postgresql://app:secret-word@{nowhere}/parley",
        redis_url=f"redis://:secret-word@{nowhere}/0",
        storage_url=storage,
        model_url=model_url,
        sink_port=1,
    )
    with running_host(folder, environment) as host:
        yield host


async def test_ready_names_all_that_a_deployment_depends_on_and_asks_anew(api: Api) -> None:
    ready = await api.as_user("petr").get("/api/v1/health/ready")
    assert ready.headers["cache-control"] == "no-store"
    stores = ("postgres", "redis", "storage", "audit", "blobs")
    names = (*stores, "model", "signalr", "model_lane", "tool_lane", "tool_threads", "durable")
    assert ready.json() == {"status": "ok", "model": None, "problems": [], "dependencies": dict.fromkeys(names, "ok")}
    stranger = await api.as_user(";").get("/api/v1/health/ready")
    assert stranger.json() == {"status": "ok", "model": None, "problems": [], "dependencies": {}}
    told = (await api.as_user("ada;admin").get("/api/v1/health/ready")).json()["model"]
    assert (told["answers"], "scripted" in told["text"]) == (True, True)


async def test_callers_are_told_who_they_are(parley: AppHost, contract: WireContract) -> None:
    for header, told in (
        ("ana;approver", {"user_id": "ana", "roles": ["approver", "user"]}),
        ("ben", {"user_id": "ben", "roles": ["user"]}),
    ):
        api = Api(parley.base_url, contract, user=header)
        try:
            answer = await api.get("/api/v1/me")
            assert (answer.status_code, answer.json(), answer.headers["cache-control"]) == (200, told, "no-store")
        finally:
            await api.aclose()


async def test_without_its_database_the_app_says_so_and_when_to_come_back(
    stranded: AppHost, contract: WireContract
) -> None:
    api = Api(stranded.base_url, contract)
    try:
        assert (await api.get("/api/v1/health/live")).status_code == 200
        stranger = await api.as_user(";").get("/api/v1/health/ready")
        assert (stranger.status_code, stranger.json()) == (
            503,
            {"status": "unavailable", "model": None, "problems": [], "dependencies": {}},
        )
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert {name: answer == "ok" for name, answer in ready.json()["dependencies"].items()} == {
            "postgres": False,
            "redis": False,
            "storage": False,
            "audit": False,
            "blobs": False,
            "signalr": True,
            "model_lane": True,
            "tool_lane": True,
            "tool_threads": True,
            "durable": True,
            "model": True,
        }
        assert set(ready.json()["dependencies"].values()) <= {"ok", "no answer", "unavailable"}
        for secret in ("secret-word", "psycopg", "Error", str(stranded.port), "127.0.0.1"):
            assert secret not in ready.text
        for response in await asyncio.gather(
            api.get("/api/v1/sessions"),
            api.post("/api/v1/sessions", {}),
            api.post(f"/api/v1/sessions/{NOBODY}/messages", {"content": "x"}),
            api.get("/api/v1/approvals"),
        ):
            assert (response.status_code, response.json()["code"]) == (503, "DATABASE_ERROR")
            assert int(response.headers["retry-after"]) >= 1
            for secret in ("secret-word", "psycopg", "Traceback", str(stranded.port)):
                assert secret not in response.text
    finally:
        await api.aclose()


async def test_null_means_absent_where_a_client_sends_it_for_what_it_was_not_told(api: Api) -> None:
    unset = {"name": None, "agent_id": None, "template": None, "config": None, "tags": None, "metadata": None}
    created = await api.post("/api/v1/sessions", unset)
    assert (created.status_code, created.json()["tags"], created.json()["metadata"]) == (201, [], {})
    base = f"/api/v1/sessions/{created.json()['id']}"
    config = {"max_steps": 3, "approval_mode": "manual", "concurrency": None}
    before = (await api.request("PATCH", base, json={"tags": ["a"], "config": config})).json()

    patched = await api.request("PATCH", base, json={"tags": None, "metadata": None, "config": {"max_steps": 5}})

    after = patched.json()
    assert (after["tags"], after["config"]["max_steps"], after["config"]["approval_mode"]) == (["a"], 5, "manual")
    assert before["config"] | {"max_steps": 5} == after["config"]
    posted = await api.post(f"{base}/messages", {"content": script(tokens=2), "attachment_ids": None})
    assert posted.status_code == 202
    missing = await api.post(f"{base}/messages", {"content": None, "attachment_ids": None})
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "content")


async def test_a_file_comes_under_the_type_of_any_file_to_whoever_takes_only_that(api: Api) -> None:
    session_id = await api.session()
    path = f"/api/v1/sessions/{session_id}/export?format=csv"
    ordinary = await api.get(path)
    plain = await api.get(path, headers={"accept": "application/octet-stream"})
    assert ordinary.headers["content-type"].startswith("text/csv")
    assert plain.headers["content-type"] == "application/octet-stream"
    assert plain.content == ordinary.content
