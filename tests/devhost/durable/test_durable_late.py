"""Messages that a harsh engine delivers late: in the order in which they were sent, to each instance for itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from devhost.durable.late import LateMessages
from devhost.durable.store.records import Message, MessageKind
from devhost.harsh import Harsh

_EACH = 100


def event(seq: int, instance_id: str) -> Message:
    return Message(seq, instance_id, MessageKind.EVENT, "{}")


@pytest.mark.parametrize("seed", range(5))
async def test_those_that_were_sent_later_never_arrive_first(seed: int) -> None:
    """Most wait for one that was sent before them: they are due at the same moment."""
    arrived: dict[str, list[int]] = defaultdict(list)
    everything = asyncio.Event()

    def hand_over(message: Message) -> None:
        arrived[message.instance_id].append(message.seq)
        if sum(map(len, arrived.values())) == 3 * _EACH:
            everything.set()

    late = LateMessages(Harsh(seed, {"late_message": 0.8, "repeated_message": 0.0}, 0.02), hand_over)
    for seq in range(_EACH):
        for instance_id in ("a", "b", "c"):
            late.deliver(event(seq, instance_id))
        if seq % 10 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(everything.wait(), 60)

    assert arrived == {instance_id: list(range(_EACH)) for instance_id in ("a", "b", "c")}


async def test_one_that_comes_twice_keeps_the_order() -> None:
    arrived: list[int] = []
    late = LateMessages(Harsh(1, {"late_message": 0.0, "repeated_message": 1.0}, 0.02), lambda m: arrived.append(m.seq))
    late.deliver(event(1, "a"))
    late.deliver(event(2, "a"))

    assert arrived == [1, 1, 2, 2]


async def test_nothing_arrives_once_it_is_closed() -> None:
    arrived: list[int] = []
    late = LateMessages(
        Harsh(1, {"late_message": 1.0, "repeated_message": 0.0}, 0.001), lambda m: arrived.append(m.seq)
    )
    for seq in range(10):
        late.deliver(event(seq, "a"))
    late.close()
    await asyncio.sleep(0.05)

    assert arrived == []
