"""A host and an engine as unkind as Azure's, to test on: messages late, work twice, results lost.

`DEVHOST_ENGINE=harsh` (`--engine harsh`) turns it on. What happens is drawn from a seed, which the host prints; the
same seed draws the same again for the same calls. `DEVHOST_HARSH` changes single odds (`lost_result=1,dead_worker=0`),
and `DEVHOST_HARSH_SECOND` sets how long one of the table's seconds lasts, so that a test of five minutes takes
milliseconds.

Each hardship was seen on the real host or the real Durable extension, or follows from their documentation. Those with
odds of 1 are how Azure always is; the others are rare there and frequent here.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

ENGINE_SETTING = "DEVHOST_ENGINE"
SEED_SETTING = "DEVHOST_HARSH_SEED"
ODDS_SETTING = "DEVHOST_HARSH"
SECOND_SETTING = "DEVHOST_HARSH_SECOND"


@dataclass(frozen=True, slots=True)
class Hardship:
    """odds: 0 to 1, per occasion. seconds: the shortest and longest delay that goes with it."""

    name: str
    odds: float
    what: str
    seconds: tuple[float, float] = (0.0, 0.0)
    is_hosts: bool = False
    """Whether it happens in the host; else in the durable engine."""


HARDSHIPS = {
    hardship.name: hardship
    for hardship in (
        Hardship(
            "late_message",
            1.0,
            "a start, event, suspend, resume or terminate is accepted at once and arrives later, in order per instance",
            (0.0, 1.0),
        ),
        Hardship("repeated_message", 0.05, "an event arrives twice"),
        Hardship("lost_start", 0.02, "a start fails after the row was written: the instance stays Pending"),
        Hardship("repeated_activity", 0.05, "an activity that has answered runs again; its second answer is dropped"),
        Hardship(
            "unsaved_activity",
            0.03,
            "an activity's answer is not saved, and the activity runs again after its visibility time",
            (1.0, 5.0),
        ),
        Hardship("lost_result", 0.01, "an activity's answer is refused until the host restarts"),
        Hardship("dead_worker", 0.01, "the worker dies inside an orchestrator, and its instance fails"),
        Hardship(
            "late_work",
            1.0,
            "work that was in flight when the host was killed comes back after its visibility time",
            (30.0, 60.0),
        ),
        Hardship("early_timer", 1.0, "a timer fires before its time", (0.0, 0.7)),
        Hardship("suspended_code", 1.0, "an orchestrator's code runs while its instance is suspended"),
        Hardship(
            "late_output",
            1.0,
            "outputs of a streaming HTTP function are sent a while after its answer, and overtake each other",
            (0.0, 0.2),
            is_hosts=True,
        ),
        Hardship(
            "failed_output",
            0.03,
            "an output cannot be sent, and the invocation fails after its code has run",
            is_hosts=True,
        ),
        Hardship(
            "hung_header",
            1.0,
            "a request with a header that is not ASCII hangs until functionTimeout",
            is_hosts=True,
        ),
    )
}


@dataclass(slots=True)
class Harsh:
    """Draws what happens. One per host; not thread-safe.

    odds: by hardship, where they differ from the table. second: length of one of the table's seconds, in seconds.
    """

    seed: int
    odds: Mapping[str, float] = field(default_factory=dict)
    second: float = 1.0
    happened: Counter[str] = field(default_factory=Counter)
    """How often each hardship struck."""
    _draws: Counter[tuple[str, str]] = field(default_factory=Counter)

    def possible(self) -> list[str]:
        """Names of the hardships that may strike."""
        return [name for name, hardship in HARDSHIPS.items() if self.odds.get(name, hardship.odds) > 0]

    def of_engine(self) -> Harsh | None:
        """This for the durable engine; None when nothing can happen there, so that it is as kind as any."""
        return None if all(HARDSHIPS[name].is_hosts for name in self.possible()) else self

    def strikes(self, name: str, of: str = "") -> bool:
        """Whether a hardship happens now. of: the kind of thing it happens to, such as a function's name; the n-th
        question about one kind has the same answer for the same seed."""
        odds = self.odds.get(name, HARDSHIPS[name].odds)
        if odds <= 0 or (odds < 1 and self._draw(name, of).random() >= odds):
            return False
        self.happened[name] += 1
        return True

    def delay_s(self, name: str, of: str = "") -> float:
        """How long a hardship's delay is this time, in real seconds; 0 when it does not happen."""
        if not self.strikes(name, of):
            return 0.0
        shortest, longest = HARDSHIPS[name].seconds
        return self._draw(f"{name}/s", of).uniform(shortest, longest) * self.second

    def _draw(self, name: str, of: str) -> random.Random:
        self._draws[name, of] += 1
        return random.Random(f"{self.seed}/{name}/{of}/{self._draws[name, of]}")  # noqa: S311  # a test's dice


def from_settings(settings: Mapping[str, str]) -> Harsh | None:
    """The harsh mode that an app's settings ask for; None when they do not.

    Raises ValueError naming the setting that is wrong.
    """
    engine = settings.get(ENGINE_SETTING, "") or "kind"
    if engine not in ("kind", "harsh"):
        raise ValueError(f"{ENGINE_SETTING} must be kind or harsh, not {engine!r}")
    if engine == "kind":
        return None
    seed = settings.get(SEED_SETTING, "")
    if seed and not (seed.isascii() and seed.isdigit()):
        raise ValueError(f"{SEED_SETTING} must be a whole number, not {seed!r}")
    second = _number(SECOND_SETTING, settings.get(SECOND_SETTING) or "1", most=3600)
    return Harsh(int(seed) if seed else secrets.randbelow(1_000_000), _odds(settings.get(ODDS_SETTING, "")), second)


def _odds(text: str) -> dict[str, float]:
    """`lost_result=1,dead_worker=0`; `all=0` comes first and stands for every hardship."""
    odds: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        number = _number(f"{ODDS_SETTING}: {name}", value, most=1)
        if name == "all":
            odds |= dict.fromkeys(HARDSHIPS, number)
        elif name in HARDSHIPS:
            odds[name] = number
        else:
            raise ValueError(f"{ODDS_SETTING}: {name!r} is not known; known: all, {', '.join(HARDSHIPS)}")
    return odds


def _number(what: str, text: str, *, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise ValueError(f"{what} must be a number from 0 to {most:g}, not {text!r}")
    return number
