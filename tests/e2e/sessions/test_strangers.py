"""A stranger gets the 404 of the thing everywhere: no route tells whether something of somebody else exists."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest

from shared.signing import ApprovalLinks
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, Json, post_call, script
from tests.e2e.support.processes import LINK_SECRET, Sink

BODIES: dict[str, dict[str, Any]] = {
    "post_message": {"json": {"content": "let me in"}},
    "decide_approval": {"json": {"decision": "approve"}},
    "update_session": {"json": {"name": "mine now"}},
    "put_participant": {"json": {"access": "write"}},
    "recover_session": {"json": {"checkpoint_id": "0190aaaa-0000-7000-8000-000000000000"}},
    "put_bookmark": {"json": {"message_id": "0190aaaa-0000-7000-8000-000000000000"}},
    "add_attachment": {"files": {"file": ("a.txt", b"mine now")}},
    "approve_decision": {"data": {"decision": "approve"}},
}
"""What a request needs to be understood; other operations take no body."""

FOR_EVERYBODY = frozenset({"get_agent", "put_agent"})
"""Agents are nobody's: everyone may see them, admins make new versions. An audit trail is the admins' too."""


async def _owned(api: Api, sink: Sink) -> tuple[dict[str, str], Json]:
    """Everything a path can name, all of it existing, owned by somebody else; and the pending approval."""
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/stranger"))]], content="done"))
    approval = await api.approval(session_id)
    message_id = (await api.messages(session_id))[0]["id"]
    bookmark = await api.post(f"/api/v1/sessions/{session_id}/bookmarks", {"message_id": message_id})
    expires_at = datetime.fromisoformat(approval["expires_at"])
    token = ApprovalLinks(LINK_SECRET, "").token(approval["id"], expires_at=expires_at)
    tag = f"tag-{session_id}"
    assert (await api.post("/api/v1/tags", {"name": tag})).status_code == 201
    template = (await api.post("/api/v1/templates", {"name": f"template-{session_id}"})).json()
    sent = await api.post(f"/api/v1/sessions/{session_id}/attachments", files={"file": ("a.txt", b"not for you")})
    names = {
        "session_id": session_id,
        "attachment_id": sent.json()["id"],
        "turn_id": turn_id,
        "message_id": message_id,
        "approval_id": approval["id"],
        "bookmark_id": bookmark.json()["id"],
        "template_id": template["id"],
        "name": tag,
        "token": token,
        "user_id": "olga",
        "branch": "0",
    }
    return names, approval


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
        if operation in FOR_EVERYBODY or (operation == "get_audit" and "admin" in stranger):
            continue
        path = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], template)
        response = await eve.request(method, path, **BODIES.get(operation, {}))
        assert response.status_code == 404, f"{method} {template}: {response.text}"
        absent = await eve.request(method, _without(path, names), **BODIES.get(operation, {}))
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
    await api.cancel(names["session_id"], names["turn_id"])


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
    await api.cancel(names["session_id"], names["turn_id"])


async def test_approver_role_opens_approvals_and_nothing_else(api: Api, sink: Sink) -> None:
    names, _ = await _owned(api, sink)
    petr = api.as_user("petr;approver")
    assert (await petr.get(f"/api/v1/approvals/{names['approval_id']}")).status_code == 200
    session = f"/api/v1/sessions/{names['session_id']}"
    for path in ("", "/messages", "/events", f"/turns/{names['turn_id']}", f"/turns/{names['turn_id']}/stream"):
        assert (await petr.get(session + path)).status_code == 404, path
    await api.cancel(names["session_id"], names["turn_id"])


async def test_ids_of_another_session_of_ones_own_are_not_found_either(api: Api, sink: Sink) -> None:
    names, _ = await _owned(api, sink)
    other = f"/api/v1/sessions/{await api.session()}"
    for path in (f"/turns/{names['turn_id']}", f"/messages/{names['message_id']}", f"/turns/{names['turn_id']}/stream"):
        response = await api.get(other + path)
        assert (response.status_code, response.json()["code"]) == (404, "MESSAGE_NOT_FOUND"), path
    assert (await api.post(f"{other}/turns/{names['turn_id']}/cancel")).status_code == 404
    assert (await api.turn(names["session_id"], names["turn_id"]))["status"] == "waiting_approval"
    await api.cancel(names["session_id"], names["turn_id"])


async def test_an_id_of_somebody_elses_session_is_not_refused_and_stays_theirs(api: Api) -> None:
    session_id, eve = await api.session(), api.as_user("eve")
    for _ in range(2):
        made = await eve.post("/api/v1/sessions", {"id": session_id})
        assert (made.status_code, made.json()["id"] == session_id) == (201, False)
        assert made.headers["location"] == f"/api/v1/sessions/{made.json()['id']}"
    assert (await eve.get(f"/api/v1/sessions/{session_id}")).status_code == 404
    own = await api.post("/api/v1/sessions", {"id": session_id})
    assert (own.status_code, own.json()["code"]) == (409, "SESSION_ALREADY_EXISTS")
