"""OpenStreams without servers: whose streams may be open, how many, and that none is counted for longer than it is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import pytest

from shared.errors import BudgetExceeded, ErrorCode, Transient
from shared.sessions.live.open_streams import UNCHECKED_S, OpenStream, OpenStreams, Viewer

ANN = Viewer("s1", "ann", "s1.1")
ANN_ELSEWHERE = Viewer("s2", "ann", "s2.1")
BEN = Viewer("s1", "ben", "s1.1")
LONGEST_S = 480.0


class Rights:
    """Who may read what; `now` is the clock of the streams."""

    def __init__(self) -> None:
        self.now = 0.0
        self.readable = {ANN, ANN_ELSEWHERE, BEN}
        self.failure: Exception | None = None
        self.looks: list[set[Viewer]] = []

    async def __call__(self, viewers: Collection[Viewer]) -> set[Viewer]:
        self.looks.append(set(viewers))
        if self.failure is not None:
            raise self.failure
        return self.readable & set(viewers)


@pytest.fixture
def rights() -> Rights:
    return Rights()


@pytest.fixture
def streams(rights: Rights) -> OpenStreams:
    return OpenStreams(rights, per_user=2, longest_s=LONGEST_S, check_s=600, clock=lambda: rights.now)


async def _until_ended(stream: OpenStream) -> AsyncGenerator[bytes]:
    yield b"begun"
    await stream.ended


async def _brief(stream: OpenStream) -> AsyncGenerator[bytes]:
    yield b"all"


async def _broken(stream: OpenStream) -> AsyncGenerator[bytes]:
    yield b"some"
    raise LookupError("lost")


async def test_a_user_has_so_many_streams_open_and_no_more(streams: OpenStreams) -> None:
    kept = [streams.open(viewer, _until_ended) for viewer in (ANN, ANN_ELSEWHERE, BEN)]

    with pytest.raises(BudgetExceeded) as refused:
        streams.open(ANN, _until_ended)

    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert refused.value.retry_after_s
    assert [streams.count(user) for user in ("ann", "ben", "eve")] == [2, 1, 0]
    await kept[0].aclose()
    assert streams.count("ann") == 1
    streams.open(ANN, _until_ended)


async def test_without_a_limit_nothing_is_refused(rights: Rights) -> None:
    streams = OpenStreams(rights, per_user=None, longest_s=LONGEST_S, check_s=600)
    kept = [streams.open(ANN, _until_ended) for _ in range(500)]
    assert streams.count("ann") == len(kept)


async def test_a_stream_counts_until_it_is_over_however_that_happens(streams: OpenStreams) -> None:
    assert [chunk async for chunk in streams.open(ANN, _brief)] == [b"all"]
    assert streams.count("ann") == 0

    with pytest.raises(LookupError):
        _ = [chunk async for chunk in streams.open(ANN, _broken)]
    assert streams.count("ann") == 0

    cancelled = streams.open(ANN, _until_ended)
    await anext(cancelled)
    reading = asyncio.ensure_future(anext(cancelled))
    await asyncio.sleep(0)
    assert streams.count("ann") == 1
    reading.cancel()
    await asyncio.wait({reading})
    assert streams.count("ann") == 0

    async with aclosing(streams.open(ANN, _until_ended)) as closed:
        await anext(closed)
    assert streams.count("ann") == 0


async def test_a_stream_that_nobody_reads_or_holds_any_more_does_not_count(streams: OpenStreams) -> None:
    """A client that leaves before the answer begins, or while something is sent to it, says no word to the stream."""
    streams.open(ANN, _until_ended)
    begun = streams.open(ANN, _until_ended)
    await anext(begun)
    del begun
    gc.collect()
    assert streams.count("ann") == 0


async def test_a_stream_that_must_be_over_does_not_keep_others_out(streams: OpenStreams, rights: Rights) -> None:
    held = [streams.open(ANN, _until_ended), streams.open(ANN, _until_ended)]
    rights.now = LONGEST_S + UNCHECKED_S + 1
    again = streams.open(ANN, _until_ended)
    assert streams.count("ann") == 1
    del held
    gc.collect()
    assert streams.count("ann") == 1
    await again.aclose()


async def test_streams_end_with_the_right_to_read_and_others_go_on(streams: OpenStreams, rights: Rights) -> None:
    mine, elsewhere, bens = (streams.open(viewer, _until_ended) for viewer in (ANN, ANN_ELSEWHERE, BEN))
    for body in (mine, elsewhere, bens):
        await anext(body)
    rights.readable.remove(ANN)
    await streams.check()

    assert [chunk async for chunk in mine] == []
    assert [streams.count(user) for user in ("ann", "ben")] == [1, 1]
    assert rights.looks == [{ANN, ANN_ELSEWHERE, BEN}], "one look for all"
    await streams.check()
    assert rights.looks[1:] == [{ANN_ELSEWHERE, BEN}]


@pytest.mark.parametrize("failure", [Transient(ErrorCode.DATABASE_ERROR, "away"), TimeoutError(), LookupError("a bug")])
async def test_rights_that_nobody_can_look_up_end_after_a_while(
    streams: OpenStreams, rights: Rights, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    body = streams.open(ANN, _until_ended)
    await anext(body)
    rights.failure = failure
    rights.now = UNCHECKED_S - 1
    await streams.check()
    waiting = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    assert not waiting.done(), "a database that is away for a moment ends nothing"

    rights.failure = None
    await streams.check()
    rights.failure = failure
    rights.now += UNCHECKED_S - 1
    await streams.check()
    await asyncio.sleep(0)
    assert not waiting.done()

    rights.now += 1
    await streams.check()
    with pytest.raises(StopAsyncIteration):
        await waiting
    told = [record.levelname for record in caplog.records if "cannot be looked up" in record.message]
    assert told == ["WARNING"] * 2, "once for each time that it began to fail"


async def test_it_looks_by_itself_while_something_is_open_and_only_then(rights: Rights) -> None:
    streams = OpenStreams(rights, per_user=None, longest_s=LONGEST_S, check_s=0)
    for _ in range(2):
        body = streams.open(ANN, _until_ended)
        await anext(body)
        rights.readable.discard(ANN)
        assert [chunk async for chunk in body] == []
        looks = len(rights.looks)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(rights.looks) == looks
        rights.readable.add(ANN)
