"""The SDK replays the same with less: times mean the same whoever parses them, and a class is the same class."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from azure.durable_functions.models.history import HistoryEvent
from azure.durable_functions.models.TaskOrchestrationExecutor import TaskOrchestrationExecutor
from dateutil.parser import parse as parse_any

import orchestrators.durable  # noqa: F401 - installs what is tested
from orchestrators import replaying

HISTORIES = Path(__file__).parent / "histories"


def _recorded() -> set[str]:
    found = "".join(path.read_text("utf-8") for path in HISTORIES.glob("*.json"))
    return set(re.findall(r'Timestamp\\*": ?\\*"([^"\\]+)', found))


def test_all_recorded_times_are_parsed_as_before() -> None:
    recorded = _recorded()
    assert len(recorded) > 100
    for text in recorded:
        assert text.endswith("Z"), "the quick way"
        assert replaying.parse(text) == parse_any(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-30T13:00:00Z",
        "2026-11-30T13:00:00.1Z",
        "2026-11-30T13:00:00.123456Z",
        "2026-11-30T13:00:00.1234567Z",  # .NET has seven digits
        "2026-11-30T13:00:00.999999999Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999999Z",
        "2026-11-30T13:00:00.1234567+00:00",
        "2026-11-30T13:00:00+02:00",
        "2026-11-30T13:00:00",
        "Mon, 30 Nov 2026 13:00:00 GMT",
        "20261130T130000Z",
        "2026-W49-1T13:00:00Z",
    ],
)
def test_a_time_is_what_dateutil_makes_of_it(text: str) -> None:
    found, expected = _read(replaying.parse, text), _read(parse_any, text)
    assert found == expected
    if isinstance(found, datetime):
        assert found.utcoffset() == expected.utcoffset()


@pytest.mark.parametrize("text", ["", "Z", "soonZ", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused_as_before(text: str) -> None:
    with pytest.raises(ValueError):
        replaying.parse(text)


def _read(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as exc:
        return type(exc)


def test_the_sdk_parses_so() -> None:
    event = HistoryEvent(EventType=12, EventId=-1, IsPlayed=False, Timestamp="2026-11-30T13:00:00.1234567Z")
    assert event.timestamp.tzinfo is replaying.parse("2026-11-30T13:00:00Z").tzinfo
    assert json.dumps(event.timestamp.isoformat()) == '"2026-11-30T13:00:00.123456+00:00"'


def test_an_executor_is_made_without_a_class_of_its_own() -> None:
    one, other = [TaskOrchestrationExecutor().event_to_SetTaskValuePayload for _ in range(2)]
    assert one == other
    kinds = {type(payload) for payload in (*one.values(), *other.values())}
    assert [kind.__name__ for kind in kinds] == ["SetTaskValuePayload"]
