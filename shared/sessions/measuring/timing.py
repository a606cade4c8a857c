"""Timing a call until it ends: with a result, an error, a cancellation, or a reader that goes away."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

from shared.errors import AppError, ErrorCode

type Ended = Callable[[float, BaseException | None], None]
"""Receives how many seconds a call took, and the exception that ended it; None: it completed."""


def timed[**Parameters, Result](
    begin: Callable[..., Ended],
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Time a coroutine function, or a function that returns an async generator.

    begin: called with the call's arguments before it runs; returns what is called when it has ended.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        wrapped: Any
        if inspect.iscoroutinefunction(function):

            async def awaited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
                ended, began = begin(*args, **kwargs), time.monotonic()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as exc:
                    ended(time.monotonic() - began, exc)
                    raise
                ended(time.monotonic() - began, None)
                return result

            wrapped = awaited
        else:

            async def iterated(*args: Parameters.args, **kwargs: Parameters.kwargs) -> AsyncGenerator[Any]:
                ended, began = begin(*args, **kwargs), time.monotonic()
                source: Any = function(*args, **kwargs)
                try:
                    async with aclosing(source):
                        async for item in source:
                            yield item
                except BaseException as exc:  # GeneratorExit too: the reader went away
                    ended(time.monotonic() - began, exc)
                    raise
                ended(time.monotonic() - began, None)

            wrapped = iterated
        timed_function: Callable[Parameters, Result] = wraps(function)(wrapped)
        return timed_function

    return decorate


def outcome_of(exc: BaseException | None) -> str:
    """How something ended, as a label value: `completed`, `cancelled` or an error code."""
    if exc is None:
        return "completed"
    if isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return exc.code.value if isinstance(exc, AppError) else ErrorCode.INTERNAL_ERROR.value
