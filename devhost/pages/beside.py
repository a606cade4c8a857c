"""Shows what is beside the app on a developer's machine: the servers started for it, and links to this host that
functions logged, such as links that a deployment would mail.

Invariant: only the paths of links to this host are kept, since log lines are untrusted input.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from devhost.extensions.contract import Table

SERVERS_SETTING = "DEVHOST_SERVERS"
"""JSON `[[name, address], ...]` of the servers beside this host, set by the program that started them."""

_KEPT = 50
_LINK = re.compile(r"https?://(?:localhost|127\.0\.0\.1):(\d{1,5})(/[^\s\"'<>]+)")


class Beside(logging.Handler):
    """Shows servers and logged links. It is a logging handler: add it to the root logger, and remove it."""

    def __init__(self, port: int, servers: str) -> None:
        """port: this host's port. servers: the setting's value. Raises ValueError when it is malformed."""
        super().__init__(logging.INFO)
        self._port = str(port)
        self._servers = _pairs(servers)
        self._links: deque[tuple[str, str]] = deque(maxlen=_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        at = f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%S}"
        for port, path in _LINK.findall(record.getMessage()):
            if port == self._port:
                self._links.append((at, path))

    def tables(self) -> Sequence[Table]:
        """Tables of the servers and of the links; empty ones are left out."""
        shown = []
        if self._servers:
            rows = [((name, None), (address, None)) for name, address in self._servers]
            shown.append(Table("Servers beside this host", ("Name", "Address"), rows))
        if self._links:
            links = [((at, None), (path, path)) for at, path in reversed(self._links)]
            shown.append(Table("Links to this host in the log, newest first", ("At (UTC)", "Link"), links))
        return shown


def _pairs(text: str) -> list[tuple[str, str]]:
    if not text:
        return []
    found = orjson.loads(text)
    if not isinstance(found, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in found
    ):
        raise ValueError(f"{SERVERS_SETTING} must be [[name, address], ...]")
    return [(name, address) for name, address in found]
