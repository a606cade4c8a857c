"""The host as a process and as a context manager: start, refusals, stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from devhost.extensions.contract import HostError
from devhost.runner import HostOptions, run_host
from devhost.settings.datadir import DATA_VERSION, DataDir
from devhost.testing import PROJECT_DIR, host_process

pytestmark = pytest.mark.usefixtures("forked_workers")

APPS = PROJECT_DIR / "tests" / "devhost" / "apps"


def run_to_the_end(*arguments: object, environment: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """A host that is expected not to start: its exit status and output lines."""
    done = subprocess.run(
        [sys.executable, "-m", "devhost", *map(str, arguments)],
        cwd=PROJECT_DIR,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


class TestRefusals:
    def test_folder_without_host_json(self, tmp_path: Path) -> None:
        status, lines = run_to_the_end(tmp_path, "--port", 0)

        assert status == 1
        assert lines == [f"devhost: {tmp_path} holds no host.json: start devhost in the folder of a Functions app"]

    def test_folder_without_function_app(self, make_app: Callable[..., Path], tmp_path: Path) -> None:
        app = make_app()
        status, lines = run_to_the_end(app, "--port", 0, "--data", tmp_path / "d")
        assert (status, len(lines)) == (1, 1)
        assert "holds no function_app.py" in lines[0]

        (app / "hello").mkdir()
        (app / "hello" / "function.json").write_text("{}")
        status, lines = run_to_the_end(app, "--port", 0, "--data", tmp_path / "d")
        assert (status, len(lines)) == (1, 1)
        assert "programming model v1" in lines[0]

    def test_taken_port(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, lines = run_to_the_end(APPS / "http_classic", "--port", port, "--data", tmp_path / "d")

        assert status == 1
        assert lines == [f"devhost: port {port} is taken: stop the program that uses it or choose another --port"]

    def test_data_folder_of_another_version(self, tmp_path: Path) -> None:
        (tmp_path / "devhost-version.json").write_text(json.dumps({"version": DATA_VERSION + 1}))
        status, lines = run_to_the_end(APPS / "http_classic", "--port", 0, "--data", tmp_path)

        assert status == 1
        assert len(lines) == 1
        assert f"has data version {DATA_VERSION + 1}, this devhost reads {DATA_VERSION}" in lines[0]
        assert "delete the folder" in lines[0]

    def test_data_folder_in_use(self, tmp_path: Path) -> None:
        with host_process(APPS / "http_classic", tmp_path / "data") as host:
            status, lines = run_to_the_end(APPS / "http_classic", "--port", 0, "--data", tmp_path / "data")

        assert status == 1
        assert len(lines) == 1
        assert f"in use by another devhost (process {host.process.pid})" in lines[0]

    def test_damaged_state_file(self, tmp_path: Path) -> None:
        (tmp_path / "keys.json").write_text("{")
        status, lines = run_to_the_end(APPS / "http_classic", "--port", 0, "--data", tmp_path)

        assert (status, len(lines)) == (1, 1)
        assert "keys.json is damaged" in lines[0]

    @pytest.mark.parametrize(
        ("source", "first_line", "frame"),
        [
            (
                "import no_such_package_here",
                "at function_app.py:1: ModuleNotFoundError: No module named 'no_such_package_here' (if it is ",
                "import no_such_package_here",
            ),
            ("import helper", "at helper.py:2: ZeroDivisionError: division by zero", "return 1 / 0"),
            ("def broken(:", "at function_app.py:1: SyntaxError", None),
            ("x = 1", "ValueError: Could not find top level function app instances in function_app.py", None),
            ("import azure.functions as func\napp = func.FunctionApp()", "defines no functions", None),
            (
                "import azure.functions as func\napp = func.FunctionApp()\n@app.function_name('my.function')\n"
                "@app.route()\ndef f(req): ...",
                "function 'my.function': Azure disables a function with such a name",
                None,
            ),
            ("import sys\nsys.exit('no way')", "at function_app.py:2: SystemExit: no way", "sys.exit('no way')"),
        ],
    )
    def test_app_that_cannot_be_loaded(
        self, make_app: Callable[..., Path], tmp_path: Path, source: str, first_line: str, frame: str | None
    ) -> None:
        helper = "def f():\n    return 1 / 0\n\n\nf()\n"
        app = make_app(function_app__py=source, helper__py=helper)

        status, lines = run_to_the_end(app, "--port", 0, "--data", tmp_path / "data")

        assert status == 1
        lines = lines[[line.startswith("devhost: ") for line in lines].index(True) :]
        assert first_line in lines[0]
        assert frame is None or any(line.strip() == frame for line in lines[1:])
        assert not any("site-packages" in line or "Traceback" in line for line in lines), "only the app's own frames"

    @pytest.mark.parametrize(
        "source",
        [
            # As the decorators of 2.0.0rc3 declare their triggers.
            "app = func.FunctionApp()\n@app.route('x')\ndef x(req: func.HttpRequest) -> str: ...\n"
            "@app.generic_trigger(arg_name='c', type='orchestrationTrigger', durableRequiresGrpc=True)\n"
            "def f(c): ...",
            # A module of 1.x that 2.0.0rc3 does not have.
            "from azure.durable_functions.models import DurableOrchestrationContext",
        ],
    )
    def test_app_on_the_durable_sdk_2_is_told_in_one_line_to_pin_1(
        self, make_app: Callable[..., Path], tmp_path: Path, source: str
    ) -> None:
        app = make_app(function_app__py=f"import azure.durable_functions\nimport azure.functions as func\n{source}\n")
        package, about = app / "azure" / "durable_functions", app / "azure_functions_durable-2.0.0rc3.dist-info"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: azure-functions-durable\nVersion: 2.0.0rc3\n")

        status, lines = run_to_the_end(app, "--port", 0, "--data", tmp_path / "data")

        assert (status, len(lines)) == (1, 1)
        assert "azure-functions-durable 2.0.0rc3, which speaks gRPC; this host serves 1.x only: pin" in lines[0]

    def test_a_missing_package_comes_with_what_to_do(self, make_app: Callable[..., Path], tmp_path: Path) -> None:
        def hint(app: Path, *arguments: object) -> str:
            status, lines = run_to_the_end(app, "--port", 0, "--data", tmp_path / "data", *arguments)
            assert status == 1
            return next(line for line in lines if line.startswith("devhost: ")).partition("no_such_package_here' ")[2]

        app = make_app(function_app__py="import no_such_package_here")
        assert hint(app) == (
            "(if it is a package, name it in a requirements.txt beside host.json: ./dev host DIR installs that)"
        )
        (app / "requirements.txt").touch()
        assert hint(app) == (
            "(this Python is the host's own; for any other app, ./dev host DIR installs its requirements.txt)"
        )
        assert hint(app, "--python", sys.executable) == (
            "(if it is a package, add it to requirements.txt: the next ./dev host installs it)"
        )

    def test_a_python_that_cannot_be_run(self, tmp_path: Path) -> None:
        nowhere = tmp_path / "python"
        options = ("--port", 0, "--data", tmp_path / "data", "--python", nowhere)
        status, lines = run_to_the_end(APPS / "http_classic", *options)
        assert (status, lines) == (
            1,
            [f"devhost: the app's Python {nowhere} cannot be run (No such file or directory)"],
        )

    @pytest.mark.parametrize("arguments", [[], ["x", "--port", "http"], ["x", "--port", "70000"], ["x", "--nope"]])
    def test_arguments_that_mean_nothing_are_refused(self, arguments: list[str]) -> None:
        assert run_to_the_end(*arguments)[0] == 2


class TestProcess:
    def test_two_hosts_run_side_by_side(self, tmp_path: Path) -> None:
        with (
            host_process(APPS / "http_classic", tmp_path / "one") as one,
            host_process(APPS / "http_streaming", tmp_path / "two") as two,
        ):
            assert httpx.get(f"{one.base_url}/api/plain").text == "just text"
            assert httpx.get(f"{two.base_url}/ping").text == "pong"
            assert (one.stop(), two.stop()) == (0, 0)

    def test_restart_on_the_same_port_and_data(self, tmp_path: Path) -> None:
        with host_process(APPS / "http_classic", tmp_path / "data") as first:
            port = first.port
            assert first.stop() == 0
        with host_process(APPS / "http_classic", tmp_path / "data", port=port) as second:
            assert second.port == port

    def test_prints_of_the_app_show_at_once(self, make_app: Callable[..., Path], tmp_path: Path) -> None:
        app = make_app(
            function_app__py="""
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("say")
def say(req: func.HttpRequest) -> str:
    print("printed by the app")
    return "said"
"""
        )
        with host_process(app, tmp_path / "data") as host:
            httpx.get(f"{host.base_url}/api/say")
            assert host.logs("printed by the app")

    def test_environment_wins_over_local_settings(self, tmp_path: Path) -> None:
        with host_process(APPS / "http_classic", tmp_path / "data", environment={"GREETING": "from outside"}) as host:
            answer = httpx.get(f"{host.base_url}/api/setting?names=GREETING")

        assert answer.json() == {"GREETING": "from outside"}

    def test_log_is_plain_text_without_a_terminal(self, tmp_path: Path) -> None:
        with host_process(APPS / "http_classic", tmp_path / "data") as host:
            httpx.get(f"{host.base_url}/api/boom")
            assert "\x1b" not in host.log()


class TestInProcess:
    async def test_apps_follow_each_other_in_one_process(self, tmp_path: Path) -> None:
        before, folder, path = dict(os.environ), Path.cwd(), list(sys.path)
        for app, url, answer in (
            ("http_streaming", "/ping", "pong"),
            ("http_classic", "/api/plain", "just text"),
            ("http_streaming", "/ping", "pong"),
        ):
            async with (
                run_host(HostOptions(APPS / app, port=0, data_dir=tmp_path / app)) as host,
                httpx.AsyncClient(base_url=host.base_url, timeout=30) as client,
            ):
                assert (await client.get(url)).text == answer

        assert (dict(os.environ), Path.cwd(), sys.path) == (before, folder, path)
        assert "function_app" not in sys.modules

    async def test_failed_start_leaves_nothing_behind(self, make_app: Callable[..., Path], tmp_path: Path) -> None:
        app = make_app(function_app__py="import azure.functions")
        before = dict(os.environ)
        for _ in range(2):
            with pytest.raises(HostError, match="cannot be loaded"):
                async with run_host(HostOptions(app, port=0, data_dir=tmp_path / "data")):
                    pass

        assert dict(os.environ) == before
        DataDir(tmp_path / "data").open()

    async def test_body_over_the_limit_is_413(self, tmp_path: Path) -> None:
        async def chunks():
            for _ in range(3):
                yield b"x" * 50

        for app, path in (("http_classic", "/api/only_post"), ("http_streaming", "/count_body")):
            options = HostOptions(
                APPS / app, port=0, data_dir=tmp_path / app, settings={"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "100"}
            )
            async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
                assert (await client.post(path, content=b"x" * 101)).status_code == 413
                # A chunked body of a classic function is left out, as in Azure.
                assert (await client.post(path, content=chunks())).status_code == (200 if "classic" in app else 413)
                assert (await client.post(path, content=b"x" * 100)).status_code == 200

    async def test_requests_beyond_the_limit_are_429(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AzureFunctionsJobHost__extensions__http__maxOutstandingRequests", "1")
        options = HostOptions(APPS / "http_streaming", port=0, data_dir=tmp_path / "data")
        async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
            hanging = asyncio.create_task(client.get("/hang"))
            while (await client.get("/ping")).status_code != 429:
                if hanging.done():  # it came while a ping was answered, and was itself one too many
                    hanging = asyncio.create_task(client.get("/hang"))
                await asyncio.sleep(0.01)
            hanging.cancel()

    async def test_function_past_its_timeout_answers_500(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AzureFunctionsJobHost__functionTimeout", "00:00:01")
        options = HostOptions(APPS / "http_streaming", port=0, data_dir=tmp_path / "data")
        async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
            assert (await client.get("/hang")).status_code == 500

    async def test_homepage_can_be_switched_off(self, tmp_path: Path) -> None:
        options = HostOptions(
            APPS / "http_classic", port=0, data_dir=tmp_path / "data", settings={"AzureWebJobsDisableHomepage": "true"}
        )
        async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
            assert (await client.get("/")).status_code == 204
