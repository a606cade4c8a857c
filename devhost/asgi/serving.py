"""An HTTP server that its caller stops, and where this host's servers listen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

ADDRESS = "127.0.0.1"
SEND_BUFFER_BYTES = 256 * 1024
"""Of each connection. Left to itself the kernel takes megabytes of an answer that its caller has not read, and tells of
no progress until a third of them is gone."""


class Server(uvicorn.Server):
    """uvicorn without its signal handlers. Stop it with `should_exit`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
