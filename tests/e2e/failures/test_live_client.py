"""The live client of `docs/live.md`, as it is printed there: it hears each event once, in order, over a `kill -9`."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from tests.e2e.support.client import Json, open_api, script
from tests.e2e.support.live_script import printed
from tests.e2e.support.processes import ROOT, AppHost
from tests.support.node import install, node_binary

_PACKAGES = ROOT / "tests" / "devhost" / "signalr"
_LIMIT_S = 200
"""Only bounds waiting: a busy machine takes several times as long as a quiet one."""
_RUN = """
import { follow } from './follow.mjs'
const [, , api, session] = process.argv
await follow(api, session, (event) => console.log(JSON.stringify(event)))
console.log(JSON.stringify({ type: 'joined' }))
"""


async def test_the_printed_client_hears_everything_once_and_in_order_although_the_host_is_killed(
    own_host: AppHost, tmp_path: Path
) -> None:
    (tmp_path / "follow.mjs").write_text(printed(), "utf-8")
    (tmp_path / "run.mjs").write_text(_RUN, "utf-8")
    (tmp_path / "node_modules").symlink_to(await asyncio.to_thread(install, _PACKAGES))
    # Without a header of its own the client is the development host's default user.
    api = await open_api(own_host, "dev;approver,admin")
    session_id = await api.session()
    command = (str(node_binary()), "run.mjs", f"{own_host.base_url}/api/v1", session_id)
    client = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdin=DEVNULL, stdout=PIPE, limit=2**20)
    heard: list[Json] = []

    async def until(kind: str, count: int = 1) -> None:
        assert client.stdout is not None
        while sum(event["type"] == kind for event in heard) < count:
            line = await client.stdout.readline()
            assert line, "the client has ended"
            if line.startswith(b"{"):  # else it is SignalR's own log
                heard.append(json.loads(line))

    try:
        async with asyncio.timeout(_LIMIT_S):
            await until("joined")
            await api.say(session_id, script(tokens=200, token_ms=20))
            await until("stream.chunk", 5)
            own_host.kill()
            await asyncio.to_thread(own_host.start)
            await until("stream.ended")
            told = await api.events(session_id)
    finally:
        client.kill()
        await client.wait()
        await api.aclose()
    heard = [event for event in heard if event["type"] != "joined"]
    first = heard[0]["seq"]
    assert [event["seq"] for event in heard] == list(range(first, first + len(heard)))
    assert heard == [event for event in told if first <= event["seq"] <= heard[-1]["seq"]]
    assert heard[-1]["data"]["status"] == "completed"
