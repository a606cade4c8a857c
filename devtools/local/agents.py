"""The folder `agents/` while `./dev up` runs: its problems are told, and its changes are taken at once.

A changed folder is looked at in a process of its own first. If nothing new is wrong with it, the host loads the app
anew beside what runs: turns go on. Otherwise the last good state goes on serving, and each problem is one line.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import psycopg

from devhost.servers.supervise import Report
from devtools.agents.look import Looked, look
from devtools.local.programs import AppHost
from devtools.setup.places import ROOT

SETTINGS_FILE, STATEMENTS_FILE = "dev.env", "dev.sql"
_REQUIREMENTS = "requirements.txt"
_NAME = "agents"
_SETTING = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


class AgentsFolder:
    """One folder of agents and tools, for the time of one `./dev up`."""

    def __init__(self, path: Path, *, report: Report) -> None:
        self.path = path.resolve()
        self._report = report
        self._served: Looked | None = None

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    def settings(self, known: Mapping[str, str]) -> dict[str, str]:
        """What dev.env sets, with `${NAME}` for a setting that is known, such as `${POSTGRES_URL}`."""
        found: dict[str, str] = {}
        for number, line in enumerate(self._lines(SETTINGS_FILE), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _SETTING.fullmatch(text)
            if match is None:
                self._tell(f"{self._shown(SETTINGS_FILE)}:{number}: must be NAME=VALUE")
                continue
            found[match[1]] = re.sub(r"\$\{(\w+)\}", lambda one: known.get(one[1], ""), match[2].strip())
        return found

    async def run_statements(self, url: str) -> None:
        """Run dev.sql in a database, as it is meant to be run: at every start. An error is one line."""
        if not (self.path / STATEMENTS_FILE).exists():
            return
        text = "\n".join(self._lines(STATEMENTS_FILE))
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute(text.encode())
        except psycopg.Error as error:
            position = error.diag.statement_position
            line = f":{text.count(chr(10), 0, int(position) - 1) + 1}" if position else ""
            said = error.diag.message_primary or str(error).strip().splitlines()[0]
            self._tell(f"{self._shown(STATEMENTS_FILE)}{line}: {said}")

    async def begin(self, environment: Mapping[str, str]) -> None:
        """Tell what is wrong with the folder; the rest is served. environment: the app's."""
        own = (*self.path.glob("*.md"), *self.path.glob("tools/*.py"), *self.path.glob("workflows/*.py"))
        if {file.name for file in own} <= {"README.md"}:
            return  # importing all tools takes a second
        self._served = await look(self.path, environment)
        for problem in self._served.problems:
            self._tell(problem)

    async def follow(self, host: AppHost, environment: Mapping[str, str], database: str | None) -> None:
        """Take changes, until cancelled. database: where dev.sql runs; None: nowhere."""
        async for names in self._changes():
            if _REQUIREMENTS in names:
                self._tell(f"{self._shown(_REQUIREMENTS)} has changed: stop and start ./dev up, which installs it")
            if STATEMENTS_FILE in names and database is not None:
                await self.run_statements(database)
            if SETTINGS_FILE in names:
                self._tell(f"{self._shown(SETTINGS_FILE)} has changed: stop and start ./dev up, which reads it")
            await self._take(names, host, environment)

    async def _take(self, names: set[str], host: AppHost, environment: Mapping[str, str]) -> None:
        files = {name for name in names if name.endswith((".py", ".md"))}
        if not files:
            return
        found = await look(self.path, environment)
        known = () if self._served is None else self._served.problems
        new = [problem for problem in found.problems if problem not in known]
        registered = () if self._served is None else self._served.functions
        if found.functions != registered and not new:
            changed = ", ".join(sorted({*found.functions} ^ {*registered}))
            self._tell(f"{changed}: functions of workflows come and go when the app starts: stop and start ./dev up")
            return
        refusal = None if new else await host.load_anew()
        for line in (*new, *([refusal] if refusal is not None else [])):
            self._tell(line)
        if new or refusal is not None:
            self._tell("the last good state goes on serving")
            return
        self._served = found
        self._tell(f"{', '.join(sorted(files))}: taken, turns go on ({self.summary})")

    @property
    def summary(self) -> str:
        """How much there is, in words."""
        agents, tools = (len(self._served.agents), len(self._served.tools)) if self._served is not None else (0, 0)
        return (
            f"{agents} agent{'' if agents == 1 else 's'}, {tools} tool{'' if tools == 1 else 's'} of {self.path.name}/"
        )

    @property
    def is_empty(self) -> bool:
        return self._served is None or not (self._served.agents or self._served.tools)

    async def _changes(self) -> AsyncIterator[set[str]]:
        """Paths that have changed, from the folder on, some at a time. Costs nothing while nothing changes."""
        from watchfiles import DefaultFilter, awatch

        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        async for changes in awatch(self.path, watch_filter=DefaultFilter()):
            names = {Path(path).relative_to(self.path) for _, path in changes}
            yield {name.as_posix() for name in names if name.parts[:1] != ("tests",) and name.name != "README.md"}

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.path / name).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _shown(self, name: str) -> str:
        return f"{self.path.name}/{name}"

    def _tell(self, text: str) -> None:
        self._report(_NAME, text)


def folder_of(given: Path | None, settings: Mapping[str, str], *, report: Report) -> AgentsFolder:
    """The folder that was asked for, or that the settings name; `agents/` by default."""
    return AgentsFolder(given or Path(ROOT) / settings.get("AGENTS_FOLDER", "agents"), report=report)
