"""An admin's agent decides what needs a person, whoever talks to it."""

from __future__ import annotations

from shared.ids import new_id
from tests.e2e.support.client import Api, call, script

CLERK = {"name": "Clerk", "instructions": "File things.", "policies": {"calculate": {"required": True}}}


async def test_a_harmless_tool_waits_when_its_agent_says_so(api: Api) -> None:
    agent = f"/api/v1/agents/{new_id()}"
    made = await api.as_user("ada;admin").request("PUT", agent, json=CLERK)
    assert (made.status_code, made.headers["location"]) == (201, agent)
    session = (await api.post("/api/v1/sessions", {"agent_id": made.json()["id"]})).json()["id"]

    # Neither the session nor the message may switch the agent's rule off.
    turn_id = await api.say(
        session, script(tool_calls=[[call("calculate", expression="6 * 7")]], tokens=3), approval_mode="auto"
    )
    approval = await api.approval(session)
    changed = await api.as_user("ada;admin").request("PUT", agent, json=CLERK | {"policies": {}})
    await api.decide(approval["id"], "approve")
    turn = await api.until(session, turn_id)

    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "completed")


async def test_others_read_agents_and_change_none(api: Api) -> None:
    agent = f"/api/v1/agents/{new_id()}"
    assert (await api.request("PUT", agent, json=CLERK)).status_code == 404
    assert (await api.get(agent)).status_code == 404
    unknown = await api.as_user("ada;admin").request("PUT", agent, json=CLERK | {"tools": ["telepathy"]})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "tools.0")
    assert "assistant" in [item["id"] for item in (await api.get("/api/v1/agents?limit=200")).json()["items"]]
    missing = await api.post("/api/v1/sessions", {"agent_id": "nobody"})
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "agent_id")


async def test_a_large_sum_takes_two_of_finance_and_a_small_one_nobody(api: Api) -> None:
    rule = {
        "name": "Large sum",
        "when": {"argument": "expression", "matches": "[0-9]{4}"},
        "then": {"roles": ["finance"], "quorum": 2},
    }
    body = CLERK | {"policies": {"calculate": {"rules": [rule]}}}
    made = await api.as_user("ada;admin").request("PUT", f"/api/v1/agents/{new_id()}", json=body)
    session = (await api.post("/api/v1/sessions", {"agent_id": made.json()["id"]})).json()["id"]
    calls = [call("calculate", expression="900 * 2"), call("calculate", expression="5000 * 2")]

    turn_id = await api.say(session, script(tool_calls=[calls], tokens=3), approval_mode="auto")
    fay, fred = api.as_user("fay;finance"), api.as_user("fred;finance")
    approval = await fay.approval(session)
    refused = await api.decide(approval["id"], "approve")
    first = await fay.decide(approval["id"], "approve")
    second = await fred.decide(approval["id"], "approve")
    turn = await api.until(session, turn_id)

    assert approval["reason"].startswith("Rule “Large sum”: expression matches [0-9]{4}. It takes 2 people")
    assert (refused.status_code, "finance" in refused.json()["detail"]) == (404, True)
    assert [one.json()["requirements"][0]["approvals"] for one in (first, second)] == [1, 2]
    assert [one.json()["status"] for one in (first, second)] == ["pending", "approved"]
    assert [one["status"] for one in turn["tool_calls"]] == ["completed", "completed"]
