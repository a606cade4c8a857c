"""Queue triggers on a real queue service: what a message lives through, as with the real host."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pytest

from devhost.queues.extension import LEASE_SETTING
from devhost.queues.service import QueueService
from tests.devhost.queues.conftest import Start, emptied, taken


async def test_a_message_is_run_once_with_what_is_known_of_it_and_is_gone(
    queue_app: Start, service: QueueService, storage_url: str, unique_name: str
) -> None:
    async with queue_app() as app:
        await app.orders.send("hello <&> ✓")
        (call,) = await app.called(1)
        assert (call["body"], call["dequeue_count"]) == ("hello <&> ✓", 1)
        assert call["id"]
        assert call["pop_receipt"]
        inserted, expires, visible = (datetime.fromisoformat(call[name]) for name in ("inserted", "expires", "visible"))
        assert inserted < visible < expires
        await emptied(service, storage_url, unique_name)
    assert len(app.calls()) == 1


async def test_a_message_that_fails_comes_again_and_then_goes_to_the_poison_queue(
    queue_app: Start, service: QueueService, storage_url: str, unique_name: str
) -> None:
    async with queue_app(maxDequeueCount=3) as app:
        await app.orders.send("fails")
        assert (await taken(app.poison)).text == "fails"
        await emptied(service, storage_url, unique_name)
        assert [call["dequeue_count"] for call in app.calls()] == [1, 2, 3]
        assert len({call["id"] for call in app.calls()}) == 1


async def test_a_message_in_the_hand_of_a_worker_that_dies_comes_again(queue_app: Start) -> None:
    async with queue_app() as app:
        await app.orders.send("dies")
        assert [call["dequeue_count"] for call in await app.called(2)] == [1, 2]


async def test_a_message_in_hand_when_the_host_stops_is_given_back(queue_app: Start) -> None:
    async with queue_app() as app:
        await app.orders.send("waits")
        await app.called(1)
    async with queue_app() as app:
        app.go()
        assert [call["dequeue_count"] for call in await app.called(2)] == [1, 2]


async def test_nobody_else_gets_a_message_while_its_function_runs(
    queue_app: Start, service: QueueService, storage_url: str, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEASE_SETTING, "1")
    async with queue_app() as app:
        await app.orders.send("waits")
        (call,) = await app.called(1)
        # Received for one second, it is invisible two seconds later, and so it was renewed.
        later = datetime.fromisoformat(call["visible"]) + timedelta(seconds=1)
        while datetime.now(UTC) < later:
            assert await app.orders.receive(1, invisible_s=1) == []
            await asyncio.sleep(0.1)
        app.go()
        await emptied(service, storage_url, unique_name)
    assert len(app.calls()) == 1


async def test_what_the_function_sets_is_sent_to_a_queue_that_is_made(queue_app: Start) -> None:
    async with queue_app() as app:
        await app.orders.send("tells it's done")
        assert (await taken(app.after)).text == "it's done"


async def test_base64_is_decoded_and_what_is_none_is_poison_at_once(queue_app: Start) -> None:
    async with queue_app(messageEncoding="base64") as app:
        await app.orders.send("not base64!")
        assert (await taken(app.poison)).text == "not base64!"
        await app.orders.send(base64.b64encode(b"tells hello").decode())
        assert base64.b64decode((await taken(app.after)).text) == b"hello"
        assert [call["body"] for call in app.calls()] == ["tells hello"]


async def test_fields_of_a_json_body_win_over_the_messages_own_as_in_azure(queue_app: Start) -> None:
    async with queue_app(maxDequeueCount=1) as app:
        await app.orders.send('{"id": 7, "list": [1]}')
        assert (await app.called(1))[0]["id"] == "7"
        # The worker's library wants a number there.
        await app.orders.send('{"DequeueCount": "many"}')
        assert (await taken(app.poison)).text == '{"DequeueCount": "many"}'


async def test_no_more_are_in_hand_than_a_batch_and_the_threshold(queue_app: Start) -> None:
    async with queue_app(batchSize=2, newBatchThreshold=1) as app:
        for number in range(6):
            await app.orders.send(f"waits {number}")
        await app.called(2)
        # One batch is in hand, which is more than the threshold, so that nothing else was asked for.
        left = await app.orders.receive(32, invisible_s=1)
        assert len(left) == 4
        assert len(app.calls()) == 2
        app.go()
        assert len({call["body"] for call in await app.called(6)}) == 6
