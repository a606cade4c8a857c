"""`/admin` is for whoever has the master key, and no other site can use the browser of one who has."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devhost.settings.keys import KEYS_FILE, Keys
from devhost.testing import HostProcess

PAGES = "/admin/pages"


@pytest.fixture
def browser(classic: HostProcess) -> Iterator[httpx.Client]:
    """Keeps cookies, follows no redirect."""
    with httpx.Client(base_url=classic.base_url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def key(classic: HostProcess) -> str:
    return classic.admin_headers["x-functions-key"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PAGES),
        ("GET", f"{PAGES}/durableTask"),
        ("GET", "/admin/functions"),
        ("GET", "/admin/host/status"),
        ("POST", "/admin/functions/nightly"),
        ("GET", "/Admin/Pages"),
        ("GET", "/%61dmin/functions"),
        ("DELETE", "/admin/no_such"),
    ],
)
@pytest.mark.parametrize(
    "given",
    [{}, {"x-functions-key": "x" * 54}, {"x-functions-key": "ž"}, {"cookie": "devhost-admin=x"}],
    ids=["nothing", "wrong", "no ASCII", "cookie"],
)
def test_without_the_key_nothing_is_told_or_done(
    browser: httpx.Client, method: str, path: str, given: dict[str, str]
) -> None:
    headers = {name: value.encode() for name, value in given.items()}
    answer = browser.request(method, path, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert "./dev up" in answer.json()["detail"]
    assert "x-functions-key" in answer.json()["detail"]


def test_the_address_that_is_printed_lets_a_browser_in_and_loses_its_key(browser: httpx.Client, key: str) -> None:
    first = browser.get(PAGES, params={"code": key, "status": "a b"})
    assert (first.status_code, first.headers["location"]) == (303, f"{PAGES}?status=a+b")
    cookie = first.headers["set-cookie"]
    assert cookie.endswith("; Path=/admin; HttpOnly; SameSite=Strict")
    assert key not in cookie
    assert browser.get(PAGES).status_code == 200
    assert browser.get("/admin/functions").status_code == 200


def test_a_wrong_code_sets_no_cookie(browser: httpx.Client, key: str) -> None:
    for code in ("x", key[:-1], f"{key},{key}", ""):
        answer = browser.get(PAGES, params={"code": code})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def test_programs_send_the_key_as_to_azure(browser: httpx.Client, key: str) -> None:
    assert browser.get("/admin/functions", headers={"x-functions-key": key}).status_code == 200
    assert browser.get("/admin/functions", params={"code": key}).status_code == 200
    assert browser.get(PAGES, headers={"x-functions-key": key}).status_code == 200
    assert browser.get(PAGES, headers={"x-functions-key": "wrong"}, params={"code": key}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "{own}.evil.example"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "{own}"}, 202),
        ({"sec-fetch-site": "none"}, 202),
        ({"origin": "{own}"}, 202),
        ({}, 202),
    ],
)
@pytest.mark.parametrize("way", ["cookie", "key"])
def test_a_page_of_another_origin_starts_no_function(
    classic: HostProcess, browser: httpx.Client, key: str, headers: dict[str, str], status: int, way: str
) -> None:
    if way == "cookie":
        browser.get(PAGES, params={"code": key})
    else:
        browser.headers["x-functions-key"] = key
    sent = {name: value.replace("{own}", classic.base_url) for name, value in headers.items()}
    assert browser.post("/admin/functions/nightly", json={"input": ""}, headers=sent).status_code == status


def test_the_key_is_kept_for_the_next_start_and_from_everybody_else(tmp_path: Path) -> None:
    first = Keys(tmp_path, ["a"])
    file = tmp_path / KEYS_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert Keys(tmp_path, ["a"]).master == first.master
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["master"] == first.master
