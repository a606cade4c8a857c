"""Chooses which offered tools a message asks for, by a few simple rules.

A rule recognises a request in the user's words (arithmetic, the time somewhere, an HTTP request, a tool named
explicitly) and looks for an offered tool whose *schema* fits it. No rule knows a tool by name.

Invariant: a call is only made when an offered schema fits. A request without a fitting tool is reported, not answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from zoneinfo import available_timezones

from devhost.model.conversation import OfferedTool
from devhost.model.errors import Json

MAX_CALLS = 8
_MAX_CHARS_READ = 8_000
"""Only this much of a message is searched, since the rules are not made for long pasted texts."""

_URL = re.compile(r"https?://[^\s<>\"'`]+", re.IGNORECASE)
_METHOD = re.compile(r"\b(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\b")
_FETCH = re.compile(r"\b(fetch|download|read|open|load|get)\b", re.IGNORECASE)
_FORMATS = {"word": "docx", "markdown": "md", "spreadsheet": "csv", "web page": "html"}
_MAKE = re.compile(
    r"\b(?:make|create|generate|write|save|produce|export)\b[^.?!\n]{0,24}?"
    r"\b(?P<kind>pdf|docx|word|csv|spreadsheet|json|html|web page|markdown|md)\b(?:\s+(?:file|document|report))?"
    r"\s*(?:with|of|that says|saying|containing|from|:)\s*(?P<content>.+)",
    re.IGNORECASE | re.DOTALL,
)
_READ = re.compile(
    r"\b(?:read|open|show|summari[sz]e|describe|what(?:'s| is)? in)\b[^.?!\n]{0,24}?"
    r"\b(?:attachment|attached file|file|document|spreadsheet)\b",
    re.IGNORECASE,
)
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_NAMED_ID = re.compile(rf"\"id\":\s?\"({_UUID.pattern})\"", re.IGNORECASE)
_TIME_IN = re.compile(r"\btime\b[^.?!\n]{0,24}?\bin\s+(?:the\s+)?([^.?!\n;]+)", re.IGNORECASE)
_TIME = re.compile(r"\bwhat(?:'s| is)? (?:the )?time\b|\bwhat time is it\b|\bcurrent time\b", re.IGNORECASE)
_ASKS_TIME = re.compile(r"\btime is it\b|\bcurrent time\b", re.IGNORECASE)
_ZONE = re.compile(r"\b(?:[A-Z][A-Za-z]+(?:/[A-Z][A-Za-z_+-]+){1,2}|UTC)\b")
_PLACES = re.compile(r"\s*(?:,|\band\b|\bor\b|&)\s*(?:in\s+)?", re.IGNORECASE)
_SPOKEN = (
    (re.compile(r"(?<=\d)\s*(?:times|multiplied by|[×x])\s*(?=[\d(])", re.IGNORECASE), " * "),
    (re.compile(r"(?<=\d)\s*(?:divided by|over|÷)\s*(?=[\d(])", re.IGNORECASE), " / "),
    (re.compile(r"(?<=\d)\s+plus\s+(?=[\d(])", re.IGNORECASE), " + "),
    (re.compile(r"(?<=\d)\s+minus\s+(?=[\d(])", re.IGNORECASE), " - "),
    (re.compile(r"(?<=\d)\s+to the power of\s+(?=[\d(])", re.IGNORECASE), " ** "),
)
_FUNCTIONS = "sqrt|cbrt|abs|round|min|max|sum|log10|log2|log|ln|exp|sin|cos|tan|asin|acos|atan|floor|ceil|factorial"
_ATOM = re.compile(
    rf"(?P<call>(?:{_FUNCTIONS})\s*\()|(?P<number>\d+(?:\.\d+)?)|(?P<name>\b(?:pi|e)\b)"
    r"|(?P<operator>\*\*|//|[-+*/%^])|(?P<mark>[(),])"
)
_RANGE = re.compile(r"\d+[-/]\d+")
"""More likely a range, a phone number or a ratio than arithmetic, unless ..."""
_ASKS_SUM = re.compile(r"(?:\b(?:is|are|calculate|compute|evaluate|much)|^|[=:])\s*$", re.IGNORECASE)
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b")
_OTHER_NAMES = {
    "beijing": "Asia/Shanghai",
    "boston": "America/New_York",
    "brno": "Europe/Prague",
    "california": "America/Los_Angeles",
    "delhi": "Asia/Kolkata",
    "geneva": "Europe/Zurich",
    "japan": "Asia/Tokyo",
    "miami": "America/New_York",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "new delhi": "Asia/Kolkata",
    "nyc": "America/New_York",
    "osaka": "Asia/Tokyo",
    "rio": "America/Sao_Paulo",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "washington": "America/New_York",
}


@dataclass(frozen=True, slots=True)
class PlannedCall:
    name: str
    arguments: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Plan:
    calls: tuple[PlannedCall, ...] = ()
    unmet: tuple[str, ...] = ()
    """Requests that no offered tool fits, as "a tool that ...", each once."""


def plan_calls(text: str, tools: Sequence[OfferedTool], *, ids: Sequence[str] = ()) -> Plan:
    """The calls that a message asks for, in the order of its words, at most MAX_CALLS.

    ids: ids named in the conversation that the message may refer to, newest last.
    """
    found: list[tuple[int, PlannedCall | str]] = []
    rest = text[:_MAX_CHARS_READ]
    for rule in (_named, _http, _files, partial(_documents, ids=ids), _times, _arithmetic):
        hits = list(rule(rest, tools))
        for start, end, call in hits:
            found.append((start, call))
            # Overwritten with as many characters, so that later rules do not match these words and offsets stay valid.
            rest = rest[:start] + "\0" * (end - start) + rest[end:]
    found.sort(key=lambda hit: hit[0])
    calls = [hit for _, hit in found if isinstance(hit, PlannedCall)]
    unmet = dict.fromkeys(hit for _, hit in found if isinstance(hit, str))
    return Plan(tuple(calls[:MAX_CALLS]), tuple(unmet))


def forced_call(text: str, tool: OfferedTool) -> PlannedCall:
    """A call of the tool that the request requires: by a rule when one fits, else with made-up values."""
    planned = plan_calls(text, (tool,)).calls
    if planned:
        return planned[0]
    return PlannedCall(tool.name, {name: _made_up(tool.properties.get(name), text) for name in tool.required})


type _Hit = tuple[int, int, PlannedCall | str]


def _named(text: str, tools: Sequence[OfferedTool]) -> Iterator[_Hit]:
    """`call NAME {…}`, `use NAME with {…}`: an explicit call."""
    for tool in tools:
        for match in re.finditer(rf"\b{re.escape(tool.name)}\b[^{{}}\n]{{0,12}}(?=\{{)", text):
            body = _json_at(text, match.end())
            if body is not None and isinstance(body[0], dict):
                yield match.start(), body[1], PlannedCall(tool.name, body[0])


def _http(text: str, tools: Sequence[OfferedTool]) -> Iterator[_Hit]:
    end_before = 0
    for match in _URL.finditer(text):
        url = match.group().rstrip(".,;:!?)")
        before = text[end_before : match.start()]
        methods = list(_METHOD.finditer(before))
        fetches = list(_FETCH.finditer(before))
        if not methods and not fetches:
            continue
        start = end_before + (methods or fetches)[-1].start()
        end = match.start() + len(url)
        method = methods[-1].group() if methods else "GET"
        body = _first_json(text, start, match.start())
        if body is None and (after := re.match(r"\s*(?:with|:|body|json|\s)*\s*(?=[{\[])", text[end:])):
            body = _json_at(text, end + after.end())
            end = body[1] if body else end
        end_before = end
        yield start, end, _http_call(method, url, body[0] if body else None, tools)


def _http_call(method: str, url: str, body: Json, tools: Sequence[OfferedTool]) -> PlannedCall | str:
    for tool in _fitting_order(method, tools):
        names = tool.properties
        url_name = _property(tool, ("url", "uri"))
        if url_name is None or (method != "GET" and "method" not in names):
            continue
        arguments: dict[str, Json] = {url_name: url}
        if "method" in names:
            arguments["method"] = method
        if body is not None:
            body_name = _property(tool, ("body", "json", "data", "content"), kinds=("string", "object", "array", ""))
            if body_name is None:
                continue
            as_text = "string" in _kinds(names[body_name])
            arguments[body_name] = json.dumps(body, ensure_ascii=False) if as_text else body
        if tool.required <= arguments.keys():
            return PlannedCall(tool.name, arguments)
    return f"a tool that can send {method} requests"


def _fitting_order(method: str, tools: Sequence[OfferedTool]) -> list[OfferedTool]:
    # For GET, prefer a tool that can only read.
    return sorted(tools, key=lambda tool: method == "GET" and "method" in tool.properties)


def _files(text: str, tools: Sequence[OfferedTool]) -> Iterator[_Hit]:
    """`make a pdf with …`: a tool that takes a content and one of several formats, with the format named."""
    for match in _MAKE.finditer(text):
        kind, content = match["kind"].lower(), match["content"].strip().strip("\"“”'").strip()
        if content:
            yield match.start(), match.end(), _file_call(_FORMATS.get(kind, kind), content, tools)


def _file_call(kind: str, content: str, tools: Sequence[OfferedTool]) -> PlannedCall | str:
    for tool in tools:
        content_name = _property(tool, ("content", "text", "body"))
        format_name = next((name for name, schema in tool.properties.items() if kind in _choices(schema)), None)
        if content_name and format_name and tool.required <= {content_name, format_name}:
            return PlannedCall(tool.name, {format_name: kind, content_name: content})
    return f"a tool that can make {kind} files"


def _choices(schema: Json) -> Sequence[Json]:
    found = schema.get("enum") if isinstance(schema, Mapping) else None
    return found if isinstance(found, list) else ()


def _documents(text: str, tools: Sequence[OfferedTool], *, ids: Sequence[str]) -> Iterator[_Hit]:
    """`read the attachment`: a tool that takes an attachment id; uses the id in the message, or else the newest one."""
    match = _READ.search(text)
    if match is None:
        return
    meant = _UUID.search(text)
    target = meant.group() if meant else next(reversed(ids), None)
    if target is not None:
        end = max(match.end(), meant.end() if meant else 0)
        yield match.start(), end, _document_call(target, tools)


def _document_call(target: str, tools: Sequence[OfferedTool]) -> PlannedCall | str:
    for tool in tools:
        name = _property(tool, ("attachment_id", "file_id", "document_id"))
        if name is not None and tool.required <= {name}:
            return PlannedCall(tool.name, {name: target})
    return "a tool that reads attachments"


def ids_in(text: str) -> list[str]:
    """The ids in JSON inside the text."""
    return [match[1] for match in _NAMED_ID.finditer(text)]


def _times(text: str, tools: Sequence[OfferedTool]) -> Iterator[_Hit]:
    matches = list(_TIME_IN.finditer(text))
    for match in matches:
        zones: list[str] = []
        for place in _PLACES.split(match.group(1)):
            zone = find_zone(place)
            if zone is None and not zones and _ASKS_TIME.search(match.group()):
                zone = place.strip()[:64]  # the tool decides whether the place exists
            if zone is None:
                break
            zones.append(zone)
        for i, zone in enumerate(zones):
            # One hit per zone; offsets differ by one, so that several zones keep their order.
            yield match.start() + i, (match.start(1) if i == 0 else match.start() + i), _time_call(zone, tools)
    if not matches and (bare := _TIME.search(text)):
        yield bare.start(), bare.end(), _time_call("UTC", tools)


def find_zone(place: str) -> str | None:
    """The IANA zone named by the first words of `place`, as a zone or as a city."""
    explicit = _ZONE.match(place.strip())
    if explicit and explicit.group() in available_timezones():
        return explicit.group()
    words = re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", place.casefold())[:4]
    cities = _cities()
    for count in range(len(words), 0, -1):
        zone = cities.get(" ".join(words[:count]))
        if zone:
            return zone
    return None


@lru_cache(maxsize=1)
def _cities() -> Mapping[str, str]:
    cities: dict[str, str] = {}
    # "Europe/…" and the like come before legacy names of the same city.
    for zone in sorted(available_timezones(), key=lambda name: (name.count("/") != 1, name)):
        if "/" in zone and not zone.startswith(("Etc/", "SystemV/", "US/", "posix/", "right/")):
            cities.setdefault(zone.rpartition("/")[2].replace("_", " ").casefold(), zone)
    return {**cities, **_OTHER_NAMES, "utc": "UTC", "gmt": "UTC"}


def _time_call(zone: str, tools: Sequence[OfferedTool]) -> PlannedCall | str:
    for tool in tools:
        name = _property(tool, ("timezone", "time_zone", "tz", "zone", "zone_name"))
        if name is not None and tool.required <= {name}:
            return PlannedCall(tool.name, {name: zone})
    return "a tool that tells the time in a time zone"


def _arithmetic(text: str, tools: Sequence[OfferedTool]) -> Iterator[_Hit]:
    for pattern in (_URL, _UUID, _DATE):
        text = pattern.sub(lambda m: "\0" * len(m.group()), text)
    position = 0
    while position < len(text):
        start, end = _run_of_atoms(text, position)
        if end == start:
            break
        expression = _as_expression(text[start:end])
        if expression and not (_RANGE.fullmatch(expression) and not _ASKS_SUM.search(text[:start])):
            yield start, end, _arithmetic_call(expression, tools)
        position = end


def _run_of_atoms(text: str, position: int) -> tuple[int, int]:
    """The next span of arithmetic symbols; operators in words ("6 times 7") count as symbols."""
    first = _ATOM.search(text, position)
    if first is None:
        return len(text), len(text)
    end = first.end()
    while end < len(text):
        gap = re.match(r"[ \t]*", text[end:])
        after = end + (gap.end() if gap else 0)
        spoken = next((m for pattern, _ in _SPOKEN if (m := pattern.match(text, end))), None)
        following = spoken or _ATOM.match(text, after)
        if following is None:
            break
        end = following.end()
    return first.start(), end


def _as_expression(run: str) -> str | None:
    for pattern, sign in _SPOKEN:
        run = pattern.sub(sign, run)
    run = run.strip().rstrip("+-*/%^, ").lstrip("*/%^,+ ")
    while run and run.count("(") != run.count(")"):
        extra, where = ("(", 0) if run.count("(") > run.count(")") else (")", -1)
        if run[where] != extra:
            return None
        run = run[1:].lstrip() if where == 0 else run[:-1].rstrip()
    kinds = [match.lastgroup for match in _ATOM.finditer(run)]
    if "number" not in kinds:
        return None
    operands = kinds.count("number") + kinds.count("name") + kinds.count("call")
    if "call" not in kinds and ("operator" not in kinds or operands < 2):
        return None
    return run


def _arithmetic_call(expression: str, tools: Sequence[OfferedTool]) -> PlannedCall | str:
    for tool in tools:
        name = _property(tool, ("expression", "expr", "formula"))
        if name is not None and tool.required <= {name}:
            return PlannedCall(tool.name, {name: expression})
    return "a tool that takes an arithmetic expression"


def _property(tool: OfferedTool, names: Sequence[str], *, kinds: Sequence[str] = ("string", "")) -> str | None:
    for name in names:
        if name in tool.properties and not _kinds(tool.properties[name]).isdisjoint(kinds):
            return name
    return None


def _kinds(schema: Json) -> set[str]:
    """The JSON types that a property's schema allows; {""} when it names none."""
    if not isinstance(schema, Mapping):
        return {""}
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {k for k in kind if isinstance(k, str)}
    options = schema.get("anyOf")
    if isinstance(options, list):
        return set().union(*(_kinds(option) for option in options))
    return {""}


def _made_up(schema: Json, text: str) -> Json:
    if isinstance(schema, Mapping):
        for key in ("default", "const"):
            if key in schema:
                return schema[key]
        options = schema.get("enum")
        if isinstance(options, list) and options:
            first: Json = options[0]
            return first
    values: dict[str, Json] = {
        "integer": 1,
        "number": 1,
        "boolean": False,
        "array": [],
        "object": {},
        "null": None,
    }
    kinds = _kinds(schema)
    return next((value for kind, value in values.items() if kind in kinds and "string" not in kinds), text[:200])


def _first_json(text: str, start: int, stop: int) -> tuple[Json, int] | None:
    for match in re.finditer(r"[{\[]", text[start:stop]):
        found = _json_at(text, start + match.start())
        if found is not None:
            return found
    return None


def _json_at(text: str, position: int) -> tuple[Json, int] | None:
    """The JSON value at a position and where it ends."""
    try:
        found: tuple[Json, int] = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        return None
    return found
