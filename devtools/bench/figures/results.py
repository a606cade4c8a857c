"""The results: rounds of a case, their medians, and the JSON form of all.

Invariant: the JSON contains every printed figure and the figures of each round that it was computed from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devtools.bench.figures.statistics import median, percentile, spread
from devtools.bench.figures.usage import MIB
from devtools.bench.load.loader import Measured
from devtools.bench.plan import Case

MS = 1000.0


def latencies(samples: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds: p50 and p95 of whole turns and of the time to the first token."""
    kinds = {"e2e": samples["total_s"], "first": samples["first_s"]}
    return {
        f"{kind}_p{share}_ms": percentile(values, share / 100) * MS
        for kind, values in kinds.items()
        for share in (50, 95)
    }


def turns_per_s(measured: Measured) -> float:
    """Turns that ended in the window, divided by its length."""
    return len(measured.samples["total_s"]) / float(measured.samples["window_s"])


@dataclass(frozen=True, slots=True)
class Round:
    """One window of a case, and the bare model's window just before it."""

    figures: dict[str, float]
    cpu_ms_per_turn: dict[str, float]
    cpu_share: dict[str, float]
    """Processor use by group of processes, in cores."""
    memory_mib: dict[str, float]
    turns: int


def round_of(measured: Measured, bare: Measured) -> Round:
    """Overhead is the difference of percentiles: p50 - p50 and p95 - p95, at the same number of sessions."""
    turns, window_s = len(measured.samples["total_s"]), measured.samples["window_s"]
    ours, theirs = latencies(measured.samples), latencies(bare.samples)
    figures = {"turns_per_s": turns_per_s(measured), **ours}
    figures |= {f"bare_{name}": value for name, value in theirs.items()}
    figures |= {f"over_{name}": value - theirs[name] for name, value in ours.items()}
    used = {name: measured.end[name].cpu_s - begin.cpu_s for name, begin in measured.begin.items()}
    return Round(
        figures=figures,
        cpu_ms_per_turn={name: seconds / turns * MS for name, seconds in used.items()},
        cpu_share={name: seconds / window_s for name, seconds in used.items()},
        memory_mib={name: usage.memory / MIB for name, usage in measured.end.items()},
        turns=turns,
    )


@dataclass(frozen=True, slots=True)
class CaseResult:
    """A case of one contender: medians over its rounds."""

    contender: str
    case: Case
    rounds: tuple[Round, ...]

    def figure(self, name: str) -> float:
        return median([one.figures[name] for one in self.rounds])

    def cpu_ms(self, group: str) -> float:
        return median([one.cpu_ms_per_turn[group] for one in self.rounds])

    def share(self, group: str) -> float:
        return median([one.cpu_share[group] for one in self.rounds])

    def memory(self, group: str) -> float:
        """The maximum over all rounds, MiB."""
        return max(one.memory_mib[group] for one in self.rounds)

    def as_json(self) -> dict[str, Any]:
        first = self.rounds[0]
        return {
            "contender": self.contender,
            "case": self.case.name,
            "workload": self.case.workload,
            "sessions": self.case.sessions,
            "turns": sum(one.turns for one in self.rounds),
            **{name: round(self.figure(name), 3) for name in first.figures},
            "turns_per_s_spread": round(spread([one.figures["turns_per_s"] for one in self.rounds]), 3),
            "cpu_ms_per_turn": {group: round(self.cpu_ms(group), 3) for group in first.cpu_ms_per_turn},
            "cpu_share": {group: round(self.share(group), 3) for group in first.cpu_share},
            "memory_mib": {group: round(self.memory(group), 1) for group in first.memory_mib},
            "rounds": [{name: round(value, 3) for name, value in one.figures.items()} for one in self.rounds],
        }


@dataclass(frozen=True, slots=True)
class GrowthResult:
    """A late turn of a session compared with a first turn, in milliseconds."""

    contender: str
    turn: int
    first_ms: float
    late_ms: float
    bare_first_ms: float
    bare_late_ms: float

    @property
    def ratio(self) -> float:
        return self.late_ms / self.first_ms

    def as_json(self) -> dict[str, Any]:
        return {
            "contender": self.contender,
            "turn": self.turn,
            "first_ms": round(self.first_ms, 3),
            "late_ms": round(self.late_ms, 3),
            "ratio": round(self.ratio, 3),
            "bare_first_ms": round(self.bare_first_ms, 3),
            "bare_late_ms": round(self.bare_late_ms, 3),
        }


def growth_of(contender: str, turn: int, runs: Sequence[Mapping[str, Any]]) -> GrowthResult:
    """Medians over all pairs of all rounds."""

    def middle(name: str) -> float:
        return median([value for run in runs for value in run[name]]) * MS

    return GrowthResult(
        contender, turn, middle("early_s"), middle("late_s"), middle("bare_early_s"), middle("bare_late_s")
    )
