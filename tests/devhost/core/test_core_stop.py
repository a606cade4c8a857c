"""How a host stops: it accepts nothing more, lets end what runs, cuts the rest, and leaves no process behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devhost.settings.config import GRACE_SETTING
from devhost.testing import PROJECT_DIR, host_process

APPS = PROJECT_DIR / "tests" / "devhost" / "apps"
GATED = """
import asyncio, pathlib
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
gate = pathlib.Path(__file__).parent / "gate"

@app.route("ping")
async def ping(req: Request) -> Response:
    return Response("pong")

@app.route("gated")
async def gated(req: Request) -> StreamingResponse:
    async def pieces():
        yield b"first"
        while not gate.exists():
            await asyncio.sleep(0.01)
        yield b"last"
    return StreamingResponse(pieces())
"""
ASKING = """
import pathlib, time, urllib.error, urllib.request
import azure.durable_functions as df
import azure.functions as func
app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
here = pathlib.Path(__file__).parent

@app.route("start")
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client) -> str:
    return await client.start_new("asks", "one", client._orchestration_bindings.rpc_base_url)

@app.orchestration_trigger(context_name="context")
def asks(context):
    return (yield context.call_activity("ask", context.get_input()))

@app.activity_trigger(input_name="local")
def ask(local: str) -> int:
    (here / "runs").touch()
    public = (here / "public").read_text()
    while True:
        try:
            urllib.request.urlopen(public + "/api/none")
        except urllib.error.HTTPError:
            time.sleep(0.02)
        except urllib.error.URLError:
            break
    return urllib.request.urlopen(local + "instances/one").status
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    with host_process(APPS / "http_streaming", tmp_path / "data") as host:
        children = psutil.Process(host.process.pid).children(recursive=True)
        host.process.send_signal(number)
        assert host.process.wait(30) == 0

    assert len(children) == 1, "the worker"
    assert not children[0].is_running()
    assert host.logs("stopping")
    assert "Traceback" not in host.log()


def test_open_stream_and_stuck_thread_do_not_hold_the_stop_up(tmp_path: Path) -> None:
    with host_process(APPS / "http_classic", tmp_path / "data") as host:
        caller = threading.Thread(target=_ignore_answer, args=(f"{host.base_url}/api/slow?seconds=3600",))
        caller.start()
        while "slow begins" not in host.log():
            time.sleep(0.01)
        assert host.stop() == 0
        caller.join(30)
        assert not caller.is_alive()


def test_a_host_that_stops_accepts_nothing_and_lets_an_open_stream_end(
    make_app: Callable[..., Path], tmp_path: Path
) -> None:
    """As Azure's, whose grace is 30 s."""
    app, environment = make_app(function_app__py=GATED), {GRACE_SETTING: "20"}
    with (
        host_process(app, tmp_path / "data", environment=environment) as host,
        httpx.Client(base_url=host.base_url) as kept_alive,
        httpx.stream("GET", f"{host.base_url}/api/gated", timeout=30) as answer,
    ):
        kept_alive.get("/api/ping")
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        host.process.terminate()
        for client in (httpx, kept_alive):
            while _accepts(client, f"{host.base_url}/api/ping"):
                time.sleep(0.01)
        (app / "gate").touch()
        assert list(pieces) == [b"last"]
        assert host.process.wait(15) == 0, "it does not wait for the rest of its grace"
        assert [line for line in host.log().splitlines() if "INFO" not in line] == []


def test_a_stream_that_is_open_after_the_grace_is_cut(tmp_path: Path) -> None:
    with (
        host_process(APPS / "http_streaming", tmp_path / "data", environment={GRACE_SETTING: "1"}) as host,
        httpx.stream("GET", f"{host.base_url}/endless", timeout=30) as answer,
    ):
        pieces = answer.iter_raw()
        next(pieces)
        host.process.terminate()
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
        assert host.process.wait(30) == 0
        assert [line for line in host.log().splitlines() if "INFO" not in line] == []


def test_a_signal_to_the_whole_group_leaves_the_worker_to_its_host(tmp_path: Path) -> None:
    """`./dev up`, a terminal and a container send it to every process."""
    with host_process(APPS / "http_streaming", tmp_path / "data") as host:
        [worker] = psutil.Process(host.process.pid).children()
        worker.terminate()
        assert httpx.get(f"{host.base_url}/ping").text == "pong"
        assert [child.pid for child in psutil.Process(host.process.pid).children()] == [worker.pid]


def test_an_activity_still_reaches_the_engine_when_the_host_accepts_nothing_more(
    make_app: Callable[..., Path], tmp_path: Path
) -> None:
    """The engine's own endpoint is another one than the host's, as in Azure."""
    app, data = make_app(function_app__py=ASKING), tmp_path / "data"
    with host_process(app, data, environment={GRACE_SETTING: "20"}) as host:
        (app / "public").write_text(host.base_url)
        assert httpx.get(f"{host.base_url}/api/start", timeout=30).text == "one"
        while not (app / "runs").exists():
            time.sleep(0.01)
        assert host.stop() == 0
    with host_process(app, data) as host:
        while (found := httpx.get(f"{host.base_url}/durabletask/instances/one").json())["runtimeStatus"] == "Running":
            time.sleep(0.02)
        assert (found["runtimeStatus"], found["output"]) == ("Completed", 202)


def _accepts(client: Any, url: str) -> bool:
    try:
        client.get(url)
    except httpx.TransportError:
        return False
    return True


def _ignore_answer(url: str) -> None:
    try:
        httpx.get(url, timeout=60)
    except httpx.HTTPError:
        return
