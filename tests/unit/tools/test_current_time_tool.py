from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from shared.errors import ToolFailed
from shared.sessions.tools.base import ToolContext
from shared.sessions.tools.builtin.current_time import CurrentTimeArguments, current_time, find_zone


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Asia/Tokyo", "Asia/Tokyo"),
        ("asia/tokyo", "Asia/Tokyo"),
        ("Tokyo", "Asia/Tokyo"),
        ("new york", "America/New_York"),
        ("New_York", "America/New_York"),
        ("San Francisco", "America/Los_Angeles"),
        ("Washington, DC", "America/New_York"),
        ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("utc", "UTC"),
        ("UTC+5:30", "UTC+05:30"),
        ("-03", "UTC-03:00"),
    ],
)
def test_zones_are_found_by_name_city_or_offset(text: str, name: str) -> None:
    assert find_zone(text)[0] == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Pargue", "Europe/Prague"),
        ("IST", "Asia/Kolkata"),
        ("zzzzzzz", "IANA"),
        ("../../etc/passwd", "IANA"),
        ("/etc/localtime", "IANA"),
        ("UTC+15", "-14:00 to \\+14:00"),
        ("+14:01", "-14:00 to \\+14:00"),
    ],
)
def test_an_unknown_zone_fails_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ToolFailed, match=hint):
        find_zone(text)


async def test_the_time_is_the_calls_own(call: ToolContext) -> None:
    output = await current_time.run(CurrentTimeArguments(timezone="Tokyo"), call)
    assert output.content == "Sunday, 22 November 2026, 21:04:13 (Asia/Tokyo, JST, UTC+09:00)"
    assert output.data == {
        "timezone": "Asia/Tokyo",
        "time": "2026-11-22T21:04:13+09:00",
        "weekday": "Sunday",
        "utc_offset": "UTC+09:00",
        "is_daylight_saving": False,
    }


async def test_daylight_saving_follows_the_date(call: ToolContext) -> None:
    summer = dataclasses.replace(call, now=datetime(2026, 7, 1, 23, 30, tzinfo=UTC))
    output = await current_time.run(CurrentTimeArguments(timezone="Prague"), summer)
    assert output.content == "Thursday, 2 July 2026, 01:30:00 (Europe/Prague, CEST, UTC+02:00)"


async def test_without_a_zone_it_is_utc(call: ToolContext) -> None:
    output = await current_time.run(CurrentTimeArguments(), call)
    assert output.content == "Sunday, 22 November 2026, 12:04:13 (UTC, UTC+00:00)"
