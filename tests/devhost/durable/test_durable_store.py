"""The store and the settings: atomic groups, one host per file, one schema, nothing guessed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.settings import read_settings
from devhost.durable.store import jsontext
from devhost.durable.store.history import EventType
from devhost.durable.store.records import InstanceRow, Message, MessageKind, Status, TaskKind, TaskRow, Unit
from devhost.durable.store.store import Store
from devhost.extensions.contract import HostError


def row(gen: int, instance_id: str, status: Status = Status.RUNNING) -> InstanceRow:
    return InstanceRow(gen, instance_id, f"e{gen}", "f", "", status, '"in"', None, None, gen, gen)


async def test_units_committed_together_are_all_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    store = Store(path)
    for n in range(1, 300):
        store.commit(Unit(instances=[row(n, f"i{n}")], history=[(n, 0, "{}")]))
    message = Message(7, "i1", MessageKind.ANSWER, "{}", "e1", 3, EventType.TASK_COMPLETED, "why")
    task = TaskRow(1, 3, TaskKind.TIMER, "i1", "e1", "name", "input", 99)
    await store.commit(Unit(messages=[message], tasks=[task]))
    store.close()
    store = Store(path)
    assert len(store.instances()) == 299
    assert store.instance("i5") == row(5, "i5")
    assert store.messages() == [message]
    assert store.tasks() == [task]
    assert store.highest() == (299, 7)
    store.close()
    store.close()


async def test_one_bad_unit_does_not_take_others_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite3")
    await store.commit(Unit(history=[(1, 0, "a")]))
    bad = Unit(history=[(1, 0, "again")], instances=[row(9, "never")])
    futures = [store.commit(Unit(instances=[row(n, f"i{n}")])) for n in (1, 2)]
    futures.append(store.commit(bad))
    futures.append(store.commit(Unit(instances=[row(3, "i3")])))
    for index, future in enumerate(futures):
        if index == 2:
            with pytest.raises(sqlite3.IntegrityError):
                await future
        else:
            await future
    assert [found.instance_id for found in store.instances()] == ["i1", "i2", "i3"]
    store.close()


async def test_replacing_and_purging_never_touch_the_next_generation(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.sqlite3")
    store.commit(Unit(instances=[row(1, "x")], history=[(1, 0, "old")]))
    # The drop of generation 1 and the put of generation 2 may share a transaction, in either order.
    store.commit(Unit(drop_gens=[1], instances=[row(2, "x")], history=[(2, 0, "new")]))
    await store.commit(Unit(drop_gens=[1]))
    assert store.instance("x") == row(2, "x")
    assert store.history(1) == []
    assert store.history(2) == ["new"]
    store.close()


def test_file_in_use_is_refused(tmp_path: Path) -> None:
    first = Store(tmp_path / "hub.sqlite3")
    with pytest.raises(HostError, match="in use by another dev host"):
        Store(tmp_path / "hub.sqlite3")
    first.close()
    Store(tmp_path / "hub.sqlite3").close()


def test_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(HostError, match="another version of the dev host"):
        Store(path)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(HostError, match="cannot be used"):
        Store(path)


@pytest.mark.parametrize("text", ['"\\ud800"', "123456789012345678901234567890", "[1.5,null,true]", '{"a":"\u00e4"}'])
def test_json_text_survives_a_round_trip(text: str) -> None:
    assert jsontext.dumps(jsontext.loads(text)) == text


def durable(**section: Any) -> dict[str, Any]:
    return {"version": "2.0", "extensions": {"durableTask": section}}


def test_settings_have_the_documented_defaults() -> None:
    settings = read_settings({"version": "2.0"}, {})
    assert settings.hub == "TestHubName"
    assert settings.max_actions == 100_000
    assert settings.splits_long_timers
    assert read_settings({}, {"WEBSITE_SITE_NAME": "my-site"}).hub == "mysite"
    assert read_settings(durable(hubName="%HUB%"), {"HUB": "FromSetting"}).hub == "FromSetting"
    assert not read_settings(durable(storageProvider={"type": "mssql"}), {}).splits_long_timers


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"hubName": "1bad"}, "hubName '1bad'"),
        ({"hubName": "%NOPE%"}, "NOPE"),
        ({"maxConcurrentActivityFunctions": 0}, "maxConcurrentActivityFunctions"),
        ({"maxOrchestrationActions": "many"}, "maxOrchestrationActions"),
        ({"notifications": {"eventGrid": {"topicEndpoint": "x"}}}, "durableTask.notifications"),
        ({"storageProvider": {"type": "paper"}}, "paper"),
        ({"overridableExistingInstanceStates": "Some"}, "overridableExistingInstanceStates"),
        ({"storageProvider": 3}, "storageProvider must be an object"),
    ],
)
def test_wrong_or_unsupported_setting_is_named(section: dict[str, Any], named: str) -> None:
    with pytest.raises(HostError, match=named):
        read_settings(durable(**section), {})
