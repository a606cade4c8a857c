"""How often, how long and for how many tokens one step's model is asked: the one place that decides it.

The model client sends a request once, and so does the executor but for what makes it another one (a parameter or a part
of the conversation left out). What fails is asked again after a durable timer, as a try that is decided here.

Invariant: what failed tries have cost is carried by the orchestration from try to try, so that no restart of a process
begins anew. Waiting for a place in a lane (`shared/lanes.py`) costs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import AppError
from shared.sessions.turns.retry import backoff_s

MAX_MODEL_TRIES = 5
"""First try included. A model that refuses at once may be gone for a quarter of a minute."""
MAX_RETRY_AFTER_S = 600.0
"""A server that asks for more than ten minutes is as good as down: the turn fails instead."""
ANSWER_SECONDS = 480.0
"""Longest time for one step. With what follows it, it is below `functionTimeout` in host.json: the host restarts the
worker of a function that reaches that, and everything else that runs there fails with it."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What the tries of a step have cost so far. tries: with the one that runs or has just failed. seconds: of asking,
    without the pauses in between. tokens: read and written by tries that failed."""

    tries: int = 1
    seconds: float = 0.0
    tokens: int = 0


FIRST_TRY = Spent()


@dataclass(frozen=True, slots=True)
class Patience:
    """The limits of one step. first_byte_s: for how long a try may be silent. total_s: for all tries together. tokens:
    what failed tries may use before there is no third; a second one is always made, however long the conversation is.
    """

    first_byte_s: float = 180.0
    total_s: float = ANSWER_SECONDS
    tokens: int = 200_000

    def left_s(self, spent: Spent) -> float:
        """What is left for the try that begins."""
        return max(0.0, self.total_s - spent.seconds)

    def delay_s(self, spent: Spent, failure: AppError) -> float | None:
        """Seconds before the next try: 1, 2, 4, 8, and never less than the server asks for. None: give up.

        A try is not worth beginning where a model that takes its time could not even begin to answer.
        """
        asked_s = failure.retry_after_s
        if (
            not failure.retryable
            or spent.tries >= MAX_MODEL_TRIES
            or (asked_s is not None and asked_s > MAX_RETRY_AFTER_S)
            or self.left_s(spent) < min(self.first_byte_s, self.total_s / 2)
            or (spent.tries > 1 and spent.tokens > self.tokens)
        ):
            return None
        return max(backoff_s(spent.tries), asked_s or 0.0)
