"""Fixtures of the hooks' tests: a stand-in of the cloud for each test, and a record of the lines that ran."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.infra.hooks.cloud import CLIENT, Cloud
from tests.infra.hooks.flexible_server import Server, flexible_server
from tests.infra.hooks.tls_proxy import tls_in_front
from tests.infra.hooks.vault_server import VaultServer
from tests.integration.platform.entra import certificate


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each line of a hook that a test of this module ran."""
    return tmp_path_factory.mktemp("trace") / "lines"


@pytest.fixture
def cloud(tmp_path: Path, trace: Path) -> Cloud:
    return Cloud(tmp_path, trace)


_begun: set[str] = set()
"""Tests of this process, by node id."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    _begun.add(item.nodeid)


@pytest.fixture
def whole_module(request: pytest.FixtureRequest) -> None:
    """Skips where only some tests of the module were chosen, or another process ran some of them: what those run was
    not run here."""
    chosen = [item for item in request.session.items if item.path == request.path]
    names = {name for name in dir(request.module) if name.startswith("test_")}
    if {item.originalname for item in chosen} != names or not _begun.issuperset(item.nodeid for item in chosen):
        pytest.skip("only when the whole file runs, in one process: --dist loadfile, as ./dev test does")


@pytest.fixture
def trusted(cloud: Cloud, tmp_path: Path) -> Path:
    """The certificate of every server here, which its clients trust: `server.pem` beside it has the key."""
    path, _ = certificate(tmp_path)
    cloud.environment["SSL_CERT_FILE"] = str(path)
    return path


@pytest.fixture
def vault(cloud: Cloud, trusted: Path) -> Iterator[VaultServer]:
    """An empty vault, and the environment after the resources were made."""
    server = VaultServer(trusted.with_name("server.pem"))
    cloud.environment |= {
        "AZURE_FUNCTION_APP": "func",
        "AZURE_KEY_VAULT_ENDPOINT": server.url,
        "AZURE_RESOURCE_GROUP": "rg-parley-test",
    }
    yield server
    server.close()


@pytest.fixture
def server(postgres_server: dict[str, str]) -> Iterator[Server]:
    with flexible_server(postgres_server["POSTGRES_ADMIN_URL"]) as made:
        yield made


@pytest.fixture
def database(cloud: Cloud, server: Server, trusted: Path) -> Iterator[Server]:
    """An empty database over TLS, and the environment after the resources were made."""
    parts = urlsplit(server.url)
    assert parts.hostname
    assert parts.port
    cloud.state["tokens"]["oss-rdbms"] = server.password
    with tls_in_front((parts.hostname, parts.port), trusted.with_name("server.pem")) as port:
        cloud.environment |= {
            "APP_IDENTITY_NAME": f"id-{server.database}",
            "APP_IDENTITY_OBJECT_ID": server.password,
            "PGPORT": str(port),
            "POSTGRES_ADMIN": server.administrators[0],
            "POSTGRES_DATABASE": server.database,
            "POSTGRES_HOST": "127.0.0.1",
        }
        yield server


@pytest.fixture
def github() -> Iterator[dict[str, str]]:
    """GitHub's token service, and what a job of a workflow has in its environment.

    https://docs.github.com/actions/reference/security/oidc
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = (self.path, self.headers["Authorization"])
            fits = asked == ("/token?job=1&audience=api://AzureADTokenExchange", "Bearer a-bearer")
            data = json.dumps({"count": 1, "value": "a-vouched-token"}).encode() if fits else b"{}"
            self.send_response(200 if fits or "nothing" in self.path else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield {
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "a-bearer",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_address[1]}/token?job=1",
        "AZURE_CLIENT_ID": CLIENT,
        "GITHUB_ACTIONS": "true",
    }
    server.shutdown()
    server.server_close()
    thread.join()
