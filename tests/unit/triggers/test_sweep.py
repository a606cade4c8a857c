"""What one run of the sweep does when something in it fails: everything else. Its parts run for real in `tests/e2e`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus

from activities.restarting import MOST_RESTARTS
from shared.durable.hub import TaskHub
from shared.durable.messages import CHANGED_DETAIL, LOST_DETAIL
from shared.durable.names import KEEPER_INSTANCE
from shared.errors import ErrorCode, Transient
from shared.sessions.models import TurnError, TurnStatus
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.turns import OpenTurn
from triggers.operations.sweep import Run, Sight, titles

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Client:
    """A durable backend that cannot read the instance `unreadable`. Others run, unless `states` says otherwise."""

    def __init__(self, **states: OrchestrationRuntimeStatus | None) -> None:
        self.states = states
        self.raised: list[tuple[str, str]] = []
        self.terminated: list[str] = []
        self.started: list[str] = []
        self.resumed: list[str] = []
        self.words = ""
        self.keeper: OrchestrationRuntimeStatus | None = OrchestrationRuntimeStatus.Running

    def create_http_management_payload(self, instance_id: str) -> dict[str, str]:
        return {"statusQueryGetUri": f"http://localhost/instances/{instance_id}?taskHub=parley"}

    async def get_status(self, instance_id: str, show_input: bool = False) -> Any:
        if instance_id == KEEPER_INSTANCE:
            return SimpleNamespace(
                runtime_status=self.keeper, input_='{"hub": "hub-1"}', created_time=datetime.now(UTC)
            )
        if instance_id == "unreadable":
            raise ValueError("no history")
        state = self.states.get(instance_id.replace(":", "_"), OrchestrationRuntimeStatus.Running)
        return SimpleNamespace(runtime_status=state, output=self.words)

    async def terminate(self, instance_id: str, reason: str) -> None:
        self.terminated.append(instance_id)
        self.states[instance_id.replace(":", "_")] = OrchestrationRuntimeStatus.Terminated

    async def start_new(self, name: str, instance_id: str, client_input: object = None) -> None:
        self.started.append(instance_id)

    async def resume(self, instance_id: str, reason: str) -> None:
        self.resumed.append(instance_id)

    async def raise_event(self, instance_id: str, event: str, data: object) -> None:
        self.raised.append((instance_id, event))


class App:
    """Stores that record what they are asked; those named in `away` fail so."""

    def __init__(self, **away: Exception) -> None:
        self._away = away
        self.touched: list[str] = []
        self.asked: list[str] = []
        self.restarts = 0
        self.is_open, self.has_backlog = True, False
        self.current: OpenTurn | None = None
        self.calls: list[str] = []
        self.finished: list[tuple[str, TurnStatus, TurnError | None]] = []
        self.settings = SimpleNamespace(
            turn_stalled_seconds=120,
            approval_webhook_url="https://receiver.test/",
            public_base_url="https://app.test",
        )
        self.titling: Any = None
        self.task_hub = TaskHub("hub-1")
        self.hubs = SimpleNamespace(seen=self._seen)
        self.is_only, self.owned = True, list[str]()
        self.settled: list[tuple[str, NoticeKind]] = []
        self.sessions = SimpleNamespace(finish_turn=self._finish)
        self.turn_rows = SimpleNamespace(
            calls_that_wait=self._calls,
            note_restart=self._restart,
            forget_restart=self._forget,
            sessions_with_idle_queue=self._store("idle_queue", []),
            to_look_at=self._store("open", [_open("unreadable"), _open("lives")]),
            touch_dispatch=self._touch,
            look_again=self._again,
            may_be_queued=self._queued,
            own=self._own,
        )
        self.approval_rows = SimpleNamespace(
            undelivered=self._store("undelivered", [("a1", "lives")]),
            claim_unsettled_notices=self._store("notices", []),
            settle_notice=self._settle,
        )
        self.schedules = SimpleNamespace(move_due=self._store("schedules", 0))
        self.schedule_runner = SimpleNamespace(claim=self._store("schedule_runs", []))
        self.lifecycle = SimpleNamespace(expired=self._store("expired", []))
        self.erasure = SimpleNamespace(
            claim_cut=self._store("cut_erasures", []), forget_finished=self._store("finished_erasures", None)
        )
        self.subscriptions = SimpleNamespace(ended=self._store("subscriptions", []))
        self.loose_blobs = SimpleNamespace(sweep=self._store("blobs", 0))
        self.search_backfill = SimpleNamespace(split=self._store("old_search_rows", 0))
        self.audit_forwarder = SimpleNamespace(drain=self._store("audit_outbox", 0))
        self.session_rows = SimpleNamespace(
            unsettled_holds=self._store("holds", []), forget_idempotency_keys=self._store("keys", None)
        )

    def _store(self, name: str, answer: Any) -> Callable[..., Awaitable[Any]]:
        async def ask(*_: object, **arguments: object) -> Any:
            self.asked.append(name)
            if name in self._away:
                raise self._away[name]
            return answer

        return ask

    async def _seen(self, hub_id: str, *, name: str, address: str, now: datetime) -> bool:
        self.asked.append(f"seen {hub_id} {name} {address}")
        return self.is_only

    async def _own(self, turn_id: str) -> None:
        self.owned.append(turn_id)

    async def _touch(self, turn_id: str, *, now: datetime) -> bool:
        self.touched.append(turn_id)
        return self.is_open

    async def _again(self, turn_id: str) -> OpenTurn | None:
        return self.current if self.is_open else None

    async def _queued(self, since: datetime, *, now: datetime) -> bool:
        return self.has_backlog

    async def _calls(self, turn_id: str) -> list[str]:
        return self.calls

    async def _restart(self, turn_id: str, *, most: int, now: datetime) -> int | None:
        if self.restarts >= most:
            return None
        self.restarts += 1
        return self.restarts

    async def _forget(self, turn_id: str) -> None:
        self.restarts -= 1

    async def _settle(self, approval_id: str, kind: NoticeKind) -> None:
        self.settled.append((approval_id, kind))

    async def _finish(self, turn_id: str, *, status: TurnStatus, error: TurnError | None) -> Any:
        self.finished.append((turn_id, status, error))
        return SimpleNamespace(next_turn_id="next"), [b"ended"]


def _open(turn_id: str, *, silent_s: float = 0, status: TurnStatus = TurnStatus.RUNNING) -> OpenTurn:
    return OpenTurn(turn_id, "s1", status, NOW - timedelta(seconds=silent_s))


def run_of(app: App, client: Client, sight: Sight | None = None, now: datetime = NOW) -> Run:
    return Run(cast("Any", app), cast("Any", client), now, [], sight or Sight(NOW - timedelta(days=1)))


async def test_a_turn_that_cannot_be_looked_at_goes_to_the_back_and_the_rest_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, client = App(), Client()
    await run_of(app, client).everything()
    assert app.touched == ["unreadable", "lives"]
    assert [instance_id for instance_id, _ in client.raised] == ["lives"]
    assert "turn unreadable could not be looked after now" in caplog.text


PARTS = [
    "schedules",
    "schedule_runs",
    "idle_queue",
    "open",
    "holds",
    "undelivered",
    "notices",
    "expired",
    "subscriptions",
    "cut_erasures",
    "blobs",
    "keys",
    "old_search_rows",
    "audit_outbox",
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


State = OrchestrationRuntimeStatus
LOST = "Non-Deterministic workflow detected: ... but the current replay execution hasn't (yet?) scheduled this task."
CHANGED = "Non-Deterministic workflow detected: ... but the current replay execution instead scheduled 'ask_model'."


async def looked_at(turn: OpenTurn, client: Client, app: App | None = None) -> tuple[App, Run]:
    app = app or App()
    run = run_of(app, client)
    app.current = app.current or turn
    await run._open_turn(turn)
    return app, run


@pytest.mark.parametrize(("silent_s", "restarted"), [(-500, False), (119, False), (121, True)])
@pytest.mark.parametrize("status", [TurnStatus.RUNNING, TurnStatus.QUEUED])
async def test_a_turn_that_is_silent_for_longer_than_it_may_be_is_ended_and_started_again(
    silent_s: float, restarted: bool, status: TurnStatus, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(t1=State.Pending if status is TurnStatus.QUEUED else State.Running)
    app, _ = await looked_at(_open("t1", silent_s=silent_s, status=status), client)
    assert (client.terminated, client.started) == ((["t1"], ["t1"]) if restarted else ([], []))
    assert app.touched == ["t1"]
    assert ("turn restarted: t1" in caplog.text) is restarted


async def test_its_approvals_end_before_it_is_started_again() -> None:
    client, app = Client(), App()
    app.calls = ["c1", "c2"]
    client.states["t1_c2"] = None
    await looked_at(_open("t1", silent_s=500), client, app)
    assert (client.terminated, client.started) == (["t1", "t1:c1"], ["t1"])


async def test_what_does_not_end_is_not_started_again_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr("activities.durable_client._LOOK_SECONDS", 0)

    async def deaf(instance_id: str, reason: str) -> None:
        client.terminated.append(instance_id)

    client.terminate = deaf  # type: ignore[method-assign]
    app, _ = await looked_at(_open("t1", silent_s=500), client)
    assert (client.terminated, client.started, set(app.touched)) == (["t1"], [], {"t1"})


@pytest.mark.parametrize("state", [State.Failed, State.Terminated, State.Completed, None])
async def test_a_turn_that_its_orchestration_left_open_goes_on_at_once(
    state: OrchestrationRuntimeStatus | None,
) -> None:
    client = Client(t1=state)
    client.words = LOST
    app, _ = await looked_at(_open("t1", silent_s=-500), client)
    assert (client.terminated, client.started, app.finished) == ([], ["t1"], [])


async def test_a_turn_that_a_changed_version_cannot_replay_fails_at_once_and_says_so() -> None:
    client = Client(t1=State.Failed)
    client.words = CHANGED
    app, run = await looked_at(_open("t1", silent_s=-500), client)
    assert app.finished == [("t1", TurnStatus.FAILED, TurnError(code="INTERNAL_ERROR", detail=CHANGED_DETAIL))]
    assert (client.started, run.messages) == (["next"], [b"ended"])


async def test_a_turn_that_is_lost_again_and_again_fails_in_the_end() -> None:
    client, app = Client(t1=State.Terminated), App()
    for _ in range(MOST_RESTARTS):
        await looked_at(_open("t1"), client, app)
    assert (client.started, app.finished) == (["t1"] * MOST_RESTARTS, [])
    await looked_at(_open("t1"), client, app)
    assert app.finished == [("t1", TurnStatus.FAILED, TurnError(code="INTERNAL_ERROR", detail=LOST_DETAIL))]


async def test_a_restart_that_the_backend_refuses_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    client, app = Client(t1=State.Failed), App()

    async def refuses(name: str, instance_id: str, client_input: object = None) -> None:
        raise RuntimeError("the queue is away")

    monkeypatch.setattr(client, "start_new", refuses)
    for _ in range(MOST_RESTARTS + 1):
        with pytest.raises(RuntimeError, match="the queue is away"):
            await looked_at(_open("t1"), client, app)
    assert (app.restarts, app.finished) == (0, [])


async def test_a_queued_turn_without_an_orchestration_is_started_and_that_is_no_restart() -> None:
    client = Client(t1=None)
    app, _ = await looked_at(_open("t1", status=TurnStatus.QUEUED), client)
    assert (client.started, app.restarts) == (["t1"], 0)


async def test_what_turns_could_not_write_while_the_database_was_away_is_not_held_against_them() -> None:
    """Their activities wait in durable retries, and go on within a minute of its return."""
    silent, sight, client = _open("t1", silent_s=500), Sight(NOW - timedelta(hours=1)), Client()
    away = App(open=Transient(ErrorCode.DATABASE_ERROR, "away"))
    await run_of(away, client, sight).everything()
    app = App()
    app.current = silent
    app.turn_rows.to_look_at = app._store("open", [silent])
    for seconds, restarted in ((0, False), (119, False), (121, True)):
        await run_of(app, client, sight, NOW + timedelta(seconds=seconds)).everything()
        assert (client.started == ["t1"]) is restarted, seconds


async def test_a_new_process_lets_turns_move_before_it_judges_them() -> None:
    app, client, sight = App(), Client(), Sight()
    app.turn_rows.to_look_at = app._store("open", [_open("t1", silent_s=500)])
    await run_of(app, client, sight).everything()
    assert (client.started, sight.since) == ([], NOW)


async def test_a_turn_that_has_moved_or_ended_since_it_was_listed_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = _open("t1", silent_s=500)
    client, app = Client(), App()
    app.current = _open("t1", silent_s=-400)
    await looked_at(listed, client, app)
    app.is_open = False
    for state in (State.Running, State.Completed, None):
        client.states["t1"] = state
        await looked_at(replace(listed, status=TurnStatus.QUEUED), client, app)
    assert (client.terminated, client.started, app.finished) == ([], [], [])
    assert "turn failed" not in caplog.text


@pytest.mark.parametrize(("silent_s", "restarted"), [(121, False), (599, False), (601, True)])
async def test_what_may_only_wait_for_a_place_is_given_five_times_as_long(silent_s: float, restarted: bool) -> None:
    client, app = Client(), App()
    app.has_backlog = True
    await looked_at(_open("t1", silent_s=silent_s), client, app)
    assert (client.started == ["t1"]) is restarted


@pytest.mark.parametrize(("silent_s", "restarted"), [(479, False), (481, True)])
async def test_each_restart_is_given_twice_the_time_of_the_one_before(silent_s: float, restarted: bool) -> None:
    client = Client()
    await looked_at(replace(_open("t1", silent_s=silent_s), restarts=2), client)
    assert (client.started == ["t1"]) is restarted


@pytest.mark.parametrize(("left_s", "restarted"), [(20, False), (-1, True)])
async def test_a_lost_turn_waits_for_its_tool_that_still_runs(left_s: float, restarted: bool) -> None:
    client = Client(t1=State.Failed)
    client.words = LOST
    await looked_at(replace(_open("t1"), runs_until=NOW + timedelta(seconds=left_s)), client)
    assert (client.started == ["t1"]) is restarted


@pytest.mark.parametrize(
    ("state", "ended", "started", "is_settled", "is_told"),
    [
        (None, False, True, False, False),
        (State.Pending, True, True, False, False),
        (State.Running, False, False, False, False),
        (State.Failed, False, False, True, True),
        (State.Completed, False, False, True, False),
        (State.Terminated, False, True, False, False),
    ],
)
async def test_a_notice_that_was_not_taken_is_brought_on_or_given_up_when_its_instance_has_ended(
    state: OrchestrationRuntimeStatus | None,
    ended: bool,
    started: bool,
    is_settled: bool,
    is_told: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, app = Client(a1_decided=state), App()
    app.approval_rows.claim_unsettled_notices = app._store("notices", [("a1", NoticeKind.DECIDED)])
    await run_of(app, client)._notices()
    assert client.terminated == ["a1:decided"] * ended
    assert client.started == ["a1:decided"] * started
    assert app.settled == [("a1", NoticeKind.DECIDED)] * is_settled
    assert ("webhook not taken: decided of approval a1" in caplog.text) is is_told


async def test_a_notice_that_somebody_holds_by_hand_is_let_go() -> None:
    client, app = Client(a1_notification=State.Suspended), App()
    app.approval_rows.claim_unsettled_notices = app._store("notices", [("a1", NoticeKind.REQUESTED)])
    await run_of(app, client)._notices()
    assert (client.resumed, client.started) == (["a1:notification"], [])


async def test_no_notice_is_looked_for_where_nobody_receives_them() -> None:
    app = App()
    app.settings.approval_webhook_url = None
    await run_of(app, Client()).everything()
    assert "notices" not in app.asked


OF_HUB = {"schedules", "schedule_runs", "idle_queue", "open", "holds", "undelivered", "notices", "cut_erasures"}


@pytest.mark.parametrize("keeper", [State.Pending, None])
async def test_a_hub_that_does_not_know_who_it_is_concludes_nothing(
    keeper: OrchestrationRuntimeStatus | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triggers.operations.sweep._NEW_HUB_SECONDS", 0)
    app, client = App(), Client()
    app.task_hub, client.keeper = TaskHub(), keeper
    await run_of(app, client).everything()
    assert set(app.asked) == set(PARTS) - OF_HUB
    assert client.started == ([] if keeper else [KEEPER_INSTANCE])


async def test_a_run_notes_that_its_hub_is_served() -> None:
    app = App()
    app.task_hub, app.is_only = TaskHub(), False
    await run_of(app, Client()).everything()
    assert app.asked[0] == "seen hub-1 parley https://app.test"
    assert (app.task_hub.id, app.task_hub.is_only) == ("hub-1", False)


async def test_a_keeper_that_was_purged_starts_again_as_the_hub_that_it_was() -> None:
    app, client = App(), Client()
    client.keeper = None
    await run_of(app, client).everything()
    assert client.started == [KEEPER_INSTANCE]
    assert app.asked[0] == "seen hub-1 parley https://app.test"


@pytest.mark.parametrize(
    ("state", "is_only", "owned", "started"),
    [
        (State.Running, False, True, False),
        (State.Failed, False, True, True),
        (None, True, True, True),
        (None, False, False, False),
    ],
)
@pytest.mark.parametrize("status", [TurnStatus.RUNNING, TurnStatus.QUEUED])
async def test_a_turn_that_names_no_hub_is_of_the_one_that_finds_it_or_of_the_only_one(
    state: OrchestrationRuntimeStatus | None, is_only: bool, owned: bool, started: bool, status: TurnStatus
) -> None:
    app, client = App(), Client(t1=state)
    app.task_hub = TaskHub("hub-1", is_only)
    client.words = LOST
    await looked_at(replace(_open("t1", silent_s=-500, status=status), names_hub=False), client, app)
    assert (app.owned == ["t1"], client.started == ["t1"]) == (owned, started)
    assert "t1" in app.touched


async def test_titles_are_made_beside_the_rest_and_stop_nothing() -> None:
    app: Any = App()
    assert await titles(app, NOW) == []

    async def fails(_: datetime) -> list[bytes]:
        raise Transient(ErrorCode.LLM_ERROR, "The model is away.")

    async def makes(_: datetime) -> list[bytes]:
        return [b"told"]

    app.titling = SimpleNamespace(run=fails)
    assert await titles(app, NOW) == []
    app.titling = SimpleNamespace(run=makes)
    assert await titles(app, NOW) == [b"told"]
