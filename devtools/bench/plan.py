"""Which cases are measured, how long, how often."""

from __future__ import annotations

from dataclasses import dataclass

WORKLOADS = ("W1", "W2", "W3")
REALISTIC = "realistic"
GROWTH = "growth"
ALL = (*WORKLOADS, REALISTIC, GROWTH)
SESSIONS = (1, 16, 64)
_REALISTIC_SESSIONS = 16
"""The most sessions of the realistic workload: beyond, it would measure what the others do."""


@dataclass(frozen=True, slots=True)
class Case:
    """One workload at one number of sessions."""

    workload: str
    sessions: int
    seconds: float
    """Of the measured window."""
    max_turns: int
    """Per session: with a longer history a turn costs more."""

    @property
    def name(self) -> str:
        return f"{self.workload}/{self.sessions}"


@dataclass(frozen=True, slots=True)
class Growth:
    """Turns late in a session against first turns. turns: before the late one."""

    sessions: int
    turns: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Plan:
    cases: tuple[Case, ...]
    growth: Growth | None
    rounds: int
    watch: str
    bare_seconds: float


def make_plan(
    *,
    only: tuple[str, ...],
    sessions: tuple[int, ...],
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    watch: str,
) -> Plan:
    """only: names from ALL; empty means all. rounds and seconds: None takes those of the quick or the full plan."""
    wanted = only or ALL
    window_s = seconds or (1.5 if quick else 5.0)
    cases = []
    for workload in (*WORKLOADS, REALISTIC):
        for count in sessions:
            if workload not in wanted or (workload == REALISTIC and count > _REALISTIC_SESSIONS):
                continue
            # One realistic turn takes 0.84 s; a window must hold several.
            cases.append(Case(workload, count, max(window_s, 3.5) if workload == REALISTIC else window_s, 25))
    growth = Growth(sessions=1 if quick else 4, turns=99, pairs=8 if quick else 40) if GROWTH in wanted else None
    return Plan(tuple(cases), growth, rounds or (1 if quick else 3), watch, 0.4 if quick else 1.0)
