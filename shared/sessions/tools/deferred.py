"""A call that does not end with its function: it waits for somebody's answer, and then goes on with it.

Not here: how the wait is stored and answered (`waits/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.sessions.models import JsonObject, Question, WaitKind
from shared.sessions.records.plan import PlannedAgent

MAX_LATER_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Deferred:
    """What a tool returns in place of its output. Raises nothing: its questions were checked by who made them."""

    kind: WaitKind
    questions: tuple[Question, ...] = ()
    asked_by: str | None = None
    state: str | None = None
    """Given back with the answer."""
    timeout_s: float | None = None
    """None: as long as people may take to approve."""
    agent: PlannedAgent | None = None
    """With AGENT: who is called, with `input`."""
    input: str = ""
    workflow: str | None = None
    """With RESULT: the orchestration that answers, with `state` as its input."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A call that goes on after a wait."""

    round: int
    """The number of the wait, from 1."""
    state: str | None
    answers: Mapping[str, JsonObject]
    """By question: `{"action": ..., "content": ...}`, as it was answered."""


@dataclass(frozen=True, slots=True)
class Later:
    """What a tool returns whose result comes later, from whoever holds its completion token.

    timeout_s: 30 days at most; after it the call has failed. Raises ValueError.
    """

    timeout_s: float = 86_400.0

    def __post_init__(self) -> None:
        if not 1 <= self.timeout_s <= MAX_LATER_S:
            raise ValueError(f"a result may come after 1 to {MAX_LATER_S} seconds")


@dataclass(frozen=True, slots=True)
class Completion:
    """With what the result of a call is posted, once. token: a secret; it is good for this call alone."""

    url: str
    token: str = field(repr=False)
