"""The alerts look for the lines that the app logs."""

from __future__ import annotations

from pathlib import Path

from activities.restarting import RESTARTED_LINE
from activities.turns import FAILED_LINE
from shared.sessions.audit.forwarding import LATE_LINE
from shared.sessions.audit.verification import DAMAGED_LINE
from shared.sessions.channels.carding import NOT_TAKEN_LINE as CARD_LINE
from triggers.operations.sweep import NOT_TAKEN_LINE
from triggers.operations.watch import EXPIRING_LINE, LEFT_LINE
from triggers.unattended.queue import POISON_LINE

RULES = (Path(__file__).parents[2] / "infra/modules/observability/alerts.bicep").read_text("utf-8")


def test_the_alerts_look_for_the_lines_that_are_logged() -> None:
    of_turns = (FAILED_LINE, RESTARTED_LINE, EXPIRING_LINE, LEFT_LINE)
    for line in (*of_turns, NOT_TAKEN_LINE, CARD_LINE, DAMAGED_LINE, LATE_LINE, POISON_LINE):
        assert f'startswith "{line}"' in RULES


def test_the_alerts_count_each_request_once() -> None:
    """The host tells of a request, and so does the app's own span."""
    assert RULES.count("AppRequests | ") == 2
    assert RULES.count('AppRequests | where isempty(tostring(Properties["parley.correlation_id"])) and') == 2
