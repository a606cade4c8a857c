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
from devtools.histories.azure_storage import Hub
from devtools.histories.command import HUB, main
from devtools.histories.stored import Json, Stored, episodes, read
from devtools.package import build
from tests.devhost.real.episodes import NAMES, RECORDINGS
from tests.support.azure_hub import WrittenHub

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


# A deployed task hub, in Azure Storage. -----------------------------------------------------------


def _recorded() -> list[list[Json]]:
    """Histories that the real extension gave a worker; between them they have every type of event."""
    found = []
    for file in sorted((RECORDINGS / "episodes").glob("*.json")):
        for execution in json.loads(file.read_text("utf-8")):
            if execution["kind"] == "orchestration":
                text = json.dumps(execution["last_in"]["history"]).replace('"TIME"', '"2026-11-28T10:00:00.123456Z"')
                found.append(json.loads(text))
    return found


def test_a_hub_in_azure_storage_is_read_as_the_extension_tells_it(storage_url: str, unique_name: str) -> None:
    hub = WrittenHub(unique_name, storage_url)
    types = {name: kind for kind, name in NAMES.items()}
    wanted: dict[str, list[Json]] = {}
    seen: set[str] = set()
    for number, history in enumerate(_recorded()):
        new = {event["EventType"] for event in history}
        if "ExecutionTerminated" not in new and not new <= seen:
            seen |= new
            wanted[f"instance-{number}"] = history
            hub.write(f"instance-{number}", "any", history)
    assert seen == set(types) - {"ExecutionCompleted", "ExecutionTerminated"}

    read_again = {stored.instance_id: stored for stored in Hub.of_connection(unique_name, storage_url).waiting()}

    assert read_again.keys() == wanted.keys()
    for key, history in wanted.items():
        assert [_without_nulls(event) for event in read_again[key].events] == [
            _without_nulls(event | {"EventType": types[event["EventType"]]}) for event in history
        ]
    assert {stored.backend for stored in read_again.values()} == {"storage"}


def _without_nulls(event: Json) -> Json:
    return {name: value for name, value in event.items() if value is not None}


def test_what_waits_in_azure_storage_is_judged(
    package: Path,
    tmp_path: Path,
    storage_url: str,
    unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also what continued as new, what has texts in blobs, and ids that cannot be keys; no entities, nothing ended."""
    hub = WrittenHub(unique_name, storage_url)
    hub.write("turn^01", "turn", TURN.events, large="Result", former=[*APPROVAL.events, *REMINDED.events])
    hub.write(APPROVAL.instance_id, "approval", APPROVAL.events, status="Suspended")
    hub.write("not-begun", "turn", [], status="Pending")
    hub.write("ended", "turn", TURN.events, status="Completed")
    hub.write("@counter@one", "counter", [], status="Running")
    monkeypatch.setenv("AzureWebJobsStorage", storage_url)
    source = ("--storage", "AzureWebJobsStorage", "--hub", unique_name)

    assert main([str(package), *source]) == 0
    assert "3 of 3 instances go on (1 approval, 2 turn)" in capsys.readouterr().out

    changed = _changed(
        package,
        tmp_path / "changed",
        "orchestrators/turn.py",
        "return sub_orchestration(\n            context,\n            APPROVAL,",
        "return sub_orchestration(\n            context,\n            WAIT,",
    )
    assert main([str(changed), *source]) == 1
    said = capsys.readouterr().out
    assert "would not go on: turn turn/1: event 1, the sub-orchestration approval of 2026-" in said
    assert "2 of 3 instances go on" in said


def test_a_hub_that_cannot_be_read_is_one_line_that_says_what_to_do(
    package: Path,
    storage_url: str,
    unique_name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = (str(package), "--storage", "AzureWebJobsStorage", "--hub", unique_name)
    key = next(part for part in storage_url.split(";") if part.startswith("AccountKey="))
    hub = WrittenHub(unique_name, storage_url)
    hub.write("lost", "turn", TURN.events, large="Result")
    hub._large.delete_container()
    for connection, more, why in (
        ("", (), "AzureWebJobsStorage is not set"),
        ("nonsense", (), "connection string is not valid"),
        (storage_url, ("--hub", f"{unique_name}x"), "has no such hub: name it with --hub"),
        (storage_url.replace(key, "AccountKey=AAAA"), (), "the account refuses to be read: you need Storage Table"),
        (storage_url, (), "ContainerNotFound"),
    ):
        monkeypatch.setenv("AzureWebJobsStorage", connection)
        assert main([*source, *more]) == 2
        told = capsys.readouterr().err
        assert why in told
        assert told.count("\n") == 1


def test_a_hub_of_an_account_is_read_as_whoever_is_signed_in(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here nobody is, and there is no `az`."""
    monkeypatch.setenv("PATH", "")
    assert main([str(package), "--storage", "stnobody"]) == 2
    assert "task hub parley: nobody is signed in: az login" in capsys.readouterr().err


def test_the_hub_is_the_one_that_is_deployed() -> None:
    root = Path(__file__).parents[2]
    assert json.loads((root / "host.json").read_text("utf-8"))["extensions"]["durableTask"]["hubName"] == HUB
    assert f"var hub = '{HUB}'" in (root / "infra" / "main.bicep").read_text("utf-8")
