"""What models read at most, as far as this process has learned it from their own words.

A server that refuses a request for its length says what it takes, more or less. A number it names is kept per model
while the process lives, so that one refused request, which costs nothing, is the price of a window nobody had written
down. What was guessed, because it named none, or because a conversation has more tokens than we count, holds for that
session alone and for a while: what one conversation taught must not narrow the others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared.sessions.llm.protocol import ContextOverflow

_SHRINK = 0.6
"""Of what was asked, where the server named no number."""

_SLACK = 0.95
"""A count of ours that met a limit exactly once may be a few tokens over it the next time."""

_OVER = 1.1
"""How far over a limit a refused request is taken to be, where the server named the limit and not the request."""

_GROWTH = 1.6
"""Of the ratio, when a request is refused that was made to fit: so that a ratio of 4 is found in three steps."""

_LEAST_TOKENS = 128
_LEAST_GUESS = 2_048
"""No model that takes a conversation and tools reads less; one that does says so."""

GUESS_SECONDS = 600.0
MAX_RATIO = 16.0


_MOST_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class Window:
    """limit_tokens: read and written, in the server's own count; ratio: server's tokens for one of our estimate."""

    limit_tokens: int
    ratio: float = 1.0

    def room(self, *, reserve: int) -> int:
        """Tokens of our estimate that may be read when `reserve` of the server's are left for the answer."""
        return max(_LEAST_TOKENS, int((self.limit_tokens - reserve) / self.ratio * _SLACK))

    def left(self, *, reads: int) -> int:
        """Tokens of the server's that are left for an answer to `reads` of our estimate."""
        return int(self.limit_tokens - reads * self.ratio / _SLACK)


class Windows:
    """By model, and by session what is a guess. One event loop; not for several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, int] = {}
        """By model: in its server's own words."""
        self._guessed: OrderedDict[tuple[str, str], tuple[Window, float]] = OrderedDict()
        """By model and session, with the time."""

    def of(self, model: str, session_id: str = "") -> Window | None:
        """What is known now; None: nothing, or not any more."""
        said = self._said.get(model)
        guess, learned_at = self._guessed.get((model, session_id), (None, 0.0))
        if guess is not None and self._clock() - learned_at < GUESS_SECONDS:
            return guess if said is None else Window(min(said, guess.limit_tokens), guess.ratio)
        return None if said is None else Window(said)

    def note(self, model: str, limit_tokens: int) -> None:
        """What a server says of itself, unless more is known."""
        self._said.setdefault(model, limit_tokens)

    def learn(
        self,
        model: str,
        overflow: ContextOverflow,
        *,
        asked_tokens: int,
        answer_tokens: int | None = None,
        session_id: str = "",
    ) -> Window | None:
        """What an overflow teaches: a window that is narrower than the one before, never wider. None: nothing, since
        any model reads what was asked, and the server named no number.

        asked_tokens: our estimate of what was refused; answer_tokens: what was to be left for the answer, which some
        servers (vLLM) count in. A request that was known not to fit teaches nothing but what the server says.
        """
        known = self.of(model, session_id)
        ratio = known.ratio if known is not None else 1.0
        limit = overflow.limit_tokens
        asked = max(1, asked_tokens)
        if limit is None and known is None and max(asked, overflow.read_tokens or 0) <= _LEAST_GUESS:
            return None
        if overflow.read_tokens:
            ratio = max(ratio, overflow.read_tokens / asked)
        elif limit is not None and asked * ratio + (answer_tokens or 0) <= limit:
            # It was too much, so a token of ours is more of theirs.
            ratio = max((limit * _OVER - (answer_tokens or 0)) / asked, ratio * _GROWTH if known is not None else 1.0)
        ratio = min(MAX_RATIO, ratio)
        fitted = known is None or asked * known.ratio + (answer_tokens or 0) <= known.limit_tokens
        if limit is not None and overflow.is_lasting:
            self._said[model] = max(_LEAST_TOKENS, min(limit, self._said.get(model, limit)))
        is_said = limit is not None or model in self._said
        if limit is None and fitted:
            limit = max(_LEAST_GUESS, int(asked * ratio * _SHRINK))
        if known is not None:
            limit = min(limit or known.limit_tokens, known.limit_tokens)
            if fitted and limit == known.limit_tokens and ratio == known.ratio:
                limit = int(limit * _SHRINK) if is_said else max(_LEAST_GUESS, int(limit * _SHRINK))
        assert limit is not None  # known, said, or guessed
        window = Window(max(_LEAST_TOKENS, limit), ratio)
        if window != Window(self._said.get(model, 0)):
            self._guessed[model, session_id] = window, self._clock()
            self._guessed.move_to_end((model, session_id))
            if len(self._guessed) > _MOST_SESSIONS:
                self._guessed.popitem(last=False)
        return window
