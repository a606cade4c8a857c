from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from devhost.testing import PROJECT_DIR, HostProcess, host_process

APP = PROJECT_DIR / "tests" / "devhost" / "apps" / "http_classic"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    with host_process(APP, tmp_path_factory.mktemp("identity") / "data", ["--dev-identity"]) as host:
        yield host


def seen_by_the_function(host: HostProcess, headers: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    answer = httpx.get(f"{host.base_url}/api/echo", headers=headers).json()["headers"]
    return answer, json.loads(base64.b64decode(answer["x-ms-client-principal"]))


def claims(principal: dict[str, Any], kind: str) -> list[str]:
    return [claim["val"] for claim in principal["claims"] if claim["typ"] == principal[kind]]


@pytest.mark.parametrize(
    ("given", "name", "roles"),
    [
        (None, "dev", ["approver", "admin"]),
        ("eva;approver", "eva", ["approver"]),
        ("bob", "bob", []),
        ("carol@example.com; admin , user", "carol@example.com", ["admin", "user"]),
        ("%C5%BDofie;", "Žofie", []),
        ("", "anonymous", []),
    ],
)
def test_caller_is_who_it_says_it_is(host: HostProcess, given: str | None, name: str, roles: list[str]) -> None:
    headers, principal = seen_by_the_function(host, {} if given is None else {"x-dev-user": given})

    assert headers["x-ms-client-principal-id"] == headers["x-ms-client-principal-name"] == name
    assert headers["x-ms-client-principal-idp"] == principal["auth_typ"] == "aad"
    assert claims(principal, "name_typ") == [name]
    assert claims(principal, "role_typ") == roles


def test_headers_a_caller_forged_never_arrive(host: HostProcess) -> None:
    forged = base64.b64encode(json.dumps({"claims": [{"typ": "roles", "val": "root"}]}).encode()).decode()

    headers, principal = seen_by_the_function(
        host,
        {
            "x-dev-user": "eva",
            "x-ms-client-principal": forged,
            "X-MS-CLIENT-PRINCIPAL-ID": "root",
            "x-ms-client-principal-extra": "root",
            "x-ms-token-aad-id-token": "root",
        },
    )

    assert "root" not in json.dumps([headers, principal])
    assert headers["x-ms-client-principal-id"] == "eva"


def test_use_is_told_in_the_log(host: HostProcess) -> None:
    assert host.logs("--dev-identity: callers name themselves, unverified")


@pytest.mark.parametrize(
    ("headers", "is_signed_in"),
    [
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost:5173"}, True),
        ({"origin": "http://127.0.0.1:9999"}, True),
        ({"origin": "http://app.example"}, True),  # listed under CORS
        ({"host": "localhost:7071"}, True),
    ],
)
def test_page_of_a_foreign_site_cannot_borrow_the_identity(
    host: HostProcess, headers: dict[str, str], is_signed_in: bool
) -> None:
    seen = httpx.post(f"{host.base_url}/api/echo", headers={**headers, "x-ms-client-principal-id": "x"}).json()[
        "headers"
    ]

    assert ("x-ms-client-principal-id" in seen) is is_signed_in
