"""App Service Authentication's headers: believed only whole, single, agreeing, of the expected tenant and audience."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from azurefunctions.extensions.http.fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import Headers

from shared.errors import NotAuthenticated
from shared.principal import AuthMode, Principal, Role, principal_of
from shared.settings import Settings
from triggers.http.endpoints import caller_of

_OID = "5d1f9b7e-0000-4000-8000-000000000001"
_LONG = "http://schemas.microsoft.com/identity/claims/"


def _encoded(*claims: tuple[str, str], auth_typ: Any = "aad") -> str:
    document = {"auth_typ": auth_typ, "claims": [{"typ": kind, "val": value} for kind, value in claims]}
    return base64.b64encode(json.dumps(document).encode()).decode()


def _headers(*claims: tuple[str, str], user_id: str = _OID, **changes: Any) -> dict[str, str]:
    return {"x-ms-client-principal": _encoded(*claims, **changes), "x-ms-client-principal-id": user_id}


def _call(headers: Any, **expected: Any) -> Principal:
    return principal_of(headers, AuthMode.EASYAUTH, **expected)


@pytest.mark.parametrize("claim", ["oid", f"{_LONG}objectidentifier"])
def test_who_the_platform_names_is_the_caller(claim: str) -> None:
    assert _call(_headers((claim, _OID))) == Principal(_OID, frozenset({Role.USER}))


@pytest.mark.parametrize(
    ("given", "roles"),
    [
        ([], {Role.USER}),
        (["user"], {Role.USER}),
        (["approver"], {Role.USER, Role.APPROVER}),
        (["admin", "approver"], set(Role)),
        (["Admin", "APPROVER", "owner", ""], {Role.USER, "owner"}),
    ],
)
def test_app_roles_become_roles_and_only_admin_makes_an_admin(given: list[str], roles: set[str]) -> None:
    assert _call(_headers(("oid", _OID), *(("roles", role) for role in given))).roles == roles


@pytest.mark.parametrize("name", ["x-ms-client-principal", "x-ms-client-principal-id"])
def test_one_header_without_the_other_is_nobody(name: str) -> None:
    headers = _headers(("oid", _OID))
    del headers[name]

    with pytest.raises(NotAuthenticated):
        _call(headers)


@pytest.mark.parametrize("name", ["x-ms-client-principal", "x-ms-client-principal-id"])
@pytest.mark.parametrize("same", [True, False])
def test_a_header_that_came_twice_is_nobody(name: str, same: bool) -> None:
    headers = _headers(("oid", _OID))
    second = headers[name] if same else "admin"
    twice = Headers(raw=[*((k.encode(), v.encode()) for k, v in headers.items()), (name.encode(), second.encode())])
    joined = headers | {name: f"{headers[name]},{second}"}

    for several in (twice, joined):
        with pytest.raises(NotAuthenticated):
            _call(several)


def test_an_id_that_the_principal_does_not_hold_is_nobody() -> None:
    with pytest.raises(NotAuthenticated):
        _call(_headers(("oid", _OID), ("roles", "admin"), user_id="5d1f9b7e-0000-4000-8000-000000000002"))


@pytest.mark.parametrize("auth_typ", ["facebook", "", None, 1, ["aad"]])
def test_another_identity_provider_is_nobody(auth_typ: Any) -> None:
    with pytest.raises(NotAuthenticated):
        _call(_headers(("oid", _OID), auth_typ=auth_typ))


@pytest.mark.parametrize("user_id", ["a b", "a\nb", "\u017e", "x" * 201, "a;admin"])
def test_an_id_no_platform_gives_is_nobody(user_id: str) -> None:
    with pytest.raises(NotAuthenticated):
        _call(_headers(("oid", user_id), user_id=user_id))


@pytest.mark.parametrize(
    ("claims", "admitted"),
    [
        ([("tid", "home"), ("aud", "app")], True),
        ([(f"{_LONG}tenantid", "home"), ("aud", "api://app")], True),
        ([("tid", "elsewhere"), ("aud", "app")], False),
        ([("aud", "app")], False),
        ([("tid", "home"), ("aud", "another")], False),
        ([("tid", "home")], False),
    ],
)
def test_tenant_and_audience_must_be_the_expected_ones(claims: list[tuple[str, str]], admitted: bool) -> None:
    headers = _headers(("oid", _OID), *claims)

    if admitted:
        assert _call(headers, tenant_id="home", audiences=("app", "api://app")).user_id == _OID
    else:
        with pytest.raises(NotAuthenticated):
            _call(headers, tenant_id="home", audiences=("app", "api://app"))


def _settings(**changes: str) -> Settings:
    return Settings.model_validate(
        {
            "APPROVAL_LINK_SECRET": "s" * 32,
            "AUTH_AUDIENCES": "app",
            "AUTH_MODE": "easyauth",
            "AUTH_TENANT_ID": "home",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Production",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "OPENAI_MODEL": "m",
            "POSTGRES_URL": "postgresql://h/d",
            "PUBLIC_BASE_URL": "https://app.test",
            "REDIS_URL": "redis://h",
            "WEBSITE_AUTH_ENABLED": "True",
        }
        | changes
    )


def _request(headers: dict[str, str]) -> Request:
    return Request({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})


def test_the_edge_asks_for_the_tenant_and_audience_of_the_settings() -> None:
    ours = _headers(("oid", _OID), ("tid", "home"), ("aud", "app"), ("roles", "admin"))

    assert Role.ADMIN in caller_of(_request(ours), _settings()).roles
    for claims in ([("tid", "elsewhere"), ("aud", "app")], [("tid", "home"), ("aud", "other")]):
        with pytest.raises(NotAuthenticated):
            caller_of(_request(_headers(("oid", _OID), *claims)), _settings())
    with pytest.raises(NotAuthenticated):
        caller_of(_request({"x-dev-user": "ann;admin"}), _settings())


@pytest.mark.parametrize("evidence", ["False", "0", "no"])
def test_without_the_platforms_evidence_there_is_no_app_that_could_believe_a_header(evidence: str) -> None:
    with pytest.raises(ValidationError, match="WEBSITE_AUTH_ENABLED"):
        _settings(WEBSITE_AUTH_ENABLED=evidence)
