"""Lanes: how much of one kind of work a process does at once, shared among its users and models.

A host gives all activities one limit (`maxConcurrentActivityFunctions` in host.json). Work that may take minutes enters
a lane first; where that is full, its activity returns at once, and its orchestration asks again after a durable timer.
So the lanes leave room for what is short: decisions, the ends of turns, and those who ask.

Invariants: no limit is ever exceeded. Of those who wait and could start, the one who has waited longest is let in
first, as long as it comes back in time: a place that is free is kept for it. Nobody waits because of somebody who waits
for another user's or another model's place. Asking costs memory only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from shared.errors import ErrorCode, Transient


class Place(NamedTuple):
    """Whose work it is, and by which model."""

    user: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What runs at once: altogether, for one user, by one model. told_after_s: a wait that is longer is told: to the
    user, and in the process's health."""

    at_once: int
    per_user: int
    per_model: int
    told_after_s: float = 10.0


UNLIMITED = LaneLimits(10**9, 10**9, 10**9)


class Permit:
    """A place in a lane; left with the block."""

    def __init__(self, lane: Lane, place: Place | None) -> None:
        self._lane = lane
        self._place = place

    def take(self, place: Place) -> None:
        """Say whose it is, of a place that was given before that was known."""
        if self._place is None:
            self._lane._running.name(place)
            self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lane._running.leave(self._place)


@dataclass(slots=True)
class _Ticket:
    """Somebody who waits, and is given up when it does not come back."""

    place: Place
    since: float
    until: float
    is_told: bool = False


class Lane:
    """One kind of work of this process. Bound to its event loop."""

    def __init__(self, name: str, limits: LaneLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        """name: in plural, for whoever waits, such as "answers". clock: seconds from any beginning."""
        self.limits = limits
        self._name = name
        self._clock = clock
        self._running = _Running(limits)
        self._tickets: dict[str, _Ticket] = {}

    def enter_unknown(self) -> Permit | None:
        """A place for work of which it is not known yet whose it is, if nobody could be in its way. It is known soon
        (`Permit.take`); until then it counts as everybody's."""
        self._forget_gone()
        if self._tickets or not self._running.has_room_for_any():
            return None
        self._running.unknown += 1
        return Permit(self, None)

    def enter(self, key: str, place: Place, *, waited_s: float = 0.0, back_in_s: float) -> Permit | None:
        """A place; None: come back within `back_in_s`, until when the turn that is waited for is kept.

        key: of the work. waited_s: how long it has waited, where that is known better than here: it may have asked
        another process.
        """
        self._forget_gone()
        now = self._clock()
        ticket = self._tickets.setdefault(key, _Ticket(place, now - waited_s, 0.0))
        ticket.since = min(ticket.since, now - waited_s)
        after = self._running if len(self._tickets) == 1 else self._after_those_before(ticket)
        if not after.has_room(place):
            ticket.until = now + back_in_s
            return None
        del self._tickets[key]
        self._running.enter(place)
        return Permit(self, place)

    def before(self, key: str) -> int:
        """How many wait longer than this one."""
        ticket = self._tickets.get(key)
        return 0 if ticket is None else sum(other.since < ticket.since for other in self._tickets.values())

    def late_s(self, key: str) -> float | None:
        """How long it has waited, if that is to be told and has not been; None otherwise."""
        ticket = self._tickets.get(key)
        if ticket is None or ticket.is_told or self._clock() - ticket.since < self.limits.told_after_s:
            return None
        ticket.is_told = True
        return self._clock() - ticket.since

    def give_up(self, key: str) -> None:
        """It does not come back."""
        self._tickets.pop(key, None)

    @property
    def running(self) -> int:
        return self._running.total

    async def check(self) -> None:
        """Raises Transient (RATE_LIMITED) while somebody waits longer than is told."""
        self._forget_gone()
        oldest = min((ticket.since for ticket in self._tickets.values()), default=None)
        if oldest is not None and self._clock() - oldest >= self.limits.told_after_s:
            raise Transient(ErrorCode.RATE_LIMITED, f"{len(self._tickets)} {self._name} wait for a place.")

    def _after_those_before(self, ticket: _Ticket) -> _Running:
        """What will run when those who wait longer, and could start, have."""
        running = self._running.copy()
        earlier = [other for other in self._tickets.values() if other.since < ticket.since]
        for other in sorted(earlier, key=lambda one: one.since):
            if running.has_room(other.place):
                running.enter(other.place)
        return running

    def _forget_gone(self) -> None:
        if self._tickets:
            now = self._clock()
            self._tickets = {key: ticket for key, ticket in self._tickets.items() if ticket.until > now}


class _Running:
    """What has entered and not left."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._users: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._named = 0
        self.unknown = 0

    @property
    def total(self) -> int:
        return self._named + self.unknown

    def has_room(self, place: Place) -> bool:
        limits, unknown = self._limits, self.unknown
        return (
            self.total < limits.at_once
            and self._users[place.user] + unknown < limits.per_user
            and self._models[place.model] + unknown < limits.per_model
        )

    def has_room_for_any(self) -> bool:
        limits, unknown = self._limits, self.unknown
        return (
            self.total < limits.at_once
            and max(self._users.values(), default=0) + unknown < limits.per_user
            and max(self._models.values(), default=0) + unknown < limits.per_model
        )

    def enter(self, place: Place) -> None:
        self._named += 1
        self._users[place.user] += 1
        self._models[place.model] += 1

    def name(self, place: Place) -> None:
        self.unknown -= 1
        self.enter(place)

    def leave(self, place: Place | None) -> None:
        if place is None:
            self.unknown -= 1
            return
        self._named -= 1
        for counter, key in ((self._users, place.user), (self._models, place.model)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def copy(self) -> _Running:
        other = _Running(self._limits)
        other._users, other._models = self._users.copy(), self._models.copy()
        other._named, other.unknown = self._named, self.unknown
        return other
