"""`functionTimeout` of host.json follows from what the app's own functions need.

A shorter one would cut them. A longer one would only keep alive what hangs: a request that Azure's host never hands to
its worker holds an invocation until then, and the other requests of that worker fail with it (docs/security.md).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from devhost.settings.config import function_timeout_s
from devhost.settings.host_json import load_host_json
from shared.sessions.streaming import LONGEST_S
from shared.sessions.turns.patience import ANSWER_SECONDS
from triggers.operations.retention import _RETIRING_SECONDS
from triggers.sessions.messages import MAX_WAIT_SECONDS

LIMITS = {
    "an event stream": LONGEST_S,
    "a model's answer": ANSWER_SECONDS,
    "a retirement of old sessions": _RETIRING_SECONDS,
    "a wait for a turn": MAX_WAIT_SECONDS,
}
MARGIN_S = 120
"""For what a function does before and after: read the database, store its answer, and send its outputs, which takes the
SignalR binding 100 s when the service does not answer (the default of its HTTP client)."""


@pytest.fixture(scope="module")
def function_timeout() -> float:
    limit = function_timeout_s(load_host_json(Path(__file__).parents[3], {}))
    assert limit is not None, "without a limit a hung request would hang for ever"
    return limit


@pytest.mark.parametrize("what", LIMITS)
def test_everything_ends_by_itself_before_the_host_ends_it(what: str, function_timeout: float) -> None:
    assert function_timeout >= LIMITS[what] + MARGIN_S


def test_what_hangs_is_kept_no_longer_than_that(function_timeout: float) -> None:
    assert function_timeout == max(LIMITS.values()) + MARGIN_S
