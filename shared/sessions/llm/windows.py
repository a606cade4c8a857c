"""Context windows that this process has learned from model servers' errors.

A server that refuses a request as too long usually names its limit. A named limit is kept per model for the life of the
process, so learning an unlisted window costs one refused request, which is free. If no limit is named, or if our
estimate of the tokens is too low, the window is a guess. A guess is kept only for its session and for a limited time,
so that one conversation does not shrink the window of others.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared.sessions.llm.protocol import ContextOverflow

_SHRINK = 0.6
"""The guessed window as a share of the refused request, when the server named no number."""

_SLACK = 0.95
"""Safety margin: an estimate that met a limit exactly may exceed it by a few tokens the next time."""

_OVER = 1.1
"""Assumed length of a refused request relative to the limit, when the server named only the limit."""

_GROWTH = 1.6
"""Growth of the ratio each time a request that should fit is refused; it reaches a ratio of 4 in three steps."""

_LEAST_TOKENS = 128
_LEAST_GUESS = 2_048
"""The smallest guess: no model that supports tools has a smaller window without naming it."""

GUESS_SECONDS = 600.0
MAX_RATIO = 16.0


_MOST_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class Window:
    """limit_tokens: input and output, as the server counts; ratio: server's tokens per token of our estimate."""

    limit_tokens: int
    ratio: float = 1.0

    def room(self, *, reserve: int) -> int:
        """Input tokens (our estimate) that fit when `reserve` tokens (server's count) are kept for the answer."""
        return max(_LEAST_TOKENS, int((self.limit_tokens - reserve) / self.ratio * _SLACK))

    def left(self, *, reads: int) -> int:
        """Tokens (server's count) left for an answer to `reads` input tokens (our estimate)."""
        return int(self.limit_tokens - reads * self.ratio / _SLACK)


class Windows:
    """Known windows by model, and guesses by model and session. Bound to one event loop; not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, int] = {}
        """By model: the limit that its server named."""
        self._guessed: OrderedDict[tuple[str, str], tuple[Window, float]] = OrderedDict()
        """By model and session, with the time of the guess."""

    def of(self, model: str, session_id: str = "") -> Window | None:
        """The window known now; None: unknown, or the guess has expired."""
        said = self._said.get(model)
        guess, learned_at = self._guessed.get((model, session_id), (None, 0.0))
        if guess is not None and self._clock() - learned_at < GUESS_SECONDS:
            return guess if said is None else Window(min(said, guess.limit_tokens), guess.ratio)
        return None if said is None else Window(said)

    def note(self, model: str, limit_tokens: int) -> None:
        """Record the window that a server reports, unless a limit is known already."""
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
        """Learn a window from an overflow. It is never larger than the window known before. None: nothing was learned,
        because the server named no number and any model can read a request of this length.

        asked_tokens: our estimate of the refused request. answer_tokens: reserve for the answer, which some servers
        (vLLM) count too. A request that was known not to fit teaches only the numbers that the server names.
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
            # By our count it fitted, so the server must count more tokens than we do.
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
        assert limit is not None  # known, named or guessed
        window = Window(max(_LEAST_TOKENS, limit), ratio)
        if window != Window(self._said.get(model, 0)):
            self._guessed[model, session_id] = window, self._clock()
            self._guessed.move_to_end((model, session_id))
            if len(self._guessed) > _MOST_SESSIONS:
                self._guessed.popitem(last=False)
        return window
