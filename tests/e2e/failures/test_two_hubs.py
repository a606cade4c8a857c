"""Two stacks on one database, each with a task hub of its own: neither touches the other's turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest

from shared.adapters.sql.hubs import HubFound, adopt, overview
from tests.e2e.support.client import Api, eventually, open_api, post_call, run_now, script
from tests.e2e.support.processes import WEBHOOK_SECRET, AppHost, Sink, running_host, wait_for
from tests.e2e.support.stack import WEBHOOK_PATH, own_environment, own_stores

INSTANCES = "/runtime/webhooks/durabletask/instances"


@dataclass(frozen=True)
class Stacks:
    first: AppHost
    second: AppHost

    @property
    def database(self) -> str:
        return self.first.environment["POSTGRES_URL"]


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Stacks]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink) | {
            "APPROVAL_WEBHOOK_URL": sink.url(WEBHOOK_PATH),
            "APPROVAL_WEBHOOK_SECRET": WEBHOOK_SECRET,
            # Time is passed in here: what seems silent is not.
            "TURN_STALLED_SECONDS": "86400",
        }
        with running_host(tmp_path_factory.mktemp("first"), environment) as first:
            asyncio.run(run_now(first, "sweep"))
            # Whoever starts second is told of the first, once that is known.
            wait_for(lambda: bool(_hubs_of(first)), "the first hub to be known", 60)
            with running_host(tmp_path_factory.mktemp("second"), environment) as second:
                yield Stacks(first, second)


def _hubs_of(host: AppHost) -> list[HubFound]:
    with psycopg.connect(host.environment["POSTGRES_URL"]) as connection:
        return overview(connection)


@pytest.fixture
async def apis(stacks: Stacks) -> AsyncIterator[tuple[Api, Api]]:
    for host in (stacks.first, stacks.second):
        if not host.is_running():
            host.start()
        await run_now(host, "sweep")
    one, two = await open_api(stacks.first), await open_api(stacks.second)
    yield one, two
    await one.aclose()
    await two.aclose()


async def later(stacks: Stacks, *hosts: AppHost) -> None:
    """Let an hour pass for what the sweeps wait for, and the sweeps of these hosts run."""
    async with await psycopg.AsyncConnection.connect(stacks.database, autocommit=True) as connection:
        for table, column in (
            ("turns", "dispatched_at"),
            ("approvals", "decided_at"),
            ("approvals", "notices_looked_at"),
            ("sessions", "hold_told_at"),
            ("session_erasures", "attempted_at"),
            ("session_erasures", "told_at"),
        ):
            await connection.execute(f"UPDATE {table} SET {column} = {column} - interval '1 hour'".encode())
    for host in hosts:
        await run_now(host, "sweep")


async def instances(host: AppHost, turn_id: str) -> dict[str, str]:
    """What a hub knows of a turn: status by instance."""
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        listed = (await client.get(f"{INSTANCES}?instanceIdPrefix={turn_id}")).json()
    return {instance["instanceId"]: instance["runtimeStatus"] for instance in listed}


async def waiting_turn(api: Api, sink: Sink, path: str) -> tuple[str, str, str]:
    """Session, turn and approval of a call that waits for a person."""
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(path))]], content="done"))
    approval = await api.approval(session_id)
    return session_id, turn_id, approval["id"]


@pytest.mark.parametrize("by", ["this code", "older code"])
async def test_a_waiting_turn_outlives_the_sweeps_of_the_other_stack(
    stacks: Stacks, apis: tuple[Api, Api], sink: Sink, by: str
) -> None:
    one, two = apis
    session_id, turn_id, approval_id = await waiting_turn(one, sink, "/outlives")
    if by == "older code":
        with psycopg.connect(stacks.database, autocommit=True) as connection:
            connection.execute("UPDATE turns SET hub = NULL WHERE id = %s", [turn_id])
    assert stacks.second.logs(f"of {stacks.first.base_url} works on this database, too")
    before = await instances(stacks.first, turn_id)
    for _ in range(3):
        await later(stacks, stacks.second)
    assert await instances(stacks.second, turn_id) == {}
    assert await instances(stacks.first, turn_id) == before
    assert "turn restarted:" not in stacks.second.log()

    # Decided where its hub is not: the stack that has it hears of it by its sweep, and tells the receiver.
    await two.decide(approval_id, "approve")

    async def completed() -> bool:
        await later(stacks, stacks.second, stacks.first)
        return str((await one.turn(session_id, turn_id))["status"]) == "completed"

    await eventually(completed, "the first stack to go on")
    assert len(sink.at("/outlives")) == 1
    assert await instances(stacks.second, turn_id) == {}
    told = [request.headers["webhook-id"] for request in sink.at(WEBHOOK_PATH)]
    assert told.count(f"{approval_id}.decided") == 1
    assert "turn restarted:" not in stacks.first.log()


async def test_a_suspension_by_the_other_stack_holds_and_lets_go(
    stacks: Stacks, apis: tuple[Api, Api], sink: Sink
) -> None:
    one, two = apis
    session_id, turn_id, _ = await waiting_turn(one, sink, "/held-there")
    for verb, wanted in (("suspend", "Suspended"), ("resume", "Running")):
        assert (await two.post(f"/api/v1/sessions/{session_id}/{verb}")).status_code == 200

        async def followed(wanted: str = wanted) -> bool:
            await later(stacks, stacks.second, stacks.first)
            return set((await instances(stacks.first, turn_id)).values()) == {wanted}

        await eventually(followed, f"the first stack to {verb} it")

    async def settled() -> bool:
        await later(stacks, stacks.second, stacks.first)
        async with await psycopg.AsyncConnection.connect(stacks.database) as connection:
            row = await (
                await connection.execute("SELECT hold_pending FROM sessions WHERE id = %s", [session_id])
            ).fetchone()
        return row == (False,)

    await eventually(settled, "the suspension to be settled")
    await one.cancel(session_id, turn_id)
    await one.until(session_id, turn_id)


async def test_an_erasure_by_the_other_stack_ends_when_each_hub_has_forgotten(
    stacks: Stacks, apis: tuple[Api, Api], sink: Sink
) -> None:
    one, two = apis
    session_id, turn_id, _ = await waiting_turn(one, sink, "/erased-there")

    async def gone() -> bool:
        await two.request("DELETE", f"/api/v1/sessions/{session_id}")
        await later(stacks, stacks.second, stacks.first)
        return await instances(stacks.first, turn_id) == {}

    await eventually(gone, "the first stack to forget its histories")


async def test_turns_of_a_hub_that_nobody_serves_are_told_of_and_adopted_on_purpose_only(
    stacks: Stacks, apis: tuple[Api, Api], sink: Sink
) -> None:
    one, two = apis
    session_id, turn_id, approval_id = await waiting_turn(one, sink, "/adopted")
    with psycopg.connect(stacks.database) as connection:
        hubs = {hub.address: hub.id for hub in overview(connection) if hub.is_served}
    with pytest.raises(ValueError, match="is served"):
        adopt(stacks.database, hubs[stacks.first.base_url], by=hubs[stacks.second.base_url])

    stacks.first.kill()
    with psycopg.connect(stacks.database, autocommit=True) as connection:
        connection.execute("UPDATE task_hubs SET seen_at = seen_at - interval '1 hour'")
    await later(stacks, stacks.second)

    async def told() -> bool:
        await run_now(stacks.second, "watch")
        return f"turns of no served hub: 1 in {hubs[stacks.first.base_url]}, and 0 erasures" in stacks.second.log()

    await eventually(told, "the timer to tell of it")
    assert (await two.turn(session_id, turn_id))["status"] == "waiting_approval"
    assert await instances(stacks.second, turn_id) == {}

    first, second = hubs[stacks.first.base_url], hubs[stacks.second.base_url]
    assert adopt(stacks.database, first, by=second) == (second, 1)

    async def restarted() -> bool:
        await run_now(stacks.second, "sweep")
        return f"turn restarted: {turn_id}" in stacks.second.log()

    await eventually(restarted, "the second stack to go on with it")
    await two.decide(approval_id, "approve")
    assert (await two.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/adopted")) == 1

    # The hub comes back, and what it still holds of the turn does nothing twice.
    stacks.first.start()
    await later(stacks, stacks.first, stacks.second)
    async with httpx.AsyncClient(base_url=stacks.first.base_url, trust_env=False) as client:
        [waiting] = [id for id in await instances(stacks.first, turn_id) if id != turn_id]
        raised = await client.post(f"{INSTANCES}/{waiting}/raiseEvent/approval-{approval_id}", json={})
        assert raised.status_code == 202

    async def over() -> bool:
        return set((await instances(stacks.first, turn_id)).values()) == {"Completed"}

    await eventually(over, "the first stack to end what it still had")
    assert (await two.turn(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/adopted")) == 1
