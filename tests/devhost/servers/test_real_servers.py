"""PostgreSQL, Valkey and Azurite as a data folder keeps them over every kind of end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.data.tables import TableServiceClient
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from devhost.servers import Azurite, Postgres, ServerError, Valkey
from devhost.servers.supervise import Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="servers-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's account has to enter it when we are root
        yield Path(name)


async def _kill_and_wait_until_it_runs_again(server: Server, reports: list[str]) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while "runs again" not in reports:  # noqa: ASYNC110  # a report is no event
            await asyncio.sleep(0.02)


async def test_postgres_keeps_url_and_rows_over_stop_and_kill(folder: Path) -> None:
    reports: list[str] = []
    async with Postgres(folder) as server:
        url = server.url
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE item (n int)")
            connection.execute("INSERT INTO item VALUES (1)")
    async with Postgres(folder, report=lambda _, text: reports.append(text)) as server:
        assert server.url == url
        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO item VALUES (2)")
        await _kill_and_wait_until_it_runs_again(server, reports)
        assert server.url == url
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM item ORDER BY n").fetchall() == [(1,), (2,)]


@pytest.fixture
def zombie() -> Iterator[int]:
    """The pid of a process that has ended and that nobody has collected."""
    process = subprocess.Popen(["/bin/true"])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    yield process.pid
    process.wait()


async def test_postgres_starts_when_the_killed_one_is_still_there_as_a_zombie(folder: Path, zombie: int) -> None:
    """Its pid exists until somebody collects it, which the first process of some containers never does."""
    async with Postgres(folder) as server:
        data = server.data
    (data / "postmaster.pid").write_text(f"{zombie}\n{data}\n")
    async with Postgres(folder) as server:
        assert psycopg.connect(server.url).execute("SELECT 1").fetchone() == (1,)


async def test_postgres_starts_while_a_child_of_the_killed_one_works(folder: Path) -> None:
    reports: list[str] = []
    async with Postgres(folder, report=lambda _, text: reports.append(text)) as server:
        working = await psycopg.AsyncConnection.connect(server.url, autocommit=True)
        work = asyncio.create_task(working.execute("SELECT count(*) FROM generate_series(1, 1000000000)"))
        await asyncio.sleep(0.2)
        await _kill_and_wait_until_it_runs_again(server, reports)
        assert psycopg.connect(server.url).execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            await work
        await working.close()


async def test_postgres_asks_for_the_password_and_runs_on_loopback_as_nobody_special(folder: Path) -> None:
    async with Postgres(folder) as server:
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(server.folder.secret("password"), "guess"))
        assert server.pid is not None
        process = psutil.Process(server.pid)
        assert process.uids().effective != 0
        assert {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700


async def test_postgres_of_another_major_version_is_refused_with_what_to_do(folder: Path) -> None:
    async with Postgres(folder) as server:
        data = server.data
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServerError, match="was made by PostgreSQL 17, this is 18"):
        async with Postgres(folder):
            pass


async def test_postgres_starts_over_when_its_first_start_was_interrupted(folder: Path) -> None:
    (folder / "data.unfinished").mkdir()
    (folder / "data.unfinished" / "PG_VERSION").write_text("18\n")
    async with Postgres(folder) as server:
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account for PostgreSQL")
async def test_postgres_runs_for_root_in_a_folder_nobody_can_enter(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with Postgres(private / "postgres") as server:
        assert not server.data.is_relative_to(tmp_path)
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    shutil.rmtree(server.data.parent)


async def test_valkey_keeps_url_and_keys_over_stop_and_kill(folder: Path) -> None:
    reports: list[str] = []
    async with Valkey(folder) as server:
        url = server.url
        with Redis.from_url(url) as redis:
            redis.set("one", 1)
    async with Valkey(folder, report=lambda _, text: reports.append(text)) as server:
        assert server.url == url
        await _kill_and_wait_until_it_runs_again(server, reports)
        with Redis.from_url(url) as redis:
            assert redis.get("one") == b"1"


async def test_valkey_asks_for_the_password_and_does_not_show_it(folder: Path) -> None:
    async with Valkey(folder) as server:
        with pytest.raises(AuthenticationError), Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as redis:
            redis.ping()
        assert server.pid is not None
        assert server.folder.secret("password") not in " ".join(psutil.Process(server.pid).cmdline())
        assert stat.S_IMODE((folder / "valkey.conf").stat().st_mode) == 0o600


async def test_azurite_keeps_url_and_tables_over_a_stop(folder: Path) -> None:
    async with Azurite(folder) as server:
        url = server.url
        with TableServiceClient.from_connection_string(url) as tables:
            tables.create_table("kept").create_entity({"PartitionKey": "p", "RowKey": "r", "text": "é"})
    async with Azurite(folder) as server:
        assert server.url == url
        with TableServiceClient.from_connection_string(url) as tables:
            assert tables.get_table_client("kept").get_entity("p", "r")["text"] == "é"


async def test_azurite_does_not_accept_the_well_known_key(folder: Path) -> None:
    known = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    async with Azurite(folder) as server:
        key = server.url.split("AccountKey=")[1].split(";")[0]
        with (
            TableServiceClient.from_connection_string(server.url.replace(key, known)) as tables,
            pytest.raises((ClientAuthenticationError, HttpResponseError)) as refused,
        ):
            tables.create_table("refused")
        assert refused.value.status_code == 403
