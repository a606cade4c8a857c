from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devhost.settings.keys import AuthLevel, Keys
from devhost.testing import PROJECT_DIR, HostProcess, host_process

APP = PROJECT_DIR / "tests" / "devhost" / "apps" / "http_classic"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with host_process(APP, tmp_path_factory.mktemp("keys") / "data", ["--enable-auth"]) as host:
        yield host


@pytest.fixture
def keys(guarded: HostProcess) -> dict[str, str]:
    stored = json.loads((guarded.log_file.parent / "data" / "keys.json").read_text())
    return {
        "none": "",
        "wrong": "x" * 54,
        "function": stored["functions"]["guarded"],
        "other function": stored["functions"]["plain"],
        "host": stored["host"],
        "master": stored["master"],
    }


@pytest.mark.parametrize(
    ("path", "let_in"),
    [
        ("/api/plain", {"none", "wrong", "function", "other function", "host", "master"}),
        ("/api/guarded", {"function", "host", "master"}),
        ("/api/master_only", {"master"}),
        ("/admin/host/status", {"master"}),
        ("/admin/functions", {"master"}),
    ],
)
def test_only_the_right_keys_open(guarded: HostProcess, keys: dict[str, str], path: str, let_in: set[str]) -> None:
    with httpx.Client(base_url=guarded.base_url, timeout=30) as client:
        by_header = {
            name for name, key in keys.items() if client.get(path, headers={"x-functions-key": key}).status_code != 401
        }
        by_query = {name for name, key in keys.items() if client.get(path, params={"code": key}).status_code != 401}

    assert by_header == let_in
    assert by_query == let_in


def test_refusal_has_an_empty_body(guarded: HostProcess) -> None:
    answer = httpx.get(f"{guarded.base_url}/api/guarded")

    assert (answer.status_code, answer.content) == (401, b"")


def test_header_wins_over_the_query(guarded: HostProcess, keys: dict[str, str]) -> None:
    answer = httpx.get(
        f"{guarded.base_url}/api/guarded?code={keys['function']}", headers={"x-functions-key": keys["wrong"]}
    )

    assert answer.status_code == 401


def test_keys_are_not_enforced_by_default(classic: HostProcess) -> None:
    assert httpx.get(f"{classic.base_url}/api/guarded").text == "let in"
    assert httpx.get(f"{classic.base_url}/api/master_only").text == "let in"


def test_the_master_key_is_enforced_on_admin_also_without_auth(classic: HostProcess) -> None:
    path = f"{classic.base_url}/admin/host/status"
    assert httpx.get(path).status_code == 401
    assert httpx.get(path, headers=classic.admin_headers).status_code == 200


def test_keys_survive_a_restart_and_grow_with_the_app(tmp_path: Path) -> None:
    first = Keys(tmp_path, ["a"])
    second = Keys(tmp_path, ["a", "b"])

    assert second.allows(AuthLevel.FUNCTION, "a", first.functions["a"])
    assert not second.allows(AuthLevel.FUNCTION, "b", first.functions["a"])
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
