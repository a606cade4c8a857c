"""One turn with every kind of wait at once, and a handover after them: cut at durable commits, and on an engine that
does all that it may. Each call ends once, with the result that was given for it.

`E2E_COMMITS=1` cuts it at every commit, in about forty lives of the host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from devtools.measured_kinds import AGENTS_FOLDER
from shared.signing import CompletionTokens
from tests.e2e.support.client import ENDED, Api, Json, call, eventually, open_api, script
from tests.e2e.support.processes import AppHost, HostDied, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores, swept

pytestmark = pytest.mark.timeout(300)

FOLDER = {"AGENTS_FOLDER": AGENTS_FOLDER}
MOST_LIVES, FEWEST_LIVES = 80, 6
COMMITS = os.environ.get("E2E_COMMITS", "3,4,5").split(",")
"""How many commits the lives of a host have, in turn: so that they end at many places, and are not forty."""
GIVEN = {"come_later": "a film", "locate": "Oslo", "one_step": "taken", "ask": "from the helper"}


class Waits:
    """A session whose agent waits for everything."""

    def __init__(self, api: Api, secret: str) -> None:
        self.api = api
        self.tokens = CompletionTokens(secret, "")
        self.helper, self.heir = (f"own-{uuid4()}" for _ in range(2))

    async def session(self) -> str:
        admin = self.api.as_user("root;admin")
        for agent_id in (self.helper, self.heir):
            body = {"name": "Own", "instructions": "Be exact.", "tools": []}
            assert (await admin.request("PUT", f"/api/v1/agents/{agent_id}", json=body)).status_code == 201
        tools = ["come_later", "one_step"]
        return await self.api.session_with(tools=tools, agents=[self.helper], hands_over_to=[self.heir])

    async def post(self, session_id: str) -> str:
        """With a key: the answer is lost with the host that gave it."""
        helper, heir = (name.replace("-", "_") for name in (self.helper, self.heir))
        first = [call("come_later"), call("locate"), call("one_step")]
        first.append(call(f"ask_{helper}", input=script(content=GIVEN["ask"])))
        content = script(tool_calls=[first, [call(f"hand_over_to_{heir}")]], echo=True)
        body = {"content": content, "client_tools": [{"name": "locate"}]}
        path, headers = f"/api/v1/sessions/{session_id}/messages", {"idempotency-key": "once"}
        return str((await self.api.post(path, body, headers=headers)).json()["turn"]["id"])

    async def give(self, turn: Json) -> None:
        """What the turn waits for and somebody has to give, again and again."""
        for wait in turn["waits"]:
            if wait["tool"] in ("come_later", "locate"):
                told = {"content": GIVEN[wait["tool"]]}
                if wait["kind"] == "result":
                    in_time = datetime.now(UTC) + timedelta(hours=1)
                    told["token"] = self.tokens.token(wait["tool_call_id"], expires_at=in_time)
                answered = await self.api.post(f"/api/v1/tool-calls/{wait['tool_call_id']}/result", told)
                assert answered.status_code in {200, 503}, answered.text

    async def ended(self, session_id: str, turn_id: str) -> bool:
        turn = await self.api.turn(session_id, turn_id)
        if turn["status"] in ENDED:
            return True
        await self.give(turn)
        return False

    async def assert_each_once(self, session_id: str, turn_id: str) -> None:
        turn = await self.api.turn(session_id, turn_id)
        assert (turn["status"], turn["error"], turn["waits"], turn["agent_id"]) == ("completed", None, [], self.heir)
        assert {one["status"] for one in turn["tool_calls"]} == {"completed"}, turn["tool_calls"]
        roles = [message["role"] for message in await self.api.messages(session_id)]
        assert roles == ["user", "assistant", *["tool"] * 4, "assistant", "tool", "assistant"]
        read = [message["content"] for message in await self.api.messages(session_id, turn_id, "tool")]
        for said, given in zip(read, GIVEN.values(), strict=False):
            assert given in said
        (child,) = turn["subagents"]
        assert child["status"] == "completed"
        assert [one["role"] for one in await self.api.messages(child["session_id"])] == ["user", "assistant"]
        assert (await self.api.get(f"/api/v1/sessions/{session_id}")).json()["agent_id"] == self.heir
        audit = (await self.api.get(f"/api/v1/sessions/{session_id}/audit")).json()
        assert (audit["verified"], audit["problems"]) == (True, [])
        noted = Counter(
            (line["action"], line["details"].get("tool_call_id"))
            for line in audit["items"]
            if line["action"].startswith("tool_call.")
        )
        assert set(noted.values()) == {1}, noted
        assert Counter(action for action, _ in noted)["tool_call.waiting"] == 4


async def test_killed_at_its_commits_each_call_that_waits_ends_once_with_what_was_given(own_host: AppHost) -> None:
    own_host.stop()
    own_host.start(**FOLDER)
    api = await open_api(own_host)
    own = Waits(api, own_host.environment["APPROVAL_LINK_SECRET"])
    session_id = await own.session()
    own_host.stop()
    turn_id, lives = "", 0
    for commits in itertools.cycle(COMMITS):
        lives += 1
        assert lives <= MOST_LIVES, f"the turn did not end:\n{own_host.log()[-3000:]}"
        try:
            own_host.start(**FOLDER, DEVHOST_CRASH_AFTER_COMMIT=commits, REDIS_PATIENCE_SECONDS="5")
        except HostDied:
            continue
        with contextlib.suppress(httpx.TransportError):
            turn_id = turn_id or await own.post(session_id)
        if turn_id and await _lived_to_the_end(own, own_host, session_id, turn_id):
            break
    assert lives >= FEWEST_LIVES, lives
    own_host.stop()
    own_host.start(**FOLDER)
    await own.assert_each_once(session_id, turn_id)
    await api.aclose()


async def _lived_to_the_end(own: Waits, host: AppHost, session_id: str, turn_id: str) -> bool:
    async def look() -> str | None:
        if not host.is_running():
            return "died"
        with contextlib.suppress(httpx.TransportError):  # it is just dying
            if await own.ended(session_id, turn_id):
                return "ended"
        return None

    return await eventually(look, "the host to die or the turn to end") == "ended"


async def test_on_a_harsh_engine_each_call_that_waits_ends_once_with_what_was_given(
    tmp_path: Path, model_url: str, sink: Sink
) -> None:
    odds = {"DEVHOST_ENGINE": "harsh", "DEVHOST_HARSH_SEED": "7", "DEVHOST_HARSH_SECOND": "0.05"}
    with contextlib.ExitStack() as running:
        environment = own_environment(running.enter_context(own_stores()), model_url, sink) | odds | FOLDER
        host = running.enter_context(running_host(tmp_path, environment))
        running.enter_context(swept(host))
        api = await open_api(host)
        own = Waits(api, host.environment["APPROVAL_LINK_SECRET"])
        session_id = await own.session()
        turn_id = await own.post(session_id)

        async def look() -> bool:
            return await own.ended(session_id, turn_id)

        await eventually(look, "the turn to end")
        await own.assert_each_once(session_id, turn_id)
        await api.aclose()
