"""`./dev publish`: what a dry run says, what the real one sends, and what stops a release.

Nothing leaves this machine: the registry is a server of the test, or an address at which nobody listens.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from devtools import console
from devtools.clients import blocking, python, versions
from devtools.clients.versions import NotPublishable
from tests.e2e.support.processes import ROOT

NOBODY = "http://127.0.0.1:9/"


class Registry(ThreadingHTTPServer):
    """Takes every upload."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.taken: list[tuple[str, str, bytes]] = []
        """Request line, the caller's Authorization, body."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Taker(BaseHTTPRequestHandler):
    server: Registry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.taken.append((f"{self.command} {self.path}", self.headers.get("authorization", ""), body))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_PUT = do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def publish(*arguments: str, registry: str = NOBODY, **more: str) -> subprocess.CompletedProcess[str]:
    """`./dev publish` with these registries and nobody's credentials."""
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("UV_", "NPM_", "GITHUB_"))
    }
    asked = {"UV_PUBLISH_URL": registry, "npm_config_registry": registry, "NO_PROXY": "*", "no_proxy": "*", "CI": ""}
    return subprocess.run(
        [sys.executable, "-P", "-m", "devtools", "publish", *arguments],
        cwd=ROOT,
        env={**kept, **asked, **more},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def compiler() -> None:
    """The packages that compile the JavaScript client are installed."""
    asyncio.run(console.install())


def test_a_dry_run_for_python_builds_and_tells_and_sends_nothing() -> None:
    done = publish("python", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    assert "parley_client/py.typed" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("would run: uv publish")
    assert f"parley_client-{versions.version()}-py3-none-any.whl" in done.stdout


@pytest.mark.usefixtures("compiler")
def test_a_dry_run_for_javascript_builds_and_tells_and_sends_nothing() -> None:
    done = publish("javascript", "--dry-run", GITHUB_REPOSITORY="some/where")

    assert (done.returncode, done.stderr) == (0, "")
    assert "package/dist/index.d.ts" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("would run: node ")
    assert f"parley-client-{versions.version()}.tgz" in done.stdout


def test_the_real_one_sends_the_wheel_and_the_sdist(registry: Registry) -> None:
    done = publish("python", registry=registry.url, UV_PUBLISH_TOKEN="a-token")

    assert done.returncode == 0, done.stderr
    assert len(registry.taken) == 2
    assert all(b"parley-client" in body and b"file_upload" in body for *_, body in registry.taken)
    assert all(authorization.startswith("Basic ") for _, authorization, _ in registry.taken)


@pytest.mark.usefixtures("compiler")
def test_the_javascript_package_leaves_only_a_pipeline_that_can_vouch_for_it(registry: Registry) -> None:
    account = {f"npm_config_{registry.url.removeprefix('http:')}:_authToken": "a-token"}
    done = publish("javascript", registry=registry.url, **account)

    assert done.returncode != 0
    assert "provenance" in done.stderr
    assert [line for line, *_ in registry.taken if line.startswith("PUT")] == []


def test_versions_that_differ_stop_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "manifest", lambda: {"version": "9.9.9"})
    with pytest.raises(NotPublishable, match=r"versions differ: .*9\.9\.9"):
        python.build()


def test_a_blocking_client_that_was_changed_by_hand_stops_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_sync.py").write_text("# changed\n")
    monkeypatch.setattr(blocking, "TARGET", tmp_path / "_sync.py")
    with pytest.raises(NotPublishable, match="_async"):
        python.build(tmp_path / "built")


def test_an_unknown_package_is_named() -> None:
    done = publish("cobol")

    assert done.returncode == 2
    assert "cobol" in done.stderr
