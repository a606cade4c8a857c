"""The host's pages: what runs, for a person, and for nobody who comes by another name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devhost.testing import PROJECT_DIR, HostProcess, host_process

APP = PROJECT_DIR / "tests" / "devhost" / "apps" / "durable_basic"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    folder: Path = tmp_path_factory.mktemp("pages")
    with host_process(APP, folder / "data") as running:
        yield running


def _get(host: HostProcess, path: str, name: str | None = None) -> httpx.Response:
    headers = {} if name is None else {"host": name}
    return httpx.get(f"{host.base_url}{path}", headers=headers, trust_env=False)


def test_the_overview_lists_the_functions_under_a_policy_without_scripts(host: HostProcess) -> None:
    page = _get(host, "/admin/pages")
    assert page.status_code == 200
    assert "<td>hello_chain</td><td>orchestrationTrigger</td>" in page.text
    assert "Orchestration instances" in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")


def test_an_instance_is_shown_with_its_history(host: HostProcess) -> None:
    started = httpx.post(f"{host.base_url}/durabletask/orchestrators/hello_chain/a-b", content=b"null", trust_env=False)
    assert started.status_code == 202, started.text
    deadline = 200
    while "Completed" not in (page := _get(host, "/admin/pages/durableTask/a-b")).text:
        deadline -= 1
        assert deadline, page.text
    assert "Instance a-b" in page.text
    assert "ExecutionStarted" in page.text
    assert "say_hello" in page.text
    assert '<a href="/admin/pages/durableTask/a-b">a-b</a>' in _get(host, "/admin/pages").text


@pytest.mark.parametrize(
    "path", ["/admin/pages/durableTask/a%2F%3Cb%3E", "/admin/pages/nothing/x", "/admin/pages/durableTask"]
)
def test_there_is_no_other_page(host: HostProcess, path: str) -> None:
    assert _get(host, path).status_code == 404


def test_a_rebound_name_sees_nothing(host: HostProcess) -> None:
    assert _get(host, "/admin/pages", "evil.example").status_code == 404
