"""What a tool does to its call, and to nothing else: errors of every kind, no end, a blocked thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from parley.tools import ToolContext, ToolFailed, ToolOutput, tool
from shared.errors import ErrorCode, Transient
from shared.sessions.tools.base import Tool, validate_arguments
from shared.sessions.tools.running.loop_watch import LoopBlocked, LoopWatch
from shared.sessions.tools.running.runner import run_tool
from shared.sessions.tools.running.threads import ToolThreads
from shared.sessions.tools.services import ToolServices

pytestmark = pytest.mark.timeout(30)


class Raises(BaseException):
    pass


def declared(function: Callable[..., Any]) -> Tool:
    """The function as a tool, async or not."""
    function.__doc__ = "Do it."
    return tool(function)


def both(sync: Callable[..., Any]) -> list[Tool]:
    async def as_async(call: ToolContext) -> Any:
        return sync(call)

    def as_sync(call: ToolContext) -> Any:
        return sync(call)

    return [declared(as_async), declared(as_sync)]


async def run(
    which: Tool, call: ToolContext, timeout_s: float = 20, grace_s: float = 20, **arguments: Any
) -> ToolOutput:
    parsed = validate_arguments(which, arguments)
    return await run_tool(which, parsed, call, timeout_s=timeout_s, grace_s=grace_s)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What blocked threads wait for; open at the end."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("s"),
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        StopIteration(1),
        StopAsyncIteration(),
        GeneratorExit(),
        TimeoutError(),
        MemoryError(),
        RecursionError(),
        ExceptionGroup("several", [ValueError("a"), OSError("b")]),
        BaseExceptionGroup("several", [KeyboardInterrupt()]),
        Raises(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_tool_raises_ends_its_call_and_nothing_else(
    error: BaseException, call: ToolContext, caplog: pytest.LogCaptureFixture
) -> None:
    def act(_: ToolContext) -> None:
        raise error

    for which in both(act):
        caplog.clear()
        with pytest.raises(ToolFailed) as caught:
            await run(which, call)
        assert (caught.value.code, caught.value.safe_message) == (
            ErrorCode.TOOL_EXECUTION_FAILED,
            "The tool failed unexpectedly.",
        )
        (line,) = caplog.records
        assert line.exc_info is not None
        assert line.exc_info[0] is not None
        assert "call-1" in line.getMessage()


async def test_a_tools_own_words_reach_the_model_and_are_bounded(call: ToolContext) -> None:
    def act(_: ToolContext) -> None:
        raise ToolFailed("No such order. " + "x" * 100_000, code=ErrorCode.TOOL_TIMEOUT)

    for which in both(act):
        with pytest.raises(ToolFailed, match="No such order") as caught:
            await run(which, call)
        assert (caught.value.code, len(caught.value.safe_message)) == (ErrorCode.TOOL_TIMEOUT, 2_000)


async def test_what_is_not_json_fails_the_call(call: ToolContext, caplog: pytest.LogCaptureFixture) -> None:
    for which in both(lambda _: object()):
        with pytest.raises(ToolFailed, match="unexpectedly"):
            await run(which, call)
    assert "which is not JSON" in caplog.text


async def test_a_tool_that_takes_too_long_is_told_to_end_and_fails_as_timed_out(call: ToolContext) -> None:
    cleaned = asyncio.Event()

    async def sleeps() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with pytest.raises(ToolFailed, match=r"did not finish within 0\.01 seconds") as caught:
        await run(declared(sleeps), call, timeout_s=0.01)

    assert caught.value.code is ErrorCode.TOOL_TIMEOUT
    assert cleaned.is_set()


async def test_a_result_in_spite_of_the_end_of_its_time_counts(call: ToolContext) -> None:
    async def saves() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        return "never"

    assert (await run(declared(saves), call, timeout_s=0.01)).content == "half of it"


async def test_an_async_tool_that_does_not_let_itself_be_cancelled_is_left_behind(
    call: ToolContext, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()

    async def stubborn() -> None:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(ToolFailed) as caught:
        await run(declared(stubborn), call, timeout_s=0.01, grace_s=0.01)

    assert caught.value.code is ErrorCode.TOOL_TIMEOUT
    assert "the tool stubborn goes on although its call call-1 was cancelled" in caplog.text
    go.set()


async def test_a_cancelled_call_cancels_its_tool_and_stays_cancelled(call: ToolContext) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def sleeps() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = asyncio.create_task(run(declared(sleeps), call))
    await begun.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
    assert call.cancelled


async def test_a_sync_tool_sees_that_nobody_waits_for_it_any_more(call: ToolContext, gate: threading.Event) -> None:
    saw: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def works(call: ToolContext) -> None:
        while not call.cancelled:
            gate.wait(0.001)
        loop.call_soon_threadsafe(saw.set_result, True)

    with pytest.raises(ToolFailed):
        await run(declared(works), call, timeout_s=0.01)

    assert await saw


class TestABlockedLoop:
    """The tests' loop runs in the main thread, as a worker's does."""

    @staticmethod
    async def run(which: Tool, call: ToolContext, **options: Any) -> ToolOutput:
        watch = LoopWatch(limit_s=0.03, poll_s=0.01)
        return await run_tool(which, validate_arguments(which, {}), call, timeout_s=3_600, watch=watch, **options)

    async def test_an_async_tool_that_blocks_it_is_interrupted_and_named(
        self, call: ToolContext, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def sleeps() -> None:
            time.sleep(3_600)  # noqa: ASYNC251  # the point of the test

        with pytest.raises(ToolFailed, match="blocked the process and was interrupted") as caught:
            await self.run(declared(sleeps), call)

        assert caught.value.code is ErrorCode.TOOL_TIMEOUT
        (line,) = [line.getMessage() for line in caplog.records if "has been blocked" in line.getMessage()]
        assert "time.sleep(3_600)" in line

    async def test_one_that_catches_everything_is_interrupted_again_and_again(self, call: ToolContext) -> None:
        caught: list[BaseException] = []

        async def spins() -> None:
            while len(caught) < 3:
                try:
                    while True:
                        pass
                except BaseException as exc:
                    caught.append(exc)
            raise caught[0]

        with pytest.raises(ToolFailed, match="was interrupted"):
            await self.run(declared(spins), call)
        assert [type(each) for each in caught] == [LoopBlocked] * 3

    async def test_what_blocks_beside_a_tool_is_not_interrupted(self, call: ToolContext) -> None:
        go = asyncio.Event()

        async def waits() -> str:
            await go.wait()
            return "done"

        running = asyncio.create_task(self.run(declared(waits), call))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  # the point of the test
        go.set()

        assert (await running).content == "done"


class TestBlockedThreads:
    @pytest.fixture
    def threads(self) -> ToolThreads:
        return ToolThreads(2, 2, told_after_s=0)

    @pytest.fixture
    def busy(self, call: ToolContext, threads: ToolThreads) -> ToolContext:
        return replace(call, services=ToolServices(threads=threads))

    @staticmethod
    def blocks(gate: threading.Event) -> Tool:
        def lookup() -> None:
            gate.wait()

        return declared(lookup)

    async def test_their_calls_time_out_and_when_all_are_blocked_the_next_fails_at_once_and_names_the_tool(
        self, busy: ToolContext, threads: ToolThreads, gate: threading.Event, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for _ in range(2):
            with pytest.raises(ToolFailed) as late:
                await run(self.blocks(gate), busy, timeout_s=0.01)
            assert late.value.code is ErrorCode.TOOL_TIMEOUT
        await asyncio.sleep(0.01)

        with pytest.raises(ToolFailed, match=r"did not run: all threads for tools are held .*: lookup \(2\)"):
            await run(self.blocks(gate), busy)
        assert threads.blocked == 2
        told = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
        assert len(told) == 2  # each once
        assert "the tool lookup does not end although its call is over" in told[0]
        with pytest.raises(Transient, match="2 of 2 threads for tools are blocked"):
            await threads.check()

        gate.set()
        await until(lambda: threads.blocked == 0)
        assert (await run(declared(lambda_named()), busy)).content == "ran"
        await threads.check()

    async def test_one_user_cannot_block_the_threads_of_all(self, call: ToolContext, gate: threading.Event) -> None:
        threads = ToolThreads(3, 2)
        mine = replace(call, services=ToolServices(threads=threads))
        for _ in range(2):
            with pytest.raises(ToolFailed, match="did not finish"):
                await run(self.blocks(gate), mine, timeout_s=0.01)

        with pytest.raises(ToolFailed, match="all threads for tools are held"):
            await run(self.blocks(gate), mine)
        assert (await run(declared(lambda_named()), replace(mine, user_id="bob"))).content == "ran"

    async def test_a_call_that_waited_for_a_thread_in_vain_is_told_that_it_did_not_run(
        self, busy: ToolContext, gate: threading.Event
    ) -> None:
        running = [asyncio.create_task(run(self.blocks(gate), busy)) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        with pytest.raises(ToolFailed, match="did not run: no thread was free within"):
            await run(declared(lambda_named()), busy, timeout_s=0.01)

        gate.set()
        await asyncio.gather(*running)

    async def test_a_thread_that_raises_whatever_it_likes_is_free_again(
        self, busy: ToolContext, threads: ToolThreads
    ) -> None:
        for error in (SystemExit(), asyncio.CancelledError(), StopIteration(), ValueError()):

            def act(_: ToolContext, error: BaseException = error) -> None:
                raise error

            for _ in range(3):  # more than there are threads
                with pytest.raises(ToolFailed, match="unexpectedly"):
                    await run(both(act)[1], busy)
        assert threads.blocked == 0

    async def test_the_process_does_not_wait_for_them(self) -> None:
        code = (
            "import asyncio, threading\n"
            "from shared.sessions.tools.running.threads import ToolThreads\n"
            "async def main():\n"
            "    threads = ToolThreads(1, 1)\n"
            "    try:\n"
            "        async with asyncio.timeout(0.05):\n"
            "            await threads.run('t', 'u', threading.Event().wait)\n"
            "    except TimeoutError: print('late')\n"
            "asyncio.run(main())\n"
        )
        import sys

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode, out.strip()) == (0, b"late"), err


def lambda_named() -> Callable[[], str]:
    def quick() -> str:
        return "ran"

    return quick


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # a thread brings it about
            await asyncio.sleep(0.001)
