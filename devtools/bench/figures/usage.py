"""Processor time and memory of groups of processes, each with all its descendants.

Invariant: the time of ended children counts too, since their parent has collected it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_s: processor seconds so far. memory: bytes now."""

    cpu_s: float
    memory: int


def usage_of(groups: Mapping[str, int]) -> dict[str, Usage]:
    """groups: name → pid of the group's root process.

    Memory is the proportional set size where available (Linux), since PostgreSQL's processes share most of their
    memory; elsewhere the resident set size.
    """
    return {name: _tree(pid) for name, pid in groups.items()}


def _tree(pid: int) -> Usage:
    root = psutil.Process(pid)
    cpu_s, memory = 0.0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            held = process.memory_full_info()
        except psutil.NoSuchProcess:
            if process is root:
                raise
            continue
        cpu_s += times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
        memory += getattr(held, "pss", 0) or held.rss
    return Usage(cpu_s, memory)
