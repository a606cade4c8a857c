"""The order of answers and outputs, what ends with a worker, and what a harsh host adds."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devhost.extensions.contract import FunctionFailed
from devhost.extensions.loading import Known
from devhost.runner import HostOptions, RunningHost, run_host

PATIENCE_S = 20.0

EXTENSION = """
import asyncio

class Outbox:
    name = "outbox"
    trigger_types = frozenset({"askedTrigger"})
    input_types = frozenset()
    output_types = frozenset({"outbox"})
    sent, gate = [], asyncio.Event()

    def bind(self, host): ...
    def routes(self): return []
    async def start(self): ...

    async def stop(self):
        self.sent.append("stopped")

    async def send_output(self, binding, value):
        if value == "gated":
            await self.gate.wait()
        if value == "refused":
            raise ValueError("malformed")
        self.sent.append(value)
"""

APP = """
import asyncio, os, pathlib
import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
here = pathlib.Path()
leaked = []

async def gate():
    while not (here / "gate").exists():
        await asyncio.sleep(0.01)

@app.route("post/{what}", methods=["POST"])
@app.generic_output_binding(arg_name="out", type="outbox")
async def post(req: Request, out: func.Out[str]) -> Response:
    out.set(req.path_params["what"])
    return Response(b"taken", status_code=201)

@app.route("wait/{what}", methods=["POST"])
@app.generic_output_binding(arg_name="out", type="outbox")
async def wait(req: Request, out: func.Out[str]) -> Response:
    out.set(req.path_params["what"])
    (here / "begun").touch()
    await gate()
    return Response(b"taken")

@app.route("stream/{what}")
@app.generic_output_binding(arg_name="out", type="outbox")
async def stream(req: Request, out: func.Out[str]) -> StreamingResponse:
    out.set(req.path_params["what"])
    async def produce():
        yield b"first"
        await gate()
        yield b"last"
    return StreamingResponse(produce())

@app.route("breaks")
@app.generic_output_binding(arg_name="out", type="outbox")
async def breaks(req: Request, out: func.Out[str]) -> StreamingResponse:
    out.set("never")
    async def produce():
        yield b"first"
        raise LookupError("and no further")
    return StreamingResponse(produce())

@app.route("headers")
async def headers(req: Request) -> JSONResponse:
    return JSONResponse([req.headers.items(), str(req.url)])

@app.generic_trigger(arg_name="text", type="askedTrigger")
@app.generic_output_binding(arg_name="out", type="outbox")
async def ask(text: str, out: func.Out[str]) -> str:
    if text == "wait":
        (here / "begun").touch()
        await gate()
    if text == "block":
        (here / "begun").touch()
        while not (here / "gate").exists():
            pass
    if text == "leak":
        leaked.extend(b"x" * 1_000_000 for _ in range(256))
        (here / "begun").touch()
        await gate()
    if text == "die":
        os._exit(3)
    out.set(text)
    return text
"""


@dataclass(frozen=True)
class Bench:
    host: RunningHost
    client: httpx.AsyncClient
    outbox: Any
    folder: Path
    """The app's."""

    def worker(self) -> psutil.Process:
        """The one of this host; other tests' servers may be children of this process, too."""
        [found] = [one for one in psutil.Process().children() if "from devhost.worker" in " ".join(one.cmdline())]
        return found

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    async def begun(self) -> None:
        """Wait until a function waits for the gate."""
        async with asyncio.timeout(PATIENCE_S):
            while not (self.folder / "begun").exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)

    async def ask(self, text: str) -> str | None:
        function = next(one for one in self.host.context.functions if one.name == "ask")
        return await self.host.dispatcher.invoke(function, text)

    async def sent(self, count: int) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.outbox.sent) < count:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.005)
        return list(self.outbox.sent)


type Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, make_app: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Serve:
    """A harsh host with the named hardships only; without any: a kind host."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "outbox_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.delitem(sys.modules, "outbox_extension", raising=False)
    app = make_app(function_app__py=APP, host__json='{"version":"2.0","extensions":{"http":{"routePrefix":""}}}')
    known = (Known("outbox_extension", "Outbox", frozenset({"askedTrigger", "outbox"}), always=True),)

    @asynccontextmanager
    async def serving(*hardships: str, timeout: str = "", **more: Any) -> AsyncIterator[Bench]:
        if timeout:
            monkeypatch.setenv("AzureFunctionsJobHost__functionTimeout", timeout)
        odds = ",".join(["all=0", *(f"{name}=1" for name in hardships)])
        harsh = {"DEVHOST_ENGINE": "harsh", "DEVHOST_HARSH_SEED": "1", "DEVHOST_HARSH": odds} if hardships else {}
        options = HostOptions(app, port=0, data_dir=tmp_path / "data", settings=harsh, known_extensions=known, **more)
        async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=PATIENCE_S) as client:
            yield Bench(host, client, sys.modules["outbox_extension"].Outbox, app)

    return serving


class TestOutputsAfterTheAnswer:
    async def test_the_answer_is_there_before_its_outputs_are_sent(self, serve: Serve) -> None:
        async with serve() as bench:
            answer = await bench.client.post("/post/gated")
            assert (answer.status_code, answer.text, bench.outbox.sent) == (201, "taken", [])
            bench.outbox.gate.set()
            assert await bench.sent(1) == ["gated"]

    async def test_outputs_of_two_requests_overtake_each_other(self, serve: Serve) -> None:
        async with serve() as bench:
            await bench.client.post("/post/gated")
            await bench.client.post("/post/second")
            assert await bench.sent(1) == ["second"]
            bench.outbox.gate.set()
            assert await bench.sent(2) == ["second", "gated"]

    async def test_outputs_wait_for_the_end_of_a_streaming_answer(self, serve: Serve) -> None:
        async with serve() as bench, bench.client.stream("GET", "/stream/news") as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"first"
            assert bench.outbox.sent == []
            bench.open_gate()
            assert await anext(pieces) == b"last"
            assert await bench.sent(1) == ["news"]

    async def test_an_output_that_cannot_be_sent_fails_the_invocation_and_not_its_request(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serve() as bench:
            assert (await bench.client.post("/post/refused")).status_code == 201
            assert (await bench.client.post("/post/next")).status_code == 201
            assert await bench.sent(1) == ["next"]
        assert "output binding 'out' (outbox): ValueError: malformed" in caplog.text

    async def test_outputs_of_an_answer_that_breaks_off_are_not_sent(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serve() as bench:
            with pytest.raises(httpx.RemoteProtocolError):
                await bench.client.get("/breaks")
            await bench.client.post("/post/next")
            assert await bench.sent(1) == ["next"]
        assert "breaks failed" in caplog.text
        assert "the answer to /breaks broke off: LookupError: and no further" in caplog.text

    @pytest.mark.parametrize("path", ["/wait/news", "/stream/news"])
    async def test_outputs_of_a_caller_that_left_are_not_sent_and_that_is_no_error(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        caplog.set_level("INFO")
        async with serve() as bench:
            method = "POST" if path.startswith("/wait") else "GET"
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.host.port)
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            await (bench.begun() if method == "POST" else reader.readuntil(b"first"))
            writer.close()
            await bench.client.get("/headers")  # by now the host knows
            bench.open_gate()
            async with asyncio.timeout(PATIENCE_S):
                while "the caller left" not in caplog.text:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.005)
            assert bench.outbox.sent == []
        assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []

    async def test_a_host_that_stops_still_sends_them(self, serve: Serve) -> None:
        async with serve() as bench:
            await bench.client.post("/post/news")
        assert bench.outbox.sent == ["news", "stopped", "stopped"]

    async def test_other_functions_send_theirs_before_they_end(self, serve: Serve) -> None:
        async with serve() as bench:
            assert await bench.ask("hello") == "hello"
            assert bench.outbox.sent == ["hello"]


class TestFailedOutput:
    async def test_the_function_runs_and_its_invocation_fails(self, serve: Serve) -> None:
        async with serve("failed_output") as bench:
            assert (await bench.client.post("/post/news")).status_code == 201, "the caller has its answer"
            with pytest.raises(FunctionFailed, match=r"^output binding 'out' \(outbox\): ConnectionError: harsh"):
                await bench.ask("hello")
            assert bench.outbox.sent == []


def own_words(host: RunningHost) -> dict[str, str]:
    return {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": f"127.0.0.1:{host.port}",
        "x-forwarded-proto": "http",
    }


CLAIMS = {
    "x-forwarded-for": "1.2.3.4",
    "x-forwarded-host": "other.localhost",
    "x-forwarded-proto": "https",
    "x-forwarded-prefix": "/p",
    "forwarded": "for=1.1.1.1",
    "via": "1.1 v",
}


class TestProxiedHost:
    async def test_the_app_sees_the_worker_and_in_a_header_what_its_caller_asked_for(self, serve: Serve) -> None:
        async with serve() as bench:
            sent = [*CLAIMS.items(), ("x-multi", "a"), ("x-multi", "b"), ("cookie", "q=1"), ("cookie", "w=2")]
            items, url = (await bench.client.get("/headers?a=1", headers=sent)).json()
            seen = dict(items)
            assert len(seen) == len(items)
            assert uuid.UUID(seen.pop("x-ms-invocation-id"))
            assert {name: seen[name] for name in own_words(bench.host)} == own_words(bench.host)
            worker = seen["host"]
            assert worker.startswith("127.0.0.1:")
            assert (worker == f"127.0.0.1:{bench.host.port}", url) == (False, f"http://{worker}/headers?a=1")
            assert (seen["via"], seen["x-multi"], seen["cookie"]) == ("1.1 v", "a, b", "q=1; w=2")
            assert not {"x-forwarded-prefix", "forwarded", "connection"} & set(seen)

    async def test_a_header_with_a_line_break_is_none_for_the_worker(self, serve: Serve) -> None:
        """A percent-encoded name is decoded for the principal headers."""
        async with serve(dev_identity=True) as bench:
            answer = await bench.client.get(
                "/headers", headers={"x-dev-user": "ann%0d%0ax-ms-client-principal-id:%20bob"}
            )
            assert answer.status_code == 400
            assert (await bench.client.get("/headers", headers={"x-dev-user": "ann"})).status_code == 200


class TestHungHeader:
    @pytest.mark.parametrize("header", ["X-U: é", "x-ms-invocation-id: mine"])
    async def test_the_request_hangs_until_the_time_limit_of_functions(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, header: str
    ) -> None:
        async with serve("hung_header", timeout="00:00:01") as bench:
            with socket.create_connection(("127.0.0.1", bench.host.port)) as raw:
                raw.setblocking(False)
                raw.send(
                    f"POST /wait/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{header}\r\n\r\n".encode()
                )
                async with asyncio.timeout(PATIENCE_S):
                    answer = await asyncio.get_running_loop().sock_recv(raw, 1000)
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert not (bench.folder / "begun").exists(), "the function never gets the request"
        assert "Timeout value of 00:00:01 was exceeded by function: Functions.wait" in caplog.text

    async def test_a_kind_host_serves_it(self, serve: Serve) -> None:
        async with serve() as bench:
            answer = await bench.client.get("/headers", headers={"x-u": "é".encode()})
            assert answer.status_code == 200


class TestRestartedWorker:
    async def test_a_function_past_its_time_takes_everything_in_flight_with_it(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with serve(timeout="00:00:02") as bench:
            hanging = asyncio.create_task(bench.ask("wait"))
            await bench.begun()
            await asyncio.sleep(1)
            innocent = asyncio.create_task(bench.ask("wait"))
            request = asyncio.create_task(bench.client.post("/wait/news"))
            results = await asyncio.gather(hanging, innocent, return_exceptions=True)
            assert [str(result) for result in results] == [
                "FunctionTimeoutException: Timeout value of 00:00:02 was exceeded by function: Functions.ask"
            ] * 2
            assert (await request).status_code == 500
            assert bench.outbox.sent == []
            assert await bench.ask("again") == "again"
        assert "is killed and replaced: FunctionTimeoutException" in caplog.text
        assert "Functions.ask; 2 invocations fail" in caplog.text

    async def test_a_worker_that_dies_is_replaced(self, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        async with serve() as bench:
            innocent = asyncio.create_task(bench.ask("wait"))
            request = asyncio.create_task(bench.client.post("/wait/news"))
            await bench.begun()
            died = "WorkerProcessExitException: python exited with code 3 (0x3)"
            with pytest.raises(FunctionFailed, match=re.escape(died)):
                await bench.ask("die")
            with pytest.raises(FunctionFailed, match=re.escape(died)):
                await innocent
            assert (await request).status_code == 500
            assert await bench.ask("again") == "again"
            assert (await bench.client.post("/post/news")).status_code == 201
            assert await bench.sent(2) == ["again", "news"]
        assert f"{died}; 3 invocations fail" in caplog.text
        assert "is ready after" in caplog.text

    async def test_while_no_worker_can_load_the_app_its_error_is_the_answer(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        async with serve() as bench:
            (bench.folder / "function_app.py").write_text("nonsense = 1 / 0")
            with pytest.raises(FunctionFailed):
                await bench.ask("die")
            with pytest.raises(FunctionFailed, match=r"cannot be loaded at function_app.py:1: Zero"):
                await bench.ask("hello")
            assert (await bench.client.get("/headers")).status_code == 500
            (bench.folder / "function_app.py").write_text(APP)
            async with asyncio.timeout(PATIENCE_S):
                while "is ready after" not in caplog.text:  # noqa: ASYNC110 - nobody announces it
                    await asyncio.sleep(0.02)
            assert await bench.ask("hello") == "hello"

    async def test_a_streaming_answer_is_cut_with_the_worker(self, serve: Serve) -> None:
        async with serve() as bench, bench.client.stream("GET", "/stream/news") as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"first"
            with pytest.raises(FunctionFailed):
                await bench.ask("die")
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(pieces)

    async def test_a_streaming_answer_past_its_time_is_cut_and_takes_nothing_with_it(self, serve: Serve) -> None:
        async with serve(timeout="00:00:02") as bench:
            async with bench.client.stream("GET", "/stream/news") as answer:
                pieces = answer.aiter_raw()
                assert await anext(pieces) == b"first"
                await asyncio.sleep(1)
                innocent = asyncio.create_task(bench.ask("wait"))
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
            bench.open_gate()
            assert await innocent == "wait"
            assert bench.outbox.sent == ["wait"]

    async def test_a_blocked_worker_is_ended_when_its_time_is_up(self, serve: Serve) -> None:
        async with serve(timeout="00:00:02") as bench:
            with pytest.raises(FunctionFailed, match="FunctionTimeoutException"):
                await bench.ask("block")
            assert await bench.ask("again") == "again"

    async def test_a_blocked_worker_leaves_the_host_answering(self, serve: Serve) -> None:
        """It is blocked for as long as the answers take, however fast the machine is."""
        async with serve() as bench:
            blocked = asyncio.create_task(bench.ask("block"))
            await bench.begun()
            for _ in range(100):
                assert (await bench.client.get("/admin/host/ping")).status_code == 200
            assert (await bench.client.get("/nobody")).status_code == 404
            assert not blocked.done()
            bench.open_gate()
            assert await blocked == "block"

    async def test_a_worker_that_grows_is_left_alone_until_the_system_kills_it(self, serve: Serve) -> None:
        """Azure's host watches no worker's memory: the kernel ends the largest process of the container, and the host
        starts another one, as here."""
        async with serve() as bench:
            worker = bench.worker()
            before = psutil.Process().memory_info().rss, worker.memory_info().rss
            leaking = asyncio.create_task(bench.ask("leak"))
            await bench.begun()
            after = psutil.Process().memory_info().rss, worker.memory_info().rss
            assert after[1] - before[1] > 250_000_000
            assert after[0] - before[0] < 50_000_000, "what the worker holds is not the host's"
            for _ in range(20):
                assert (await bench.client.get("/admin/host/ping")).status_code == 200
            worker.kill()
            with pytest.raises(FunctionFailed, match=r"WorkerProcessExitException: python exited with code 137"):
                await leaking
            assert await bench.ask("again") == "again"
            replaced = bench.worker()
            assert replaced.memory_info().rss < after[1] - 200_000_000
