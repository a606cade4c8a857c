"""What the end-to-end tests run: the app in a host process that can be killed, the scripted model, and a sink.

Invariant: every process and thread started here is gone when its block ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from devhost.asgi.hosts import HOSTS_SETTING
from devhost.testing import admin_headers
from tests.support.forking.client import ForkedHost

ROOT = Path(__file__).parents[3]
START_LIMIT_S = 180.0
STOP_LIMIT_S = 60.0
HOLD_LIMIT_S = 60.0

OTHER_NAME = "chat.example"
"""A name beside loopback under which hosts of tests may be called."""
LINK_SECRET = "a-secret-of-the-tests-0123456789abcdef0123456789"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class HostDied(RuntimeError):
    """The host ended before it was ready."""


class AppHost:
    """The app under `python -m devhost`, on one port and one data folder however often it is started."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        app: Path = ROOT,
        python: str = sys.executable,
        is_forked: bool = True,
    ) -> None:
        """environment: the app's settings; see `app_environment`. app: its folder, which may change between two runs;
        python: what runs the host. is_forked: False for a host that imports what it runs, and whose workers are its own
        children; this checkout's app alone is forked."""
        self.app = app
        self.is_forked = is_forked
        self._python = python
        self.folder = folder
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.environment = {**environment, "PUBLIC_BASE_URL": self.base_url}
        self._ready = folder / "host.ready"
        self._log = folder / "host.log"
        self._process: subprocess.Popen[bytes] | ForkedHost | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, **more: str) -> None:
        """Start and wait until it serves; more: settings of this run alone. Raises HostDied."""
        self._ready.unlink(missing_ok=True)
        arguments = [str(self.app), "--port", str(self.port), "--dev-identity"]
        arguments += ["--data", str(self.folder / "data"), "--ready-file", str(self._ready)]
        environment = {**os.environ, **self.environment, **more}
        with self._log.open("ab") as log:
            if self.is_forked and self.app == ROOT and self._python == sys.executable:
                self._process = ForkedHost(arguments, log, environment)
            else:
                self._process = subprocess.Popen(
                    [self._python, "-P", "-m", "devhost", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.app,
                    env=environment,
                )
        wait_for(lambda: self._ready.exists() or self._process_ended(), "the host to be ready", START_LIMIT_S)
        if self._process_ended():
            raise HostDied(f"the host ended with {self.wait()}:\n{self.log()[-4000:]}")

    def kill(self) -> None:
        """`kill -9`: nothing is tidied up."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(STOP_LIMIT_S)

    def stop(self) -> None:
        """Ask it to stop and wait."""
        if self._process is None or self._process_ended():
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def wait(self) -> int:
        """Wait for its end, however that comes; its exit status, negative for a signal."""
        assert self._process is not None
        return self._process.wait(START_LIMIT_S)

    def is_running(self) -> bool:
        return not self._process_ended()

    @property
    def admin_headers(self) -> dict[str, str]:
        """Headers with which a request to the host's `/admin` is let in."""
        return admin_headers(self.folder / "data")

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def logs(self, text: str) -> bool:
        """Whether its log has a text, or has it soon: what is said of a request may come after its answer."""
        wait_for(lambda: text in self.log(), f"the log to say {text!r}", START_LIMIT_S)
        return True

    def approve_links(self) -> list[str]:
        """The links it printed, oldest first: in development the log is the approver's mailbox."""
        return re.findall(r"http://\S+/api/approve/\S+", self.log())

    def _process_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def app_environment(
    *, postgres_url: str, redis_url: str, storage_url: str, model_url: str, sink_port: int
) -> dict[str, str]:
    """Settings of the app for tests. What a developer has set for a real model is switched off."""
    return {
        "POSTGRES_URL": postgres_url,
        "REDIS_URL": redis_url,
        "DEVHOST_GRACE_SECONDS": "0",
        # In Azure a caller has its answer before its outputs are sent, and those of two functions overtake each other.
        # Nothing may depend on their order, so every test runs with it shuffled (devhost/harsh.py).
        "DEVHOST_ENGINE": "harsh",
        "DEVHOST_HARSH": "all=0,late_output=1",
        "DEVHOST_HARSH_SEED": os.environ.get("E2E_SEED", "1"),
        # A busy machine is not a Redis that is away.
        "REDIS_PATIENCE_SECONDS": "3",
        "AzureWebJobsStorage": storage_url,
        # Hosts share their queue service, and a message goes to only one of them.
        "TRIGGER_QUEUE": "",
        "AZURE_OPENAI_ENDPOINT": "",
        "AZURE_OPENAI_DEPLOYMENT": "",
        "AZURE_OPENAI_API_VERSION": "",
        "MODEL_API": "",
        "MODEL_CONTEXT_TOKENS": "",
        "MODEL_REASONING_EFFORT": "",
        "MODELS": "",
        "SESSION_TITLE_MODEL": "",
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "offline",
        "OPENAI_MODEL": "scripted",
        "LLM_FIRST_BYTE_SECONDS": "5",
        "LLM_TIMEOUT_SECONDS": "2",
        "AUTH_MODE": "dev",
        HOSTS_SETTING: OTHER_NAME,
        # Counted like everywhere, and never reached.
        "RATE_LIMIT_PER_MINUTE": "1000000",
        "RATE_LIMIT_BURST": "1000000",
        "RATE_LIMIT_FAIL": "open",
        "USER_DAILY_TOKENS": "0",
        "USER_DAILY_COST_USD": "0",
        "APPROVAL_LINK_SECRET": LINK_SECRET,
        "APPROVAL_WEBHOOK_URL": "",
        "APPROVAL_WEBHOOK_SECRET": "",
        "TOOLS_HTTP_ALLOW": f"127.0.0.1:{sink_port}",
        "MCP_ALLOW": f"127.0.0.1:{sink_port}",
        "WEBHOOK_HOSTS": f"127.0.0.1:{sink_port}",
        "TEAMS_WEBHOOK_URL": "",
        "SLACK_WEBHOOK_URL": "",
        "SMTP_URL": "",
        "MAIL_FROM": "",
        "MAIL_TO": "",
        "REALTIME_DELIVERY": "binding",
        # host.json silences it, and tests look whether it ran.
        "AzureFunctionsJobHost__logging__logLevel__Function.relay": "Information",
    }


@contextlib.contextmanager
def running_host(
    folder: Path, environment: Mapping[str, str], *, is_forked: bool = True, **more: str
) -> Iterator[AppHost]:
    """A started host; stopped at the end, also when a test killed or restarted it."""
    host = AppHost(folder, environment, is_forked=is_forked)
    try:
        host.start(**more)
        yield host
    finally:
        host.stop()


@contextlib.contextmanager
def scripted_model(folder: Path) -> Iterator[str]:
    """The base URL of a model without pacing that follows `#script` lines."""
    log_file = folder / "model.log"
    port = free_port()
    command = [sys.executable, "-m", "devhost.model", "--port", str(port), "--scripted"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--tokens-per-second", "0", "--first-token-ms", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, "the model to listen", START_LIMIT_S)
        assert process.poll() is None, log_file.read_text()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(STOP_LIMIT_S)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str, limit_s: float) -> None:
    """Wait in the calling thread for something that nobody announces."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s:g} s for {what}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Received:
    """One request the sink took."""

    path: str
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes

    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass
class Sink:
    """Counts what tools and webhooks send. `/hold/...` answers only once released."""

    port: int
    requests: list[Received] = field(default_factory=list)
    status_of: Callable[[Received], int] = lambda _: 200
    """What a request is answered with."""
    pages: dict[str, bytes] = field(default_factory=dict)
    """Texts by path; any other says `taken`."""
    answer_of: Callable[[Received], bytes | None] = lambda _: None
    """JSON that answers a request instead; called in the request's thread."""
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]


class _SinkServer(ThreadingHTTPServer):
    daemon_threads = True
    sink: Sink

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: connections break off when a host is killed."""


class _SinkHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        assert isinstance(self.server, _SinkServer)
        sink = self.server.sink
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.path, headers, body)
        sink.requests.append(request)
        if self.path.startswith("/hold/"):
            sink.released.wait(HOLD_LIMIT_S)
        status = sink.status_of(request)
        told = sink.answer_of(request)
        with contextlib.suppress(OSError):  # the host was killed meanwhile: nobody reads
            self.send_response(status)
            self.send_header("content-type", "text/plain" if told is None else "application/json")
            text = sink.pages.get(self.path, b"taken") if told is None else told
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the requests are kept."""


@contextlib.contextmanager
def running_sink() -> Iterator[Sink]:
    server = _SinkServer(("127.0.0.1", 0), _SinkHandler)
    sink = server.sink = Sink(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
