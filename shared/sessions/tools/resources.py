"""Clients that the tools of a process share: made when a call first needs them, closed when the process stops.

    @per_process(secrets=["CRM_TOKEN"])
    async def crm(setup: Setup) -> AsyncIterator[Client]:
        async with Client(token=setup.secret("CRM_TOKEN")) as client:
            yield client

    client = await crm(call)  # in an async tool; of a factory that is not async: `crm(call)`

Invariant: however many calls ask at once, one is made. A factory that fails is not remembered: the next call tries
again. An orderly stop runs what follows the `yield`; a process that is killed runs nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import Context
from typing import Any, overload
from weakref import WeakKeyDictionary

from shared.errors import ErrorCode, ToolFailed, ToolRefused
from shared.sessions.tools.context import ToolContext
from shared.sessions.tools.running.secrets import checked_names
from shared.sessions.tools.services import Secrets

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""How long making one may take."""


class Setup:
    """What a factory may take as its one parameter."""

    def __init__(self, names: Iterable[str], secrets: Secrets) -> None:
        self._names = frozenset(names)
        self._secrets = secrets

    def secret(self, name: str) -> str:
        """As `ToolContext.secret`, for the names that `per_process` declares. Raises ToolRefused, ToolFailed."""
        if name not in self._names:
            raise ToolRefused(f"The factory did not declare the secret {name}.")
        return self._secrets.read(name)


class _Factory:
    """A generator function that yields once."""

    def __init__(self, function: Callable[..., Any], secrets: Iterable[str]) -> None:
        self.name = getattr(function, "__name__", repr(function))
        self.secrets = checked_names(secrets, self.name)
        parameters = inspect.signature(function).parameters
        if len(parameters) > 1:
            raise TypeError(f"the factory {self.name!r} takes nothing, or a Setup")
        self._takes_setup = bool(parameters)
        self._function = function

    def begin(self, call: ToolContext) -> Any:
        return self._function(Setup(self.secrets, call.services.secrets)) if self._takes_setup else self._function()

    def late(self) -> ToolFailed:
        return ToolFailed(f"{self.name} was not ready within {TIMEOUT_S:g} seconds.", code=ErrorCode.TOOL_TIMEOUT)


class AsyncResource[T]:
    """One for each event loop, of which a process that serves has one."""

    def __init__(self, factory: _Factory) -> None:
        self._factory = factory
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[T]] = WeakKeyDictionary()

    async def __call__(self, call: ToolContext) -> T:
        """Raises whatever the factory does, ToolFailed (TOOL_TIMEOUT)."""
        loop = asyncio.get_running_loop()
        task = self._made.get(loop)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            # It is made for all calls: what it logs is not about the one that came first.
            task = self._made[loop] = loop.create_task(self._make(call), context=Context())
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(task)  # a call that ends does not end it for the others

    async def _make(self, call: ToolContext) -> T:
        generator: AsyncGenerator[T] = self._factory.begin(call)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                made = await _unseen(generator)
        except TimeoutError as exc:
            raise self._factory.late() from exc
        except StopAsyncIteration:
            raise RuntimeError(f"the factory {self._factory.name!r} yields nothing") from None
        except (KeyboardInterrupt, SystemExit) as exc:  # would end the event loop
            raise RuntimeError(f"the factory {self._factory.name!r} tried to end the process") from exc
        await _close_at_stop(self._factory.name, lambda: anext(generator, None))
        return made


class SyncResource[T]:
    """One for the process, used in threads."""

    def __init__(self, factory: _Factory) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._made: Future[T] | None = None

    def __call__(self, call: ToolContext) -> T:
        """Raises whatever the factory does, ToolFailed (TOOL_TIMEOUT) while another call is still making it."""
        with self._lock:
            known = self._made
            making = self._made = known or Future()
        if known is not None:
            try:
                return known.result(TIMEOUT_S)
            except TimeoutError as exc:
                if known.done():
                    raise
                raise self._factory.late() from exc
        try:
            generator: Iterator[T] = self._factory.begin(call)
            made = next(generator)
        except BaseException as exc:
            self._forget()
            error = RuntimeError(f"the factory {self._factory.name!r} yields nothing")
            raised = error if isinstance(exc, StopIteration) else exc
            making.set_exception(raised)
            raise raised from None
        making.set_result(made)

        async def close() -> None:
            self._forget()
            next(generator, None)

        if call.link.loop is not None:
            asyncio.run_coroutine_threadsafe(_close_at_stop(self._factory.name, close), call.link.loop)
        return made

    def _forget(self) -> None:
        with self._lock:
            self._made = None


def _unseen[T](generator: AsyncGenerator[T]) -> Awaitable[T]:
    """Its first value. The event loop is not told of it: at the end it would throw into the generator whatever follows
    the `yield`, beside `_close_at_stop`."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return anext(generator)
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def _close_at_stop(name: str, close: Callable[[], Awaitable[object]]) -> None:
    """Have the running loop close it when it ends in order: it then closes all generators that it has begun."""
    generator = _closing(name, close)
    await anext(generator)
    _HELD.append(generator)


async def _closing(name: str, close: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        try:
            await close()
        except Exception:
            log.exception("closing %s failed", name)


_HELD: list[AsyncGenerator[None]] = []


type Makes[Yields] = Callable[[], Yields] | Callable[[Setup], Yields]


@overload
def per_process[T](factory: Makes[AsyncIterator[T]], /) -> AsyncResource[T]: ...
@overload
def per_process[T](factory: Makes[Iterator[T]], /) -> SyncResource[T]: ...
@overload
def per_process(*, secrets: Iterable[str]) -> _PerProcess: ...
def per_process(factory: Callable[..., Any] | None = None, /, *, secrets: Iterable[str] = ()) -> Any:
    """Declare a generator function that yields what all calls of this process share.

    secrets: names that its `Setup` may read. Raises TypeError for another kind of function.
    """
    declare = _PerProcess(secrets)
    return declare if factory is None else declare(factory)


class _PerProcess:
    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = secrets

    @overload
    def __call__[T](self, factory: Makes[AsyncIterator[T]]) -> AsyncResource[T]: ...
    @overload
    def __call__[T](self, factory: Makes[Iterator[T]]) -> SyncResource[T]: ...
    def __call__(self, factory: Callable[..., Any]) -> Any:
        described = _Factory(factory, self._secrets)
        if inspect.isasyncgenfunction(factory):
            return AsyncResource(described)
        if inspect.isgeneratorfunction(factory):
            return SyncResource(described)
        raise TypeError(f"the factory {described.name!r} must yield what it makes, once")
