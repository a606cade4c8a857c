"""Which agents may call which: known ones, not in a circle, not too deep and not too many. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

MAX_DEPTH = 3
"""Agents below the one that a person asks, one under the other."""
MAX_BELOW = 32
"""Agents below it altogether, each as often as it is listed."""

type Edges = Mapping[str, Sequence[str]]
"""Of each agent that there is: the ids of those it may call."""


def agent_faults(agent_id: str, agents: Sequence[str], edges: Edges) -> list[tuple[int, str]]:
    """What is wrong with a version of an agent that lists `agents`: (index in the list, text).

    edges: of all other agents; this one's stored entry does not count.
    """
    known = {**edges, agent_id: agents}
    faults = [(index, f"there is no agent {other}") for index, other in enumerate(agents) if other not in known]
    if faults:
        return faults
    for index, other in enumerate(agents):
        circle = _way(other, agent_id, known)
        if circle is not None:
            faults.append((index, f"it would call itself: {' -> '.join([agent_id, *circle])}"))
    if faults:
        return faults
    for index, other in enumerate(agents):
        depth = 1 + _depth(other, known)
        if depth > MAX_DEPTH:
            faults.append((index, f"{depth} agents would be below {agent_id}, one under the other; {MAX_DEPTH} may be"))
    if faults:
        return faults
    callers = sorted(name for name in known if name != agent_id and _way(name, agent_id, known) is not None)
    for top in callers:
        if _depth(top, known) > MAX_DEPTH:
            return [(0, f"{top} calls {agent_id}: more than {MAX_DEPTH} agents would be below it, one under the other")]
    for top in [agent_id, *callers]:
        if _below(top, known) > MAX_BELOW:
            return [(0, f"more than {MAX_BELOW} agents would be below {top}")]
    return []


def handover_faults(agent_id: str, agents: Sequence[str], edges: Edges) -> list[tuple[int, str]]:
    """What is wrong with the agents to which a version hands over. In a circle, nothing: two may do so by turns."""
    return [
        (index, "it would hand over to itself" if other == agent_id else f"there is no agent {other}")
        for index, other in enumerate(agents)
        if other == agent_id or other not in edges
    ]


def _way(start: str, goal: str, edges: Edges) -> list[str] | None:
    """Agents from one to another that it may call, in any number of steps; None when there is no way."""
    came: dict[str, str | None] = {start: None}
    left = [start]
    while left:
        here = left.pop()
        if here == goal:
            return list(reversed(list(_back(here, came))))
        for other in edges.get(here, ()):
            if other not in came:
                came[other] = here
                left.append(other)
    return None


def _back(here: str, came: Mapping[str, str | None]) -> Iterator[str]:
    step: str | None = here
    while step is not None:
        yield step
        step = came[step]


def _depth(agent_id: str, edges: Edges, above: frozenset[str] = frozenset()) -> int:
    """Of a circle, which older versions may hold, up to where it closes."""
    seen = above | {agent_id}
    return max((1 + _depth(other, edges, seen) for other in edges.get(agent_id, ()) if other not in seen), default=0)


def _below(agent_id: str, edges: Edges, above: frozenset[str] = frozenset()) -> int:
    seen = above | {agent_id}
    return sum(1 + _below(other, edges, seen) for other in edges.get(agent_id, ()) if other not in seen)
