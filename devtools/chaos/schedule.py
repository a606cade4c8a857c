"""What fails when: a schedule of strikes, a pure function of its seed.

Invariant: strikes of one target do not overlap, since a network or a process is in one state at a time, and all are
over when the schedule is. The kinds come from a shuffled deck, so each has its turn before one comes again.
"""

from __future__ import annotations

from enum import StrEnum
from random import Random
from typing import NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field


class Target(StrEnum):
    HOST = "host"
    POSTGRES = "postgres"
    REDIS = "redis"
    BLOB = "blob"
    TABLE = "table"
    SIGNALR = "signalr"
    MODEL = "model"
    TOOL = "tool"


class Strike(StrEnum):
    """What happens to a target. The first of a process, the second of the network in front of it."""

    KILL = "kill"  # kill -9, and started again at the end
    VANISH = "vanish"  # the same, and nobody whom it was connected to is told: a machine that loses power
    STOP = "stop"  # the signal for an orderly end, and started again
    ROLL_BACK = "roll_back"  # killed at the end, and started from what it held at the beginning: a late replica
    FORGET = "forget"  # kill -9, and started empty
    REFUSE = "refuse"
    HANG = "hang"
    RESET = "reset"
    HALF_OPEN = "half_open"
    LATENCY = "latency"


NETWORK = (Strike.REFUSE, Strike.HANG, Strike.RESET, Strike.HALF_OPEN, Strike.LATENCY)
DECK: dict[Target, tuple[Strike, ...]] = {
    Target.HOST: (Strike.KILL,) * 3 + (Strike.VANISH,) + (Strike.STOP,) * 2,
    Target.POSTGRES: (Strike.KILL, Strike.STOP, *NETWORK),
    Target.REDIS: (Strike.KILL, Strike.ROLL_BACK, Strike.FORGET, *NETWORK),
    Target.BLOB: NETWORK,
    Target.TABLE: NETWORK,
    Target.SIGNALR: (Strike.KILL, *NETWORK),
    Target.MODEL: NETWORK,
    Target.TOOL: NETWORK,
}
"""Azurite is not killed: it writes every five seconds, where Azure Storage has what it confirmed."""

_CALM_S = 3.0
"""Before the first strike, and after each of a target."""
_HOST_CALM_S = 10.0
"""A host that has just started must come to something before it is killed again."""
_GAPS_S = (1.0, 9.0)
_LENGTHS_S = ((0.2, 2.0, 4), (2.0, 8.0, 3), (8.0, 30.0, 1))
"""From, to, how often in eight."""
_DOWN_S = (0.0, 3.0)
"""For how long a host is down: nothing but the kill is told of it."""


class Planned(NamedTuple):
    """at_s: seconds from the beginning; for_s: how long it lasts."""

    at_s: float
    strike: Strike
    target: Target
    for_s: float


class Schedule(BaseModel):
    """A list of strikes by time, and the seed of the workload beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    seconds: float = Field(gt=0)
    users: int = Field(ge=1)
    strikes: tuple[Planned, ...]

    def dumps(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2)


def make_schedule(seed: int, seconds: float, *, users: int, targets: tuple[Target, ...] = tuple(Target)) -> Schedule:
    random = Random(f"schedule {seed}")  # noqa: S311  # it is to be repeated
    deck: list[tuple[Target, Strike]] = []
    free_from = dict.fromkeys(targets, 0.0)
    strikes: list[Planned] = []
    now = _CALM_S
    while now < seconds:
        if not deck:
            deck = [(target, strike) for target in targets for strike in DECK[target]]
            random.shuffle(deck)
        ready = next((index for index, (target, _) in enumerate(deck) if free_from[target] <= now), None)
        if ready is not None:
            target, strike = deck.pop(ready)
            shortest, longest, _ = random.choices(_LENGTHS_S, [odds for *_, odds in _LENGTHS_S])[0]
            if target is Target.HOST:
                shortest, longest = _DOWN_S
            length = min(random.uniform(shortest, longest), seconds - now)
            strikes.append(Planned(round(now, 2), strike, target, round(length, 2)))
            free_from[target] = now + length + (_HOST_CALM_S if target is Target.HOST else _CALM_S)
        now += random.uniform(*_GAPS_S)
    return Schedule(seed=seed, seconds=seconds, users=users, strikes=tuple(strikes))


def read_schedule(text: bytes) -> Schedule:
    """Raises ValueError when it is no schedule."""
    return Schedule.model_validate_json(text)
