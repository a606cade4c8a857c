"""The hook before new code: on real PostgreSQL over verified TLS, by one administrator after another."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from shared.adapters.sql.migrate import migrations
from tests.infra.hooks.cloud import HOOKS, Cloud, lines_that_never_ran, refusal
from tests.infra.hooks.flexible_server import ADMINISTRATORS, Server

HOOK = "database.sh"
pytestmark = pytest.mark.integration


def ran(cloud: Cloud, **more: str) -> str:
    done = cloud.run(HOOK, **more)
    assert done.returncode == 0, done.stderr
    assert cloud.state["tokens"]["oss-rdbms"] not in done.stdout + done.stderr + " ".join(cloud.asked)
    return done.stdout


def test_the_apps_role_reads_and_writes_rows_and_nothing_else(cloud: Cloud, database: Server) -> None:
    told = ran(cloud)
    assert f"applied {migrations()[-1].name}" in told
    assert f"database: id-{database.database} has its rights" in told
    assert "database is up to date" in ran(cloud), "the second time"

    with psycopg.connect(database.as_user(f"id-{database.database}"), autocommit=True) as connection:
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
            f"SET ROLE {ADMINISTRATORS}",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


def test_what_a_person_made_a_pipeline_changes(cloud: Cloud, database: Server) -> None:
    ran(cloud)
    newest = migrations()[-1]
    with psycopg.connect(database.url, autocommit=True) as connection:
        (owners,) = connection.execute(
            "SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        connection.execute("CREATE TABLE later (a int)")
        connection.execute(f"ALTER TABLE later OWNER TO {ADMINISTRATORS}")
    assert owners == ([ADMINISTRATORS],)

    ran(cloud, POSTGRES_ADMIN=database.administrators[1])
    with psycopg.connect(database.as_user(database.administrators[1]), autocommit=True) as connection:
        connection.execute("ALTER TABLE sessions ADD COLUMN theirs int")
        assert connection.execute("SELECT max(number) FROM schema_migrations").fetchone() == (newest.number,)
    with psycopg.connect(database.as_user(f"id-{database.database}"), autocommit=True) as connection:
        connection.execute("INSERT INTO later VALUES (1)")


def test_a_run_that_ended_after_the_migrations_is_finished_by_the_next(cloud: Cloud, database: Server) -> None:
    function = f"{database.database}.pgaadauth_create_principal_with_oid"
    with psycopg.connect(database.url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        connection.execute(f"ALTER FUNCTION {function} RENAME TO not_there")
    told = cloud.run(HOOK)
    assert told.returncode == 1
    assert f"the role id-{database.database} could not be given its rights: function" in told.stderr
    with psycopg.connect(database.url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
        connection.execute(
            f"ALTER FUNCTION {database.database}.not_there RENAME TO pgaadauth_create_principal_with_oid"
        )
    assert "database is up to date" in ran(cloud)


def test_a_server_that_is_not_the_one_it_says_gets_no_token(cloud: Cloud, database: Server) -> None:
    done = cloud.run(HOOK, SSL_CERT_FILE="/dev/null")
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr


def test_who_is_not_signed_in_changes_nothing(cloud: Cloud, database: Server) -> None:
    cloud.state["signed_in"] = ""
    done = cloud.run(HOOK)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Please run 'az login'" in done.stderr
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT to_regclass('sessions')").fetchone() == (None,)


def test_without_its_environment_it_says_what_is_missing(cloud: Cloud, database: Server) -> None:
    assert "not set: APP_IDENTITY_NAME" in refusal(cloud.run("database.py", APP_IDENTITY_NAME="", POSTGRES_URL="x"))


def test_the_shell_hook_has_no_branches() -> None:
    """So one run that succeeds ran every line of it."""
    script = (HOOKS / HOOK).read_text("utf-8")
    assert script.startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in script
    code = "\n".join(line for line in script.splitlines() if not line.startswith("#"))
    assert not re.search(r"\b(if|case|for|while|until|return|exit|trap)\b|&&|\|\||[()]\s*\{|;", code)


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, "database.py") == []
