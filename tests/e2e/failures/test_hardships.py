"""Single hardships of the real host and engine, each so often that no turn escapes: what people asked for still
happens, and what is not to happen twice happens once. All of them together: the modules on both engines of
`conftest.py`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.support.client import Api, eventually, open_api, post_call, script
from tests.e2e.support.processes import ROOT, AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores, swept

TURNS = 3


@contextlib.asynccontextmanager
async def _harsh(
    folder: Path, model_url: str, sink: Sink, odds: str, **more: str
) -> AsyncIterator[tuple[AppHost, Api]]:
    """A host of one's own where nothing goes wrong but `odds`. Its seconds last a twentieth."""
    harsh = {
        "DEVHOST_ENGINE": "harsh",
        "DEVHOST_HARSH_SEED": "7",
        "DEVHOST_HARSH": f"all=0,{odds}",
        "DEVHOST_HARSH_SECOND": "0.05",
        "TURN_STALLED_SECONDS": "1",
    }
    with contextlib.ExitStack() as running:
        stores = running.enter_context(own_stores())
        environment = own_environment(stores, model_url, sink) | harsh | more
        host = running.enter_context(running_host(folder, environment))
        running.enter_context(swept(host))
        api = await open_api(host)
        yield host, api
        await api.aclose()


@pytest.mark.parametrize(
    ("odds", "told"),
    [
        ("dead_worker=0.1", "the worker dies inside"),
        ("lost_result=0.1", "is refused until the host restarts"),
        ("lost_start=0.8", "was cut: "),
        ("failed_output=0.5,late_output=1", "output binding"),
        ("unsaved_activity=0.4,repeated_activity=1", "runs once more"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value else "",
)
async def test_every_turn_ends_and_every_approved_call_runs_once(
    tmp_path: Path, model_url: str, sink: Sink, odds: str, told: str
) -> None:
    async with _harsh(tmp_path, model_url, sink, odds) as (host, api):

        async def turn(number: int) -> None:
            path = f"/{odds}/{number}"
            session_id = await api.session()
            say = script(tool_calls=[[post_call(sink.url(path))], [post_call(sink.url(path + "/b"))]], content="done")
            turn_id = await api.say(session_id, say)
            for _ in range(2):
                await api.decide((await api.approval(session_id))["id"], "approve")
            assert (await api.until(session_id, turn_id))["status"] == "completed"
            assert list((await api.answers(session_id, turn_id)).values())[-1] == "done"
            # A run that was not saved may have been cut in mid-call, as far as anyone knows: then it is not repeated.
            assert [len(sink.at(path)), len(sink.at(path + "/b"))] == [1, 1]

        await asyncio.gather(*(turn(number) for number in range(TURNS)))
        assert host.logs(told)


async def test_a_worker_that_is_restarted_under_everybody_costs_no_turn(
    tmp_path: Path, model_url: str, sink: Sink
) -> None:
    """A request that hangs until functionTimeout takes the worker along, and with it a turn that answers just then."""
    timeout = {"AzureFunctionsJobHost__functionTimeout": "00:00:03"}
    async with _harsh(tmp_path, model_url, sink, "hung_header=1", **timeout) as (host, api):

        async def hang(after_s: float) -> int:
            await asyncio.sleep(after_s)
            async with httpx.AsyncClient(base_url=api.base_url, trust_env=False, timeout=30) as client:
                headers = [(b"x-dev-user", b"olga"), (b"x-name", "é".encode("latin-1"))]
                return (await client.get("/api/v1/tools", headers=headers)).status_code

        hanging = [asyncio.create_task(hang(after_s)) for after_s in (0, 0.8)]
        session_id = await api.session()
        await asyncio.sleep(1.5)
        turn_id = await api.say(session_id, script(tokens=100, token_ms=20))
        assert await asyncio.gather(*hanging) == [500, 500]
        assert (await api.until(session_id, turn_id))["status"] == "completed"
        [message] = await api.messages(session_id, turn_id, "assistant")
        assert message["status"] == "completed"
        assert host.logs("is killed and replaced: ")
        assert re.search(r"is killed and replaced: .*; [1-9]\d* invocations fail", host.log())


async def test_a_killed_host_costs_the_visibility_time_and_no_turn(tmp_path: Path, model_url: str, sink: Sink) -> None:
    async with _harsh(tmp_path, model_url, sink, "late_work=1") as (host, api):
        session_id = await api.session()
        turn_id = await api.say(session_id, script(tokens=40, token_ms=25))

        async def streaming() -> bool:
            return any(event["type"] == "stream.chunk" for event in await api.events(session_id))

        await eventually(streaming, "the answer to begin")
        host.kill()
        host.start()
        turn = await api.until(session_id, turn_id)
        assert turn["status"] == "completed"
        assert len(await api.messages(session_id, turn_id, "assistant")) == 1
        assert "turn restarted" not in host.log(), "its work comes back by itself"


async def test_signalr_that_is_away_costs_no_turn_and_no_call(tmp_path: Path, model_url: str, sink: Sink) -> None:
    """The service runs beside the app, on a port where nobody listens for the whole turn."""
    service = AppHost(tmp_path / "service", {}, app=ROOT / "tests" / "devhost" / "apps" / "signalr_chat")
    connection = f"Endpoint={service.base_url.rpartition(':')[0]};Port={service.port};AccessKey={'k' * 44};Version=1.0;"
    async with _harsh(tmp_path, model_url, sink, "late_output=1", AzureSignalRConnectionString=connection) as (
        host,
        api,
    ):
        session_id = await api.session()
        say = script(tool_calls=[[post_call(sink.url("/away"))], [post_call(sink.url("/away/b"))]], content="done")
        turn_id = await api.say(session_id, say)
        for _ in range(2):
            await api.decide((await api.approval(session_id))["id"], "approve")
        turn = await api.until(session_id, turn_id)
        assert (turn["status"], turn["steps"]) == ("completed", 3)
        assert [len(sink.at(path)) for path in ("/away", "/away/b")] == [1, 1]
        events = await api.events(session_id)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "all of it is in the log"
        assert host.logs("output binding 'events'")
