"""The hooks of the deployment: keys the app understands, and rights that end at rows."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import errors, sql

from activities.restarting import RESTARTED_LINE
from activities.turns import FAILED_LINE
from shared.sessions.audit.forwarding import LATE_LINE
from shared.sessions.audit.verification import DAMAGED_LINE
from shared.settings import Settings
from shared.signing import ApprovalLinks, TokenInvalid
from triggers.operations.sweep import NOT_TAKEN_LINE
from triggers.operations.watch import EXPIRING_LINE

INFRA = Path(__file__).parents[2] / "infra"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def _hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hook_{name}", INFRA / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


secrets_hook, database_hook = _hook("vault_secrets"), _hook("database")


def test_a_rotated_link_key_signs_and_the_old_one_still_verifies() -> None:
    before = secrets_hook.new_link_key(NOW)
    during = secrets_hook.rotated("approval-link", before, NOW)
    after = secrets_hook.retired("approval-link", during)
    old, both, new = (ApprovalLinks(value, "") for value in (before, during, after))
    soon = NOW + timedelta(hours=1)

    assert both.approval_id(old.token("a", expires_at=soon), now=NOW) == "a"
    assert new.approval_id(both.token("a", expires_at=soon), now=NOW) == "a"
    assert len({value.partition(":")[0] for value in (before, during)}) == 2
    with pytest.raises(TokenInvalid):
        new.approval_id(old.token("a", expires_at=soon), now=NOW)
    assert secrets_hook.retired("approval-link", after) == after


def test_what_the_hook_makes_is_what_the_settings_take() -> None:
    link = secrets_hook.rotated("approval-link", secrets_hook.new_link_key(NOW), NOW)
    webhook = secrets_hook.rotated("approval-webhook", secrets_hook.new_webhook_secret(NOW), NOW)

    settings = Settings.model_validate(
        {
            "APPROVAL_LINK_SECRET": link,
            "APPROVAL_WEBHOOK_SECRET": webhook,
            "AUTH_MODE": "dev",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
            "OPENAI_MODEL": "m",
            "POSTGRES_URL": "postgresql://h/d",
            "PUBLIC_BASE_URL": "http://localhost",
            "REDIS_URL": "redis://h",
        }
    )

    assert settings.approval_link_secret == link
    vault = (INFRA / "modules/app/app.bicep").read_text("utf-8")
    assert all(f"secrets/{name})" in vault for name in secrets_hook.MAKERS)


@pytest.mark.parametrize("script", sorted((INFRA / "hooks").glob("*.sh")), ids=lambda path: path.name)
def test_a_shell_hook_is_sound_for_a_plain_shell(script: Path) -> None:
    assert script.read_text("utf-8").splitlines()[0] == "#!/bin/sh"
    assert subprocess.run(["sh", "-n", str(script)], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("known", ["", "an-id"], ids=["the first time", "again"])
def test_only_who_has_a_role_may_sign_in(tmp_path: Path, known: str) -> None:
    """The command line is stood in for by one that writes down what it is asked."""
    asked = tmp_path / "asked"
    stand_in = tmp_path / "az"
    stand_in.write_text(
        f"""#!/bin/sh
echo "$*" >> {asked}
case "$*" in
  "ad app list"*) ;;
  "ad app create"*) echo an-id ;;
esac
"""
    )
    stand_in.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AZURE_ENV_NAME": "test",
        "PARLEY_AUTH_CLIENT_ID": known,
    }
    script = str(INFRA / "hooks/register.sh")
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "an-id\n", "the caller puts all of it into a variable"
    lines = asked.read_text().splitlines()
    assert lines[-1] == "ad sp update --id an-id --set appRoleAssignmentRequired=true --output none"
    assert any(line.startswith("ad sp create --id an-id") for line in lines[:-1]) is (known == "")
    looked = [line for line in lines if line.startswith("ad app list")]
    assert all("--filter displayName eq 'parley-test'" in line for line in looked), "not those that only begin so"
    assert bool(looked) is (known == "")
    assert any("requestedAccessTokenVersion" in line for line in lines)


@pytest.mark.parametrize("found", ["one", "one\\ntwo"])
def test_an_application_that_somebody_made_under_its_name_is_not_taken(tmp_path: Path, found: str) -> None:
    (tmp_path / "az").write_text(f"#!/bin/sh\nprintf '{found}\\n'\n")
    (tmp_path / "az").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "AZURE_ENV_NAME": "test"}
    done = subprocess.run(
        ["sh", str(INFRA / "hooks/register.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is an application named parley-test already: one" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["rotate"], ["rotate", "everything"], ["delete", "approval-link"]])
def test_a_command_it_does_not_know_changes_nothing(arguments: list[str]) -> None:
    script = str(INFRA / "hooks/vault_secrets.py")
    environment = {"AZURE_KEY_VAULT_NAME": "v", "PATH": ""}
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "vault_secrets.py ensure" in done.stderr


def test_the_alerts_look_for_the_lines_that_are_logged() -> None:
    rules = (INFRA / "modules/observability/alerts.bicep").read_text("utf-8")

    for line in (FAILED_LINE, RESTARTED_LINE, EXPIRING_LINE, NOT_TAKEN_LINE, DAMAGED_LINE, LATE_LINE):
        assert f'startswith "{line}"' in rules


def test_the_alerts_count_each_request_once() -> None:
    """The host tells of a request, and so does the app's own span."""
    rules = (INFRA / "modules/observability/alerts.bicep").read_text("utf-8")

    assert rules.count("AppRequests | ") == 2
    assert rules.count('AppRequests | where isempty(tostring(Properties["parley.correlation_id"])) and') == 2


@pytest.mark.integration
def test_the_apps_role_reads_and_writes_rows_and_nothing_else(
    postgres_url: str, postgres_server: dict[str, str]
) -> None:
    """Azure's function that makes a role of an identity is stood in for by one that makes a plain role."""
    name = f"id-parley-{uuid.uuid4().hex[:6]}"
    admin = urlunsplit(urlsplit(postgres_server["POSTGRES_ADMIN_URL"])._replace(path=urlsplit(postgres_url).path))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION pgaadauth_create_principal_with_oid(text, text, text, boolean, boolean) RETURNS text"
            " LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN PASSWORD ''p''', $1); RETURN $1; END $$"
        )
    try:
        for _ in range(2):  # every deployment does it again
            database_hook.grant(admin, name, "oid", roles_url=admin)
        parts = urlsplit(admin)
        own = urlunsplit(parts._replace(netloc=f"{name}:p@{parts.netloc.rpartition('@')[2]}"))
        with psycopg.connect(own, autocommit=True) as connection:
            assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
            connection.execute("DELETE FROM sessions")
            connection.execute("SELECT number FROM schema_migrations")
            for forbidden in (
                "CREATE TABLE mine (a int)",
                "DROP TABLE sessions",
                "TRUNCATE sessions",
                "ALTER TABLE sessions ADD COLUMN mine int",
                "DELETE FROM schema_migrations",
                "CREATE ROLE another",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(forbidden.encode())
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


_AZ = """#!/bin/sh
# `az keyvault secret show|set` over a folder, refusing the first look as a role does that has not arrived yet.
for last; do :; done
if [ "$1" = rest ]; then echo "$5" >> "$VAULT/refreshed"; echo '{}'; exit; fi
verb=$3; name=$7
if [ "$verb" = show ]; then
  if [ ! -e "$VAULT/arrived" ]; then touch "$VAULT/arrived"; echo "ERROR: (Forbidden) no role" >&2; exit 1; fi
  if [ ! -e "$VAULT/$name" ]; then echo "ERROR: (SecretNotFound) none" >&2; exit 3; fi
  printf '{"value": "%s"}' "$(cat "$VAULT/$name")"
else
  cat "$9" > "$VAULT/$name"; echo '{}'
fi
"""


def test_secrets_are_made_once_rotated_and_retired_without_being_shown(tmp_path: Path) -> None:
    """The hook as a program, against an `az` of a few lines."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "az").write_text(_AZ)
    (tmp_path / "bin" / "az").chmod(0o755)
    environment = {
        "AZURE_KEY_VAULT_NAME": "v",
        "AZURE_RESOURCE_GROUP": "rg",
        "AZURE_FUNCTION_APP": "func",
        "VAULT": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
    }
    hook = (
        (INFRA / "hooks/vault_secrets.py").read_text("utf-8").replace("ROLE_WAIT_S = 20, 15.0", "ROLE_WAIT_S = 20, 0")
    )
    script = tmp_path / "vault_hook.py"
    script.write_text(hook)

    def run(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, str(script), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        keys = (tmp_path / "approval-link").read_text().split(",")
        assert not any(key.partition(":")[2] in done.stdout + done.stderr for key in keys)
        return keys

    (first,) = run("ensure")
    assert run("ensure") == [first], "what exists stays"
    second, kept = run("rotate", "approval-link")
    assert kept == first
    assert run("retire", "approval-link") == [second, f"!{first}"]
    assert (tmp_path / "approval-webhook").read_text().startswith("whsec_")
    refreshed = (tmp_path / "refreshed").read_text().splitlines()
    assert len(refreshed) == 3, "after each change, and not when nothing was made"
    assert refreshed[0].startswith(
        "/subscriptions/{subscriptionId}/resourceGroups/rg/providers/Microsoft.Web/sites/func/"
    )
