"""`python -m devtools.bench.readme`: writes the tables of README's "Speed" and of `docs/speed.md`.

The figures, in `docs/`, are the output of `python -m devtools.bench.peers --json docs/bench-peers.json`, of
`./dev bench --json docs/bench.json` and of `python -m devtools.bench.search --json docs/bench-search.json`. A test
compares the pages with these files.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devtools.setup.places import ROOT

TURNS = Path(ROOT, "docs", "bench.json")
SEARCH = Path(ROOT, "docs", "bench-search.json")
PEERS = Path(ROOT, "docs", "bench-peers.json")

_WORKLOADS = {
    "W1": "W1: a plain turn",
    "W2": "W2: one automatic tool call first",
    "W3": "W3: one approval, answered at once",
    "realistic": "realistic model (200 ms, then 10 ms a token)",
}
_SEARCHES = {
    "search, all of these": "search, all kinds of questions together",
    "search, ordinary user: a word": "a user with 2,000 messages: a word",
    "search, ordinary user: a phrase": "… a phrase of two of the 30 commonest words",
    "search, ordinary user: a prefix": "… a prefix",
    "search, heavy user: a word": "the user with 300,000: a word",
    "search, heavy user: a phrase": "… a phrase of two of the 30 commonest words",
    "search, heavy user: a prefix": "… a prefix",
    "search, heavy user: a word whose accents are left out": "… a word whose accents are left out",
    "search, heavy user: a Chinese word": "… a Chinese word",
    "search, heavy user: a Thai word": "… a Thai word",
    "search, heavy user: a Korean word without its particle": "… a Korean word without its particle",
    "search in one session of 10,000": "in one session of 10,000 messages",
    "a page of history (50 of 10,000)": "a page of history, anywhere in those 10,000",
}
_SERVERS = ("postgres", "valkey", "azurite")
_PEERS = {
    "parley": ("**Parley**", "goes on by itself", "kept, numbered"),
    "dbos-tokens": ("DBOS, tokens in its streams", "goes on by itself", "kept"),
    "dbos": ("DBOS, two steps", "goes on by itself", "lost"),
    "langgraph": ("LangGraph, checkpoints in PostgreSQL", "waits for a new call", "lost"),
    "none": ("a loop without durability", "is lost", "lost"),
}
"""What each is, what becomes of a turn whose process was killed, and of the tokens that were streamed."""


def peers_table(document: Mapping[str, Any]) -> str:
    """document: the output of `python -m devtools.bench.peers`."""
    machine = document["machine"]
    found = {(case["contender"], case["workload"], case["sessions"]): case for case in document["cases"]}
    most = max(sessions for _, workload, sessions in found if workload == "W1")
    lines = [
        f"{machine['cores']} cores ({machine['processor']}), measured alternately, medians of "
        f"{document['rounds']} rounds:",
        "",
        f"| one answer of 64 tokens | a killed turn | its tokens | turns/s, {most} sessions | processor time a turn"
        " | over the bare model, one session: whole turn / first token |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, words in _PEERS.items():
        busy, calm = found[name, "W1", most], found[name, "realistic", 1]
        used = sum(busy["cpu_ms_per_turn"][part] for part in ("host", *_SERVERS))
        over = f"+{_short(calm['over_e2e_p50_ms'])} / +{_short(calm['over_first_p50_ms'])} ms"
        lines.append(f"| {' | '.join(words)} | {_short(busy['turns_per_s'])} | {_short(used)} ms | {over} |")
    return "\n".join(lines)


def turns_table(document: Mapping[str, Any]) -> str:
    """document: the output of `./dev bench` for one checkout and every workload."""
    machine, cases = document["machine"], document["cases"]
    lines = [
        f"{machine['cores']} cores ({machine['processor']}), Python {machine['python']}, everything on the same "
        f"machine, medians of {document['rounds']} rounds:",
        "",
        "| 64 streamed tokens unless said | sessions | turns/s | end to end, p50 / p95 | first token, p50 / p95 |",
        "| --- | --- | --- | --- | --- |",
    ]
    before = ""
    for case in cases:
        over = "over_" if case["workload"] == "realistic" else ""
        spans = (_span(case, f"{over}{kind}", "+" if over else "") for kind in ("e2e", "first"))
        title = "" if case["workload"] == before else _WORKLOADS[case["workload"]]
        lines.append(f"| {title} | {case['sessions']} | {_short(case['turns_per_s'])} | {' | '.join(spans)} |")
        before = case["workload"]
    [growth] = document["growth"]
    most = max((case for case in cases if case["workload"] == "W1"), key=lambda case: case["sessions"])
    servers = sum(most["memory_mib"][name] for name in _SERVERS)
    lines += [
        "",
        f"The realistic rows are what Parley adds to the bare model. Turn {growth['turn']} of a session takes "
        f"{growth['ratio']:.2f} times turn 1.",
        f"At {most['sessions']} sessions a W1 turn costs {_short(most['cpu_ms_per_turn']['host'])} ms of processor "
        f"time in the host, which needs {most['memory_mib']['host']:.0f} MiB;",
        f"PostgreSQL, Valkey and Azurite together need {servers:.0f} MiB.",
    ]
    return "\n".join(lines)


def search_table(document: Mapping[str, Any]) -> str:
    """document: the output of the search benchmark."""
    lines = [
        f"Search and history over {document['messages']:,} messages, one request at a time, ms:",
        "",
        "| | p50 | p95 |",
        "| --- | --- | --- |",
        *(
            f"| {title} | {_short(document['ms'][name]['p50'])} | {_short(document['ms'][name]['p95'])} |"
            for name, title in _SEARCHES.items()
        ),
    ]
    return "\n".join(lines)


TABLES = {
    "peers": (Path(ROOT, "README.md"), PEERS, peers_table),
    "turns": (Path(ROOT, "docs", "speed.md"), TURNS, turns_table),
    "search": (Path(ROOT, "docs", "speed.md"), SEARCH, search_table),
}
"""Each table's page, its figures, and what makes it of them."""


def rewritten(page: str, name: str, table: str) -> str:
    """A page with that table in its place. Raises ValueError when the place is missing."""
    place = re.compile(rf"(<!-- figures: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    page, found = place.subn(lambda match: match[1] + table + match[2], page)
    if found != 1:
        raise ValueError(f"the page has no place for the figures of {name}")
    return page


def main() -> int:
    for name, (page, figures, table_of) in TABLES.items():
        table = table_of(json.loads(figures.read_text("utf-8")))
        page.write_text(rewritten(page.read_text("utf-8"), name, table), encoding="utf-8")
    return 0


def _span(case: Mapping[str, Any], name: str, sign: str) -> str:
    return " / ".join(f"{sign}{_short(case[f'{name}_p{share}_ms'])}" for share in (50, 95)) + " ms"


def _short(value: float) -> str:
    """A number with at least two digits and few decimals."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
