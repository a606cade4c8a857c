"""The result as text tables."""

from __future__ import annotations

from collections.abc import Sequence

from devtools.bench.figures.results import CaseResult
from devtools.bench.run import Outcome

_SERVERS = ("postgres", "valkey", "azurite")
_COMPARED = (
    ("turns/s", "turns_per_s"),
    ("e2e p50", "e2e_p50_ms"),
    ("e2e p95", "e2e_p95_ms"),
    ("first p50", "first_p50_ms"),
    ("first p95", "first_p95_ms"),
)


def tables(outcome: Outcome) -> str:
    """All tables, separated by empty lines."""
    parts = [_latency_table(outcome.cases), _usage_table(outcome.cases)] if outcome.cases else []
    parts.append(_growth_lines(outcome))
    labels = list(dict.fromkeys(result.contender for result in outcome.cases))
    if len(labels) == 2:
        parts.append(_comparison(outcome, labels[0], labels[1]))
    return "\n\n".join(part for part in parts if part)


def _latency_table(results: Sequence[CaseResult]) -> str:
    head = ("", "", "end to end ms", "", "  over bare", "", "first token ms", "", "  over bare", "")
    names = ("case", "turns/s", "p50", "p95", "p50", "p95", "p50", "p95", "p50", "p95")
    rows = [
        (
            _label(result, results),
            f"{result.figure('turns_per_s'):.1f}",
            *(
                f"{'+' if over else ''}{result.figure(f'{over}{kind}_p{share}_ms'):.1f}"
                for kind in ("e2e", "first")
                for over in ("", "over_")
                for share in (50, 95)
            ),
        )
        for result in results
    ]
    return _aligned([head, names, *rows])


def _usage_table(results: Sequence[CaseResult]) -> str:
    groups = [name for name in results[0].rounds[0].cpu_ms_per_turn if name != "host"]
    head = ("processor ms per turn", "host", *groups, "cores in use", "host MiB", "servers MiB", "load gen. core")
    rows = [
        (
            _label(result, results),
            f"{result.cpu_ms('host'):.1f}",
            *(f"{result.cpu_ms(group):.1f}" for group in groups),
            f"{sum(result.share(group) for group in ('host', *groups)):.2f}",
            f"{result.memory('host'):.0f}",
            f"{sum(result.memory(group) for group in _SERVERS):.0f}",
            f"{result.share('load'):.0%}",
        )
        for result in results
    ]
    return _aligned([head, *rows])


def _growth_lines(outcome: Outcome) -> str:
    return "\n".join(
        f"turn {one.turn} of a session: {one.late_ms:.1f} ms, turn 1: {one.first_ms:.1f} ms, ratio {one.ratio:.2f}"
        f" (bare model {one.bare_late_ms:.1f} and {one.bare_first_ms:.1f} ms; {one.contender})"
        for one in outcome.growth
    )


def _comparison(outcome: Outcome, new: str, old: str) -> str:
    """Ratios new / old of the medians; the contenders were measured alternately."""
    by_key = {(result.contender, result.case.name): result for result in outcome.cases}
    head = (f"{new} / {old}", *(title for title, _ in _COMPARED), "host cpu", "host mem")
    rows = []
    for name in dict.fromkeys(result.case.name for result in outcome.cases):
        ours, theirs = by_key[new, name], by_key[old, name]
        figures = [f"{ours.figure(key) / theirs.figure(key):.2f}" for _, key in _COMPARED]
        cpu = f"{ours.cpu_ms('host') / theirs.cpu_ms('host'):.2f}"
        rows.append((name, *figures, cpu, f"{ours.memory('host') / theirs.memory('host'):.2f}"))
    return _aligned([head, *rows])


def _label(result: CaseResult, results: Sequence[CaseResult]) -> str:
    several = any(other.contender != result.contender for other in results)
    return f"{result.case.name} {result.contender}" if several else result.case.name


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
