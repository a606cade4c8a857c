"""A host that is asked to stop lets running calls end, and hands over what does not."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.e2e.support.client import eventually, open_api, post_call, script
from tests.e2e.support.processes import Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores


async def test_a_call_that_runs_when_the_host_stops_ends_and_is_told_as_done(
    tmp_path: Path, model_url: str, sink: Sink
) -> None:
    sink.released.clear()
    with contextlib.ExitStack() as running:
        stores = running.enter_context(own_stores())
        environment = own_environment(stores, model_url, sink) | {"DEVHOST_GRACE_SECONDS": "20"}
        host = running.enter_context(running_host(tmp_path, environment))
        api = await open_api(host)
        session_id = await api.session()
        url = sink.url("/hold/orderly")
        turn_id = await api.say(session_id, script(tool_calls=[[post_call(url)]], content="done"))
        await api.decide((await api.approval(session_id))["id"], "approve")

        async def runs() -> bool:
            return bool(sink.at("/hold/orderly"))

        await eventually(runs, "the call to run")
        asyncio.get_running_loop().call_later(3, sink.released.set)  # longer than a stop takes by itself
        await asyncio.to_thread(host.stop)
        assert sink.released.is_set(), "it waited for the call"

        host.start()
        assert (await api.until(session_id, turn_id))["status"] == "completed"
        [call] = await api.messages(session_id, turn_id, "tool")
        assert '"status":"completed"' in call["content"]
        assert len(sink.at("/hold/orderly")) == 1
        await api.aclose()
