"""A stranger gets the 404 of the thing everywhere: no route tells whether something of somebody else exists."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from shared.sessions.doors.responses.ids import ResponseId
from shared.signing import ApprovalLinks
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, Json, call, post_call, script
from tests.e2e.support.mcp import RoomsServer
from tests.e2e.support.processes import LINK_SECRET, Sink

BODIES: dict[str, dict[str, Any]] = {
    "post_message": {"json": {"content": "let me in"}},
    "edit_message": {"json": {"content": "let me in"}},
    "accept_agent_mcp": {"json": {"digests": {"rooms__book": "0" * 64}}},
    "decide_approval": {"json": {"decision": "approve"}},
    "update_session": {"json": {"name": "mine now"}},
    "put_participant": {"json": {"access": "write"}},
    "recover_session": {"json": {"checkpoint_id": "0190aaaa-0000-7000-8000-000000000000"}},
    "put_bookmark": {"json": {"message_id": "0190aaaa-0000-7000-8000-000000000000"}},
    "add_attachment": {"files": {"file": ("a.txt", b"mine now")}},
    "update_webhook": {"json": {"enabled": False}},
    "complete_tool_call": {"json": {"token": "not one", "content": "mine now"}},
    "approve_decision": {"data": {"decision": "approve"}},
    "fire_trigger": {"json": {"payload": "let me in"}},
}
"""What a request needs to be understood; other operations take no body."""

FOR_EVERYBODY = frozenset({"get_agent", "put_agent"})
"""Agents are nobody's: everyone may see them, admins make new versions."""
OF_ONES_OWN = frozenset({"resume_ai_sdk_chat", "list_ai_sdk_messages", "put_schedule", "put_trigger"})
"""Ids of chats, schedules and triggers are each user's own: what others have is not in the way, and not told of."""
FOR_ADMINS = frozenset({"get_audit", "compare_agent_mcp", "accept_agent_mcp", "try_agent"})
"""An audit trail is the admins' too, and so is what MCP servers say, and trying an agent."""


async def _owned(api: Api, sink: Sink) -> tuple[dict[str, str], Json]:
    """Everything a path can name, all of it existing, owned by somebody else; and the pending approval."""
    hook = await api.post("/api/v1/webhooks", {"url": sink.url("/hooked-stranger"), "events": ["turn.waiting"]})
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/stranger"))]], content="done"))
    approval = await api.approval(session_id)
    deliveries = await api.get(f"/api/v1/webhooks/{hook.json()['id']}/deliveries")
    message_id = (await api.messages(session_id))[0]["id"]
    bookmark = await api.post(f"/api/v1/sessions/{session_id}/bookmarks", {"message_id": message_id})
    expires_at = datetime.fromisoformat(approval["expires_at"])
    token = ApprovalLinks(LINK_SECRET, "").token(approval["id"], expires_at=expires_at)
    tag = f"tag-{session_id}"
    assert (await api.post("/api/v1/tags", {"name": tag})).status_code == 201
    template = (await api.post("/api/v1/templates", {"name": f"template-{session_id}"})).json()
    sent = await api.post(f"/api/v1/sessions/{session_id}/attachments", files={"file": ("a.txt", b"not for you")})
    rooms = RoomsServer(sink)
    rooms.asks = {"type": "object", "properties": {}}
    rooms.release()
    asking = await api.session_with(mcp_servers=[{**rooms.as_agents_name_it(), "rules": rooms.without_asking()}])
    asked = await api.say(asking, script(tool_calls=[[call("rooms__book", room="7")]]))
    (wait,) = (await api.until(asking, asked, "waiting_input"))["waits"]
    daily = {"content": "What is new?", "cron": "0 0 9 * * *"}
    assert (await api.request("PUT", f"/api/v1/schedules/daily-{session_id}", json=daily)).status_code == 201
    order = {"content": "An order came in."}
    assert (await api.request("PUT", f"/api/v1/triggers/order-{session_id}", json=order)).status_code == 201
    names = {
        "tool_call_id": wait["tool_call_id"],
        "wait_id": wait["id"],
        "schedule_id": f"daily-{session_id}",
        "trigger_id": f"order-{session_id}",
        "session_id": session_id,
        "agent_id": "assistant",
        "attachment_id": sent.json()["id"],
        "turn_id": turn_id,
        "message_id": message_id,
        "approval_id": approval["id"],
        "bookmark_id": bookmark.json()["id"],
        "template_id": template["id"],
        "webhook_id": hook.json()["id"],
        "delivery_id": deliveries.json()["items"][0]["id"],
        "name": tag,
        "token": token,
        "user_id": "olga",
        "branch": "0",
        "response_id": str(ResponseId(session_id, turn_id)),
    }
    return names, approval


async def _leave(api: Api, names: dict[str, str]) -> None:
    """Cancel the turn that waits, and delete the webhook, of which a user has few."""
    await api.cancel(names["session_id"], names["turn_id"])
    assert (await api.request("DELETE", f"/api/v1/webhooks/{names['webhook_id']}")).status_code == 204


def _operations_with_ids(contract: WireContract) -> list[tuple[str, str, str]]:
    """(method, path, operation id) of every declared route that names something."""
    return [
        (method.upper(), path, operation["operationId"])
        for path, methods in contract.document["paths"].items()
        for method, operation in methods.items()
        if "{" in path
    ]


@pytest.mark.parametrize("stranger", ["eve", "eve;user,admin,root"])
async def test_stranger_gets_404_on_every_route_that_names_something(
    api: Api, contract: WireContract, sink: Sink, stranger: str
) -> None:
    names, approval = await _owned(api, sink)
    before = (await api.get(f"/api/v1/sessions/{names['session_id']}")).json(), await api.events(names["session_id"])
    eve = api.as_user(stranger)
    operations = _operations_with_ids(contract)
    assert len(operations) > 15
    for method, template, operation in operations:
        if operation in FOR_EVERYBODY | OF_ONES_OWN or (operation in FOR_ADMINS and "admin" in stranger):
            continue
        path = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], template)
        body = _body(operation, names)
        response = await eve.request(method, path, **body)
        assert response.status_code == 404, f"{method} {template}: {response.text}"
        absent = await eve.request(method, _without(path, names), **body)
        assert absent.status_code == 404, f"{method} {template}: {absent.text}"
        if response.headers["content-type"] == "application/problem+json":
            told, of_nothing = response.json(), absent.json()
            told.pop("correlation_id")
            of_nothing.pop("correlation_id")
            assert told == of_nothing, "what exists looks like what does not"
    after = (await api.get(f"/api/v1/sessions/{names['session_id']}")).json(), await api.events(names["session_id"])
    assert after == before
    assert (await api.get(f"/api/v1/approvals/{approval['id']}")).json() == approval
    assert sink.at("/stranger") == []
    await _leave(api, names)


def _body(operation: str, names: dict[str, str]) -> dict[str, Any]:
    if operation == "answer_tool_call":
        return {"json": {"wait_id": names["wait_id"], "answers": {"guest": {"action": "accept", "content": {}}}}}
    return BODIES.get(operation, {})


def _without(path: str, names: dict[str, str]) -> str:
    """The same path with ids that nobody ever had (a link becomes a broken one)."""
    for value in (value for name, value in names.items() if name != "branch"):
        path = path.replace(value, "0190aaaa-0000-7000-8000-000000000000" if "." not in value else "broken")
    return path


async def test_lists_hold_nothing_of_others(api: Api, sink: Sink) -> None:
    names, _ = await _owned(api, sink)
    eve = api.as_user("eve-of-lists")
    for path in ("/api/v1/sessions", "/api/v1/approvals", f"/api/v1/approvals?session_id={names['session_id']}"):
        assert (await eve.get(path)).json() == {"items": [], "next_cursor": None}
    await _leave(api, names)


async def test_approver_role_opens_approvals_and_nothing_else(api: Api, sink: Sink) -> None:
    names, _ = await _owned(api, sink)
    petr = api.as_user("petr;approver")
    assert (await petr.get(f"/api/v1/approvals/{names['approval_id']}")).status_code == 200
    session = f"/api/v1/sessions/{names['session_id']}"
    for path in ("", "/messages", "/events", f"/turns/{names['turn_id']}", f"/turns/{names['turn_id']}/stream"):
        assert (await petr.get(session + path)).status_code == 404, path
    await _leave(api, names)


async def test_ids_of_another_session_of_ones_own_are_not_found_either(api: Api, sink: Sink) -> None:
    names, _ = await _owned(api, sink)
    other = f"/api/v1/sessions/{await api.session()}"
    for path in (f"/turns/{names['turn_id']}", f"/messages/{names['message_id']}", f"/turns/{names['turn_id']}/stream"):
        response = await api.get(other + path)
        assert (response.status_code, response.json()["code"]) == (404, "MESSAGE_NOT_FOUND"), path
    assert (await api.post(f"{other}/turns/{names['turn_id']}/cancel")).status_code == 404
    assert (await api.turn(names["session_id"], names["turn_id"]))["status"] == "waiting_approval"
    await _leave(api, names)


async def test_an_id_of_somebody_elses_session_is_not_refused_and_stays_theirs(api: Api) -> None:
    session_id, eve = await api.session(), api.as_user("eve")
    for _ in range(2):
        made = await eve.post("/api/v1/sessions", {"id": session_id})
        assert (made.status_code, made.json()["id"] == session_id) == (201, False)
        assert made.headers["location"] == f"/api/v1/sessions/{made.json()['id']}"
    assert (await eve.get(f"/api/v1/sessions/{session_id}")).status_code == 404
    own = await api.post("/api/v1/sessions", {"id": session_id})
    assert (own.status_code, own.json()["code"]) == (409, "SESSION_ALREADY_EXISTS")
