"""What one run of the sweep does when something in it fails: everything else. Its parts run for real in `tests/e2e`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus

from shared.errors import ErrorCode, Transient
from shared.sessions.models import TurnStatus
from shared.sessions.records.turns import StuckTurn
from triggers.operations.sweep import Run

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Client:
    """A durable backend that cannot read the instance `unreadable`; every other one lives."""

    def __init__(self) -> None:
        self.raised: list[tuple[str, str]] = []

    async def get_status(self, instance_id: str) -> Any:
        if instance_id == "unreadable":
            raise ValueError("no history")
        return SimpleNamespace(runtime_status=OrchestrationRuntimeStatus.Running)

    async def raise_event(self, instance_id: str, event: str, data: object) -> None:
        self.raised.append((instance_id, event))


class App:
    """Stores that record what they are asked; those named in `away` fail so."""

    def __init__(self, **away: Exception) -> None:
        self._away = away
        self.touched: list[str] = []
        self.asked: list[str] = []
        self.turn_rows = SimpleNamespace(
            sessions_with_idle_queue=self._store("idle_queue", []),
            stuck=self._store("stuck", [_stuck("unreadable"), _stuck("lives")]),
            touch_dispatch=self._touch,
        )
        self.approval_rows = SimpleNamespace(undelivered=self._store("undelivered", [("a1", "lives")]))
        self.lifecycle = SimpleNamespace(expired=self._store("expired", []))
        self.erasure = SimpleNamespace(
            claim_cut=self._store("cut_erasures", []), forget_finished=self._store("finished_erasures", None)
        )
        self.subscriptions = SimpleNamespace(ended=self._store("subscriptions", []))
        self.loose_blobs = SimpleNamespace(sweep=self._store("blobs", 0))
        self.session_rows = SimpleNamespace(
            unsettled_holds=self._store("holds", []), forget_idempotency_keys=self._store("keys", None)
        )

    def _store(self, name: str, answer: Any) -> Callable[..., Awaitable[Any]]:
        async def ask(**arguments: object) -> Any:
            self.asked.append(name)
            if name in self._away:
                raise self._away[name]
            return answer

        return ask

    async def _touch(self, turn_id: str, *, now: datetime) -> None:
        self.touched.append(turn_id)


def _stuck(turn_id: str) -> StuckTurn:
    return StuckTurn(turn_id, "s1", TurnStatus.RUNNING, NOW)


def run_of(app: App, client: Client) -> Run:
    return Run(cast("Any", app), cast("Any", client), NOW, [])


async def test_a_turn_that_cannot_be_looked_at_goes_to_the_back_and_the_rest_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, client = App(), Client()
    await run_of(app, client).everything()
    assert app.touched == ["unreadable", "lives"]
    assert [instance_id for instance_id, _ in client.raised] == ["lives"]
    assert "turn unreadable could not be looked after now" in caplog.text


PARTS = [
    "idle_queue",
    "stuck",
    "holds",
    "undelivered",
    "expired",
    "subscriptions",
    "cut_erasures",
    "blobs",
    "keys",
]


@pytest.mark.parametrize("failing", PARTS)
async def test_a_part_that_fails_is_logged_and_hinders_no_other(failing: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App(**{failing: RuntimeError("broken")})
    await run_of(app, Client()).everything()
    assert set(PARTS) <= set(app.asked)
    [error] = [record for record in caplog.records if record.exc_info and "broken" in str(record.exc_info[1])]
    assert error.levelno == logging.ERROR


async def test_a_store_that_is_away_is_a_warning_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    app = App(blobs=Transient(ErrorCode.DATABASE_ERROR, "away"))
    await run_of(app, Client()).everything()
    assert "keys" in app.asked
    assert [(record.levelno, record.exc_info) for record in caplog.records if "away" in record.message] == [
        (logging.WARNING, None)
    ]
