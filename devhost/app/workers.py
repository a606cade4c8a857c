"""The app's worker processes: started, fed, watched, replaced.

As in Azure, a worker that ends takes its invocations with it: they fail with the same text and are not run again by
the host, which starts a new worker and goes on. Requests and invocations that come in between wait for it.

A worker that is renewed, since the app's files have changed, ends in order: its successor takes over when it has loaded
the app, and the old one has `DRAIN_S` to finish what it has in hand. A successor that cannot load the app changes
nothing.

Source: azure-functions-host, `GrpcWorkerChannel.TryFailExecutions` and `RpcFunctionInvocationDispatcher`.

Invariant: a worker serves one app for the life of its process, and never outlives this one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devhost.app import processes
from devhost.app.processes import WorkerProcess
from devhost.extensions.contract import FunctionFailed, HostError
from devhost.logs import worker_levels, write_record
from devhost.worker.frames import Channel, Decoder, Frame

logger = logging.getLogger("devhost.host")

PROCESSES_SETTING = "FUNCTIONS_WORKER_PROCESS_COUNT"
MOST_PROCESSES = 10
"""Azure's upper limit."""
DRAIN_S = 30.0
"""An answer that is being streamed usually ends in this time. What does not is cut, as when a host stops."""
_RENEWED = "the worker has ended: the app was loaded anew"
_STOP_LIMIT_S = 4.0
_RETRY_S = (0.0, 1.0, 2.0, 5.0, 10.0)
"""Pauses before the next worker when the last ones ended before they were ready."""


def process_count(settings: Mapping[str, str]) -> int:
    """`FUNCTIONS_WORKER_PROCESS_COUNT`, 1 by default. Raises HostError when it is not from 1 to 10."""
    text = settings.get(PROCESSES_SETTING) or "1"
    if not text.isdigit() or not 1 <= int(text) <= MOST_PROCESSES:
        raise HostError(f"app setting {PROCESSES_SETTING} must be a number from 1 to {MOST_PROCESSES}, not {text!r}")
    return int(text)


@dataclass(frozen=True, slots=True)
class Call:
    """A function that a worker runs. answer: its result and outputs; FunctionFailed when it raised, or when the worker
    ended."""

    number: int
    answer: asyncio.Future[tuple[Any, dict[str, Any]]]


class Worker:
    """One worker process. Made by `Workers`."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.pid = process.pid
        self.port = 0
        """Of its HTTP server; 0 when the app has no streaming HTTP functions."""
        self.is_lost = False
        self.channel: Channel | None = None
        self.indexed: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self.successor: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        """Done when another one has taken its place."""
        self.is_idle = asyncio.Event()
        """It has nothing in hand."""
        self.is_idle.set()
        self.hurry = asyncio.Event()
        """Once it has a successor, it gets no more time."""
        self._calls: dict[int, asyncio.Future[tuple[Any, dict[str, Any]]]] = {}
        self._last = 0

    @property
    def load(self) -> int:
        """Calls that it has in hand."""
        return len(self._calls)

    def begin(self, *fields: Any) -> Call:
        """Have a function run (see `../worker/process.py`). Raises FunctionFailed when the worker has ended."""
        assert self.channel is not None
        self._last += 1
        call = Call(self._last, asyncio.get_running_loop().create_future())
        if self.is_lost:
            raise FunctionFailed("the worker has ended")
        self._calls[call.number] = call.answer
        self.is_idle.clear()
        call.answer.add_done_callback(lambda _: self._ended(call))
        self.channel.send(("call", call.number, *fields))
        return call

    def _ended(self, call: Call) -> None:
        self._calls.pop(call.number, None)
        if not self._calls:
            self.is_idle.set()

    def drop(self, call: Call) -> None:
        """The call's request did not reach the worker: if the call still waits for it, it fails."""
        if self.channel is not None and not call.answer.done():
            self.channel.send(("drop", call.number))

    def on_frame(self, frame: Frame) -> None:
        match frame[0]:
            case "done":
                answer = self._calls.get(frame[1])
                if answer is not None and not answer.done():
                    answer.set_result((frame[2], frame[3]))
            case "failed":
                answer = self._calls.get(frame[1])
                if answer is not None and not answer.done():
                    answer.set_exception(FunctionFailed(frame[2], frame[3]))
            case _:
                if not self.indexed.done():
                    self.indexed.set_result(frame)

    def fail_all(self, text: str) -> int:
        """Fail every call in hand. Returns their number."""
        waiting = [answer for answer in self._calls.values() if not answer.done()]
        for answer in waiting:
            answer.set_exception(FunctionFailed(text))
        return len(waiting)


class Workers:
    """All workers of an app."""

    def __init__(
        self, app_dir: Path, environment: Mapping[str, str], count: int, *, python: Path | None = None
    ) -> None:
        """environment: all of a worker's, the app's settings among them. python: see `HostOptions`."""
        self._app_dir = app_dir
        self._python = python
        self._environment = dict(environment)
        self._count = count
        self._ready: list[Worker] = []
        self._refusal = ""
        """Why the last worker did not become ready."""
        self._waiting: asyncio.Future[None] | None = None
        """Done when a worker is ready or was refused."""
        self._keepers: list[asyncio.Task[None]] = []
        self._renewing = asyncio.Lock()
        self._draining: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._started: set[Worker] = set()

    async def start(self) -> tuple[Sequence[Any], bool]:
        """Start the first worker. Returns what it indexed (see `Indexed`) and whether the app streams.

        Raises HostError when the app cannot be indexed.
        """
        first = await self._begin()
        frame = await self._indexed(first)
        if frame is None:
            raise HostError(f"the worker ended with code {first.process.returncode} before it had loaded the app")
        if frame[0] == "refused":
            raise HostError(frame[1])
        self._serve(first, frame)
        for number in range(self._count):
            keeper = self._keep(first if number == 0 else None)
            self._keepers.append(asyncio.create_task(keeper, name=f"devhost worker {number}"))
        return frame[1], frame[2]

    async def pick(self) -> Worker:
        """The worker with the least in hand; waits while a new one starts.

        Raises FunctionFailed when the last one to start could not load the app.
        """
        while not self._ready:
            if self._refusal:
                raise FunctionFailed(self._refusal)
            self._waiting = self._waiting or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting)
        if len(self._ready) == 1:
            return self._ready[0]
        return min(self._ready, key=lambda worker: worker.load)

    def end(self, worker: Worker, text: str) -> None:
        """Kill a worker; its calls fail with a text. A new one is started."""
        if worker.is_lost:
            return
        lost = self._lose(worker, text)
        logger.error("worker %d is killed and replaced: %s; %d invocations fail", worker.pid, text, lost)
        worker.process.kill()

    async def renew(self) -> None:
        """Load the app anew: each worker gets a successor, and then finishes what it has in hand.

        Workers that still finish after an earlier renewal get no more time, so that changes do not pile up processes.
        Raises HostError when the app cannot be loaded; the workers go on as they are.
        """
        async with self._renewing:
            for worker in self._started:
                worker.hurry.set()
            for worker in list(self._ready):
                worker.hurry.clear()
                successor = await self._load()
                if worker.is_lost:
                    # Its keeper has another one by now, which has loaded the app anew as well.
                    self._started.discard(successor)
                    successor.process.kill()
                    continue
                self._ready.remove(worker)
                worker.successor.set_result(successor)

    async def _drain(self, worker: Worker) -> None:
        """End a worker that gets no more calls, when it has finished those in hand or is given no more time."""
        ended: asyncio.Future[int] = asyncio.ensure_future(worker.process.wait())
        may_end: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(event.wait()) for event in (worker.is_idle, worker.hurry)
        ]
        text = _RENEWED
        try:
            await asyncio.wait([*may_end, ended], timeout=DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
            worker.is_lost = True
            if not ended.done() and worker.channel is not None:
                worker.channel.send(("stop",))
                await asyncio.wait({ended}, timeout=_STOP_LIMIT_S)
            elif ended.done():
                text = _exit_text(ended.result())
        finally:
            for task in (ended, *may_end):
                task.cancel()
            if worker.process.returncode is None:
                worker.process.kill()
            lost = self._lose(worker, text)
            self._started.discard(worker)
            if worker.channel is not None:
                worker.channel.close()
            log = logger.warning if lost else logger.info
            log("worker %d has ended after its successor took over; %d invocations fail", worker.pid, lost)

    async def stop(self) -> None:
        """Let every worker end, and kill those that do not. Idempotent."""
        self._is_stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        workers, self._ready = list(self._started), []
        for worker in workers:
            worker.is_lost = True
            if worker.channel is not None:
                worker.channel.send(("stop",))
        if workers:
            ends = [asyncio.ensure_future(worker.process.wait()) for worker in workers]
            _, late = await asyncio.wait(ends, timeout=_STOP_LIMIT_S)
            for worker in workers:
                if worker.process.returncode is None:
                    worker.process.kill()
            if late:
                await asyncio.wait(late)
        for worker in workers:
            worker.fail_all("the host stops")
            if worker.channel is not None:
                worker.channel.close()
        self._started.clear()

    async def _keep(self, worker: Worker | None) -> None:
        """Have one worker ready, for ever."""
        failures = 0
        while True:
            if worker is None:
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                worker = await self._replace()
                if worker is None:
                    failures += 1
                    continue
                failures = 0
            ended = asyncio.ensure_future(worker.process.wait())
            either: list[asyncio.Future[Any]] = [ended, worker.successor]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    self._bury(worker, ended.result())
                else:
                    task = asyncio.create_task(self._drain(worker), name=f"devhost worker {worker.pid} drains")
                    self._draining.add(task)
                    task.add_done_callback(self._draining.discard)
            finally:
                ended.cancel()
            worker = worker.successor.result() if worker.successor.done() else None

    def _bury(self, worker: Worker, code: int) -> None:
        """A worker's process has ended."""
        self._started.discard(worker)
        if not worker.is_lost:
            lost = self._lose(worker, _exit_text(code))
            logger.error("worker %d: %s; %d invocations fail", worker.pid, _exit_text(code), lost)
        if worker.channel is not None:
            worker.channel.close()

    async def _replace(self) -> Worker | None:
        """Another worker, or None: then every call is answered with the reason until there is one."""
        try:
            return await self._load()
        except HostError as error:
            self._refusal = str(error)
            logger.error("a new worker is not ready: %s", error)
            self._wake()
            return None

    async def _load(self) -> Worker:
        """Start a worker that serves from now on. Raises HostError when it cannot load the app."""
        began = time.monotonic()
        worker = await self._begin()
        try:
            frame = await self._indexed(worker)
            if frame is None or frame[0] != "ready":
                raise HostError(frame[1] if frame is not None else _exit_text(worker.process.returncode or 0))
        except BaseException:
            self._started.discard(worker)
            if worker.process.returncode is None:
                worker.process.kill()
            raise
        self._serve(worker, frame)
        logger.info("worker %d is ready after %.1f s", worker.pid, time.monotonic() - began)
        return worker

    async def _begin(self) -> Worker:
        """Start a process and connect to it. Raises HostError when its Python cannot be run."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        log_out, log_in = os.pipe()
        options = {
            "app_dir": str(self._app_dir),
            "levels": worker_levels(),
            "has_own_packages": self._python is not None,
        }
        try:
            process = await processes.start_process(
                self._python, options, channel=theirs.fileno(), log=log_in, environment=self._environment
            )
        except OSError as exc:
            ours.close()
            os.close(log_out)
            raise HostError(f"the app's Python {self._python} cannot be run ({exc.strerror})") from exc
        finally:
            theirs.close()
            os.close(log_in)
        worker = Worker(process)
        self._started.add(worker)
        await loop.connect_read_pipe(_LogReader, os.fdopen(log_out, "rb", buffering=0))
        ours.setblocking(False)
        _, worker.channel = await loop.create_unix_connection(lambda: Channel(worker.on_frame, lambda: None), sock=ours)
        return worker

    async def _indexed(self, worker: Worker) -> Frame | None:
        """What it found in the app; None when it ended before it said so."""
        ended = asyncio.ensure_future(worker.process.wait())
        ended.add_done_callback(lambda _: worker.indexed.cancel())
        try:
            return await worker.indexed
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None
        finally:
            ended.cancel()

    def _serve(self, worker: Worker, frame: Frame) -> None:
        worker.port = frame[3]
        self._ready.append(worker)
        self._refusal = ""
        self._wake()

    def _lose(self, worker: Worker, text: str) -> int:
        worker.is_lost = True
        if worker in self._ready:
            self._ready.remove(worker)
        return worker.fail_all(text)

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None


class _LogReader(asyncio.Protocol):
    """Writes a worker's log lines."""

    def __init__(self) -> None:
        self._decoder = Decoder()

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            write_record(*frame)


def _exit_text(code: int) -> str:
    """As Azure's host words it."""
    code = 128 - code if code < 0 else code
    return f"WorkerProcessExitException: python exited with code {code} (0x{code:X})"
