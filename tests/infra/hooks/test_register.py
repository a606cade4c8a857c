"""The app registration: made once, completed after any interruption, and never somebody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra.hooks.cloud import CLIENT, TENANT, Cloud, lines_that_never_ran, refusal

HOOK = "register.py"
DEPLOYED = {"SERVICE_APP_URI": "https://func.azurewebsites.net", "APP_IDENTITY_OBJECT_ID": "an-identity"}
NEW = {"PARLEY_AUTH_CLIENT_ID": ""}


def registered(cloud: Cloud, **more: str) -> str:
    """The id that a run prints; the caller puts all of it into a variable."""
    done = cloud.run(HOOK, **more)
    assert (done.returncode, done.stderr) == (0, "")
    (client,) = done.stdout.splitlines()
    return client


def is_complete(cloud: Cloud, client: str) -> None:
    (application,) = cloud.state["applications"]
    assert (application["appId"], application["identifierUris"]) == (client, [f"api://{client}"])
    api: dict[str, Any] = application["api"]
    assert api["requestedAccessTokenVersion"] == 2, "else the issuer is another one than App Service accepts"
    assert [scope["value"] for scope in api["oauth2PermissionScopes"]] == ["user_impersonation"]
    (principal,) = cloud.state["principals"]
    assert principal["appRoleAssignmentRequired"] is True, "only who has a role may sign in"


def test_it_is_made_once_and_completed_after_the_resources(cloud: Cloud) -> None:
    client = registered(cloud, **NEW)
    is_complete(cloud, client)
    (application,) = cloud.state["applications"]
    assert application["displayName"] == "parley-test"
    assert {role["value"] for role in application["appRoles"]} == {"user", "approver", "admin"}
    assert "web" not in application

    for _ in range(2):  # each time the same
        assert registered(cloud, PARLEY_AUTH_CLIENT_ID=client, **DEPLOYED) == client
        is_complete(cloud, client)
        (application,) = cloud.state["applications"]
        assert application["web"] == {"redirectUris": ["https://func.azurewebsites.net/.auth/login/aad/callback"]}
        assert cloud.state["credentials"][client] == [
            {
                "name": "app",
                "issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0",
                "subject": "an-identity",
                "audiences": ["api://AzureADTokenExchange"],
            }
        ]


def test_an_identity_that_was_made_anew_is_trusted_instead_of_the_old_one(cloud: Cloud) -> None:
    """`azd down` removes the identity and leaves the registration."""
    client = registered(cloud, **NEW)
    registered(cloud, PARLEY_AUTH_CLIENT_ID=client, **DEPLOYED)
    registered(cloud, PARLEY_AUTH_CLIENT_ID=client, **{**DEPLOYED, "APP_IDENTITY_OBJECT_ID": "a-newer-one"})

    assert [each["subject"] for each in cloud.state["credentials"][client]] == ["a-newer-one"]


@pytest.mark.parametrize("cut", ["ad app update", "ad sp create", "ad sp update"])
def test_one_that_was_half_made_is_finished_by_its_id(cloud: Cloud, cut: str) -> None:
    cloud.state["refuse"] = {cut: "Insufficient privileges to complete the operation."}
    told = refusal(cloud.run(HOOK, **NEW))
    (application,) = cloud.state["applications"]
    client = application["appId"]
    assert told == (
        "register.py: ERROR: Insufficient privileges to complete the operation.; it is half made: "
        f"azd env set PARLEY_AUTH_CLIENT_ID {client}, then again"
    )

    cloud.state["refuse"] = {}
    assert registered(cloud, PARLEY_AUTH_CLIENT_ID=client) == client
    is_complete(cloud, client)


@pytest.mark.parametrize("count", [1, 2])
def test_an_application_that_somebody_made_under_its_name_is_not_taken(cloud: Cloud, count: int) -> None:
    cloud.state["applications"] = [{"appId": f"theirs-{n}", "displayName": "parley-test"} for n in range(count)]
    before = json.dumps(cloud.state["applications"])
    told = refusal(cloud.run(HOOK, **NEW))

    assert "there is an application named parley-test already: theirs-0" in told
    assert ("theirs-1" in told) is (count == 2)
    assert json.dumps(cloud.state["applications"]) == before


def test_a_name_that_only_begins_so_is_another_one(cloud: Cloud) -> None:
    cloud.state["applications"] = [{"appId": "theirs", "displayName": "parley-test2"}]
    registered(cloud, **NEW)
    assert len(cloud.state["applications"]) == 2


def test_a_name_can_be_given(cloud: Cloud) -> None:
    done = cloud.run(HOOK, "another", **NEW)
    assert done.returncode == 0
    assert cloud.state["applications"][0]["displayName"] == "another"


def test_one_that_was_deleted_is_named(cloud: Cloud) -> None:
    told = refusal(cloud.run(HOOK))
    assert f"Resource '{CLIENT}' does not exist" in told
    assert "half made" not in told


def test_who_may_not_register_applications_is_told(cloud: Cloud) -> None:
    cloud.state["refuse"] = {"ad app create": "Insufficient privileges to complete the operation."}
    assert refusal(cloud.run(HOOK, **NEW)) == "register.py: ERROR: Insufficient privileges to complete the operation."


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, HOOK) == []
