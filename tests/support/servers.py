"""Real servers for tests: one PostgreSQL, Valkey and Azurite per machine user and checkout, shared by all.

Load it with `pytest_plugins = ["tests.support.servers"]` in the root conftest. Each server is started by
the first test that asks for it and shared between xdist workers and parallel pytest runs: every user holds
a shared file lock, and the server process stops when nobody holds it any more, however the users ended.

Fixtures:
- `postgres_url` (module): a fresh database with the project's migrations applied; dropped afterwards.
- `empty_postgres_url` (module): a fresh database with nothing in it.
- `redis_url` (module): an emptied logical database of one's own; `Valkey(tmp_path)` for tests that stop it.
- `storage_url` (session): a connection string; the account is shared, so use `unique_name` for names.

Invariant: two test modules never see each other's rows or keys.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from psycopg import sql

ROOT = Path(__file__).parents[2]
_START_TIMEOUT_S = 180.0
_DATABASES = 64  # as many as devhost.servers.valkey configures
_NOT_OF_ONES_OWN = ["-script|flush", "-flushall", "-swapdb"]
"""What a test must not do on the shared server, since it reaches all its databases: with the scripts the epochs of
every event log end, and what others wrote has a hole. Such a test starts a server of its own."""
_MIGRATE = "shared.adapters.sql.migrate"


def _run_folder() -> Path:
    """Below the temporary folder, where PostgreSQL's account can reach it even when we are root."""
    key = hashlib.sha256(f"{ROOT}\0{sys.prefix}".encode()).hexdigest()[:10]
    folder = Path(tempfile.gettempdir()) / f"test-servers-{os.getuid()}-{key}"
    folder.mkdir(exist_ok=True, mode=0o711)
    found = folder.lstat()
    assert found.st_uid == os.getuid(), f"{folder} belongs to somebody else: remove it"
    return folder


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def shared_server(name: str) -> Iterator[dict[str, str]]:
    """The URLs of a running server, by setting name; started when nobody has yet."""
    folder = _run_folder()
    ready_file = folder / f"{name}.json"
    with _locked(folder / f"{name}.users", fcntl.LOCK_SH):
        with _locked(folder / f"{name}.start", fcntl.LOCK_EX):
            if not (ready_file.exists() and _is_owned(folder / name)):
                _start(name, folder, ready_file)
        yield json.loads(ready_file.read_text())


def _is_owned(data: Path) -> bool:
    """Whether the server process lives: it holds this lock, so a ready file a killed one left is not believed."""
    descriptor = os.open(data / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _start(name: str, folder: Path, ready_file: Path) -> None:
    ready_file.unlink(missing_ok=True)
    shutil.rmtree(folder / name, ignore_errors=True)  # what runs that were killed left in it
    log_file = folder / f"{name}.out"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "devhost.servers", "--only", name, "--fast"),
                *("--data", str(folder / name), "--ready-file", str(ready_file)),
                *("--while-locked", str(folder / f"{name}.users")),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives this worker while other workers use it
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(f"the {name} server for tests did not start:\n{log_file.read_text()}", pytrace=False)
        time.sleep(0.02)
    if name == "valkey":
        with redis.Redis.from_url(json.loads(ready_file.read_text())["REDIS_URL"]) as client:
            client.acl_setuser("default", enabled=True, commands=_NOT_OF_ONES_OWN)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[dict[str, str]]:
    """`POSTGRES_URL` (role that may create databases) and `POSTGRES_ADMIN_URL` (superuser)."""
    with shared_server("postgres") as urls:
        yield urls


@pytest.fixture(scope="session")
def _migrated_template(postgres_server: dict[str, str]) -> str:
    """The name of a database with all migrations applied, made once per state of the migrations."""
    return _make_template(postgres_server["POSTGRES_URL"])


@pytest.fixture(scope="module")
def postgres_url(postgres_server: dict[str, str], _migrated_template: str) -> Iterator[str]:
    with fresh_database(postgres_server["POSTGRES_URL"], template=_migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def empty_postgres_url(postgres_server: dict[str, str]) -> Iterator[str]:
    with fresh_database(postgres_server["POSTGRES_URL"], template="template0") as url:
        yield url


@contextlib.contextmanager
def fresh_database(server_url: str, *, template: str) -> Iterator[str]:
    """The URL of a copy of `template`; dropped at the end, even with sessions still open."""
    name = f"t_{uuid.uuid4().hex}"
    _create_database(server_url, name, template)
    try:
        yield _with_path(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            _drop_database(connection, name)


def _drop_database(connection: psycopg.Connection, name: str) -> None:
    """Not WITH (FORCE): that may not end a worker of autovacuum, of which the plain statement takes care by itself."""
    database = sql.Identifier(name)
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'",
        [name],
    )
    connection.execute(sql.SQL("DROP DATABASE {}").format(database))


def _create_database(server_url: str, name: str, template: str) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)


def _make_template(server_url: str) -> str:
    folder = ROOT.joinpath(*_MIGRATE.split(".")[:-1])
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".sql", ".py"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    name = f"template_{digest.hexdigest()[:16]}"
    with _locked(_run_folder() / "template.lock", fcntl.LOCK_EX):
        with psycopg.connect(server_url, autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if found is None:
            unfinished = f"unfinished_{uuid.uuid4().hex}"
            _create_database(server_url, unfinished, "template0")
            _migrate(_with_path(server_url, unfinished))
            with psycopg.connect(server_url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(name))
                )
    return name


def _migrate(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", _MIGRATE],
        cwd=ROOT,
        env=os.environ | {"POSTGRES_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"the migrations failed:\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    with shared_server("valkey") as urls:
        yield urls["REDIS_URL"]


@pytest.fixture(scope="module")
def redis_url(valkey_server: str) -> Iterator[str]:
    """Takes one of the server's logical databases for this module alone and empties it."""
    with _leased_number(_DATABASES) as number:
        url = _with_path(valkey_server, str(number))
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        yield url


@contextlib.contextmanager
def _leased_number(count: int) -> Iterator[int]:
    """A number below `count` that no other process holds; given back even when we are killed."""
    for number in range(count):
        descriptor = os.open(_run_folder() / f"lease-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield number
        finally:
            os.close(descriptor)
        return
    pytest.fail(f"all {count} logical Redis databases are in use", pytrace=False)


@pytest.fixture(scope="session")
def storage_url() -> Iterator[str]:
    with shared_server("azurite") as urls:
        yield urls["AzureWebJobsStorage"]


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name for a table, container or queue: 3-63 lower-case letters and digits, letter first."""
    readable = re.sub(r"[^a-z0-9]", "", request.node.name.lower())[:20]
    return f"t{readable}{uuid.uuid4().hex[:16]}"


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))
