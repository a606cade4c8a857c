"""Runs a command's work until it is done or somebody stops it; either way its blocks are left in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

STOPPED = 130
"""The exit status, as a shell's after Ctrl-C."""


async def until_signal(name: str, work: Coroutine[Any, Any, int]) -> int:
    """The exit status. name: of the command, for the line that says that it was stopped."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not task.cancelling():  # a second signal must not interrupt the clean-up
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        print(f"{name}: stopped", file=sys.stderr)
        return STOPPED
