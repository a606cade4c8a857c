"""The progress of a call: few events, the newest wins, none after the end, and no failure of its own."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from shared.errors import ErrorCode, Transient
from shared.sessions.events import Event, EventTarget, SessionEventPublisher
from shared.sessions.live.progress import MAX_TEXT_CHARS, ProgressWriter
from shared.sessions.live.realtime import DeliveryFailed

pytestmark = pytest.mark.timeout(30)


class Publisher(SessionEventPublisher):
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.is_heard = True

    async def publish(self, target: EventTarget, events: Sequence[Event], **_: Any) -> list[bytes]:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.events.extend(events)
        return [orjson.dumps(event.data) for event in events] if self.is_heard else []


class Sender:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.calls = 0

    async def send(self, messages: Sequence[bytes]) -> None:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.sent.extend(orjson.loads(message) for message in messages)


CALL = {"id": "call-1", "message_id": "message-1", "name": "reads"}


def writer(publisher: Publisher, sender: Sender, interval_s: float = 3_600, **options: Any) -> ProgressWriter:
    return ProgressWriter(
        publisher,
        sender,
        EventTarget("s", 0, 1),
        turn_id="turn-1",
        message_id="message-1",
        tool_call=CALL,
        interval_s=interval_s,
        **options,
    )


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def test_what_is_told_first_leaves_at_once_as_an_event_of_the_turn(publisher: Publisher, sender: Sender) -> None:
    progress = writer(publisher, sender)
    progress.tell("3 of 10 read", 0.3)
    await settle()

    assert sender.sent == [{"tool_call": CALL, "text": "3 of 10 read", "fraction": 0.3}]
    (event,) = publisher.events
    assert (event.type, event.turn_id, event.message_id) == ("tool_call.progress", "turn-1", "message-1")
    await progress.close()


async def test_within_the_interval_the_last_word_wins(publisher: Publisher, sender: Sender) -> None:
    progress = writer(publisher, sender, interval_s=0)
    for n in range(1_000):
        progress.tell(f"{n}", None)
    await settle()
    progress.tell("more", None)
    await settle()

    assert [told["text"] for told in sender.sent] == ["999", "more"]
    await progress.close()


async def test_a_thread_that_tells_in_a_narrow_loop_wakes_the_loop_once(
    publisher: Publisher, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = writer(publisher, sender)
    loop = asyncio.get_running_loop()
    wakes: list[Any] = []
    wake = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *each, **more: wakes.append(each) or wake(*each, **more))

    thread = threading.Thread(target=lambda: [progress.tell(str(n), None) for n in range(10_000)])
    thread.start()
    thread.join()
    assert len(wakes) == 1
    await settle()

    assert [told["text"] for told in sender.sent] == ["9999"]
    await progress.close()


async def test_nothing_is_told_after_the_end(publisher: Publisher, sender: Sender) -> None:
    progress = writer(publisher, sender)
    progress.tell("first", None)
    await settle()
    progress.tell("second", None)
    await progress.close()
    progress.tell("third", None)
    await settle()

    assert [told["text"] for told in sender.sent] == ["first"]


async def test_what_is_on_its_way_at_the_end_is_numbered_before_it(publisher: Publisher, sender: Sender) -> None:
    progress = writer(publisher, sender)
    progress.tell("first", None)
    await asyncio.sleep(0)  # woken; it is being numbered
    await asyncio.sleep(0)
    await progress.close()

    assert [event.data["text"] for event in publisher.events] == ["first"]
    await settle()
    assert [told["text"] for told in sender.sent] == ["first"]


async def test_a_delivery_that_hangs_gathers_what_is_told_and_holds_up_no_call(
    publisher: Publisher, sender: Sender
) -> None:
    sender.gate = asyncio.Event()
    progress = writer(publisher, sender, interval_s=0)
    for text in ("first", "second", "third"):
        progress.tell(text, None)
        await settle()
    assert [event.data["text"] for event in publisher.events] == ["first"]
    await progress.close()

    sender.gate.set()
    await settle()
    assert [told["text"] for told in sender.sent] == ["first"]


async def test_where_nobody_listens_nothing_is_sent(publisher: Publisher, sender: Sender) -> None:
    publisher.is_heard = False
    progress = writer(publisher, sender)
    progress.tell("first", None)
    await settle()
    await progress.close()

    assert (len(publisher.events), sender.calls) == (1, 0)


@pytest.mark.parametrize(
    ("fraction", "told"),
    [(None, None), (math.nan, None), (math.inf, 1), (-1, 0), (2, 1), (1 / 3, 0.3333), (True, 1)],
)
async def test_a_fraction_is_between_0_and_1(
    publisher: Publisher, sender: Sender, fraction: float | None, told: float | None
) -> None:
    progress = writer(publisher, sender)
    progress.tell("x", fraction)
    await settle()

    assert sender.sent[0]["fraction"] == told
    await progress.close()


async def test_text_is_bounded_storable_and_masked(publisher: Publisher, sender: Sender) -> None:
    progress = writer(publisher, sender, shown=lambda text: text.replace("s3cret", "***"))
    progress.tell("s3cret\0\ud800" + "x" * 1_000_000, None)
    await settle()

    (told,) = sender.sent
    assert told["text"].startswith("***\ufffd?xxx")
    assert len(told["text"]) == MAX_TEXT_CHARS
    await progress.close()


@pytest.mark.parametrize("where", ["publisher", "sender"])
async def test_progress_that_cannot_be_told_fails_nothing(publisher: Publisher, sender: Sender, where: str) -> None:
    if where == "publisher":
        publisher.error = Transient(ErrorCode.DATABASE_ERROR, "away")
    else:
        sender.error = DeliveryFailed("away")
    progress = writer(publisher, sender, interval_s=0)
    progress.tell("first", None)
    await settle()
    publisher.error = sender.error = None
    progress.tell("second", None)
    await settle()
    await progress.close()

    assert [told["text"] for told in sender.sent] == ["second"]
