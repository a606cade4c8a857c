"""The measured cases, their length and number of rounds."""

from __future__ import annotations

from dataclasses import dataclass

WORKLOADS = ("W1", "W2", "W3")
REALISTIC = "realistic"
GROWTH = "growth"
ALL = (*WORKLOADS, REALISTIC, GROWTH)
SESSIONS = (1, 16, 64)
_REALISTIC_SESSIONS = 16
"""Most sessions of the realistic workload; beyond, it would measure the same as the others."""


@dataclass(frozen=True, slots=True)
class Case:
    """One workload at one number of sessions."""

    workload: str
    sessions: int
    seconds: float
    """Length of the measured window."""
    max_turns: int
    """Limit per session, since a turn costs more with a longer history."""

    @property
    def name(self) -> str:
        return f"{self.workload}/{self.sessions}"


@dataclass(frozen=True, slots=True)
class Growth:
    """Turns late in a session compared with first turns. turns: number of turns before the late one."""

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
    """only: names from ALL; empty means all. rounds, seconds: None takes the value of the quick or the full plan."""
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
