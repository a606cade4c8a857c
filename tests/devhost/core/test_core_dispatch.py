"""Invocations with a binding extension of the tests' own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from devhost.extensions.contract import FunctionFailed, HostError
from devhost.extensions.loading import Known
from devhost.runner import HostOptions, RunningHost, run_host

pytestmark = pytest.mark.usefixtures("forked_workers")

EXTENSION = """
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

class FakeExtension:
    name = "fake"
    trigger_types = frozenset({"fakeTrigger", "activityTrigger"})
    input_types = frozenset({"fakeIn"})
    output_types = frozenset({"fakeOut"})

    def __init__(self):
        self.sent = []
        self.story = []

    def default_settings(self, base_url):
        return {"FAKE_ENDPOINT": base_url + "/fake", "GREETING": "from the extension"}

    def bind(self, host):
        self.host = host
        self.story.append("bind")

    def routes(self):
        return [
            Route("/fake/{x}", lambda request: PlainTextResponse("fake " + request.path_params["x"]), methods=["GET"]),
            Route("/api/wins", lambda request: PlainTextResponse("extension")),
            WebSocketRoute("/fake-socket", self.socket),
        ]

    async def socket(self, websocket):
        await websocket.accept()
        await websocket.send_text("hello " + websocket.query_params["who"])
        await websocket.close()

    async def start(self):
        self.story.append("start")

    async def stop(self):
        self.story.append("stop")

    async def resolve_input(self, binding, trigger):
        if binding.raw.get("fail"):
            raise ValueError("no such header")
        user = trigger.headers.get(binding.raw.get("header", "x-user"))
        query, route = trigger.query.get("q"), trigger.route.get("id")
        return f"{binding.raw['hub']}:{user}:{query}:{route}"

    async def send_output(self, binding, value):
        if value == "refuse":
            raise ValueError("malformed")
        self.sent.append((binding.name, value))
"""

APP = """
import asyncio, json, os
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("greet/{id}")
@app.generic_input_binding(arg_name="info", type="fakeIn", hub="%HUB%")
@app.generic_output_binding(arg_name="out", type="fakeOut")
def greet(req: func.HttpRequest, info: str, out: func.Out[str]) -> str:
    out.set(req.params.get("out", info))
    return info

@app.route("who")
@app.generic_input_binding(arg_name="info", type="fakeIn", hub="h", header="x-ms-client-principal-id")
def who(req: func.HttpRequest, info: str) -> str:
    return info

@app.route("exits")
async def exits(req: func.HttpRequest) -> str:
    raise SystemExit(3)

@app.route("broken_input")
@app.generic_input_binding(arg_name="info", type="fakeIn", hub="h", fail=True)
def broken_input(req: func.HttpRequest, info: str) -> str:
    return info

@app.route("wins")
def wins(req: func.HttpRequest) -> str:
    return "function"

@app.route("settings")
def settings(req: func.HttpRequest) -> str:
    return os.environ["FAKE_ENDPOINT"] + " " + os.environ["GREETING"]

@app.generic_trigger(arg_name="text", type="fakeTrigger")
@app.generic_output_binding(arg_name="out", type="fakeOut")
async def triggered(text: str, out: func.Out[bytes]) -> str:
    if text == "fail":
        raise LookupError("not here")
    if text == "hang":
        await asyncio.sleep(3600)
    out.set(text.encode())
    return json.dumps({"got": text})

@app.generic_trigger(arg_name="text", type="fakeTrigger")
@app.generic_output_binding(arg_name="$return", type="fakeOut")
def returns(text: str):
    return {"text": text}

@app.generic_trigger(arg_name="given", type="activityTrigger")
@app.generic_output_binding(arg_name="out", type="fakeOut")
@app.generic_output_binding(arg_name="other", type="fakeOut")
def overwrites(given: dict, out: func.Out[str], other: func.Out[str]) -> dict:
    out.set("set by the function")
    other.set("also set")
    return given

@app.generic_trigger(arg_name="text", type="fakeTrigger")
def off(text: str) -> str:
    return "?"
"""

SETTINGS = {"HUB": "chat", "GREETING": "from the settings", "AzureWebJobs.off.Disabled": "true"}


@pytest.fixture
def app(tmp_path: Path, make_app: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    library = tmp_path / "library"
    library.mkdir()
    (library / "fake_extension.py").write_text(EXTENSION)
    monkeypatch.syspath_prepend(str(library))
    monkeypatch.delitem(sys.modules, "fake_extension", raising=False)
    return make_app(function_app__py=APP)


TYPES = frozenset({"fakeTrigger", "activityTrigger", "fakeIn", "fakeOut"})
KNOWN = (Known("fake_extension", "FakeExtension", TYPES, always=True),)


@asynccontextmanager
async def served(app: Path, tmp_path: Path, **more: Any) -> AsyncIterator[tuple[RunningHost, Any, httpx.AsyncClient]]:
    options = HostOptions(app, port=0, data_dir=tmp_path / "data", settings=SETTINGS, known_extensions=KNOWN, **more)
    made: list[Any] = []
    module: ModuleType = __import__("fake_extension")
    original = module.FakeExtension
    module.FakeExtension = lambda: made.append(original()) or made[-1]
    async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        yield host, made[0], client
    assert made[0].story[:3] == ["bind", "start", "stop"]


async def test_input_sees_the_request_and_output_is_sent_before_the_answer_of_a_classic_function(
    app: Path, tmp_path: Path
) -> None:
    async with served(app, tmp_path) as (_, extension, client):
        answer = await client.get("/api/greet/7?q=1", headers={"x-user": "eva"})

        assert answer.text == "chat:eva:1:7"
        assert extension.sent == [("out", "chat:eva:1:7")]


async def test_principal_of_the_emulator_reaches_binding_expressions(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path, dev_identity=True) as (_, _, client):
        answer = await client.get("/api/who", headers={"x-dev-user": "eva", "x-ms-client-principal-id": "root"})

    assert answer.text == "h:eva:None:None"


async def test_streaming_function_answers_before_its_outputs_are_sent(
    tmp_path: Path, make_app: Callable[..., Path], app: Path
) -> None:
    streaming = """
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, StreamingResponse
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("greet/{id}")
@app.generic_input_binding(arg_name="info", type="fakeIn", hub="%HUB%")
@app.generic_output_binding(arg_name="out", type="fakeOut")
async def greet(req: Request, info: str, out: func.Out[str]) -> StreamingResponse:
    out.set(req.query_params.get("out", info))
    return StreamingResponse(iter([info]))
"""
    async with served(make_app(function_app__py=streaming), tmp_path) as (_, extension, client):
        assert (await client.get("/api/greet/7?out=refuse")).status_code == 200
        assert (await client.get("/api/greet/7?q=1", headers={"x-user": "eva"})).text == "chat:eva:1:7"
    assert extension.sent == [("out", "chat:eva:1:7")]


async def test_function_that_exits_fails_without_ending_the_host(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(app, tmp_path) as (_, _, client):
        assert (await client.get("/api/exits")).status_code == 500
        assert (await client.get("/api/settings")).status_code == 200
    assert "SystemExit: 3" in caplog.text


async def test_malformed_output_fails_the_invocation_after_the_function_ran(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (_, extension, client):
        answer = await client.get("/api/greet/7?out=refuse")

        assert (answer.status_code, answer.content) == (500, b"")
        assert extension.sent == []


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_input_that_cannot_be_resolved_fails_before_user_code_with_an_empty_500(
    app: Path,
    tmp_path: Path,
    make_app: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    is_streaming: bool,
) -> None:
    """Such as a binding expression without a value; measured on Azure Functions host 4.1037."""
    if is_streaming:
        make_app(
            function_app__py="""
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("broken_input")
@app.generic_input_binding(arg_name="info", type="fakeIn", hub="h", fail=True)
async def broken_input(req: Request, info: str) -> Response:
    return Response(info)
"""
        )
    async with served(app, tmp_path) as (_, _, client):
        answer = await client.get("/api/broken_input")
    assert (answer.status_code, answer.content) == (500, b"")
    assert "input binding 'info' (fakeIn): no such header" in caplog.text


async def test_extension_serves_its_routes_and_wins_over_functions(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (_, _, client):
        assert (await client.get("/fake/door")).text == "fake door"
        assert (await client.post("/fake/door")).status_code == 405
        assert (await client.get("/api/wins")).text == "extension"


async def test_extension_serves_websockets(app: Path, tmp_path: Path) -> None:
    from websockets.asyncio.client import connect

    async with (
        served(app, tmp_path) as (host, _, _),
        connect(f"ws://127.0.0.1:{host.port}/fake-socket?who=you") as socket,
    ):
        assert await socket.recv() == "hello you"


async def test_offered_setting_is_used_unless_the_app_has_its_own(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (host, _, client):
        assert (await client.get("/api/settings")).text == f"{host.base_url}/fake from the settings"


async def test_extension_calls_a_function(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (host, extension, _):
        functions = {function.name: function for function in host.context.functions}

        assert await host.dispatcher.invoke(functions["triggered"], "hello") == '{"got": "hello"}'
        assert extension.sent == [("out", b"hello")]
        assert await host.dispatcher.invoke(functions["returns"], "hello") is None
        assert extension.sent[1:] == [("$return", {"text": "hello"})]


async def test_a_returned_object_overwrites_the_outputs_that_its_keys_name_and_the_host_warns_once(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Source: `WorkerFunctionInvoker.HandleOutputDictionary` of Azure's host."""
    async with served(app, tmp_path) as (host, extension, _):
        function = next(function for function in host.context.functions if function.name == "overwrites")
        for given in ('{"out": {"a": 1}, "x": 2}', '{"out": "text"}', '{"out": null, "Out": 1}', '["out"]', '"out"'):
            assert await host.dispatcher.invoke(function, given) == given

    assert [value for name, value in extension.sent if name == "out"] == [
        {"a": 1},
        "text",
        *["set by the function"] * 2,
    ]
    assert [value for name, value in extension.sent if name == "other"] == ["also set"] * 5
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith("overwrites returns an object with the key 'out'")


async def test_user_error_has_the_worker_s_text_and_the_user_s_stack(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (host, _, _):
        function = next(function for function in host.context.functions if function.name == "triggered")

        with pytest.raises(FunctionFailed, match=r"^LookupError: not here$") as failure:
            await host.dispatcher.invoke(function, "fail")

    assert 'raise LookupError("not here")' in failure.value.stack


async def test_quiet_invocation_logs_only_its_failure(
    app: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with served(app, tmp_path) as (host, _, _):
        function = next(function for function in host.context.functions if function.name == "triggered")
        await host.dispatcher.invoke(function, "a", quiet=True)
        with pytest.raises(FunctionFailed):
            await host.dispatcher.invoke(function, "fail", quiet=True, correlation_id="abc")

    messages = [
        record.message.splitlines()[0] for record in caplog.records if record.name == "devhost.invoke.triggered"
    ]
    assert len(messages) == 1
    assert messages[0].endswith("(abc): LookupError: not here")


async def test_disabled_function_is_not_run(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (host, _, _):
        function = next(function for function in host.context.functions if function.name == "off")

        with pytest.raises(FunctionFailed, match="disabled"):
            await host.dispatcher.invoke(function, "a")


async def test_function_past_its_timeout_fails_and_is_cancelled(
    app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AzureFunctionsJobHost__functionTimeout", "00:00:01")
    async with served(app, tmp_path) as (host, _, _):
        function = next(function for function in host.context.functions if function.name == "triggered")

        with pytest.raises(FunctionFailed, match="FunctionTimeoutException"):
            await host.dispatcher.invoke(function, "hang")


async def test_missing_extension_names_the_function_that_needs_it(app: Path, tmp_path: Path) -> None:
    known = (Known("no_such_package.extension", "X", frozenset({"fakeTrigger", "fakeIn", "fakeOut"})),)
    options = HostOptions(app, port=0, data_dir=tmp_path / "data", settings=SETTINGS, known_extensions=known)

    with pytest.raises(HostError, match=r"function '\w+' uses 'fake\w+', but no_such_package.extension is not part"):
        async with run_host(options):
            pass


async def test_concurrent_invocations_do_not_mix_their_outputs(app: Path, tmp_path: Path) -> None:
    async with served(app, tmp_path) as (host, _, _):
        function = next(function for function in host.context.functions if function.name == "triggered")
        answers = await asyncio.gather(*(host.dispatcher.invoke(function, str(n)) for n in range(50)))

    assert answers == [f'{{"got": "{n}"}}' for n in range(50)]
