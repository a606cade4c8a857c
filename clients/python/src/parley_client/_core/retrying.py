"""Whether a request is sent again, and when.

Invariant: what may have happened is not asked for twice. A request without an idempotency key that is not repeatable by
itself is sent again only if the service did not begin with it: the connection could not be made, or it answered 429.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .http import Reply, Request, seconds_of


@dataclass(frozen=True)
class Retries:
    """How patient a client is. tries: of one request, the first included; 1: never again.

    first_pause_s doubles with each try, up to longest_pause_s. `Retry-After` comes before both; one that is longer
    than longest_pause_s is not waited for, and the error is raised at once.
    """

    tries: int = 4
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0


class Attempts:
    """The attempts of one request. random: from 0 to 1, so that clients do not come back all at once."""

    def __init__(self, retries: Retries, request: Request, random: Callable[[], float] = random.random) -> None:
        self._retries = retries
        self._request = request
        self._random = random
        self._made = 0

    def pause_after(self, reply: Reply) -> float | None:
        """Seconds until the next attempt; None: the reply stands."""
        if reply.status not in {429, 503} or (reply.status == 503 and not self._request.is_repeatable):
            return None
        return self._pause(seconds_of(reply.headers.get("retry-after")))

    def pause_after_loss(self, *, was_sent: bool) -> float | None:
        """Seconds until the next attempt after no reply came; None: there is none. was_sent: at least in part."""
        if was_sent and not self._request.is_repeatable:
            return None
        return self._pause(None)

    def _pause(self, told_s: float | None) -> float | None:
        self._made += 1
        if self._made >= self._retries.tries:
            return None
        if told_s is not None:
            return None if told_s > self._retries.longest_pause_s else told_s
        return backed_off(self._retries, self._made, self._random())


def backed_off(retries: Retries, failures: int, random: float) -> float:
    """A pause that doubles with each failure, less up to half of it. failures: 1 or more."""
    pause_s = min(retries.first_pause_s * 2.0 ** min(failures - 1, 16), retries.longest_pause_s)
    return pause_s * (1 - random / 2)
