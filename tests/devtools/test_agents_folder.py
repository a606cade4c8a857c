"""What `./dev up` and the set-up make of the folder `agents/`: its settings, its statements, its packages."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psycopg
import pytest

from devtools.agents.new import new
from devtools.local.agents import AgentsFolder, folder_of
from devtools.local.stack import ROOT
from devtools.setup import agents_lock
from devtools.setup.lock import LockError


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path, told: list[str]) -> AgentsFolder:
    (tmp_path / "mine").mkdir()
    return AgentsFolder(tmp_path / "mine", report=lambda name, text: told.append(f"{name} {text}"))


def test_settings_for_a_laptop_may_name_others_and_a_wrong_line_is_told(folder: AgentsFolder, told: list[str]) -> None:
    (folder.path / "dev.env").write_text(
        "# mine\n\nTOOL_SECRET_SHOP=${POSTGRES_URL}?x=${NOBODY}\nno setting\nB = 2\nA=1\n"
    )

    found = folder.settings({"POSTGRES_URL": "postgresql://h/d"})

    assert found == {"TOOL_SECRET_SHOP": "postgresql://h/d?x=", "A": "1"}
    assert told == ["agents mine/dev.env:4: must be NAME=VALUE", "agents mine/dev.env:5: must be NAME=VALUE"]


def test_the_folder_is_the_one_that_was_asked_for_else_the_settings_else_the_checkouts(tmp_path: Path) -> None:
    def path(given: Path | None, **settings: str) -> Path:
        return folder_of(given, settings, report=lambda name, text: None).path

    assert path(tmp_path, AGENTS_FOLDER="theirs") == tmp_path.resolve()
    assert path(None, AGENTS_FOLDER="theirs") == ROOT / "theirs"
    assert path(None) == ROOT / "agents"


async def test_an_empty_folder_costs_no_process(folder: AgentsFolder) -> None:
    (folder.path / "README.md").write_text("What is yours.")

    await folder.begin({"PATH": "/nowhere"})

    assert folder.is_empty


class _Host:
    """Counts how often its app was loaded anew."""

    def __init__(self) -> None:
        self.loaded = 0

    async def load_anew(self) -> None:
        self.loaded += 1


async def test_a_changed_workflow_is_taken_and_a_new_one_takes_a_new_start(
    folder: AgentsFolder, told: list[str]
) -> None:
    host = _Host()
    file, _ = await asyncio.to_thread(new, "workflow", "ship_order", folder.path)
    await folder.begin(os.environ)

    file.write_text(file.read_text() + "# changed\n")
    await folder._take({"workflows/ship_order.py"}, host, os.environ)  # type: ignore[arg-type]
    assert (host.loaded, told.pop()) == (1, ANY_TAKEN)

    await asyncio.to_thread(new, "workflow", "pay", folder.path)
    await folder._take({"workflows/pay.py"}, host, os.environ)  # type: ignore[arg-type]
    assert host.loaded == 1
    assert told == [
        "agents pay, pay_step: functions of workflows come and go when the app starts: stop and start ./dev up"
    ]


ANY_TAKEN = "agents workflows/ship_order.py: taken, turns go on (0 agents, 1 tool of mine/)"


@pytest.mark.integration
async def test_statements_run_again_and_a_fault_is_one_line(
    folder: AgentsFolder, told: list[str], empty_postgres_url: str
) -> None:
    statements = folder.path / "dev.sql"
    await folder.run_statements(empty_postgres_url)  # there are none

    statements.write_text("CREATE TABLE IF NOT EXISTS t (n int);\nINSERT INTO t VALUES (1);\n")
    for _ in range(2):
        await folder.run_statements(empty_postgres_url)
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    assert told == []

    statements.write_text("INSERT INTO t VALUES (1);\n-- ä\nINSERT INTO nowhere VALUES (1);\n")
    await folder.run_statements(empty_postgres_url)
    await folder.run_statements("postgresql://127.0.0.1:9/none")
    assert told[0] == 'agents mine/dev.sql:3: relation "nowhere" does not exist'
    assert told[1].startswith("agents mine/dev.sql: ")
    assert told[1].isprintable()


# The packages of tools. --------------------------------------------------------------------------


def test_a_file_with_comments_alone_requires_nothing(tmp_path: Path) -> None:
    wanted = tmp_path / "requirements.txt"
    assert agents_lock.requirements(wanted) == []
    wanted.write_text("# stripe==1\n\n  \n")
    assert agents_lock.requirements(wanted) == []
    wanted.write_text("stripe==13.0.0  # refunds\nanother[extra]>=2#not-a-comment\n")
    assert agents_lock.requirements(wanted) == ["stripe==13.0.0", "another[extra]>=2#not-a-comment"]


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_lock, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(agents_lock, "LOCK", tmp_path / "requirements.lock")


@pytest.mark.usefixtures("_elsewhere")
def test_a_lock_takes_our_versions_and_has_hashes_and_belongs_to_its_requirements(tmp_path: Path) -> None:
    wanted, lock = tmp_path / "requirements.txt", tmp_path / "requirements.lock"
    wanted.write_text("humanize==4.15.0\naiohttp>=3\n")

    assert agents_lock.write()

    beside = agents_lock.beside(agents_lock.OURS, wanted, lock)
    assert list(beside) == ["humanize"]
    assert "--hash=sha256:" in beside["humanize"]
    ours = agents_lock.blocks_of(agents_lock.OURS.read_text("utf-8"))
    assert agents_lock.blocks_of(lock.read_text("utf-8"))["aiohttp"].split()[0] == ours["aiohttp"].split()[0]
    assert "://" not in lock.read_text("utf-8")
    wanted.write_text("humanize==4.14.0\n")
    with pytest.raises(agents_lock.StaleLock):
        agents_lock.beside(agents_lock.OURS, wanted, lock)
    wanted.write_text("# nothing any more\n")
    assert not agents_lock.write()
    assert not lock.exists()


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("pydantic<2", r"conflicts with Parley's own packages: Because you require pydantic<2 and pydantic==2[.\d]+"),
        ("no-such-package-of-anybody-7431", "agents/requirements.txt .*no-such-package-of-anybody-7431"),
        ("not a requirement", "agents/requirements.txt "),
    ],
)
def test_what_cannot_be_had_is_one_line_that_names_the_file(tmp_path: Path, wanted: str, told: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"{wanted}\n")

    with pytest.raises(LockError, match=told) as refused:
        agents_lock.write()

    assert "\n" not in str(refused.value)
    assert not (tmp_path / "requirements.lock").exists()
