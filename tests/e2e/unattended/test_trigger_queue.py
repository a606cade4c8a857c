"""Messages of a real queue in the whole app: each begins one turn, or is where somebody finds it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from devhost.queues.account import QueueAccount, parse_connection_string
from devhost.queues.service import Queue, QueueService
from tests.e2e.support.client import Api, Json, eventually, open_api, script, sweep
from tests.e2e.support.processes import AppHost, HostDied

NAME = f"messages-{uuid4().hex[:12]}"
"""Of this process: others share the queue service."""
SETTINGS = {
    "TRIGGER_QUEUE": NAME,
    "DEVHOST_QUEUE_LEASE_SECONDS": "3",
    "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2",
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:01",
}


@dataclass(frozen=True, slots=True)
class Senders:
    """What whoever may write to the queue can do, and an operator see."""

    service: QueueService
    account: QueueAccount

    def queue(self, name: str = NAME) -> Queue:
        return Queue(self.service, self.account, name)

    async def send(self, **fields: object) -> None:
        await self.queue().send(json.dumps(fields))

    async def emptied(self) -> None:
        """Wait until no message is left, neither visible nor in hand."""

        async def look() -> bool | None:
            headers, _ = await self.service.call(self.account, "GET", f"/{NAME}", {"comp": "metadata"})
            return headers["x-ms-approximate-messages-count"] == "0" or None

        await eventually(look, "the queue to be empty")

    async def poison(self) -> list[str]:
        """Takes what is in the poison queue."""
        queue, found = self.queue(f"{NAME}-poison"), list[str]()
        while await queue.exists() and (messages := await queue.receive(32, invisible_s=60)):
            for message in messages:
                found.append(message.text)
                await queue.delete(message)
        return found


@pytest.fixture(scope="module")
def queue_host(own_host: AppHost) -> AppHost:
    """A host with the queue; its own settings hold at each start."""
    own_host.stop()
    own_host.environment.update(SETTINGS)
    return own_host


@pytest.fixture
async def senders(queue_host: AppHost) -> AsyncIterator[Senders]:
    service = QueueService()
    account = parse_connection_string(queue_host.environment["AzureWebJobsStorage"], setting="AzureWebJobsStorage")
    one = Senders(service, account)
    await one.queue().create()
    yield one
    await service.close()


@pytest.fixture
async def api(queue_host: AppHost) -> AsyncIterator[Api]:
    if not queue_host.is_running():
        queue_host.start()
    client = await open_api(queue_host)
    yield client
    await client.aclose()


async def _trigger(api: Api, **fields: object) -> Json:
    body = {"content": script(content="done"), "sources": ["queue"], **fields}
    made = await api.request("PUT", f"/api/v1/triggers/t-{uuid4()}", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def _fired(api: Api, trigger: Json) -> Json:
    """The trigger, when it was fired."""

    async def look() -> Json | None:
        found = (await api.get(f"/api/v1/triggers/{trigger['id']}")).json()
        return found if found["last_fired_at"] is not None else None

    return await eventually(look, "the trigger to be fired")


async def _sessions(api: Api, trigger: Json) -> list[str]:
    return [one["id"] for one in (await api.get("/api/v1/sessions?q=" + trigger["id"])).json()["items"]]


async def test_a_message_fires_the_trigger_that_it_names_with_its_payload(api: Api, senders: Senders) -> None:
    trigger = await _trigger(api)
    assert (trigger["queue"], trigger["sources"]) == (NAME, ["queue"])
    text = json.dumps({"trigger": trigger["uid"], "payload": {"order": 7}})
    await senders.queue().send(base64.b64encode(text.encode()).decode())
    found = await _fired(api, trigger)
    turn = await api.until(found["last_session_id"], found["last_turn_id"])
    assert turn["status"] == "completed"
    assert list((await api.answers(found["last_session_id"], found["last_turn_id"])).values()) == ["done"]
    await senders.emptied()
    assert await senders.poison() == []


async def test_a_hundred_messages_at_once_with_one_id_begin_one_turn(api: Api, senders: Senders) -> None:
    trigger = await _trigger(api)
    await asyncio.gather(
        *(senders.send(trigger=trigger["uid"], payload={"order": 7}, id="order-7") for _ in range(100))
    )
    found = await _fired(api, trigger)
    await senders.emptied()
    turns = (await api.get(f"/api/v1/sessions/{found['last_session_id']}/turns")).json()["items"]
    assert [turn["id"] for turn in turns] == [found["last_turn_id"]]
    assert await _sessions(api, trigger) == [found["last_session_id"]]
    assert await senders.poison() == []
    await api.until(found["last_session_id"], found["last_turn_id"])


async def test_what_can_never_work_is_in_the_poison_queue_or_told_by_its_trigger(api: Api, senders: Senders) -> None:
    paused = await _trigger(api, paused=True)
    closed = await _trigger(api, sources=["webhook"])
    hopeless = [
        "hello",
        json.dumps({"trigger": str(uuid4())}),
        json.dumps({"trigger": closed["uid"], "payload": 7}),
        json.dumps({"trigger": paused["uid"], "DequeueCount": 1}),
    ]
    for text in hopeless:
        await senders.queue().send(text)
    await senders.send(trigger=paused["uid"])
    await senders.emptied()
    assert sorted(await senders.poison()) == sorted(hopeless), "as they were sent, and the paused one's is dropped"

    found = (await api.get(f"/api/v1/triggers/{paused['id']}")).json()
    assert (found["last_fired_at"], found["last_refusal"]) == (None, "The trigger is paused.")
    assert (await api.get(f"/api/v1/triggers/{closed['id']}")).json()["last_refused_at"] is None
    assert await _sessions(api, paused) == []


@pytest.mark.parametrize("crash", [{"DEVHOST_CRASH_BEFORE_COMMIT": "1"}, {"DEVHOST_CRASH_AFTER_COMMIT": "1"}])
async def test_killed_with_a_message_in_hand_there_is_one_turn(
    queue_host: AppHost, api: Api, senders: Senders, crash: dict[str, str]
) -> None:
    """The host is down when the message comes; the next one dies at its first commit, then one lives."""
    trigger = await _trigger(api)
    queue_host.kill()
    await senders.send(trigger=trigger["uid"], payload={"order": 7})
    try:
        queue_host.start(**crash)
        queue_host.wait()
    except (HostDied, httpx.TransportError):
        pass
    queue_host.start()
    found = await _fired(api, trigger)
    await senders.emptied()
    await sweep(queue_host)
    assert (await api.until(found["last_session_id"], found["last_turn_id"]))["status"] == "completed"
    assert await _sessions(api, trigger) == [found["last_session_id"]]
    assert [message["role"] for message in await api.messages(found["last_session_id"])] == ["user", "assistant"]
    assert await senders.poison() == []
