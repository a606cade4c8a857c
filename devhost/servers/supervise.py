"""A supervised server: prepared, started, awaited, restarted when it crashes, stopped with its owner.

Invariant: between `async with` entry and exit, the server answers, or it is being restarted and `report` was
told, or `failed` is set and `error` holds the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Self

from devhost.servers.folder import ServerFolder
from devhost.servers.process import Child, Command, ServerError, stop_leftover
from devhost.threads import in_new_thread

Report = Callable[[str, str], None]
"""Called with (server name, a text for a person)."""

RESTART_DELAYS_S = (0.2, 1.0, 3.0, 10.0)
"""Back-off. A server that fails again after all of these, without a calm period in between, is given up."""
CALM_AFTER_S = 30.0
"""After a run of this length, the next crash starts the back-off from its beginning."""
_POLL_S = 0.02


def ignore_reports(name: str, text: str) -> None:
    """The default `report`, which prints nothing."""


class Server:
    """Base class; a subclass says how to prepare, run and probe its server.

    Use as `async with`: on entry it is ready, on exit it has ended.
    """

    name = "server"
    ready_timeout_s = 60.0
    stop_signal = signal.SIGTERM
    """The signal that makes it shut down in order."""
    stop_timeout_s = 10.0
    """After this it is killed."""

    def __init__(self, folder: ServerFolder, *, report: Report = ignore_reports) -> None:
        self.folder = folder
        self.report = report
        self.failed: asyncio.Event = asyncio.Event()
        """Set when the server is given up."""
        self.error: ServerError | None = None
        """Why it was given up."""
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Create what the server needs before its first start (folders, a database cluster, packages)."""

    async def before_start(self) -> None:
        """Work before every start, after what an earlier run left behind was stopped."""

    def command(self) -> Command:
        """How to run it; called before every start. A restart must keep the port, since the URL is in use."""
        raise NotImplementedError

    async def is_ready(self) -> bool:
        """Whether the current child (and not another program) answers."""
        raise NotImplementedError

    def silence(self) -> str:
        """Why it did not become ready, as the end of a sentence; empty: the log's last line is used."""
        return ""

    async def after_first_start(self) -> None:
        """Work that needs the running server, such as creating the database. Must be repeatable."""

    @property
    def url(self) -> str:
        """The address of the running server, with credentials."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        return None if self._child is None or self._child.has_ended else self._child.pid

    async def __aenter__(self) -> Self:
        try:
            await self.prepare()
            await self._start()
            await self.after_first_start()
        except BaseException:
            await self._stop_child()
            raise
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep-{self.name}")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        await self._stop_child()

    async def put_down(self, number: signal.Signals) -> None:
        """End it with a signal, and leave it down until `bring_up`. After `stop_timeout_s` it is killed."""
        assert self._keeper is not None
        assert self._child is not None
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        self._child.send_signal(number)
        try:
            async with asyncio.timeout(self.stop_timeout_s):
                await self._child.wait()
        except TimeoutError:
            self._child.send_signal(signal.SIGKILL)
            await self._child.wait()

    async def bring_up(self) -> None:
        """Start it again after `put_down`. Raises ServerError."""
        await self._start()
        self._keeper = asyncio.create_task(self._keep_running(), name=f"keep-{self.name}")

    async def _start(self) -> None:
        """Start once. Raises ServerError when it ends or does not become ready in time."""
        leftover = await in_new_thread(  # before the port is chosen, which a leftover may still use
            lambda: stop_leftover(self.folder.pid_file, stop_signal=self.stop_signal, timeout_s=self.stop_timeout_s)
        )
        if leftover:
            self.report(self.name, "stopped the one an earlier run left behind")
        await self.before_start()
        child = self._child = Child.start(self.command())
        try:
            async with asyncio.timeout(self.ready_timeout_s):
                while not await self._answers():
                    if child.has_ended:
                        raise ServerError(f"{self.name} {_ending(await child.wait())} at start{_why(child)}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise ServerError(
                f"{self.name} was not ready within {self.ready_timeout_s:.0f} s{self.silence() or _why(child)}"
            ) from error

    async def _answers(self) -> bool:
        try:
            return await self.is_ready()
        except (OSError, EOFError):  # nothing listens yet, or it closed the connection while starting
            return False

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            started = loop.time()
            assert self._child is not None
            code = await self._child.wait()
            if loop.time() - started > CALM_AFTER_S:
                deaths = 0
            reason = f"{_ending(code)}{_why(self._child) if code > 0 else ''}"
            while True:
                if deaths == len(RESTART_DELAYS_S):
                    self._give_up(reason)
                    return
                delay_s = RESTART_DELAYS_S[deaths]
                deaths += 1
                self.report(self.name, f"{reason}; restarting in {delay_s:g} s")
                await asyncio.sleep(delay_s)
                try:
                    await self._start()
                except ServerError as error:
                    reason = str(error).removeprefix(f"{self.name} ")
                    await self._stop_child()
                    continue
                self.report(self.name, "runs again")
                break

    def _give_up(self, reason: str) -> None:
        self.error = ServerError(f"{self.name} {reason}; given up after {len(RESTART_DELAYS_S)} restarts")
        self.report(self.name, f"{reason}; given up after {len(RESTART_DELAYS_S)} restarts")
        self.failed.set()

    async def _stop_child(self) -> None:
        """Runs to its end even when we are cancelled, since a leftover server would be worse."""
        if self._child is None:
            return
        stopping = asyncio.ensure_future(self._child.stop())
        cancelled = False
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError


async def enter_all(stack: contextlib.AsyncExitStack, servers: Sequence[Server]) -> None:
    """Start servers concurrently; when one fails, the others are stopped and its error is raised."""

    async def enter(server: Server) -> None:
        await server.__aenter__()
        stack.push_async_exit(server.__aexit__)

    await together(*(enter(server) for server in servers))


async def together(*work: Coroutine[None, None, None]) -> None:
    """Run all concurrently; when one fails, the others are cancelled and have ended before its error is raised."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _why(child: Child) -> str:
    line = child.last_log_line()
    where = child.command.log_file
    if where is None:
        return ""
    return f": {line} (log: {where})" if line else f" (log: {where})"
