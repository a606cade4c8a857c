"""What was asked and what came of it, as Jepsen keeps it: every operation is invoked, and is then ok, fail or unknown.

Invariant: `ok` was confirmed by the app, `fail` certainly did nothing, and anything else is `unknown`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson


class Outcome(StrEnum):
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One request. key: what it is about (a story's mark, an id); repeats of a request have the same key.

    Times are seconds of the run. status: of HTTP; 0: no answer. detail: by kind.
    """

    kind: str
    user: str
    key: str
    began_s: float
    ended_s: float
    outcome: Outcome
    status: int
    detail: dict[str, Any] = field(default_factory=dict)


def outcome_of(status: int) -> Outcome:
    """status: of HTTP; 0: no answer."""
    if 200 <= status < 300:
        return Outcome.OK
    # A refusal is one before anything was done. A server error may have come after it.
    return Outcome.FAIL if 400 <= status < 500 else Outcome.UNKNOWN


class History:
    """Collects operations, in memory and as lines of JSON in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._began = time.monotonic()
        self.operations: list[Operation] = []
        self.counts: Counter[tuple[str, Outcome]] = Counter()

    def now(self) -> float:
        """Seconds of the run."""
        return time.monotonic() - self._began

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        self.counts[operation.kind, operation.outcome] += 1
        self._write({"op": operation})

    def note(self, what: str, **fields: Any) -> None:
        """Something that the harness did itself."""
        self._write({"at_s": round(self.now(), 3), "what": what, **fields})

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(line, default=str) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
