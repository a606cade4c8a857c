"""In a workflow `az` signs in anew for each hook; elsewhere whoever is signed in stays it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.hooks.cloud import CLIENT, SUBSCRIPTION, TENANT, Cloud, lines_that_never_ran, refusal

HOOK = "signed_in.py"


def test_elsewhere_the_command_runs_as_it_is(cloud: Cloud) -> None:
    done = cloud.run(HOOK, "sh", "-c", "echo $0 $1; exit 3", "a", "b")
    assert (done.returncode, done.stdout, cloud.asked) == (3, "a b\n", [])


def test_in_a_workflow_az_signs_in_first(cloud: Cloud, github: dict[str, str]) -> None:
    cloud.state |= {"signed_in": "", "vouched": "a-vouched-token"}
    done = cloud.run(HOOK, "sh", "-c", "echo done", **github)

    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert cloud.state["signed_in"] == CLIENT
    login, chosen = cloud.asked
    assert login.startswith(f"login --service-principal --username {CLIENT} --tenant {TENANT} --federated-token @/")
    assert not Path(login.rpartition("@")[2]).exists(), "the token's file is gone"
    assert chosen == f"account set --subscription {SUBSCRIPTION}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "another"}, "could not sign in: HTTP Error 401"),
        ({}, "could not sign in: ERROR: AADSTS700024"),
        ({"ACTIONS_ID_TOKEN_REQUEST_TOKEN": ""}, "not set: ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
        ({"AZURE_CLIENT_ID": ""}, "not set: AZURE_CLIENT_ID"),
    ],
)
def test_without_a_sign_in_nothing_runs(cloud: Cloud, github: dict[str, str], given: dict[str, str], told: str) -> None:
    cloud.state |= {"signed_in": "", "vouched": "a-newer-token"}
    done = cloud.run(HOOK, "sh", "-c", "echo done", **{**github, **given})
    assert told in refusal(done)
    assert (done.stdout, cloud.state["signed_in"]) == ("", "")


def test_a_token_service_that_is_away_or_says_something_else_is_named(cloud: Cloud, github: dict[str, str]) -> None:
    url = github["ACTIONS_ID_TOKEN_REQUEST_URL"]
    for asked in (url.replace("http://127.0.0.1", "http://127.0.0.2"), url.replace("job=1", "nothing=1")):
        done = cloud.run(HOOK, "sh", "-c", "echo done", **{**github, "ACTIONS_ID_TOKEN_REQUEST_URL": asked})
        assert "signed_in.py: GitHub's identity could not sign in: " in refusal(done)


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, HOOK) == []
