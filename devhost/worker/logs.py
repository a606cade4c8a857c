"""The worker's log lines go to the host, which writes them among its own.

They have a pipe of their own and are written at once, so the last lines of a worker that dies are not lost.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from devhost.correlation import current_invocation
from devhost.worker.frames import encode, plain


class ToHost(logging.Handler):
    """Writes each record to a pipe as a frame: logger, level, time, text, traceback, running function."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stack = self._formatter.formatException(record.exc_info) if record.exc_info else None
            running = current_invocation.get()
            text = plain(record.getMessage())
            left = memoryview(encode((record.name, record.levelno, record.created, text, stack, running)))
            while left:
                left = left[os.write(self._pipe, left) :]
        except BrokenPipeError:
            os._exit(1)  # the host is gone
        except Exception:
            self.handleError(record)


def send_logs(pipe: int, levels: Mapping[str, int]) -> None:
    """Send this process's logs to the host. levels: by logger, "" is the root."""
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [ToHost(pipe)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for stream in (sys.stdout, sys.stderr):
        # The app's print() must show at once, even when the output goes to a file or pipe.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text files here
