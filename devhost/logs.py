"""Readable log lines.

Invariant: colour only on a terminal; one line per record, unless it has a traceback; a message that the level
filters out is never formatted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from devhost.correlation import current_invocation
from devhost.settings.host_json import section

_COLOURS = {logging.DEBUG: "\x1b[2m", logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_RESET = "\x1b[0m"
INVOCATIONS = "devhost.invoke"
"""The logger of the host's line per invocation; each function has its own child logger."""
# These log each request or poll at INFO, which would bury the app's own lines.
_CHATTY = ("uvicorn", "azure.functions", "azure.core", "httpx", "asyncio")
# .NET level names of host.json -> Python's.
_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}


class HostFormatter(logging.Formatter):
    """`12:04:06.123 INFO  [function] message`; the bracket names the running function, if any."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        running = record.running if hasattr(record, "running") else current_invocation.get()
        source = ""
        if not record.name.startswith("devhost"):
            source = f"[{running[0]} {running[1][:8]}] " if running else f"[{record.name}] "
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {source}{record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        elif record.exc_text:
            line += "\n" + record.exc_text
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"{colour}{line}{_RESET}" if colour else line


def configure_logging(*, verbose: bool, stream: TextIO | None = None) -> None:
    """Send the process's logs to `stream` (stderr by default). Called once, by the command line."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(HostFormatter(colour=target.isatty()))
    # Our lines show none of these, and reading them is half the cost of a log line.
    logging.logProcesses = logging.logThreads = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("devhost").setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def worker_levels() -> dict[str, int]:
    """The levels of this process's loggers, by name, for a worker; "" is the root."""
    return {name: logging.getLogger(name).level for name in ("", "devhost", *_CHATTY)}


def write_record(
    name: str, level: int, created: float, text: str, stack: str | None, running: tuple[str, str] | None
) -> None:
    """Write a log line of a worker. running: its function and correlation id."""
    fields = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "msg": text, "exc_text": stack}
    fields |= {"created": created, "msecs": created % 1 * 1000, "running": running}
    logging.getLogger(name).handle(logging.makeLogRecord(fields))


def apply_log_level(host_json: Mapping[str, Any]) -> None:
    """Apply `logging.logLevel` of host.json: `default` for the app's loggers, `Function.<name>` for a function's line.

    Other categories belong to parts that this host does not have.
    """
    for category, level in section(host_json, "logging", "logLevel").items():
        if not isinstance(level, str) or level.lower() not in _LEVELS:
            continue
        kind, _, function = category.partition(".")
        if category.lower() == "default":
            logging.getLogger().setLevel(_LEVELS[level.lower()])
        elif kind.lower() == "function":
            logging.getLogger(f"{INVOCATIONS}.{function}" if function else INVOCATIONS).setLevel(_LEVELS[level.lower()])
