"""Records the histories in `histories/` from a real host: `python -m tests.orchestration.record [SCENARIO ...]`.

Run it only when an orchestrator was changed on purpose *and* running instances cannot meet the change (or the old
histories were kept beside the new ones): a stored history that no longer replays is the warning this folder is for.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.e2e.support.client import Api, call, post_call, script
from tests.e2e.support.processes import WEBHOOK_SECRET, Sink, running_host, running_sink, scripted_model
from tests.e2e.support.stack import WEBHOOK_PATH, own_environment, own_stores

HERE = Path(__file__).parent / "histories"
COMPLETED = "Completed"

type Scenario = Callable[[Api, Sink], Awaitable[tuple[str, str]]]


async def plain(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session()
    return session_id, await api.say(session_id, script(tokens=3))


async def three_calls_two_approvals(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session()
    calls = [post_call(sink.url("/a")), call("calculate", expression="6 * 7"), post_call(sink.url("/b"))]
    turn_id = await api.say(session_id, script(tool_calls=[calls, [call("calculate", expression="1 + 1")]]))
    for decision in ("approve", "reject"):
        await api.decide((await api.approval(session_id))["id"], decision)
    return session_id, turn_id


async def nobody_decides(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session(approval_timeout_seconds=1)
    return session_id, await api.say(session_id, script(tool_calls=[[post_call(sink.url("/c"))]]))


async def model_fails_and_recovers(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session()
    return session_id, await api.say(session_id, script(key=session_id, tokens=3, fail=[{"status": 503}] * 3))


async def cancelled_while_waiting(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/d"))]]))
    await api.approval(session_id)
    await api.cancel(session_id, turn_id)
    return session_id, turn_id


async def suspended_and_resumed(api: Api, sink: Sink) -> tuple[str, str]:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/e"))]]))
    approval = await api.approval(session_id)
    await api.post(f"/api/v1/sessions/{session_id}/suspend")
    await api.decide(approval["id"], "approve")
    await api.post(f"/api/v1/sessions/{session_id}/resume")
    return session_id, turn_id


async def reminded_and_handed_on(api: Api, sink: Sink) -> tuple[str, str]:
    policy = {"quorum": 2, "reminder_seconds": 1, "escalate_after_seconds": 2, "escalation_role": "admin"}
    body = {"name": "Careful", "instructions": "Ask first.", "policies": {"http_request": policy}}
    admin = api.as_user("root;admin")
    assert (await admin.request("PUT", "/api/v1/agents/careful", json=body)).status_code in {200, 201}
    session_id = str((await api.post("/api/v1/sessions", {"agent_id": "careful"})).json()["id"])
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/f"))]]))
    approval = await api.approval(session_id)
    await asyncio.sleep(3.5)  # reminders at 1, 2 and 3 s, handed on at 2 s
    for user in (api, admin):
        assert (await user.decide(approval["id"], "approve")).status_code == 200
    return session_id, turn_id


SCENARIOS: tuple[Scenario, ...] = (
    plain,
    three_calls_two_approvals,
    nobody_decides,
    model_fails_and_recovers,
    cancelled_while_waiting,
    suspended_and_resumed,
    reminded_and_handed_on,
)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as temporary,
        own_stores() as stores,
        running_sink() as sink,
        scripted_model(Path(temporary)) as model_url,
    ):
        webhook = {"APPROVAL_WEBHOOK_URL": sink.url(WEBHOOK_PATH), "APPROVAL_WEBHOOK_SECRET": WEBHOOK_SECRET}
        with running_host(Path(temporary), own_environment(stores, model_url, sink) | webhook) as host:
            turns = asyncio.run(_play(host.base_url, sink))
        store = Path(temporary) / "data" / "durable-parley.sqlite3"
        for name, turn_id in turns.items():
            instances = _instances(store, turn_id)
            text = json.dumps(instances, indent=1, ensure_ascii=False)
            (HERE / f"{name}.json").write_text(text + "\n", "utf-8")


async def _play(base_url: str, sink: Sink) -> dict[str, str]:
    api = Api(base_url, None)
    turns = {}
    for scenario in (one for one in SCENARIOS if one.__name__ in sys.argv[1:] or not sys.argv[1:]):
        session_id, turn_id = await scenario(api, sink)
        await api.until(session_id, turn_id)
        turns[scenario.__name__] = turn_id
    await asyncio.sleep(1)  # the last commits follow the turn's own end
    await api.aclose()
    return turns


def _instances(store: Path, turn_id: str) -> list[dict[str, Any]]:
    """The turn, its approvals and their notifications, each with its whole history."""
    with sqlite3.connect(store) as connection:
        found = _histories(connection, f"{turn_id}%")
        for approval_id in re.findall(r'"approval_id\\": \\"([^\\]+)', json.dumps(found)):
            found += _histories(connection, f"{approval_id}:%")
    return found


def _histories(connection: sqlite3.Connection, pattern: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT gen, instance_id, name, status FROM instances WHERE instance_id LIKE ? ORDER BY gen", (pattern,)
    ).fetchall()
    found = []
    for gen, instance_id, name, status in rows:
        assert status == COMPLETED, f"{name} {instance_id} is {status}"
        chunks = connection.execute("SELECT events FROM history WHERE gen = ? ORDER BY position", (gen,))
        events = json.loads(f"[{','.join(chunk for (chunk,) in chunks)}]")
        found.append({"orchestration": name, "instance_id": instance_id, "events": events})
    return found


if __name__ == "__main__":
    main()
