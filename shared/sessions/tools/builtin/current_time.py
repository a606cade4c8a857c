"""The tool `current_time`: the current time in a time zone.

Invariant: the time is the call's `now`; no clock is read here. So a repeat after a crash differs only by the `now` that
its caller passes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field

from shared.errors import ToolFailed
from shared.sessions.tools.base import ToolArguments, ToolContext, ToolOutput, tool

_OFFSET = re.compile(r"(?:utc|gmt)?\s*([+-])(\d{1,2})(?::?([0-5]\d))?", re.IGNORECASE)
_MAX_OFFSET = timedelta(hours=14)
_AMBIGUOUS = {
    "ist": "Asia/Kolkata, Europe/Dublin or Asia/Jerusalem",
    "cst": "America/Chicago, Asia/Shanghai or America/Havana",
    "bst": "Europe/London or Asia/Dhaka",
    "ast": "America/Halifax or Asia/Riyadh",
}
_ALIASES = {
    # Places that people ask about but the zone database does not contain.
    "abu dhabi": "Asia/Dubai",
    "austin": "America/Chicago",
    "bangalore": "Asia/Kolkata",
    "barcelona": "Europe/Madrid",
    "beijing": "Asia/Shanghai",
    "boston": "America/New_York",
    "brno": "Europe/Prague",
    "california": "America/Los_Angeles",
    "cape town": "Africa/Johannesburg",
    "china": "Asia/Shanghai",
    "czechia": "Europe/Prague",
    "dallas": "America/Chicago",
    "delhi": "Asia/Kolkata",
    "frankfurt": "Europe/Berlin",
    "france": "Europe/Paris",
    "geneva": "Europe/Zurich",
    "germany": "Europe/Berlin",
    "hanoi": "Asia/Ho_Chi_Minh",
    "houston": "America/Chicago",
    "india": "Asia/Kolkata",
    "italy": "Europe/Rome",
    "kyoto": "Asia/Tokyo",
    "las vegas": "America/Los_Angeles",
    "miami": "America/New_York",
    "milan": "Europe/Rome",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "new delhi": "Asia/Kolkata",
    "nyc": "America/New_York",
    "osaka": "Asia/Tokyo",
    "philadelphia": "America/New_York",
    "rio de janeiro": "America/Sao_Paulo",
    "san diego": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "shenzhen": "Asia/Shanghai",
    "spain": "Europe/Madrid",
    "st petersburg": "Europe/Moscow",
    "tel aviv": "Asia/Jerusalem",
    "uk": "Europe/London",
    "washington": "America/New_York",
    "washington dc": "America/New_York",
    "z": "UTC",
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "edt": "America/New_York",
    "cest": "Europe/Berlin",
    "jst": "Asia/Tokyo",
}


class CurrentTimeArguments(ToolArguments):
    timezone: str = Field(
        "UTC",
        min_length=1,
        max_length=64,
        description="IANA time zone such as Europe/Prague, a large city, or an offset such as UTC+05:30",
    )


@tool(idempotent=True, risks=(), timeout_s=5)
async def current_time(arguments: CurrentTimeArguments, call: ToolContext) -> ToolOutput:
    """Tell the current date and time in a time zone."""
    name, zone = find_zone(arguments.timezone)
    local = call.now.astimezone(zone).replace(microsecond=0)
    offset = _offset_text(local)
    abbreviation = local.tzname() or offset
    zone_text = f"{name}, {offset}" if abbreviation[0] in "+-U" else f"{name}, {abbreviation}, {offset}"
    return ToolOutput(
        f"{local:%A}, {local.day} {local:%B %Y}, {local:%H:%M:%S} ({zone_text})",
        {
            "timezone": name,
            "time": local.isoformat(),
            "weekday": f"{local:%A}",
            "utc_offset": offset,
            "is_daylight_saving": bool(local.dst()),
        },
    )


def find_zone(text: str) -> tuple[str, tzinfo]:
    """The zone of an IANA name in any case, a city, or an offset. Raises ToolFailed with suggestions."""
    wanted = " ".join(text.replace("_", " ").replace(",", " ").casefold().split())
    offset = _OFFSET.fullmatch(wanted)
    if offset:
        return _fixed(offset)
    name = _names().get(wanted)
    if name is not None:
        return name, ZoneInfo(name)
    if wanted in _AMBIGUOUS:
        hint = f"That abbreviation is used for several zones: say {_AMBIGUOUS[wanted]}."
    else:
        near = dict.fromkeys(_names()[match] for match in difflib.get_close_matches(wanted, _names(), n=3))
        hint = f"Did you mean {' or '.join(near)}?" if near else "Use an IANA name such as Europe/Prague."
    raise ToolFailed(f"There is no time zone named {text!r}. {hint}")


def _fixed(match: re.Match[str]) -> tuple[str, tzinfo]:
    sign, hours, minutes = match.groups()
    delta = timedelta(hours=int(hours), minutes=int(minutes or 0))
    if delta > _MAX_OFFSET:
        raise ToolFailed("UTC offsets reach from -14:00 to +14:00.")
    name = f"UTC{sign}{int(hours):02}:{int(minutes or 0):02}"
    return name, timezone(delta if sign == "+" else -delta, name)


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """Maps accepted input, in lower case and with spaces, to IANA names."""
    # Some systems have `localtime` and other non-zone files in the same folder, all in lower case.
    zones = sorted(zone for zone in available_timezones() if zone[0].isupper() and zone != "Factory")
    cities: dict[str, str] = {}
    # Region/City names win over deeper and legacy names that end with the same word.
    for zone in sorted(zones, key=lambda name: (name.count("/") != 1, name.startswith(("US/", "Etc/")), name)):
        if "/" in zone and not zone.startswith("Etc/"):
            cities.setdefault(_plain(zone.rpartition("/")[2]), zone)
    return {**cities, **_ALIASES, **{_plain(zone): zone for zone in zones}}


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _offset_text(local: datetime) -> str:
    seconds = int((local.utcoffset() or timedelta()).total_seconds())
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"UTC{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"
