"""The two secrets: made once, rotated, retired, taken back, and never shown; by the vault's REST API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.settings import Settings
from shared.signing import ApprovalLinks, TokenInvalid
from tests.infra.hooks.cloud import HOOKS, SUBSCRIPTION, Cloud, lines_that_never_ran, refusal
from tests.infra.hooks.vault_server import VaultServer

HOOK = "vault_secrets.py"
REFRESHED = (
    "rest --method post --url "
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-parley-test/providers/Microsoft.Web/sites/func"
    "/config/configreferences/appsettings/refresh?api-version=2024-11-01"
)


def run(cloud: Cloud, vault: VaultServer, *arguments: str) -> str:
    """Standard output of a run that succeeds, which shows no secret, nor does a command."""
    done = cloud.run(HOOK, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    shown = done.stdout + " ".join(cloud.asked)
    for value in (value for values in (*vault.secrets.values(), *vault.deleted.values()) for value in values):
        assert not any(key.rpartition(":")[2] in shown for key in value.split(","))
    assert cloud.asked[-1] == REFRESHED
    return done.stdout


def test_secrets_are_made_once_rotated_and_retired(cloud: Cloud, vault: VaultServer) -> None:
    assert "made approval-link" in run(cloud, vault, "ensure")
    (first,) = vault.secrets["approval-link"]
    (webhook,) = vault.secrets["approval-webhook"]
    assert "made" not in run(cloud, vault, "ensure"), "what exists stays"

    run(cloud, vault, "rotate", "approval-link")
    second, kept = vault.secrets["approval-link"][-1].split(",")
    assert kept == first
    run(cloud, vault, "retire", "approval-link")
    assert vault.secrets["approval-link"][-1] == f"{second},!{first}"

    run(cloud, vault, "rotate", "approval-webhook")
    newer, older = vault.secrets["approval-webhook"][-1].split(",")
    run(cloud, vault, "retire", "approval-webhook")
    assert (older, vault.secrets["approval-webhook"][-1]) == (webhook, newer)
    settings = Settings.model_validate(
        {
            "APPROVAL_LINK_SECRET": vault.secrets["approval-link"][-1],
            "APPROVAL_WEBHOOK_SECRET": newer,
            "AUTH_MODE": "dev",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "OPENAI_MODEL": "m",
            "POSTGRES_URL": "postgresql://h/d",
            "PUBLIC_BASE_URL": "http://localhost",
            "REDIS_URL": "redis://h",
        }
    )
    assert settings.approval_link_secret == f"{second},!{first}"
    app = (HOOKS.parent / "modules/app/app.bicep").read_text("utf-8")
    assert all(f"secrets/{name})" in app for name in vault.secrets)


def test_a_rotated_link_key_signs_and_the_old_one_verifies_until_it_is_retired(
    cloud: Cloud, vault: VaultServer
) -> None:
    for arguments in (["ensure"], ["rotate", "approval-link"], ["retire", "approval-link"]):
        run(cloud, vault, *arguments)
    now = datetime(2026, 5, 1, tzinfo=UTC)
    soon = now + timedelta(hours=1)
    old, both, new = (ApprovalLinks(value, "") for value in vault.secrets["approval-link"])

    assert both.approval_id(old.token("a", expires_at=soon), now=now) == "a"
    assert new.approval_id(both.token("a", expires_at=soon), now=now) == "a"
    with pytest.raises(TokenInvalid):
        new.approval_id(old.token("a", expires_at=soon), now=now)
    run(cloud, vault, "retire", "approval-link")
    assert vault.secrets["approval-link"][-1] == vault.secrets["approval-link"][-2], "twice is once"


def test_a_run_that_ended_half_way_is_finished_by_the_next(cloud: Cloud, vault: VaultServer) -> None:
    """Of two secrets one was made, and then the references were not refreshed."""
    vault.secrets["approval-webhook"] = ["whsec_kept"]
    cloud.state["refuse"]["rest"] = "(ServiceUnavailable) later"
    assert refusal(cloud.run(HOOK, "ensure")) == "vault_secrets.py: ERROR: (ServiceUnavailable) later"
    (made,) = vault.secrets["approval-link"]

    cloud.state["refuse"] = {}
    run(cloud, vault, "ensure")
    assert vault.secrets == {"approval-link": [made], "approval-webhook": ["whsec_kept"]}


def test_a_role_that_has_not_arrived_and_a_busy_vault_are_waited_for(cloud: Cloud, vault: VaultServer) -> None:
    vault.refuse = ["ForbiddenByRbac", "ForbiddenByRbac", "Throttled"]
    run(cloud, vault, "ensure")
    assert vault.asked[:4] == ["GET /secrets/approval-link"] * 4
    assert set(vault.secrets) == {"approval-link", "approval-webhook"}


def test_a_role_that_never_arrives_is_named(cloud: Cloud, vault: VaultServer) -> None:
    vault.refuse = ["ForbiddenByRbac"] * 100
    assert "vault_secrets.py: ForbiddenByRbac: Caller is not authorized" in refusal(cloud.run(HOOK, "ensure"))
    assert len(vault.asked) == 20


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("ForbiddenByConnection", "the vault refused: ForbiddenByConnection: Public network access is disabled"),
        ("BadParameter", "the vault refused: BadParameter"),
        ("Unauthorized", "the vault refused: Unauthorized: AKV10000"),
    ],
)
def test_what_does_not_pass_by_itself_is_refused_at_once(
    cloud: Cloud, vault: VaultServer, code: str, told: str
) -> None:
    vault.refuse = [code]
    if code == "Unauthorized":
        vault.token = "another"
    assert told in refusal(cloud.run(HOOK, "ensure"))
    assert (len(vault.asked), vault.secrets) == (1, {})


def test_the_token_goes_to_no_other_server(cloud: Cloud, vault: VaultServer, tmp_path: Path) -> None:
    other = VaultServer(tmp_path / "server.pem")
    try:
        vault.moved_to = f"{other.url}secrets/approval-link"
        assert "the vault refused: 302" in refusal(cloud.run(HOOK, "ensure"))
        assert other.asked == []
    finally:
        other.close()


def test_a_vault_that_cannot_be_reached_or_trusted_is_named(cloud: Cloud, vault: VaultServer) -> None:
    del cloud.environment["SSL_CERT_FILE"]
    assert "the vault cannot be reached: " in refusal(cloud.run(HOOK, "ensure"))
    assert vault.asked == []


def test_a_deleted_secret_comes_back_instead_of_a_new_one(cloud: Cloud, vault: VaultServer) -> None:
    """A new key would verify no link that waits in somebody's mail, and no line of the audit trail."""
    vault.deleted["approval-link"] = ["k1:old"]
    assert "recovered approval-link" in run(cloud, vault, "ensure")
    assert vault.secrets["approval-link"] == ["k1:old"]


def test_a_recovery_that_does_not_end_is_named(cloud: Cloud, vault: VaultServer) -> None:
    vault.deleted["approval-link"] = ["k1:old"]
    vault.recovers_after = 100
    assert "approval-link was recovered and is not there yet" in refusal(cloud.run(HOOK, "ensure"))


def test_one_that_is_deleted_while_it_is_rotated_is_named(cloud: Cloud, vault: VaultServer) -> None:
    vault.secrets["approval-link"], vault.deleted["approval-link"] = ["k1:old"], []
    told = refusal(cloud.run(HOOK, "rotate", "approval-link"))
    assert "ObjectIsDeletedButRecoverable: Secret approval-link is currently in a deleted" in told


def test_what_is_not_there_is_not_rotated(cloud: Cloud, vault: VaultServer) -> None:
    assert "approval-link is not in the vault: run ensure first" in refusal(cloud.run(HOOK, "rotate", "approval-link"))
    assert vault.secrets == {}


def test_without_an_app_the_secrets_are_made_all_the_same(cloud: Cloud, vault: VaultServer) -> None:
    done = cloud.run(HOOK, "ensure", AZURE_FUNCTION_APP="")
    assert done.returncode == 0
    assert "AZURE_FUNCTION_APP are not set: the app reads them within a day" in done.stdout
    assert len(vault.secrets) == 2


def test_who_is_not_signed_in_is_told(cloud: Cloud, vault: VaultServer) -> None:
    cloud.state["signed_in"] = ""
    assert refusal(cloud.run(HOOK, "ensure")) == "vault_secrets.py: ERROR: Please run 'az login' to setup account."


def test_an_az_that_says_nothing_is_told(cloud: Cloud, vault: VaultServer) -> None:
    cloud.program("az", "exit 1")
    assert refusal(cloud.run(HOOK, "ensure")) == "vault_secrets.py: az said nothing"


def test_without_az_or_its_environment_it_says_what_is_missing(cloud: Cloud, vault: VaultServer) -> None:
    assert "there is no `az` on PATH" in refusal(cloud.run(HOOK, "ensure", PATH="/nowhere"))
    assert "it must begin with https://" in refusal(cloud.run(HOOK, "ensure", AZURE_KEY_VAULT_ENDPOINT="http://v"))
    assert "not set: AZURE_KEY_VAULT_ENDPOINT" in refusal(cloud.run(HOOK, "ensure", AZURE_KEY_VAULT_ENDPOINT=""))


@pytest.mark.parametrize("arguments", [[], ["rotate"], ["rotate", "everything"], ["delete", "approval-link"]])
def test_a_command_it_does_not_know_changes_nothing(cloud: Cloud, vault: VaultServer, arguments: list[str]) -> None:
    done = cloud.run(HOOK, *arguments)
    assert (done.returncode, vault.asked, cloud.asked) == (1, [], [])
    assert "vault_secrets.py ensure" in done.stderr


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, HOOK, "vault.py", "azure_cli.py") == []
