"""Every route of a session, with everyone who can be in one: who may do what, and what changes for nobody else."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.contract.wire import WireContract
from tests.e2e.support.client import Api, Json, call, post_call, script
from tests.e2e.support.processes import Sink

OWNER_ONLY = frozenset(
    {
        "update_session",
        "tag_session",
        "untag_session",
        "suspend_session",
        "resume_session",
        "end_session",
        "create_checkpoint",
        "recover_session",
        "put_participant",
        "delete_session",
        "get_audit",
    }
)
FOR_WRITERS = frozenset(
    {
        "post_message",
        "regenerate_message",
        "edit_message",
        "add_attachment",
        "activate_session",
        "activate_branch",
        "cancel_turn",
    }
)
"""The rest is for everyone in the session."""

BY_POLICY = frozenset({"decide_approval"})
"""Who decides an approval is not said by the session."""

PEOPLE = {"owner": "olga;approver", "write": "will", "read": "rita"}

BODIES: dict[str, dict[str, Any]] = {
    "post_message": {"json": {"content": "hello"}},
    "edit_message": {"json": {"content": "hello again"}},
    "update_session": {"json": {"config": {"approval_mode": "auto"}}},
    "put_participant": {"json": {"access": "write"}},
    "add_attachment": {"files": {"file": ("a.txt", b"text")}},
}
"""What a request needs beside what `_body` finds in its session."""


def _routes(contract: WireContract) -> list[tuple[str, str, Json]]:
    """(method, path, operation) of every route that names a session, or something of one."""
    return [
        (method.upper(), path, operation)
        for path, methods in contract.document["paths"].items()
        for method, operation in methods.items()
        if re.search(r"\{(session|attachment|approval)_id\}", path) and operation["operationId"] not in BY_POLICY
    ]


async def _shared(api: Api) -> dict[str, str]:
    """A session with a participant of each kind: the names that a path can have."""
    session_id = await api.session()
    for access in ("write", "read"):
        participant = f"/api/v1/sessions/{session_id}/participants/{PEOPLE[access]}"
        assert (await api.request("PUT", participant, json={"access": access})).status_code == 200
    return {"session_id": session_id, "branch": "0", "name": "a-tag", "user_id": "will"}


async def _with_all(api: Api, sink: Sink) -> dict[str, str]:
    """The same, with a turn that has ended and something of everything."""
    names = await _shared(api)
    session_id, path = names["session_id"], f"/api/v1/sessions/{names['session_id']}"
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/rights"))]], content="done"))
    approval = await api.approval(session_id)
    await api.decide(approval["id"], "reject")
    await api.until(session_id, turn_id)
    sent = await api.post(f"{path}/attachments", files={"file": ("a.txt", b"text")})
    checkpoint = await api.post(f"{path}/checkpoints", {})
    message_id = (await api.messages(session_id))[0]["id"]
    return names | {
        "turn_id": turn_id,
        "approval_id": approval["id"],
        "attachment_id": sent.json()["id"],
        "checkpoint": checkpoint.json()["id"],
        "message_id": message_id,
    }


async def _prepared(operation: str, caller: Api, names: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """What the operation is about, made for its caller: (names, request)."""
    path = f"/api/v1/sessions/{names['session_id']}"
    if operation in {"get_bookmark", "delete_bookmark"}:
        made = await caller.post(f"{path}/bookmarks", {"message_id": names["message_id"]})
        return names | {"bookmark_id": made.json()["id"]}, {}
    if operation == "put_bookmark":
        return names, {"json": {"message_id": names["message_id"]}}
    if operation == "recover_session":
        return names, {"json": {"checkpoint_id": names["checkpoint"]}}
    if operation == "remove_participant" and caller.user != PEOPLE["owner"]:
        return names | {"user_id": caller.user}, {}
    if operation == "cancel_turn" and caller.user == PEOPLE["write"]:
        return names | {"turn_id": await caller.say(names["session_id"], "mine")}, {}
    return names, BODIES.get(operation, {})


async def _call(caller: Api, method: str, template: str, operation: str, names: dict[str, str]) -> httpx.Response:
    names, request = await _prepared(operation, caller, names)
    path = re.sub(r"\{(\w+)\}", lambda found: names[found[1]], template)
    return await caller.request(method, path, **request)


@pytest.mark.timeout(120)
async def test_every_route_with_every_role_does_what_the_table_says(
    api: Api, contract: WireContract, sink: Sink
) -> None:
    shared = await _with_all(api, sink)
    before = await _state(api, shared)
    callers = {access: api.as_user(user) for access, user in PEOPLE.items()}
    routes = _routes(contract)
    assert {operation["operationId"] for _, _, operation in routes} >= OWNER_ONLY | FOR_WRITERS
    for method, template, operation in routes:
        name = operation["operationId"]
        expected = {"owner"} if name in OWNER_ONLY else {"owner", "write"} if name in FOR_WRITERS else set(PEOPLE)
        assert set(operation["x-session-access"]) == expected, name
        for access, caller in callers.items():
            if access not in expected:
                refused = await _call(caller, method, template, name, shared)
                assert (refused.status_code, refused.json()["code"]) == (404, "SESSION_NOT_FOUND"), f"{access} {name}"
                assert refused.json()["detail"] != "No such session.", "who is in it is told why"
                continue
            changes = method != "GET" and (name in OWNER_ONLY | FOR_WRITERS or name == "remove_participant")
            answer = await _call(caller, method, template, name, await _ready(api, name) if changes else shared)
            assert answer.status_code < 300, f"{access} {name}: {answer.text}"
    assert await _state(api, shared) == before


async def _ready(api: Api, operation: str) -> dict[str, str]:
    """A session in which the operation is possible."""
    names = await _shared(api)
    session_id, path = names["session_id"], f"/api/v1/sessions/{names['session_id']}"
    if operation in {"regenerate_message", "edit_message", "cancel_turn"}:
        names["turn_id"] = await api.say(session_id, "hello")
        await api.until(session_id, names["turn_id"])
        names["message_id"] = (await api.messages(session_id))[0]["id"]
    elif operation in {"suspend_session", "resume_session"}:
        await api.post(f"{path}/activate")
        if operation == "resume_session":
            await api.post(f"{path}/suspend")
    elif operation == "recover_session":
        names["checkpoint"] = (await api.post(f"{path}/checkpoints", {})).json()["id"]
    return names


async def _state(api: Api, names: dict[str, str]) -> tuple[Json, int, list[Json]]:
    path = f"/api/v1/sessions/{names['session_id']}"
    return (
        (await api.get(path)).json(),
        len(await api.messages(names["session_id"])),
        (await api.events(names["session_id"])),
    )


async def test_a_writer_stops_their_own_turns_and_nobody_elses(api: Api, sink: Sink) -> None:
    session_id = (await _shared(api))["session_id"]
    will, path = api.as_user("will"), f"/api/v1/sessions/{session_id}"
    asking = script(tool_calls=[[post_call(sink.url("/rights"))]], content="done")
    owners = await api.say(session_id, asking)
    await api.approval(session_id)

    assert (await will.cancel(session_id, owners)).status_code == 404
    interrupting = await will.post(f"{path}/messages", {"content": "mine", "concurrency": "interrupt"})
    assert (interrupting.status_code, interrupting.json()["code"]) == (409, "CONFLICT")
    again = await will.post(
        f"{path}/messages/{(await api.messages(session_id))[0]['id']}/regenerate", {"concurrency": "interrupt"}
    )
    assert again.status_code == 409
    assert (await api.turn(session_id, owners))["status"] == "waiting_approval"
    wills = await will.say(session_id, asking, concurrency="enqueue")
    assert (await will.cancel(session_id, wills)).status_code in {200, 202}
    assert (await api.turn(session_id, wills))["status"] == "cancelled"
    assert (await api.cancel(session_id, owners)).status_code in {200, 202}
    assert (await api.until(session_id, owners))["status"] == "cancelled"


async def test_a_writer_makes_the_owners_session_stricter_and_never_looser(api: Api) -> None:
    counting = script(tool_calls=[[call("calculate", expression="6 * 7")]], content="done")
    will = api.as_user("will")
    for of_session, of_message, waits in (("manual", "auto", True), ("auto", "manual", True), ("auto", "auto", False)):
        session_id = await api.session(approval_mode=of_session)
        participant = f"/api/v1/sessions/{session_id}/participants/will"
        await api.request("PUT", participant, json={"access": "write"})

        turn_id = await will.say(session_id, counting, approval_mode=of_message)
        await will.until(session_id, turn_id, "waiting_approval" if waits else "completed")
        await api.cancel(session_id, turn_id)
        await api.until(session_id, turn_id)
        turn_id = await api.say(session_id, counting, approval_mode="auto")
        assert (await api.until(session_id, turn_id))["status"] == "completed", "the owner may loosen their own"


async def test_a_required_approval_cannot_be_waved_away_by_whoever_posts(api: Api, sink: Sink) -> None:
    """In a message, in the session's configuration, in a template; by the owner, too."""
    asking = script(tool_calls=[[post_call(sink.url("/floor"))]], content="done")
    template = await api.post("/api/v1/templates", {"name": "Free", "config": {"approval_mode": "auto"}})
    from_template = (await api.post("/api/v1/sessions", {"template": template.json()["id"]})).json()["id"]
    old = await api.session_with()  # an agent that says nothing of floors, as every version from before
    for session_id, body in (
        (await api.session(), {"approval_mode": "auto"}),
        (await api.session(approval_mode="auto"), {}),
        (from_template, {}),
        (old, {"approval_mode": "auto"}),
    ):
        turn_id = await api.say(session_id, asking, **body)
        approval = await api.approval(session_id)
        assert "Approval floor" in approval["reason"]
        assert "http_request" in approval["reason"]
        await api.cancel(session_id, turn_id)
        await api.until(session_id, turn_id)
    assert sink.at("/floor") == []
    await api.request("DELETE", f"/api/v1/templates/{template.json()['id']}")
