"""A worker that is killed, or that hangs until `functionTimeout`, costs no turn and doubles no effect."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import psutil
import pytest

from tests.e2e.support.client import Api, eventually, open_api, post_call, script
from tests.e2e.support.processes import AppHost, Sink

TIMEOUT = "AzureFunctionsJobHost__functionTimeout"


@pytest.fixture(scope="module")
def limited_host(own_host: AppHost) -> Iterator[AppHost]:
    """A host that ends a worker after six seconds in one function."""
    own_host.stop()
    own_host.is_forked = False
    own_host.start(**{TIMEOUT: "00:00:06"})
    yield own_host
    own_host.stop()


@pytest.fixture
async def api(limited_host: AppHost) -> AsyncIterator[Api]:
    client = await open_api(limited_host)
    yield client
    await client.aclose()


def worker(host: AppHost) -> psutil.Process:
    [found] = psutil.Process(host.pid).children()
    return found


async def lose(host: AppHost, api: Api, how: str) -> None:
    """Kill the worker, or stop it until its host ends it; meanwhile the host answers. Returns when a new one serves."""
    lost = worker(host)
    lost.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        for _ in range(20):
            assert (await client.get("/admin/host/ping")).status_code == 200
    if how == "stopped":
        assert lost.status() == psutil.STATUS_STOPPED, "it was there all the while, and did nothing"

    async def is_replaced() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            return worker(host).pid != lost.pid and (await api.get("/api/v1/health/live")).status_code == 200
        return False

    await eventually(is_replaced, "a new worker")


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_worker_lost_in_mid_stream_costs_an_attempt(limited_host: AppHost, api: Api, how: str) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tokens=60, token_ms=25))

    async def streaming() -> bool:
        return any(event["type"] == "stream.chunk" for event in await api.events(session_id))

    await eventually(streaming, "the answer to begin")
    await lose(limited_host, api, how)
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    [answer] = await api.messages(session_id, turn_id, "assistant")
    assert answer["status"] == "completed"


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_worker_lost_in_a_tool_call_leaves_its_outcome_unknown(
    limited_host: AppHost, api: Api, sink: Sink, how: str
) -> None:
    session_id = await api.unattended_session()
    path = f"/hold/lost-worker-{how}"
    call = post_call(sink.url(path))
    turn_id = await api.say(session_id, script(tool_calls=[[call]], echo=True), approval_mode="auto")

    async def called() -> bool:
        return bool(sink.at(path))

    await eventually(called, "the tool call")
    await lose(limited_host, api, how)
    turn = await api.until(session_id, turn_id)
    assert (turn["status"], turn["tool_calls"][0]["status"]) == ("completed", "failed")
    assert len(sink.at(path)) == 1
    assert "outcome is unknown" in list((await api.answers(session_id, turn_id)).values())[-1]


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_worker_lost_while_a_turn_waits_costs_nothing(
    limited_host: AppHost, api: Api, sink: Sink, how: str
) -> None:
    session_id = await api.session()
    path = f"/lost-waiting-{how}"
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(path))]], content="done"))
    approval = await api.approval(session_id)
    await lose(limited_host, api, how)
    assert await api.approvals(session_id) == [approval]
    assert (await api.decide(approval["id"], "approve")).status_code == 200
    assert (await api.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at(path)) == 1


async def test_a_worker_dies_with_its_host(limited_host: AppHost, api: Api) -> None:
    left = worker(limited_host)
    limited_host.kill()
    assert left.wait(20) is not None or not left.is_running()
