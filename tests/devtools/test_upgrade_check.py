"""`./dev upgrade-check`: recorded instances that wait, against this package and against changed ones.

`tests/e2e/turns/test_upgrade.py` asks the same of a running host, and then deploys what it was told of.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from devhost.durable.replay.actions import SCHEDULES
from devhost.durable.store import schema
from devtools.histories.command import main
from devtools.histories.stored import Json, Stored, episodes, read
from devtools.package import build

HISTORIES = Path(__file__).parents[1] / "orchestration" / "histories"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "app"
    build(folder)
    return folder


def _changed(package: Path, to: Path, file: str, old: str, new: str) -> Path:
    shutil.copytree(package, to)
    text = (to / file).read_text("utf-8")
    assert text.count(old) == 1
    (to / file).write_text(text.replace(old, new), "utf-8")
    return to


def _waiting(name: str, orchestration: str, *, after: int) -> Stored:
    """A recorded instance as it was after so many episodes."""
    stored = next(one for one in read(HISTORIES / f"{name}.json") if one.orchestration == orchestration)
    seen, scheduled = list(episodes(stored.events, frozenset(SCHEDULES.values())))[after - 1]
    upto = stored.events.index(scheduled[-1]) if scheduled else len(seen) - 1
    end = next(n for n in range(max(upto, len(seen) - 1), len(stored.events)) if stored.events[n]["EventType"] == 13)
    return Stored(stored.orchestration, stored.instance_id, stored.events[: end + 1])


TURN = _waiting("three_calls_two_approvals", "turn", after=2)
"""Its calls wait for their approvals."""
APPROVAL = _waiting("three_calls_two_approvals", "approval", after=2)
"""Asked for, and not decided."""
REMINDED = _waiting("reminded_and_handed_on", "approval", after=4)


def _export(folder: Path, *instances: Stored, status: str = "Running") -> Path:
    folder.mkdir(exist_ok=True)
    exported = [
        {"orchestration": one.orchestration, "instance_id": one.instance_id, "status": status, "events": one.events}
        for one in instances
    ]
    (folder / "exported.json").write_text(json.dumps(exported), "utf-8")
    return folder


def _store(data: Path, rows: Sequence[tuple[str, str, str, list[Json]]]) -> Path:
    """A data folder like that of a local host. rows: (orchestration, instance id, status, events)."""
    path = data / "host" / "data" / "durable-parley.sqlite3"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        schema.prepare(connection, path)
        for gen, (name, instance_id, status, events) in enumerate(rows):
            connection.execute(
                "INSERT INTO instances (gen, instance_id, execution_id, name, version, status, created_us, updated_us)"
                " VALUES (?, ?, 'e', ?, '', ?, 0, 0)",
                (gen, instance_id, name, status),
            )
            chunk = json.dumps(events)[1:-1]
            if chunk:
                connection.execute("INSERT INTO history VALUES (?, 0, ?)", (gen, chunk))
    connection.close()
    return data


def test_all_that_waits_goes_on_with_a_package_of_the_same_orchestrators(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.make_archive(str(tmp_path / "app"), "zip", package)
    histories = _export(tmp_path / "exported", TURN, APPROVAL, REMINDED)

    assert main([str(tmp_path / "app.zip"), "--histories", str(histories)]) == 0
    assert "3 of 3 instances go on (2 approval, 1 turn)" in capsys.readouterr().out


def test_a_changed_orchestrator_is_told_by_the_event_that_differs(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The turn asks its calls in another way: the turn cannot go on, the approval's own orchestration can."""
    changed = _changed(
        package,
        tmp_path / "changed",
        "orchestrators/turn.py",
        "return sub_orchestration(\n            context,\n            APPROVAL,",
        "return sub_orchestration(\n            context,\n            WAIT,",
    )
    data = _store(
        tmp_path / "data",
        [
            ("turn", TURN.instance_id, "Running", TURN.events),
            ("approval", APPROVAL.instance_id, "Suspended", APPROVAL.events),
            ("turn", "ended", "Completed", TURN.events),
            ("turn", "not-begun", "Pending", []),
        ],
    )

    assert main([str(changed), "--data", str(data)]) == 1

    said = capsys.readouterr().out
    assert f"would not go on: turn {TURN.instance_id}: event 1, the sub-orchestration approval of 2026-" in said
    assert "the package asks for the sub-orchestration wait in its place" in said
    assert "2 of 3 instances go on (1 approval, 2 turn)" in said


def test_what_cannot_be_found_out_is_no_yes(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = _changed(package, tmp_path / "broken", "orchestrators/turn.py", "LOST = ", "LOST = nobody + ")
    other = _changed(
        package, tmp_path / "other", "requirements.txt", "azure-functions-durable==1", "azure-functions-durable==0"
    )
    (tmp_path / "no.json").write_text("{}")

    for arguments, why in (
        ([str(broken), "--histories", str(HISTORIES)], "cannot be imported: NameError"),
        ([str(other), "--histories", str(HISTORIES)], "this environment has"),
        ([str(tmp_path), "--histories", str(HISTORIES)], "has no function_app.py"),
        ([str(package), "--histories", str(tmp_path / "no.json")], "holds no exported histories"),
        ([str(package), "--histories", str(tmp_path / "none")], "No such file"),
    ):
        assert main(arguments) == 2
        assert why in capsys.readouterr().err
