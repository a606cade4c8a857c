"""The migrations on a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from shared.adapters.sql.migrate import Migration, MigrationError, in_order, migrate, migrations
from tests.support.servers import ROOT, fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture
def database(postgres_server: dict[str, str]) -> Iterator[str]:
    with fresh_database(postgres_server["POSTGRES_URL"], template="template0") as url:
        yield url


def test_a_fresh_database_gets_every_file_once(database: str) -> None:
    names = [migration.name for migration in migrations()]

    assert migrate(database) == names
    assert migrate(database) == []


def test_files_go_by_number() -> None:
    numbers = [migration.number for migration in migrations()]

    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))


def test_a_late_file_below_an_applied_number_is_applied_too(database: str) -> None:
    first, late, last = (Migration(n, f"000{n}_t.sql", f"CREATE TABLE t{n} (id integer)") for n in (1, 2, 3))
    assert migrate(database, [first, last]) == ["0001_t.sql", "0003_t.sql"]

    assert migrate(database, [first, late, last]) == ["0002_t.sql"]
    assert migrate(database, [first, late, last]) == []
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM t2) + count(*) FROM t3").fetchone() == (0,)
    with pytest.raises(MigrationError, match="migration 2, which this code does not know"):
        migrate(database, [first, last])


def test_a_file_that_fails_leaves_nothing_and_stops_those_after_it(database: str) -> None:
    broken = Migration(1, "0001_t.sql", "CREATE TABLE t1 (id integer); SELECT 1 / 0")
    with pytest.raises(psycopg.Error):
        migrate(database, [broken, Migration(2, "0002_t.sql", "CREATE TABLE t2 (id integer)")])

    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('t1'), to_regclass('t2')").fetchone() == (None, None)
        assert connection.execute("SELECT count(*) FROM schema_migrations").fetchone() == (0,)


@pytest.mark.parametrize("names", [["0001_a.sql", "0001_b.sql"], ["1_a.sql"], ["a.sql"], ["0001.sql"]])
def test_a_number_given_twice_or_not_at_all_is_refused_by_name(names: list[str]) -> None:
    with pytest.raises(MigrationError, match=names[-1]):
        in_order(dict.fromkeys(names, "SELECT 1"))


def test_deployments_that_migrate_at_once_do_not_interleave(database: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        applied = list(threads.map(migrate, [database] * 3))

    assert sorted(map(len, applied)) == [0, 0, len(migrations())]


def test_a_file_changed_after_it_was_applied_is_refused_by_name(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE schema_migrations SET digest = 'other' WHERE number = 1")

    with pytest.raises(MigrationError, match=r"0001_\w+\.sql was changed"):
        migrate(database)


def test_a_database_newer_than_the_code_is_refused(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO schema_migrations (number, name, digest) VALUES (9999, 'later.sql', 'x')")

    with pytest.raises(MigrationError, match="9999"):
        migrate(database)


def test_the_command_prints_what_it_applied_and_then_that_there_is_nothing_to_do(database: str) -> None:
    first, second = _run(database), _run(database)

    assert (first.returncode, second.returncode) == (0, 0)
    assert "applied 0001_" in first.stdout
    assert second.stdout.strip() == "database is up to date"


@pytest.mark.parametrize("url", ["", "postgresql://nobody@127.0.0.1:1/none"])
def test_the_command_fails_with_one_line_and_no_trace(url: str) -> None:
    done = _run(url)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def _run(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shared.adapters.sql.migrate"],
        cwd=ROOT,
        env=os.environ | {"POSTGRES_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
