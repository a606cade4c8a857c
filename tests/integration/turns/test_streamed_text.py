"""What readers saw of an answer is what is stored of it, however its turn ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import orjson
import pytest

from shared.ids import new_id
from shared.sessions.events import EventLogUnavailable
from shared.sessions.models import MessageStatus, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.turns.retry import MAX_LOG_TRIES
from tests.integration.bench import Bench
from tests.integration.domain import OWNER, Stores, script, until, utc_now

pytestmark = pytest.mark.integration

WORDS = "one two three four five six seven eight nine ten "


async def _told(bench: Bench, feed: str, message_id: str) -> str:
    """The texts of the last attempt, as a reader of the log adds them up."""
    text = ""
    for _, body in (await bench.publisher._log.read(feed, 0, 10_000)).items:
        event: dict[str, Any] = orjson.loads(b"{" + body)
        frame = event["data"].get("frame", {})
        if event.get("message_id") != message_id:
            continue
        if frame.get("type") == "message_start":
            text = ""
        elif frame.get("type") == "content_delta":
            text += frame["text"]
    return text


async def _until_sent(bench: Bench) -> None:
    """A process that is killed sends nothing more; a task of this one leaves its last batch to be sent."""

    async def is_sent() -> bool:
        return bench.publisher._log._batcher._task is None

    await until(is_sent)


async def _until_said(bench: Bench, posted: PostedMessage, run: asyncio.Task[Any], attempt: int, deltas: int) -> None:
    """Wait until an attempt has begun and so many more deltas were told, or the run is over."""
    before = bench.names.count("content_delta")

    async def is_said() -> bool:
        begun = await bench.stores.rows(
            b"SELECT 1 FROM messages WHERE turn_id = %(turn)s AND role = 'assistant' AND attempt >= %(attempt)s",
            turn=posted.turn.id,
            attempt=attempt,
        )
        return run.done() or (bool(begun) and bench.names.count("content_delta") >= before + deltas)

    await until(is_said)


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_streamed_last_is_stored_whatever_breaks_and_whenever_it_is_cancelled(
    bench: Bench, stores: Stores, seed: int
) -> None:
    """Random walks over: the model breaks off, the process is killed, the user cancels in mid-answer or in a pause."""
    dice = random.Random(seed)  # a test's dice
    attempts = dice.randint(1, 3)
    breaks = [{"cut_after": dice.randint(1, 9)} if dice.random() < 0.6 else {} for _ in range(attempts)]
    posted = await stores.turn(script(key=new_id(), content=WORDS, token_ms=15, fail=breaks))
    session_id, turn_id = posted.turn.session_id, posted.turn.id
    is_cancelled = False
    for number, broken in enumerate(breaks):
        run = asyncio.create_task(bench.run(posted, tries=number + 1))
        act = dice.choice(["cancel", "kill", "wait"])
        if act != "wait":
            await _until_said(bench, posted, run, number + 1, dice.randint(0, 9))
        if act == "kill":
            run.cancel()
        elif act == "cancel":
            await stores.turns.cancel(session_id, turn_id, OWNER, now=utc_now())
            is_cancelled = True
        with contextlib.suppress(asyncio.CancelledError):
            report = await run
            if report.outcome is StepOutcome.FINAL:
                break
        await _until_sent(bench)
        if is_cancelled or not broken:
            break
    if not is_cancelled:
        await stores.turns.cancel(session_id, turn_id, OWNER, now=utc_now())
    open_answer = await stores.turns.open_answer(turn_id)

    await bench.service.finish_turn(turn_id, status=TurnStatus.CANCELLED, error=None)

    answer = await bench.answer(posted)
    feed = open_answer.feed if open_answer else posted.target.feed
    assert answer.content == await _told(bench, feed, answer.id)
    assert answer.status is not MessageStatus.STREAMING
    assert await stores.turns.open_answer(turn_id) is None


async def test_a_cancel_in_a_pause_between_tries_keeps_what_was_streamed(bench: Bench, stores: Stores) -> None:
    posted = await stores.turn(script(key=new_id(), content=WORDS, fail=[{"cut_after": 6}]))
    report = await bench.run(posted)
    assert report.outcome is StepOutcome.RETRY
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    report = await bench.run(posted, tries=2)
    assert report.outcome is StepOutcome.CANCELLED

    await bench.finish(posted, report)

    answer = await bench.answer(posted)
    assert answer.content
    assert WORDS.startswith(answer.content)
    [row] = await stores.rows(b"SELECT tokens, sources FROM messages WHERE id = %(id)s", id=answer.id)
    assert row["tokens"] > 0
    assert row["sources"], "what its model had read is not known, so it counts as read"


async def test_what_a_killed_process_said_is_stored_once_the_log_is_back(
    bench: Bench, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = await stores.turn(script(key=new_id(), content=WORDS * 50, token_ms=15))
    run = asyncio.create_task(bench.run(posted))
    await _until_said(bench, posted, run, 1, 3)
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    async def away(*_: object) -> None:
        raise EventLogUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.publisher._log, "read_back", away)
        with pytest.raises(EventLogUnavailable):
            await bench.service.finish_turn(posted.turn.id, status=TurnStatus.CANCELLED, error=None)
    await bench.service.finish_turn(posted.turn.id, status=TurnStatus.CANCELLED, error=None, tries=1)

    answer = await bench.answer(posted)
    assert answer.content
    assert answer.content == await _told(bench, posted.target.feed, answer.id)


@pytest.mark.parametrize(("fail", "said"), [({"cut_after": 6}, True), ({"error_after": 0}, False)])
async def test_without_the_log_an_answer_is_closed_with_what_its_last_try_left(
    bench: Bench, stores: Stores, monkeypatch: pytest.MonkeyPatch, fail: dict[str, int], said: bool
) -> None:
    """A try that said nothing replaces one that did, as a reader sees it."""
    fails = [{"cut_after": 6}] if said else [{"cut_after": 6}, fail]
    posted = await stores.turn(script(key=new_id(), content=WORDS, reasoning="Because.", fail=fails))
    for tries in range(1, len(fails) + 1):
        assert (await bench.run(posted, tries=tries)).outcome is StepOutcome.RETRY

    async def away(*_: object) -> None:
        raise EventLogUnavailable("away")

    monkeypatch.setattr(bench.publisher._log, "read_back", away)
    for tries in (0, MAX_LOG_TRIES - 1):
        with pytest.raises(EventLogUnavailable):
            await bench.service.finish_turn(posted.turn.id, status=TurnStatus.CANCELLED, error=None, tries=tries)
    finished, _ = await bench.service.finish_turn(
        posted.turn.id, status=TurnStatus.CANCELLED, error=None, tries=MAX_LOG_TRIES
    )
    assert finished.closed_now
    answer = await bench.answer(posted)
    assert WORDS.startswith(answer.content)
    assert (bool(answer.content), bool(answer.reasoning)) == (said, said)
