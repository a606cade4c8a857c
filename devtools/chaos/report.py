"""What a run says at its end, and the tables of `docs/reliability.md` from the runs that were kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from devtools.chaos.invariants import INVARIANTS
from devtools.setup.places import ROOT

KEPT = Path(ROOT, "docs", "chaos.json")
_MOST_LINES = 8


def summary(figures: Mapping[str, Any]) -> str:
    """The figures of one run as text."""
    turns = ", ".join(f"{count} {status}" for status, count in sorted(figures["turns"].items()))
    lines = [
        f"turns: {turns}; effects: {figures['effects']}; events heard: {figures['events_heard']}",
        f"quiet {figures['quiet_s']} s after the last strike; host at most {figures['peak_mib']} MiB;"
        f" slowest request {figures['slowest_s']} s",
        "",
        f"{'operation':<14}{'ok':>8}{'fail':>8}{'unknown':>9}",
    ]
    for kind, counts in figures["operations"].items():
        lines.append(f"{kind:<14}{counts.get('ok', 0):>8}{counts.get('fail', 0):>8}{counts.get('unknown', 0):>9}")
    lines += ["", f"{'strike':<20}{'count':>6}{'seconds':>9}{'p50 s':>8}{'max s':>8}   until a turn completes again"]
    for name, row in figures["strikes"].items():
        times = f"{row['recovery_p50_s']:>8}{row['recovery_max_s']:>8}" if "measured" in row else f"{'-':>8}{'-':>8}"
        lines.append(f"{name:<20}{row['count']:>6}{row['seconds']:>9}{times}")
    return "\n".join(lines)


def told(violations: Mapping[str, list[str]]) -> str:
    """Broken invariants with their first lines."""
    lines: list[str] = []
    for name, found in violations.items():
        lines.append(f"{name}: {len(found)}")
        lines += [f"  {line}" for line in found[:_MOST_LINES]]
        if len(found) > _MOST_LINES:
            lines.append("  ...")
    return "\n".join(lines)


def keep(path: Path, document: Mapping[str, Any]) -> None:
    """Add a run to a file, in the place of an earlier one of the same seed."""
    runs = _runs(path) if path.exists() else []
    runs = [run for run in runs if run["seed"] != document["seed"]] + [dict(document)]
    runs.sort(key=lambda run: int(run["seed"]))
    path.write_bytes(orjson.dumps({"runs": runs}, option=orjson.OPT_INDENT_2) + b"\n")


def runs_table() -> str:
    """The kept runs, one a line."""
    lines = [
        "| command | date, revision | turns ended | effects | strikes | requests confirmed / refused / unknown"
        " | slowest | quiet after | peak memory | broken invariants |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in _runs(KEPT):
        totals = [
            sum(counts.get(kind, 0) for name, counts in run["operations"].items() if name != "read")
            for kind in ("ok", "fail", "unknown")
        ]
        strikes = sum(row["count"] for row in run["strikes"].values())
        broken = ", ".join(f"{name} ({count})" for name, count in run["violations"].items())
        lines.append(
            f"| `{run['command']}` | {run['at'][:10]}, {run['revision']} | {sum(run['turns'].values()):,} |"
            f" {run['effects']:,} | {strikes} | {' / '.join(f'{total:,}' for total in totals)} |"
            f" {run['slowest_s']} s | {run['quiet_s']} s |"
            f" {run['peak_mib']} MiB | {broken or f'none of {len(INVARIANTS)}'} |"
        )
    return "\n".join(lines)


def recoveries_table() -> str:
    """The strikes of all kept runs: how many, and how soon turns worked again."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for run in _runs(KEPT):
        for name, row in run["strikes"].items():
            rows.setdefault(name, []).append(row)
    lines = [
        "| strike | count | in all | measured | median until a turn completes again | longest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in sorted(rows.items()):
        measured = [row for row in found if "measured" in row]
        # Each run gives its own median; the worst of them is shown.
        times = (
            f"{max(row['recovery_p50_s'] for row in measured)} s | {max(row['recovery_max_s'] for row in measured)} s"
            if measured
            else "not measured alone | "
        )
        lines.append(
            f"| {name.replace('_', ' ')} | {sum(row['count'] for row in found)} |"
            f" {sum(row['seconds'] for row in found):.0f} s | {sum(row['measured'] for row in measured)} | {times} |"
        )
    return "\n".join(lines)


def _runs(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = orjson.loads(path.read_bytes())["runs"]
    return runs
