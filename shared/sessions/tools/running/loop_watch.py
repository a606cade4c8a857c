"""LoopWatch: ends an async tool that blocks the event loop, in which all turns of the process run.

While async tools run, the loop beats. A thread that sees no beat for `limit_s` sends the main thread a signal, whose
handler raises `LoopBlocked` in the tool, if it is a tool that blocks. This interrupts Python code and system calls such
as `time.sleep`; C code that does neither goes on, and then the host ends the process after `functionTimeout`.

Invariant: nothing but the code of a tool is ever interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

log = logging.getLogger(__name__)

LIMIT_S = 10.0
_POLL_S = 1.0
_SIGNAL = getattr(signal, "SIGUSR2", None)
"""None: on Windows, where the watch only logs."""


class LoopBlocked(BaseException):
    """Raised within a tool. No `Exception`: a tool that catches those would go on."""


class LoopWatch:
    """One for a process; it counts polls and not time, which goes on while a process is stopped."""

    def __init__(self, limit_s: float = LIMIT_S, poll_s: float = _POLL_S) -> None:
        self._polls = max(1, round(limit_s / poll_s))
        self._poll_s = poll_s
        self._running = 0
        self._some = threading.Event()
        self._beats = 0
        self._beat: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._may_interrupt = False

    @contextmanager
    def over(self, code: CodeType) -> Iterator[None]:
        """Watch the running loop meanwhile. code: of the function that calls the tool, directly or not."""
        _WATCHED.add(code)
        if self._running == 0:
            self._start()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._some.clear()
                if self._beat is not None:
                    self._beat.cancel()

    def _start(self) -> None:
        if self._thread is None:
            self._may_interrupt = _handle()
            self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
            self._thread.start()
        self._pulse(asyncio.get_running_loop())
        self._some.set()

    def _pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        self._beat = loop.call_later(self._poll_s, self._pulse, loop)

    def _watch(self) -> None:
        pause = threading.Event()
        seen, missed = -1, 0
        while True:
            self._some.wait()
            pause.wait(self._poll_s)
            missed = missed + 1 if self._beats == seen and self._some.is_set() else 0
            seen = self._beats
            if missed >= self._polls:
                self._act(is_first=missed == self._polls)

    def _act(self, *, is_first: bool) -> None:
        main = threading.main_thread().ident
        frame = sys._current_frames().get(main or 0)
        if is_first and frame is not None:
            where = "".join(traceback.format_stack(frame, limit=8))
            log.error("the event loop has been blocked for %g s:\n%s", self._polls * self._poll_s, where)
        if self._may_interrupt and main is not None and _SIGNAL is not None and _is_of_tool(frame):
            signal.pthread_kill(main, _SIGNAL)


_WATCHED: set[CodeType] = set()


def _handle() -> bool:
    """Have the signal interrupt tools from now on; whether it does."""
    if _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(_SIGNAL) not in (signal.SIG_DFL, _interrupt):
        return False  # it is somebody else's
    signal.signal(_SIGNAL, _interrupt)
    return True


def _interrupt(_signal: int, frame: FrameType | None) -> Any:
    if _is_of_tool(frame):
        raise LoopBlocked


def _is_of_tool(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code in _WATCHED:
            return True
        frame = frame.f_back
    return False
