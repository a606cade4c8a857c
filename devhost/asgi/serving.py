"""An HTTP server that its caller stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


class Server(uvicorn.Server):
    """uvicorn without its signal handlers. Stop it with `should_exit`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
