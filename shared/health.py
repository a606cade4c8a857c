"""Health checks: probes every dependency of a turn once, in parallel, within seconds.

Invariant: a result is FRESH_S old at most, except the model's, since probing it costs money
(`shared/sessions/llm/probe.py`). Callers who arrive during a round or shortly after it share its result: however many
ask, each dependency is probed once a second by each process. Callers learn that a dependency is down, never why: only
the classes of a driver's error go to the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import AppError, ErrorCode, ModelFailed
from shared.sessions.live.realtime import DeliveryFailed

log = logging.getLogger(__name__)

PROBE_SECONDS = 3.0
FRESH_S = 1.0
"""Anybody may ask, so asking often must not cost the dependencies anything."""


class HealthAnswer(StrEnum):
    OK = "ok"
    NO_ANSWER = "no answer"  # within its time
    BUSY = "busy"  # it asks to retry later, which turns do
    UNAVAILABLE = "unavailable"  # it answered with an error, or cannot be reached


class HealthStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"  # turns work, something else does not
    UNAVAILABLE = "unavailable"  # a turn would not work


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency. needed: no turn works without it. limit_s: timeout in seconds; None: no timeout."""

    name: str
    ask: Callable[[], Awaitable[object]]
    needed: bool = False
    limit_s: float | None = PROBE_SECONDS


@dataclass(frozen=True, slots=True)
class Health:
    status: HealthStatus
    answers: Mapping[str, HealthAnswer]


class HealthChecks:
    """The dependencies of one process."""

    def __init__(self, checks: Sequence[Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds from any beginning."""
        self._checks = checks
        self._clock = clock
        self._ended_at = -FRESH_S
        self._round: asyncio.Task[Health] | None = None
        self._last: dict[str, HealthAnswer] = {}

    async def look(self, *more: Check) -> Health:
        """Check them all. more: checks that only the caller can make; joining a round ignores them."""
        if self._round is None or (self._round.done() and self._clock() - self._ended_at >= FRESH_S):
            self._round = asyncio.create_task(self._look((*self._checks, *more)))
            self._round.add_done_callback(self._over)
        # A caller who gives up must not cancel the round for the others.
        return await asyncio.shield(self._round)

    def _over(self, _round: asyncio.Task[Health]) -> None:
        self._ended_at = self._clock()

    async def _look(self, checks: Sequence[Check]) -> Health:
        answers = await asyncio.gather(*(self._ask(check) for check in checks))
        found = dict(zip([check.name for check in checks], answers, strict=True))
        away = [check for check in checks if found[check.name] is not HealthAnswer.OK]
        if any(check.needed and found[check.name] is not HealthAnswer.BUSY for check in away):
            return Health(HealthStatus.UNAVAILABLE, found)
        return Health(HealthStatus.DEGRADED if away else HealthStatus.OK, found)

    async def _ask(self, check: Check) -> HealthAnswer:
        why = ""
        try:
            async with asyncio.timeout(check.limit_s):
                await check.ask()
            answer = HealthAnswer.OK
        except TimeoutError as exc:
            answer, why = HealthAnswer.NO_ANSWER, _kind(exc)
        except Exception as exc:
            # Any error of a driver means that the dependency is unavailable.
            answer, why = HealthAnswer.UNAVAILABLE, _kind(exc)
            if isinstance(exc, AppError) and exc.code is ErrorCode.RATE_LIMITED and exc.retryable:
                answer = HealthAnswer.BUSY
        self._tell(check.name, answer, why)
        return answer

    def _tell(self, name: str, answer: HealthAnswer, why: str) -> None:
        """Log changes only, not every probe."""
        before, self._last[name] = self._last.get(name, HealthAnswer.OK), answer
        if answer is before:
            return
        if answer is HealthAnswer.OK:
            log.info("health: %s is back", name)
        else:
            log.warning("health: %s: %s (%s)", name, answer, why)


def _kind(exc: BaseException) -> str:
    """The classes of an error and its cause. Drivers' texts may hold addresses and keys; our own texts do not."""
    if isinstance(exc, (DeliveryFailed, ModelFailed)):
        return str(exc)
    cause = exc.__cause__
    return type(exc).__name__ if cause is None else f"{type(exc).__name__} from {type(cause).__name__}"
